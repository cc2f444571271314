//! An address with the length of its network, as `10.0.9.3/24`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An address and how many of its leading bits name the network. Host bits may be set: the same
/// type says `10.0.9.0/24`, a subnet, and `10.0.9.3/24`, an address in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// How many leading bits name the network: at most 32 or 128.
    pub prefix: u8,
}

/// Why a text is not an address with a length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a network as 10.0.9.0/24 or fd00::/64 is")]
pub struct InvalidCidr {
    /// What was read.
    pub text: String,
}

impl Cidr {
    /// An address in a network of this prefix; None if the prefix is longer than the address.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= bits(address)).then_some(Self { address, prefix })
    }

    /// The first address of the network, with the same prefix.
    #[must_use]
    pub fn network(self) -> Self {
        let host = u32::from(bits(self.address).saturating_sub(self.prefix));
        let address = match self.address {
            IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) & u32::MAX.checked_shl(host).unwrap_or(0)).into()),
            IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(host).unwrap_or(0)).into()),
        };
        Self { address, prefix: self.prefix }
    }

    /// Whether the network of this prefix has the address in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == address.is_ipv4();
        same_family && self.network().address == Self { address, prefix: self.prefix }.network().address
    }

    /// Whether two networks have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network().address) || other.contains(self.network().address)
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = InvalidCidr;

    fn from_str(text: &str) -> Result<Self, InvalidCidr> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            if prefix.is_empty() || !prefix.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        });
        parsed.ok_or_else(|| InvalidCidr { text: text.to_owned() })
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
