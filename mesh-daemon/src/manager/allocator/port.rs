//! Published ports: each is one service's, on all nodes.

use std::collections::BTreeMap;

use crate::model::id::ServiceId;
use crate::model::service::{Port, Protocol, PublishMode};

/// Ports for services that name none.
pub const DYNAMIC: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Why a service does not get its ports.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Another service has it.
    #[error("port '{port}' is already in use by service {service} as an ingress port")]
    InUse {
        /// The port.
        port: u16,
        /// Who has it.
        service: ServiceId,
    },
    /// All of [`DYNAMIC`] are given.
    #[error("no port of {} to {} is free for {protocol:?}", DYNAMIC.start(), DYNAMIC.end())]
    Exhausted {
        /// Of which protocol.
        protocol: Protocol,
    },
}

/// Which ports are given, and to whom.
#[derive(Debug, Clone)]
pub(super) struct Ports {
    given: BTreeMap<(Protocol, u16), ServiceId>,
    cursor: u16,
}

impl Ports {
    pub(super) fn new() -> Self {
        Self { given: BTreeMap::new(), cursor: *DYNAMIC.start() }
    }

    /// Gives a service what it asks for, all or nothing; what it has of it already stays as it is.
    pub(super) fn give(&mut self, service: ServiceId, wanted: &[Port], has: &[Port]) -> Result<Vec<Port>, PortError> {
        let before = self.clone();
        self.take_back(service, has);
        let given = self.give_all(service, wanted, has);
        if given.is_err() {
            *self = before;
        }
        given
    }

    fn give_all(&mut self, service: ServiceId, wanted: &[Port], has: &[Port]) -> Result<Vec<Port>, PortError> {
        let mut ports = wanted.to_vec();
        let ingress = |port: &&mut Port| port.publish_mode == PublishMode::Ingress;
        // Those that are named first, so that no chosen one is in their way.
        for port in ports.iter_mut().filter(ingress).filter(|port| port.published_port != 0) {
            self.reserve(service, port.protocol, port.published_port)?;
        }
        for port in ports.iter_mut().filter(ingress).filter(|port| port.published_port == 0) {
            let kept = has.iter().find(|old| {
                old.publish_mode == PublishMode::Ingress
                    && (old.protocol, old.target_port, &old.name) == (port.protocol, port.target_port, &port.name)
                    && !self.given.contains_key(&(old.protocol, old.published_port))
            });
            port.published_port = match kept {
                Some(old) => old.published_port,
                None => self.choose(port.protocol).ok_or(PortError::Exhausted { protocol: port.protocol })?,
            };
            self.reserve(service, port.protocol, port.published_port)?;
        }
        Ok(ports)
    }

    pub(super) fn mark(&mut self, service: ServiceId, ports: &[Port]) {
        for port in ports.iter().filter(|port| port.publish_mode == PublishMode::Ingress) {
            self.given.insert((port.protocol, port.published_port), service);
        }
    }

    pub(super) fn take_back(&mut self, service: ServiceId, ports: &[Port]) {
        for port in ports {
            let key = (port.protocol, port.published_port);
            if self.given.get(&key) == Some(&service) {
                self.given.remove(&key);
            }
        }
    }

    fn reserve(&mut self, service: ServiceId, protocol: Protocol, port: u16) -> Result<(), PortError> {
        match self.given.insert((protocol, port), service) {
            // Two ports of one service may not share a number either.
            Some(other) => {
                self.given.insert((protocol, port), other);
                Err(PortError::InUse { port, service: other })
            }
            None => Ok(()),
        }
    }

    fn choose(&mut self, protocol: Protocol) -> Option<u16> {
        let free = |port: &u16| !self.given.contains_key(&(protocol, *port));
        let port = (self.cursor..=*DYNAMIC.end()).chain(*DYNAMIC.start()..self.cursor).find(free)?;
        self.cursor = if port == *DYNAMIC.end() { *DYNAMIC.start() } else { port + 1 };
        Some(port)
    }
}
