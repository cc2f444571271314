//! Names, for the tasks of this node: the zone follows what the node is told, and each task with links has
//! a resolver in its own namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::SeedableRng as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::container::own_nameservers;
use super::desired::Rumours;
use super::life::{Linked, chain};
use crate::dns::{self, Forwarder, Host, NetworkKey, Owner, Resolver, Service, Sockets, Subnet, View, Zone};
use crate::model::assignment::Picture;
use crate::model::id::{NetworkId, TaskId};
use crate::model::service::EndpointMode;
use crate::runtime::netns;

/// The node's own resolvers are asked for everything else.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A name's owner in one network, and its record.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Record {
    Service(Service),
    Host(Host),
}

type Records = BTreeMap<(NetworkKey, u128), Record>;
type Networks = BTreeMap<NetworkKey, (String, Vec<(IpAddr, u8)>)>;

/// The names of this node's tasks.
pub(super) struct Names {
    zone: Arc<Zone>,
    resolver: Arc<Resolver>,
    records: Records,
    networks: Networks,
    served: BTreeMap<TaskId, CancellationToken>,
    servers: JoinSet<TaskId>,
}

impl Names {
    pub(super) fn new() -> Self {
        let zone = Arc::new(Zone::default());
        let servers = dns::upstreams(RESOLV_CONF).unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "names outside of the cluster are not resolved");
            Vec::new()
        });
        let chance = rand::rngs::StdRng::from_rng(&mut rand::rng());
        let resolver = Arc::new(Resolver::new(Arc::clone(&zone), Forwarder::new(servers), chance));
        Self {
            zone,
            resolver,
            records: Records::new(),
            networks: Networks::new(),
            served: BTreeMap::new(),
            servers: JoinSet::new(),
        }
    }

    /// Makes names and resolvers as they should be now.
    pub(super) fn follow(&mut self, picture: &Picture, rumours: &Rumours, links: &BTreeMap<TaskId, Linked>) {
        self.follow_networks(picture);
        self.follow_records(records(picture, rumours));
        for (task, linked) in links {
            if !self.served.contains_key(task)
                && let Some(assigned) = picture.tasks.get(task)
            {
                let networks = assigned.task.networks.iter().map(|attachment| key(attachment.network_id));
                let resolver = self.resolver_of(&own_nameservers(&assigned.task.spec.container));
                self.serve(*task, linked, networks.collect(), resolver);
            }
        }
        let gone: Vec<_> = self.served.keys().filter(|task| !links.contains_key(task)).copied().collect();
        for task in gone {
            if let Some(stop) = self.served.remove(&task) {
                stop.cancel();
            }
        }
        while self.servers.try_join_next().is_some() {}
    }

    fn follow_networks(&mut self, picture: &Picture) {
        let mut now = Networks::new();
        for network in picture.networks.values() {
            let subnets = network.subnets.iter().map(|subnet| (subnet.subnet.address, subnet.subnet.prefix));
            now.insert(key(network.id), (network.spec.annotations.name.clone(), subnets.collect()));
        }
        for gone in self.networks.keys().filter(|network| !now.contains_key(network)) {
            self.zone.remove_network(*gone);
        }
        for (network, (name, subnets)) in &now {
            if self.networks.get(network) != now.get(network) {
                let subnets = subnets.iter().map(|(address, prefix)| Subnet { address: *address, prefix: *prefix });
                self.zone.put_network(*network, name, subnets.collect());
            }
        }
        self.networks = now;
    }

    fn follow_records(&mut self, now: Records) {
        for (network, owner) in self.records.keys().filter(|key| !now.contains_key(key)) {
            self.zone.remove(*network, Owner(*owner));
        }
        for ((network, owner), record) in &now {
            if self.records.get(&(*network, *owner)) == Some(record) {
                continue;
            }
            let put = match record {
                Record::Service(service) => self.zone.put_service(*network, Owner(*owner), service),
                Record::Host(host) => self.zone.put_host(*network, Owner(*owner), host),
            };
            if let Err(error) = put {
                tracing::warn!(error = chain(&error), "a name is left out");
            }
        }
        self.records = now;
    }

    /// The node's resolver, or one that asks a task's own servers for everything else.
    fn resolver_of(&self, servers: &[IpAddr]) -> Arc<Resolver> {
        if servers.is_empty() {
            return Arc::clone(&self.resolver);
        }
        let servers = servers.iter().map(|server| SocketAddr::new(*server, dns::ADDRESS.port()));
        let chance = rand::rngs::StdRng::from_rng(&mut rand::rng());
        Arc::new(Resolver::new(Arc::clone(&self.zone), Forwarder::new(servers.collect()), chance))
    }

    fn serve(&mut self, task: TaskId, linked: &Linked, networks: Vec<NetworkKey>, resolver: Arc<Resolver>) {
        let bind = || -> std::io::Result<Sockets> {
            let udp = std::net::UdpSocket::bind(dns::ADDRESS)?;
            let tcp = std::net::TcpListener::bind(dns::ADDRESS)?;
            Ok(Sockets { udp, tcp })
        };
        let sockets = match netns::enter(&linked.netns, bind) {
            Ok(Ok(sockets)) => sockets,
            Ok(Err(error)) => return tracing::warn!(%task, %error, "this task has no resolver"),
            Err(error) => return tracing::warn!(%task, error = chain(&error), "this task has no resolver"),
        };
        let stop = CancellationToken::new();
        let until = stop.clone();
        self.servers.spawn(async move {
            if let Err(error) = dns::serve(sockets, resolver, Arc::new(View::new(networks)), until).await {
                tracing::warn!(%task, error = chain(&error), "this task's resolver ended");
            }
            task
        });
        self.served.insert(task, stop);
    }
}

fn key(network: NetworkId) -> NetworkKey {
    NetworkKey(network.to_u128())
}

/// All names of all networks. A task that drains, or that is known to be gone, has none.
fn records(picture: &Picture, rumours: &Rumours) -> Records {
    let mut records = Records::new();
    let mut of_service: BTreeMap<_, Vec<IpAddr>> = BTreeMap::new();
    for backend in picture.backends.values() {
        if backend.draining || rumours.gone.contains(&backend.id) || rumours.dead.contains(&backend.node) {
            continue;
        }
        for attachment in &backend.networks {
            let addresses: Vec<_> = attachment.addresses.iter().map(|cidr| cidr.address).collect();
            if let Some(service) = backend.service {
                of_service.entry((service, attachment.network_id)).or_default().extend(&addresses);
            }
            let mut names = vec![backend.name.clone()];
            names.extend(attachment.aliases.iter().cloned());
            let owner = (key(attachment.network_id), backend.id.to_u128());
            records.insert(owner, Record::Host(Host { names, addresses }));
        }
    }
    for service in picture.services.values() {
        let own: BTreeSet<_> = service.networks.iter().map(|network| network.network_id).collect();
        for network in own {
            let aliases = service.networks.iter().filter(|it| it.network_id == network).flat_map(|it| &it.aliases);
            let mut names = vec![service.name.clone()];
            names.extend(aliases.filter(|alias| **alias != service.name).cloned());
            let vips = match service.mode {
                EndpointMode::Vip => {
                    let vips = service.endpoint.vips.iter().filter(|vip| vip.network_id == network);
                    vips.map(|vip| vip.address.address).collect()
                }
                EndpointMode::Dnsrr => Vec::new(),
            };
            let tasks = of_service.remove(&(service.id, network)).unwrap_or_default();
            records.insert((key(network), service.id.to_u128()), Record::Service(Service { names, vips, tasks }));
        }
    }
    records
}
