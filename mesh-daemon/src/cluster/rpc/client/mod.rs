//! Calls to managers: a connection an address, kept alive, dialled again when it breaks.

mod calls;
mod dial;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tonic::transport::{Channel, Endpoint};

pub use self::calls::Checked;
pub(super) use self::dial::DialError;
use self::dial::{Dialler, Whom};
use super::limits::{DIAL, KEEPALIVE, KEEPALIVE_ANSWER, MAX_HEADERS, MAX_PEERS};
use super::refusal::{Code, Refusal};
use super::tls::{self, Credentials};
use crate::cluster::clock::Clock;
use crate::model::id::NodeId;

/// Connections to managers, by address. Made once a node.
///
/// A connection shows the certificate that was in force when it was dialled: when [`Credentials`] are replaced,
/// the next call to an address dials anew.
pub struct Peers {
    credentials: Arc<Credentials>,
    links: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    links: HashMap<(String, Option<NodeId>), Entry>,
    uses: u64,
}

struct Entry {
    link: Link,
    generation: u64,
    used: u64,
}

/// The way to one manager. Cheap to clone; dials when it is first needed.
#[derive(Clone)]
pub struct Link {
    channel: Channel,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

impl Peers {
    /// No connections yet; they will show these credentials.
    pub fn new(credentials: Arc<Credentials>) -> Self {
        Self { credentials, links: Mutex::default() }
    }

    /// The way to the manager at an address (`host:port`). If its node is known, nobody else is spoken with there.
    ///
    /// # Errors
    /// If the address is none.
    pub fn to(&self, address: &str, node: Option<NodeId>) -> Result<Link, Refusal> {
        let generation = self.credentials.generation();
        let mut table = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        table.uses += 1;
        let used = table.uses;
        let key = (address.to_owned(), node);
        if let Some(entry) = table.links.get_mut(&key).filter(|entry| entry.generation == generation) {
            entry.used = used;
            return Ok(entry.link.clone());
        }
        let live = self.credentials.live();
        let whom = Whom::Manager { cluster: live.own.cluster, node };
        let link = Link::new(Dialler::new(address, live.client.clone(), whom))?;
        if table.links.len() >= MAX_PEERS && !table.links.contains_key(&key) {
            let oldest = table.links.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| key.clone());
            oldest.map(|oldest| table.links.remove(&oldest));
        }
        table.links.insert(key, Entry { link: link.clone(), generation, used });
        Ok(link)
    }

    /// Closes connections that nobody is using at the moment; others end with their last call.
    pub fn forget(&self) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).links.clear();
    }
}

impl Link {
    /// To ask for the roots, before anybody is trusted. Nothing secret goes over it.
    ///
    /// # Errors
    /// If the address is none.
    pub fn stranger(address: &str, clock: &Clock) -> Result<Self, Refusal> {
        let config = tls::stranger(clock).map_err(|error| Refusal::new(Code::Internal, error.to_string()))?;
        Self::new(Dialler::new(address, config, Whom::Anybody))
    }

    /// To a manager of a cluster with these roots (PEM), without a certificate of one's own.
    ///
    /// # Errors
    /// If the address is none, or the roots are none.
    pub fn guest(address: &str, roots: &str, clock: &Clock) -> Result<Self, Refusal> {
        let config =
            tls::guest(roots, clock).map_err(|error| Refusal::new(Code::InvalidArgument, error.to_string()))?;
        Self::new(Dialler::new(address, config, Whom::Unknown))
    }

    fn new(dialler: Dialler) -> Result<Self, Refusal> {
        let bad = |error: tonic::transport::Error| {
            let text = format!("\"{}\" is not an address: host:port is ({error})", dialler.address());
            Refusal::new(Code::InvalidArgument, text)
        };
        // The scheme only fills its place: the dialler speaks TLS.
        let endpoint = Endpoint::from_shared(format!("http://{}", dialler.address()))
            .map_err(bad)?
            .connect_timeout(DIAL)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_ANSWER)
            .keep_alive_while_idle(true)
            .http2_max_header_list_size(MAX_HEADERS);
        Ok(Self { channel: endpoint.connect_with_connector_lazy(dialler.service()) })
    }
}
