//! Which packets somebody wants to see: `key=value`, all of which must hold.

use std::net::IpAddr;

use mesh_common::drop::DropReason;
use mesh_common::header::proto;

use super::frame::{Frame, protocol};
use super::watch::Told;

/// A filter that says nothing sensible.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No `=` in it.
    #[error("filter {text:?} is not KEY=VALUE")]
    Shape {
        /// What was given.
        text: String,
    },
    /// An unknown key.
    #[error("filter {text:?}: there is no key {key:?}; the keys are host, port, proto, vni, reason, interface")]
    Key {
        /// What was given.
        text: String,
        /// The key.
        key: String,
    },
    /// A value that the key does not take.
    #[error("filter {text:?}: {problem}")]
    Value {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Either end of the packet, or of its tunnel.
    Host(IpAddr),
    /// Either port.
    Port(u16),
    /// The protocol.
    Proto(u8),
    /// The network.
    Vni(u32),
    /// Why it was dropped or refused.
    Reason(DropReason),
    /// Where it came in.
    Interface(String),
}

impl Filter {
    /// Reads one.
    ///
    /// # Errors
    /// It is none; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let (key, value) = text.split_once('=').ok_or_else(|| FilterError::Shape { text: text.to_owned() })?;
        let wrong = |problem: String| FilterError::Value { text: text.to_owned(), problem };
        match key {
            "host" => value.parse().map(Self::Host).map_err(|_| wrong(format!("{value:?} is no IP address"))),
            "port" => value.parse().map(Self::Port).map_err(|_| wrong(format!("{value:?} is no port"))),
            "vni" => value.parse().map(Self::Vni).map_err(|_| wrong(format!("{value:?} is no VNI"))),
            "interface" => Ok(Self::Interface(value.to_owned())),
            "proto" => {
                let known = [proto::TCP, proto::UDP, proto::ICMP, proto::ICMPV6];
                let number = known.into_iter().find(|number| protocol(*number) == value);
                let number = number.or_else(|| value.parse().ok());
                number
                    .map(Self::Proto)
                    .ok_or_else(|| wrong(format!("{value:?} is not tcp, udp, icmp, icmp6 or a number")))
            }
            "reason" => {
                let reason = DropReason::ALL.iter().find(|reason| reason.name().eq_ignore_ascii_case(value));
                let names = || DropReason::ALL.iter().map(|reason| reason.name()).collect::<Vec<_>>().join(", ");
                reason
                    .map(|reason| Self::Reason(*reason))
                    .ok_or_else(|| wrong(format!("there is no drop reason {value:?}; the reasons are {}", names())))
            }
            other => Err(FilterError::Key { text: text.to_owned(), key: other.to_owned() }),
        }
    }

    /// Does it hold for what was told, of a frame that says this, which came in by an interface of this
    /// name?
    pub fn holds(&self, told: &Told, frame: &Frame, interface: &str) -> bool {
        let packet = frame.packet.as_ref();
        match self {
            Self::Host(host) => {
                let ends = packet.map(|packet| (packet.src, packet.dst));
                ends.into_iter().chain(frame.tunnel).any(|(src, dst)| src == *host || dst == *host)
            }
            Self::Port(port) => packet.and_then(|packet| packet.ports).is_some_and(|(a, b)| a == *port || b == *port),
            Self::Proto(number) => packet.is_some_and(|packet| packet.proto == *number),
            Self::Vni(vni) => frame.vni == Some(*vni) || told.event.vni == *vni,
            Self::Reason(reason) => told.reason() == Some(*reason),
            Self::Interface(name) => name == interface,
        }
    }
}
