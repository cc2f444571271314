//! Addresses that begin with the same bits, as people write them: `10.0.9.0/24`.

use std::net::IpAddr;
use std::str::FromStr;

use mesh_common::route::Prefix;
use serde::Deserialize;

use super::desired::addr;

/// A subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Subnet {
    /// An address in it.
    pub address: IpAddr,
    /// How many bits all of them share.
    pub bits: u8,
}

/// A text that is no subnet.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no subnet like 10.0.9.0/24")]
pub struct NoSubnet(String);

impl Subnet {
    /// The subnet of one address.
    pub fn host(address: IpAddr) -> Self {
        Self { address, bits: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// As `ROUTES` has it.
    pub fn prefix(self) -> Prefix {
        Prefix::new(addr(self.address), u32::from(self.bits))
    }

    /// Is the address one of it?
    pub fn contains(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.prefix().covers(&Self::host(address).prefix())
    }
}

impl FromStr for Subnet {
    type Err = NoSubnet;

    fn from_str(text: &str) -> Result<Self, NoSubnet> {
        let parsed = text.split_once('/').and_then(|(address, bits)| {
            let subnet = Self { address: address.parse().ok()?, bits: bits.parse().ok()? };
            (subnet.bits <= Self::host(subnet.address).bits).then_some(subnet)
        });
        parsed.ok_or_else(|| NoSubnet(text.to_owned()))
    }
}

impl TryFrom<String> for Subnet {
    type Error = NoSubnet;

    fn try_from(text: String) -> Result<Self, NoSubnet> {
        text.parse()
    }
}

#[cfg(test)]
mod tests;
