//! Joins a cluster: asks for its root, compares it with the join token, and asks for a certificate from a
//! manager that has one of that root.

use std::time::Duration;

use thiserror::Error;

use crate::cluster::ca::{InvalidToken, JoinToken, KeepError, Keys, PeerError, RootDigest, root_digest};
use crate::cluster::clock::Clock;
use crate::cluster::rpc::{Code, Link, Refusal};
use crate::model::node::Certificate;

/// Why a node did not join. The texts are Docker's.
#[derive(Debug, Error)]
pub enum JoinError {
    /// Not a token at all: no manager was asked.
    #[error(transparent)]
    Token(#[from] InvalidToken),
    /// The cluster is not the one that the token is for.
    #[error("remote CA does not match fingerprint. Expected: {0}")]
    Fingerprint(RootDigest),
    /// The manager said no, or did not answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the manager answered is not what it should be.
    #[error("the manager at {address} answered with {what}")]
    Answer {
        /// Where it is.
        address: String,
        /// What it sent.
        what: &'static str,
    },
    /// A key cannot be made.
    #[error(transparent)]
    Key(KeepError),
    /// No address was given.
    #[error("no address of a manager to join at")]
    NoAddress,
}

impl JoinError {
    /// Whether another attempt, or another manager, may have another answer.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refusal) => {
                matches!(refusal.code, Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled)
            }
            Self::Answer { .. } => true,
            Self::Token(_) | Self::Fingerprint(_) | Self::Key(_) | Self::NoAddress => false,
        }
    }
}

/// What a node has after it has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Its certificate and key.
    pub keys: Keys,
    /// What it trusts from now on, PEM.
    pub roots: String,
}

impl Joined {
    /// What the cluster records of the certificate.
    ///
    /// # Errors
    /// If it is not one of a node.
    pub fn to_record(&self) -> Result<Certificate, PeerError> {
        super::authority::to_record(&self.keys.chain, "")
    }
}

/// Joins at the first of these addresses (`host:port`) that answers. Each is given `deadline` for each of two
/// calls. Writes nothing.
///
/// # Errors
/// If the token is none, the cluster another, or no manager gives a certificate; of several addresses, the error
/// of the last one that was asked.
pub async fn join(
    addresses: &[String],
    token: &str,
    availability: &str,
    clock: &Clock,
    deadline: Duration,
) -> Result<Joined, JoinError> {
    let parsed: JoinToken = token.parse()?;
    let (key, csr) = Keys::request().map_err(JoinError::Key)?;
    let mut last = JoinError::NoAddress;
    for address in addresses {
        let asking = Asking { address, token, expected: parsed.digest(), availability, csr: &csr, key: &key };
        match asking.ask(clock, deadline).await {
            Ok(joined) => return Ok(joined),
            Err(error) if error.is_passing() => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

struct Asking<'a> {
    address: &'a str,
    token: &'a str,
    expected: RootDigest,
    availability: &'a str,
    csr: &'a str,
    key: &'a str,
}

impl Asking<'_> {
    async fn ask(&self, clock: &Clock, deadline: Duration) -> Result<Joined, JoinError> {
        let wrong = |what| JoinError::Answer { address: self.address.to_owned(), what };
        let roots = Link::stranger(self.address, clock)?.root(deadline).await?;
        let roots = std::str::from_utf8(&roots).map_err(|_| wrong("roots that are not PEM"))?;
        let root = self.the_one_of_the_token(roots)?;
        // From here on the other side has shown a certificate of that root: the token's secret is safe with it.
        let link = Link::guest(self.address, &root, clock)?;
        let granted = link.join(self.csr, self.token, self.availability, deadline).await?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| wrong("certificates that are not PEM"));
        let keys = Keys { chain: text(&granted.chain)?, key: self.key.to_owned(), data_keys: Vec::new() };
        if !keys.belong_together() || keys.own().map(|own| own.node) != Ok(granted.node) {
            return Err(wrong("a certificate of another key or node"));
        }
        Ok(Joined { keys, roots: text(&granted.roots)? })
    }

    /// Of several roots, the one that the token names; that there are others is for the manager to say once it is
    /// trusted.
    fn the_one_of_the_token(&self, roots: &str) -> Result<String, JoinError> {
        let blocks = pem::parse_many(roots).unwrap_or_default();
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let mut texts = blocks.iter().map(|block| pem::encode_config(block, config));
        texts.find(|text| root_digest(text) == self.expected).ok_or(JoinError::Fingerprint(self.expected))
    }
}
