//! Join tokens: `SWMTKN-1-<50 digits: SHA-256 of the root, base 36>-<25 digits: a secret, base 36>`.
//!
//! The first part lets the joining node know the cluster, the second lets the cluster know the node.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::{constant_time, rand};
use thiserror::Error;

use super::base36;
use super::cipher::CipherError;

const PREFIX: &str = "SWMTKN";
const VERSION: &str = "1";
const DIGEST_DIGITS: usize = 50;
const SECRET_DIGITS: usize = 25;

/// What Docker says of any text that is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("invalid join token")]
pub struct InvalidToken;

/// The SHA-256 of a root certificate's PEM.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RootDigest(pub [u8; 32]);

impl fmt::Display for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootDigest({self})")
    }
}

/// A join token. `Debug` does not show the secret; `Display` is the token as it is typed.
#[derive(Clone)]
pub struct JoinToken {
    digest: RootDigest,
    secret: [u8; 16],
}

impl JoinToken {
    /// A token with a new secret, for a cluster with this root.
    ///
    /// # Errors
    /// If the system has no randomness to give.
    pub fn generate(digest: RootDigest) -> Result<Self, CipherError> {
        let mut secret = [0; 16];
        rand::fill(&mut secret).map_err(|_| CipherError::Randomness)?;
        Ok(Self { digest, secret })
    }

    /// The token of these parts.
    pub fn from_parts(digest: RootDigest, secret: [u8; 16]) -> Self {
        Self { digest, secret }
    }

    /// The root that the cluster must show.
    pub fn digest(&self) -> RootDigest {
        self.digest
    }

    /// Whether this is that token, in a time that does not depend on where they differ.
    pub fn is(&self, other: &Self) -> bool {
        let bytes = |token: &Self| [&token.digest.0[..], &token.secret[..]].concat();
        constant_time::verify_slices_are_equal(&bytes(self), &bytes(other)).is_ok()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = base36::digits(&self.digest.0, DIGEST_DIGITS);
        let secret = base36::digits(&self.secret, SECRET_DIGITS);
        write!(f, "{PREFIX}-{VERSION}-{digest}-{secret}")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.digest)
    }
}

impl FromStr for JoinToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let mut parts = text.split('-');
        let mut next = || parts.next().ok_or(InvalidToken);
        let (prefix, version, digest, secret) = (next()?, next()?, next()?, next()?);
        let whole = prefix == PREFIX
            && version == VERSION
            && digest.len() == DIGEST_DIGITS
            && secret.len() == SECRET_DIGITS
            && parts.next().is_none();
        if !whole {
            return Err(InvalidToken);
        }
        Ok(Self {
            digest: RootDigest(base36::number(digest).ok_or(InvalidToken)?),
            secret: base36::number(secret).ok_or(InvalidToken)?,
        })
    }
}
