//! A network: tasks in it reach each other, and nobody else does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::cidr::Cidr;
use super::id::NetworkId;
use super::meta::{Annotations, Meta};

/// What a user wants of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSpec {
    /// Name and labels.
    pub annotations: Annotations,
    /// Who carries its packets; `overlay`. `bridge` and `host` are each node's own.
    pub driver: String,
    /// Options to the driver.
    pub options: BTreeMap<String, String>,
    /// Whether it has IPv4.
    pub ipv4: bool,
    /// Whether it has IPv6.
    pub ipv6: bool,
    /// Whether there is no way out of it.
    pub internal: bool,
    /// Whether containers that are no service's may join it.
    pub attachable: bool,
    /// Whether packets to published ports travel on it: true of one network.
    pub ingress: bool,
    /// Who gives addresses. Empty: `default`.
    pub ipam_driver: String,
    /// Options to it.
    pub ipam_options: BTreeMap<String, String>,
    /// Subnets asked for; empty: from the cluster's pools.
    pub ipam: Vec<IpamConfig>,
    /// What the client of the Docker API sent, so that what we do not know comes back to it.
    /// `api` alone reads it.
    pub docker: Option<serde_json::Value>,
}

impl Default for NetworkSpec {
    fn default() -> Self {
        Self {
            annotations: Annotations::default(),
            driver: "overlay".to_owned(),
            options: BTreeMap::new(),
            ipv4: true,
            ipv6: false,
            internal: false,
            attachable: false,
            ingress: false,
            ipam_driver: String::new(),
            ipam_options: BTreeMap::new(),
            ipam: Vec::new(),
            docker: None,
        }
    }
}

/// A subnet that a user asks for, or that was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpamConfig {
    /// The subnet. None: from the cluster's pools.
    pub subnet: Option<Cidr>,
    /// Addresses are given from this part of it only.
    pub range: Option<Cidr>,
    /// Its router. None: the first address.
    pub gateway: Option<IpAddr>,
    /// Addresses set aside, by the name of what has them.
    pub reserved: BTreeMap<String, IpAddr>,
}

/// A subnet of a network, decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The subnet.
    pub subnet: Cidr,
    /// Addresses are given from this part of it only.
    #[serde(default)]
    pub range: Option<Cidr>,
    /// Its router.
    pub gateway: IpAddr,
    /// Addresses set aside, by the name of what has them.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

/// Tells a network's packets from another's on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Vni(pub u32);

impl Vni {
    /// The first that the allocator gives.
    pub const FIRST: Self = Self(4096);
    /// The last there is: 24 bits.
    pub const LAST: Self = Self((1 << 24) - 1);
}

/// A network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: NetworkId,
    /// Version and times.
    #[serde(default)]
    pub meta: Meta,
    /// What the user wants.
    pub spec: NetworkSpec,
    /// Its number on the wire; None until the allocator has decided, and for a node's own networks.
    #[serde(default)]
    pub vni: Option<Vni>,
    /// Its subnets, decided.
    #[serde(default)]
    pub subnets: Vec<Subnet>,
    /// Options as they are in force, defaults filled in.
    #[serde(default)]
    pub driver_options: BTreeMap<String, String>,
    /// Why the allocator cannot give what it needs. Empty: nothing is wrong.
    #[serde(default)]
    pub allocation_error: String,
}

impl Network {
    /// A new network with nothing decided.
    #[must_use]
    pub fn new(id: NetworkId, spec: NetworkSpec) -> Self {
        Self {
            id,
            meta: Meta::default(),
            spec,
            vni: None,
            subnets: Vec::new(),
            driver_options: BTreeMap::new(),
            allocation_error: String::new(),
        }
    }
}
