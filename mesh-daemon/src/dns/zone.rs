//! The names of every network of this node, shared by all tasks that may see them.
//!
//! A change touches the names of one owner; nothing is rebuilt. Reading takes a lock that is held
//! for one look-up.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// How many names a network has at most: ten thousand services, aliases and tasks.
pub(super) const MAX_NAMES: usize = 1 << 20;
/// How long a name is at most (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;

/// The 128 bits of a network's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkKey(pub u128);

/// Who has a name: the 128 bits of a service's or task's id. Several may have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(pub u128);

/// Addresses of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The first of them.
    pub address: IpAddr,
    /// How many bits they share.
    pub prefix: u8,
}

impl Subnet {
    fn contains(self, address: IpAddr) -> bool {
        let differ = |a: u128, b: u128, bits: u32| {
            let host = bits.saturating_sub(u32::from(self.prefix));
            (a ^ b).checked_shr(host).unwrap_or(0) != 0
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => !differ(a.to_bits().into(), b.to_bits().into(), 32),
            (IpAddr::V6(a), IpAddr::V6(b)) => !differ(a.to_bits(), b.to_bits(), 128),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// A service in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name, then its aliases.
    pub names: Vec<String>,
    /// Its virtual addresses; none if it has no balancer (`dnsrr`).
    pub vips: Vec<IpAddr>,
    /// The addresses of its healthy tasks.
    pub tasks: Vec<IpAddr>,
}

/// A task in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// The name of its container, then its host name and aliases.
    pub names: Vec<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Names that were not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// Its network was not put first, or is gone.
    #[error("dns: no network {key:?}")]
    UnknownNetwork {
        /// Which.
        key: NetworkKey,
    },
    /// It cannot be asked for.
    #[error("dns: \"{name}\" is no name: 1 to {MAX_NAME} characters are")]
    Name {
        /// Which.
        name: String,
    },
    /// The network has too many.
    #[error("dns: network \"{network}\" has {MAX_NAMES} names already")]
    Full {
        /// The network.
        network: String,
    },
}

/// How far an answer may be kept by who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It stays while the service lives.
    Vip,
    /// It goes with a task. Several are given in another order each time.
    Task,
}

/// What one owner says of a name.
#[derive(Debug, Clone)]
struct Entry {
    owner: Owner,
    kind: Kind,
    addresses: Box<[IpAddr]>,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) addresses: Vec<IpAddr>,
}

#[derive(Debug, Default)]
struct Network {
    name: String,
    subnets: Vec<Subnet>,
    /// By name in lower case. Hardly ever has a name two owners.
    names: HashMap<Box<str>, Vec<Entry>>,
    owned: HashMap<Owner, Owned>,
    reverse: HashMap<IpAddr, (Owner, Box<str>)>,
}

/// What is to be removed with an owner.
#[derive(Debug, Default)]
struct Owned {
    names: Vec<Box<str>>,
    addresses: Box<[IpAddr]>,
}

/// The names of all networks.
#[derive(Debug, Default)]
pub struct Zone {
    networks: RwLock<HashMap<NetworkKey, Network>>,
}

impl Zone {
    /// Begins a network, or changes what it is called; its names stay.
    pub fn put_network(&self, key: NetworkKey, name: &str, subnets: Vec<Subnet>) {
        let mut networks = self.write();
        let network = networks.entry(key).or_default();
        name.to_ascii_lowercase().clone_into(&mut network.name);
        network.subnets = subnets;
    }

    /// Forgets a network with all its names.
    pub fn remove_network(&self, key: NetworkKey) {
        self.write().remove(&key);
    }

    /// Says what a service is called and where it is, in place of what was said before.
    ///
    /// # Errors
    ///
    /// A name that cannot be one, or no room; then nothing has changed.
    pub fn put_service(&self, key: NetworkKey, owner: Owner, service: &Service) -> Result<(), ZoneError> {
        let (kind, addresses) =
            if service.vips.is_empty() { (Kind::Task, &service.tasks) } else { (Kind::Vip, &service.vips) };
        let named = service.names.iter().map(|name| (name.clone(), kind, addresses));
        let tasks = service.names.iter().map(|name| (format!("tasks.{name}"), Kind::Task, &service.tasks));
        self.put(key, owner, named.chain(tasks).collect(), service.names.first().map(|name| (name, &service.vips)))
    }

    /// Says what a task is called and where it is, in place of what was said before.
    ///
    /// # Errors
    ///
    /// A name that cannot be one, or no room; then nothing has changed.
    pub fn put_host(&self, key: NetworkKey, owner: Owner, host: &Host) -> Result<(), ZoneError> {
        let named = host.names.iter().map(|name| (name.clone(), Kind::Task, &host.addresses));
        self.put(key, owner, named.collect(), host.names.first().map(|name| (name, &host.addresses)))
    }

    /// Forgets what an owner is called.
    pub fn remove(&self, key: NetworkKey, owner: Owner) {
        if let Some(network) = self.write().get_mut(&key) {
            network.remove(owner);
        }
    }

    fn put(
        &self,
        key: NetworkKey,
        owner: Owner,
        named: Vec<(String, Kind, &Vec<IpAddr>)>,
        reverse: Option<(&String, &Vec<IpAddr>)>,
    ) -> Result<(), ZoneError> {
        let wrong = named.iter().find(|(name, ..)| name.is_empty() || name.len() > MAX_NAME);
        if let Some((name, ..)) = wrong {
            return Err(ZoneError::Name { name: name.clone() });
        }
        let mut networks = self.write();
        let network = networks.get_mut(&key).ok_or(ZoneError::UnknownNetwork { key })?;
        if network.names.len() + named.len() > MAX_NAMES {
            return Err(ZoneError::Full { network: network.name.clone() });
        }
        network.remove(owner);
        let mut owned = Owned::default();
        for (name, kind, addresses) in named {
            let name: Box<str> = name.to_ascii_lowercase().into();
            let entries = network.names.entry(name.clone()).or_default();
            if entries.iter().all(|entry| entry.owner != owner) {
                entries.push(Entry { owner, kind, addresses: addresses.as_slice().into() });
                entries.shrink_to_fit();
                owned.names.push(name);
            }
        }
        if let Some((name, addresses)) = reverse {
            owned.addresses = addresses.as_slice().into();
            for address in addresses {
                network.reverse.insert(*address, (owner, name.as_str().into()));
            }
        }
        network.owned.insert(owner, owned);
        Ok(())
    }

    /// What a name in lower case and without a last dot stands for in these networks, the first that
    /// knows it.
    pub(super) fn find(&self, view: &[NetworkKey], name: &str) -> Option<Found> {
        let networks = self.read();
        let seen = || view.iter().filter_map(|key| networks.get(key));
        let qualified = |network: &Network| network.find(network.unqualified(name)?);
        seen().find_map(|network| network.find(name)).or_else(|| seen().find_map(qualified))
    }

    /// Whether a name is in the domain of one of these networks, and so nobody else's affair.
    pub(super) fn is_ours(&self, view: &[NetworkKey], name: &str) -> bool {
        let networks = self.read();
        view.iter().filter_map(|key| networks.get(key)).any(|network| network.unqualified(name).is_some())
    }

    /// The name of an address, with its network's.
    pub(super) fn find_reverse(&self, view: &[NetworkKey], address: IpAddr) -> Option<String> {
        let networks = self.read();
        let named = |network: &Network| {
            let (_, name) = network.reverse.get(&address)?;
            Some(format!("{name}.{}", network.name))
        };
        view.iter().filter_map(|key| networks.get(key)).find_map(named)
    }

    /// Whether an address is of one of these networks.
    pub(super) fn has_address(&self, view: &[NetworkKey], address: IpAddr) -> bool {
        let networks = self.read();
        let mut subnets = view.iter().filter_map(|key| networks.get(key)).flat_map(|network| &network.subnets);
        subnets.any(|subnet| subnet.contains(address))
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<NetworkKey, Network>> {
        self.networks.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<NetworkKey, Network>> {
        self.networks.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Network {
    fn find(&self, name: &str) -> Option<Found> {
        let entries = self.names.get(name)?;
        let kind = if entries.iter().all(|entry| entry.kind == Kind::Vip) { Kind::Vip } else { Kind::Task };
        let addresses = entries.iter().flat_map(|entry| entry.addresses.iter().copied()).collect();
        Some(Found { kind, addresses })
    }

    fn unqualified<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_suffix(self.name.as_str())?.strip_suffix('.')
    }

    fn remove(&mut self, owner: Owner) {
        let Some(owned) = self.owned.remove(&owner) else {
            return;
        };
        for name in owned.names {
            if let Some(entries) = self.names.get_mut(&name) {
                entries.retain(|entry| entry.owner != owner);
                if entries.is_empty() {
                    self.names.remove(&name);
                }
            }
        }
        for address in &owned.addresses {
            if self.reverse.get(address).is_some_and(|(of, _)| *of == owner) {
                self.reverse.remove(address);
            }
        }
    }
}
