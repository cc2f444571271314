//! Are the ports that flows of this node get free of those that the kernel gives to sockets?

use std::fs;

use super::Unfit;
use crate::datapath::desired::PortRange;

/// What the kernel does with ports, as it writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelPorts {
    /// `net.ipv4.ip_local_port_range`: two numbers.
    pub local: String,
    /// `net.ipv4.ip_local_reserved_ports`: ports and ranges, with commas.
    pub reserved: String,
}

impl KernelPorts {
    /// Asks the kernel. What it does not say is empty.
    pub fn look() -> Self {
        let read = |name| fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        Self { local: read("ip_local_port_range"), reserved: read("ip_local_reserved_ports") }
    }

    /// May flows of this node have these ports?
    ///
    /// # Errors
    /// The kernel gives one of them to sockets: an answer to such a socket could be taken for one to a flow.
    pub fn check(&self, wanted: PortRange) -> Result<(), Unfit> {
        let mut local = self.local.split_whitespace().filter_map(|number| number.parse().ok());
        let (Some(first), Some(last)) = (local.next(), local.next()) else { return Ok(()) };
        let local = PortRange { first, last };
        let reserved: Vec<PortRange> = self.reserved.trim().split(',').filter_map(range).collect();
        let is_taken = |port| local.contains(port) && !reserved.iter().any(|range| range.contains(port));
        match (wanted.first..=wanted.last).find(|port| is_taken(*port)) {
            None => Ok(()),
            Some(port) => Err(Unfit::Ports { wanted, local, port }),
        }
    }
}

/// `7` or `7-9`.
fn range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(PortRange { first: first.parse().ok()?, last: last.parse().ok()? })
}
