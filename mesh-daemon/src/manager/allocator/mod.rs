//! What the cluster gives out once: subnets and numbers of networks, published ports, addresses of
//! services and tasks.
//!
//! [`Allocator`] remembers what is given. It is loaded from the objects when a manager begins to
//! lead, and learns of every object that goes. Each `allocate_*` gives all that an object asks for, or
//! nothing and the reason; it never takes back what an object has. The caller writes the answer into
//! the store.

mod address;
mod port;
mod subnet;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use self::address::{Addresses, first_usable};
use self::port::Ports;
use self::subnet::Subnets;
use crate::model::cidr::Cidr;
use crate::model::cluster::Cluster;
use crate::model::id::NetworkId;
use crate::model::network::{IpamConfig, Network, Subnet, Vni};
use crate::model::service::{Endpoint, EndpointMode, PublishMode, Service, ServiceMode, Vip};
use crate::model::state::TaskState;
use crate::model::task::{NetworkAttachment, NetworkAttachmentSpec, Task};

pub use self::port::{DYNAMIC, PortError};

/// The driver of networks that span nodes; others are each node's own affair.
const OVERLAY: &str = "overlay";
/// Chooses a network's number on the wire, and says which it got. Docker's name.
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// Why an object does not get what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// Every subnet of the pools is given.
    #[error("could not find an available, non-overlapping address pool among the defaults to assign to the network")]
    PoolsExhausted,
    /// The subnet has addresses in common with another.
    #[error("invalid pool request: Pool overlaps with other one on this address space: {0}")]
    Overlap(Cidr),
    /// The router is not in the subnet.
    #[error("gateway {gateway} is not in subnet {subnet}")]
    Gateway {
        /// What was asked for.
        gateway: std::net::IpAddr,
        /// Where it should be.
        subnet: Cidr,
    },
    /// The number asked for cannot be had.
    #[error("VXLAN network identifier {0} is not free or not a number of 24 bits")]
    Vni(String),
    /// Every number is given.
    #[error("all VXLAN network identifiers are in use")]
    VnisExhausted,
    /// A port cannot be had.
    #[error(transparent)]
    Port(#[from] PortError),
    /// A network has no address left.
    #[error("could not find an available IP address in network {0}")]
    AddressesExhausted(String),
    /// The address asked for cannot be had.
    #[error("address {address} is not free in network {network}")]
    Address {
        /// What was asked for.
        address: std::net::IpAddr,
        /// Where.
        network: String,
    },
    /// A network is missing or has nothing allocated itself.
    #[error("network {0} is not ready")]
    NetworkNotReady(NetworkId),
}

/// What is given of one network.
#[derive(Debug, Clone)]
struct Given {
    name: String,
    subnets: Vec<Addresses>,
}

/// What is given.
#[derive(Debug, Clone)]
pub struct Allocator {
    networks: BTreeMap<NetworkId, Given>,
    ingress: Option<NetworkId>,
    subnets: Subnets,
    vnis: BTreeSet<Vni>,
    ports: Ports,
}

impl Allocator {
    /// Learns what is given from what there is.
    pub fn load<'a>(
        cluster: &Cluster,
        networks: impl IntoIterator<Item = &'a Network>,
        services: impl IntoIterator<Item = &'a Service>,
        tasks: impl IntoIterator<Item = &'a Task>,
    ) -> Self {
        let pools = cluster.default_address_pools.clone();
        let mut allocator = Self {
            networks: BTreeMap::new(),
            ingress: None,
            subnets: Subnets::new(cluster.id, pools, cluster.subnet_size),
            vnis: BTreeSet::new(),
            ports: Ports::new(),
        };
        networks.into_iter().filter(|network| !needs_network(network)).for_each(|network| allocator.mark(network));
        for service in services {
            let Some(endpoint) = &service.endpoint else { continue };
            allocator.ports.mark(service.id, &endpoint.ports);
            for vip in &endpoint.vips {
                allocator.each_subnet(vip.network_id, |subnet| subnet.mark(vip.address.address));
            }
        }
        for task in tasks.into_iter().filter(|task| holds_addresses(task)) {
            for attachment in &task.networks {
                for cidr in &attachment.addresses {
                    allocator.each_subnet(attachment.network_id, |subnet| subnet.mark(cidr.address));
                }
            }
        }
        allocator
    }

    fn mark(&mut self, network: &Network) {
        network.subnets.iter().for_each(|subnet| self.subnets.mark(subnet.subnet));
        self.vnis.extend(network.vni);
        self.open(network);
    }

    fn open(&mut self, network: &Network) {
        if network.spec.ingress {
            self.ingress = Some(network.id);
        }
        let subnets = network.subnets.iter().map(Addresses::new).collect();
        self.networks.insert(network.id, Given { name: network.spec.annotations.name.clone(), subnets });
    }

    fn each_subnet(&mut self, network: NetworkId, act: impl FnMut(&mut Addresses)) {
        self.networks.get_mut(&network).into_iter().flat_map(|given| &mut given.subnets).for_each(act);
    }

    /// Gives a network its subnets and its number; returns it changed, or None if it has all it needs.
    pub fn allocate_network(&mut self, network: &Network) -> Result<Option<Network>, AllocateError> {
        if !needs_network(network) {
            return Ok(None);
        }
        let mut subnets = self.subnets.clone();
        let mut changed = network.clone();
        changed.subnets = give_subnets(&mut subnets, network)?;
        let vni = self.choose_vni(network)?;
        changed.vni = Some(vni);
        changed.driver_options.clone_from(&network.spec.options);
        changed.driver_options.insert(VNI_OPTION.to_owned(), vni.0.to_string());
        changed.allocation_error.clear();
        self.subnets = subnets;
        self.vnis.insert(vni);
        self.open(&changed);
        Ok(Some(changed))
    }

    fn choose_vni(&self, network: &Network) -> Result<Vni, AllocateError> {
        if let Some(wanted) = network.spec.options.get(VNI_OPTION) {
            let vni = wanted.trim().parse().ok().map(Vni).filter(|vni| (Vni(1)..=Vni::LAST).contains(vni));
            return vni.filter(|vni| !self.vnis.contains(vni)).ok_or_else(|| AllocateError::Vni(wanted.clone()));
        }
        let mut next = Vni::FIRST;
        for used in self.vnis.range(Vni::FIRST..) {
            if *used > next {
                break;
            }
            next = Vni(used.0 + 1);
        }
        if next <= Vni::LAST { Ok(next) } else { Err(AllocateError::VnisExhausted) }
    }

    /// Gives a service its ports and virtual addresses; returns them, or None if it has what it needs.
    pub fn allocate_service(&mut self, service: &Service) -> Result<Option<Endpoint>, AllocateError> {
        let wanted = self.networks_with_vip(service);
        let has = service.endpoint.as_ref();
        let vips_fit = has.is_some_and(|endpoint| {
            let networks: BTreeSet<_> = endpoint.vips.iter().map(|vip| vip.network_id).collect();
            networks == wanted.iter().copied().collect()
        });
        let tasks = match service.spec.mode {
            ServiceMode::Replicated { replicas } => replicas,
            // One a node; jobs are not dialled for long.
            ServiceMode::Global | ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => 0,
        };
        let fits = |endpoint: &Endpoint| endpoint.spec == service.spec.endpoint && endpoint.most_tasks >= tasks;
        if has.is_some_and(fits) && vips_fit {
            return Ok(None);
        }
        let old = has.cloned().unwrap_or_default();
        let most_tasks = old.most_tasks.max(tasks);
        let mut vips: Vec<_> = old.vips.iter().copied().filter(|vip| wanted.contains(&vip.network_id)).collect();
        let missing: Vec<_> =
            wanted.iter().filter(|network| !vips.iter().any(|vip| vip.network_id == **network)).copied().collect();
        let mut given = Vec::new();
        for network_id in missing {
            match self.give_addresses(network_id, &[]) {
                Ok(addresses) => given.extend(addresses.into_iter().map(|address| Vip { network_id, address })),
                Err(error) => {
                    self.take_back_vips(&given);
                    return Err(error);
                }
            }
        }
        let ports = match self.ports.give(service.id, &service.spec.endpoint.ports, &old.ports) {
            Ok(ports) => ports,
            Err(error) => {
                self.take_back_vips(&given);
                return Err(error.into());
            }
        };
        let gone: Vec<_> = old.vips.iter().copied().filter(|vip| !wanted.contains(&vip.network_id)).collect();
        self.take_back_vips(&gone);
        vips.extend(given);
        Ok(Some(Endpoint { spec: service.spec.endpoint.clone(), ports, vips, most_tasks }))
    }

    /// The networks in which the service has a virtual address: its own, and the one of published ports.
    fn networks_with_vip(&self, service: &Service) -> Vec<NetworkId> {
        if service.spec.endpoint.mode == EndpointMode::Dnsrr {
            return Vec::new();
        }
        let own = service.spec.networks().iter().map(|network| network.network_id);
        let mut networks: Vec<_> = own.filter(|network| self.networks.contains_key(network)).collect();
        networks.extend(self.ingress.filter(|_| publishes(service)));
        networks.dedup();
        networks
    }

    fn take_back_vips(&mut self, vips: &[Vip]) {
        for vip in vips {
            self.each_subnet(vip.network_id, |subnet| subnet.take_back(vip.address.address));
        }
    }

    /// Gives a task its addresses: in the networks of its spec, or, if it has none and its service
    /// publishes ports, in the one that those travel on.
    pub fn allocate_task(
        &mut self,
        task: &Task,
        service: Option<&Service>,
    ) -> Result<Vec<NetworkAttachment>, AllocateError> {
        let mut wanted: Vec<NetworkAttachmentSpec> = if task.spec.networks.is_empty() {
            service.map(|service| service.spec.networks().to_vec()).unwrap_or_default()
        } else {
            task.spec.networks.clone()
        };
        if wanted.is_empty() && service.is_some_and(publishes) {
            wanted.extend(self.ingress.map(|network_id| NetworkAttachmentSpec {
                network_id,
                aliases: Vec::new(),
                driver_options: BTreeMap::new(),
                addresses: Vec::new(),
            }));
        }
        let mut attachments: Vec<NetworkAttachment> = Vec::new();
        for spec in wanted {
            match self.give_addresses(spec.network_id, &spec.addresses) {
                Ok(addresses) => attachments.push(NetworkAttachment {
                    network_id: spec.network_id,
                    addresses,
                    aliases: spec.aliases,
                    driver_options: spec.driver_options,
                }),
                Err(error) => {
                    self.take_back_attachments(&attachments);
                    return Err(error);
                }
            }
        }
        Ok(attachments)
    }

    /// One address of each subnet family; those asked for, where they are.
    fn give_addresses(&mut self, network: NetworkId, asked: &[std::net::IpAddr]) -> Result<Vec<Cidr>, AllocateError> {
        let Some(given) = self.networks.get_mut(&network) else {
            return Err(AllocateError::NetworkNotReady(network));
        };
        let mut addresses: Vec<Cidr> = Vec::new();
        let result = given.give(asked, &mut addresses);
        if result.is_err() {
            for cidr in &addresses {
                given.subnets.iter_mut().filter(|subnet| subnet.contains(cidr.address)).for_each(|subnet| {
                    subnet.take_back(cidr.address);
                });
            }
        }
        result.map(|()| addresses)
    }

    fn take_back_attachments(&mut self, attachments: &[NetworkAttachment]) {
        for attachment in attachments {
            for cidr in &attachment.addresses {
                self.each_subnet(attachment.network_id, |subnet| {
                    if subnet.contains(cidr.address) {
                        subnet.take_back(cidr.address);
                    }
                });
            }
        }
    }

    /// The task is gone or has ended: its addresses are free.
    pub fn free_task(&mut self, task: &Task) {
        self.take_back_attachments(&task.networks);
    }

    /// The service is gone: its ports and virtual addresses are free.
    pub fn free_service(&mut self, service: &Service) {
        if let Some(endpoint) = &service.endpoint {
            self.ports.take_back(service.id, &endpoint.ports);
            self.take_back_vips(&endpoint.vips);
        }
    }

    /// The network is gone: its subnets and its number are free.
    pub fn free_network(&mut self, network: &Network) {
        if self.networks.remove(&network.id).is_some() {
            network.subnets.iter().for_each(|subnet| self.subnets.take_back(subnet.subnet));
            if let Some(vni) = network.vni {
                self.vnis.remove(&vni);
            }
        }
        if self.ingress == Some(network.id) {
            self.ingress = None;
        }
    }
}

impl Given {
    fn give(&mut self, asked: &[std::net::IpAddr], addresses: &mut Vec<Cidr>) -> Result<(), AllocateError> {
        for address in asked {
            let subnet = self.subnets.iter_mut().find(|subnet| subnet.contains(*address));
            let prefix = subnet.and_then(|subnet| subnet.give_exactly(*address).then(|| subnet.prefix()));
            let Some(prefix) = prefix else {
                return Err(AllocateError::Address { address: *address, network: self.name.clone() });
            };
            addresses.push(Cidr { address: *address, prefix });
        }
        for is_v4 in [true, false] {
            let mut family = self.subnets.iter_mut().filter(|subnet| subnet.is_v4() == is_v4).peekable();
            if family.peek().is_none() || addresses.iter().any(|cidr| cidr.address.is_ipv4() == is_v4) {
                continue;
            }
            match family.find_map(Addresses::give) {
                Some(cidr) => addresses.push(cidr),
                None => return Err(AllocateError::AddressesExhausted(self.name.clone())),
            }
        }
        Ok(())
    }
}

/// Whether the cluster has to give the network something.
fn needs_network(network: &Network) -> bool {
    network.spec.driver == OVERLAY && network.vni.is_none()
}

/// A task keeps its addresses until it is known to have ended.
fn holds_addresses(task: &Task) -> bool {
    task.status.state <= TaskState::Running
}

/// Whether the service has a port on every node.
fn publishes(service: &Service) -> bool {
    service.spec.endpoint.ports.iter().any(|port| port.publish_mode == PublishMode::Ingress)
}

fn give_subnets(subnets: &mut Subnets, network: &Network) -> Result<Vec<Subnet>, AllocateError> {
    let mut given = Vec::new();
    for config in &network.spec.ipam {
        if let Some(wanted) = config.subnet {
            if !subnets.give_exactly(wanted) {
                return Err(AllocateError::Overlap(wanted.network()));
            }
            given.push(subnet(wanted.network(), Some(config))?);
        }
    }
    let has = |is_v4: bool| given.iter().any(|subnet: &Subnet| subnet.subnet.address.is_ipv4() == is_v4);
    let (v4, v6) = (network.spec.ipv4 && !has(true), network.spec.ipv6 && !has(false));
    if v4 {
        given.push(subnet(subnets.give_v4().ok_or(AllocateError::PoolsExhausted)?, None)?);
    }
    if v6 {
        given.push(subnet(subnets.give_v6().ok_or(AllocateError::PoolsExhausted)?, None)?);
    }
    Ok(given)
}

fn subnet(subnet: Cidr, config: Option<&IpamConfig>) -> Result<Subnet, AllocateError> {
    let gateway = config.and_then(|config| config.gateway).unwrap_or_else(|| first_usable(subnet));
    if !subnet.contains(gateway) {
        return Err(AllocateError::Gateway { gateway, subnet });
    }
    Ok(Subnet {
        subnet,
        range: config.and_then(|config| config.range),
        gateway,
        reserved: config.map(|config| config.reserved.clone()).unwrap_or_default(),
    })
}
