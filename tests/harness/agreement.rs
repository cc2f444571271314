//! Do all nodes of a cluster agree? Compares what each node's kernel, each task's names and the managers' store
//! say of services and tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use mesh_common::addr::Addr;
use mesh_daemon::datapath::Pins;
use mesh_daemon::datapath::desired::mac;
use mesh_daemon::datapath::maps::Maps;
use mesh_daemon::datapath::tables::Tables;
use serde_json::Value;

use crate::nodes::{Node, Nodes};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// What one node's packet path does with services and tasks, without what is the node's own: numbers, places
/// and interfaces. By what is dialled or looked up, what comes of it.
type Path = BTreeMap<String, String>;

/// What the managers say.
#[derive(Debug, Default)]
struct Told {
    /// Each task that should run and does: its name and its addresses, by network.
    tasks: BTreeMap<String, BTreeSet<(String, IpAddr)>>,
    /// Names, by the network in which they are known, and their addresses.
    names: BTreeMap<(String, String), BTreeSet<IpAddr>>,
    /// The networks of each task, by its id.
    networks: BTreeMap<String, BTreeSet<String>>,
    /// What contradicts itself.
    wrong: Vec<String>,
}

impl Nodes {
    /// Waits until all nodes that run agree with each other and with the managers, of which node `at` is asked;
    /// how long that took. At the limit the differences are told.
    ///
    /// # Errors
    /// They do not agree, or cannot be asked.
    pub fn agree(&self, at: usize, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        loop {
            let looked = begun.elapsed();
            let differences = self.differences(at);
            if matches!(&differences, Ok(differences) if differences.is_empty()) {
                return Ok(looked);
            }
            if begun.elapsed() >= limit {
                bail!("the nodes do not agree within {limit:?}:\n{}", differences?.join("\n"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Everything in which nodes differ now.
    fn differences(&self, at: usize) -> Result<Vec<String>> {
        let told = told(self, at)?;
        let mut differences = told.wrong.clone();
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.is_running()).collect();
        let mut first: Option<(&str, Path)> = None;
        for node in running {
            let name = node.host.name.as_str();
            let path = path(&tables(node).with_context(|| format!("maps of {name}"))?);
            differences.extend(task_differences(name, &path, &told));
            match &first {
                None => first = Some((name, path)),
                Some((other, expected)) => differences.extend(path_differences(other, expected, name, &path)),
            }
            differences.extend(name_differences(node, &told)?);
        }
        Ok(differences)
    }
}

fn tables(node: &Node) -> Result<Tables> {
    Ok(Maps::open(&Pins::new(node.pins.clone()))?.tables()?)
}

fn text(addr: Addr) -> String {
    let ip = if addr.is_v4() { IpAddr::from(Ipv4Addr::from(addr.low4())) } else { Ipv6Addr::from(addr.bytes).into() };
    ip.to_string()
}

/// The packet path of a node in words that are the same on all nodes.
fn path(tables: &Tables) -> Path {
    let own = tables.config.get(&0).copied().unwrap_or_default();
    let vtep = |node: u32| match tables.nodes.get(&node) {
        Some(node) if node.vtep != Addr::ZERO => text(node.vtep),
        _ => text(own.vtep),
    };
    let backend = |number: u32| match tables.backends.get(&number) {
        Some(backend) => format!("{} at {}", mac::format(backend.mac), vtep(backend.node)),
        None if number == 0 => "nobody".to_owned(),
        None => format!("backend {number}, which there is not"),
    };
    let mut path = Path::new();
    for (key, service) in &tables.services {
        // A port is published at each node's own addresses.
        let dialled = if key.vni == 0 && key.proto != 0 {
            format!("IPv{} of the node", if key.addr.is_v4() { 4 } else { 6 })
        } else {
            text(key.addr)
        };
        let slots = tables.slots.get(&service.slots_at).filter(|_| service.slots != 0);
        let slots: Vec<_> = slots.into_iter().flatten().map(|slot| backend(slot.current)).collect();
        let what =
            format!("service {dialled} vni {} proto {} port {}", key.vni, key.proto, u16::from_be_bytes(key.port));
        path.insert(what, format!("to port {}: {}", u16::from_be_bytes(service.target_port), slots.join(", ")));
    }
    for (key, endpoint) in &tables.endpoints {
        let way = format!("{} {} at {}", Ipv4Addr::from(endpoint.addr4), text(endpoint.addr6), vtep(endpoint.node));
        path.insert(format!("endpoint {} vni {}", mac::format(key.mac), key.vni), way);
    }
    for (key, neighbour) in &tables.neighbours {
        path.insert(format!("neighbour {} vni {}", text(key.addr), key.vni), mac::format(neighbour.mac));
    }
    path
}

fn path_differences(one: &str, expected: &Path, other: &str, path: &Path) -> Vec<String> {
    let keys: BTreeSet<_> = expected.keys().chain(path.keys()).collect();
    let differs = keys.into_iter().filter(|key| expected.get(*key) != path.get(*key));
    let nothing = "nothing".to_owned();
    let said = |path: &Path, key: &String| {
        let mut said = path.get(key).unwrap_or(&nothing).clone();
        said.truncate(300);
        said
    };
    differs.map(|key| format!("{key}: {one} has {}; {other} has {}", said(expected, key), said(path, key))).collect()
}

/// Each running task is an endpoint, and no other is.
fn task_differences(node: &str, path: &Path, told: &Told) -> Vec<String> {
    let endpoints = path.iter().filter(|(key, _)| key.starts_with("endpoint "));
    let has: BTreeSet<IpAddr> = endpoints.filter_map(|(_, way)| way.split(' ').next()?.parse().ok()).collect();
    let wanted: BTreeSet<IpAddr> = told.tasks.values().flatten().map(|(_, address)| *address).collect();
    let missing = wanted.difference(&has).map(|address| format!("{node} has no endpoint {address}"));
    let surplus = has.difference(&wanted).map(|address| format!("{node} has an endpoint {address} of no running task"));
    missing.chain(surplus).collect()
}

/// Each task of this node finds the names of its networks.
fn name_differences(node: &Node, told: &Told) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for space in node.spaces()? {
        let task = space.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(networks) = told.networks.get(task) else { continue };
        for ((network, name), addresses) in &told.names {
            if !networks.contains(network) {
                continue;
            }
            let found: BTreeSet<_> = node.resolve(&space, &format!("{name}.{network}"))?.into_iter().collect();
            if found != *addresses {
                let host = &node.host.name;
                differences.push(format!("{name} in {network} is {found:?} at {host}, and should be {addresses:?}"));
            }
        }
    }
    Ok(differences)
}

fn inspect(nodes: &Nodes, at: usize, arguments: &[&str], what: &[&str]) -> Result<Vec<Value>> {
    if what.is_empty() {
        return Ok(Vec::new());
    }
    let json = nodes.docker(at, &[arguments, what].concat())?;
    serde_json::from_str(&json).with_context(|| format!("reading docker {}", arguments.join(" ")))
}

fn address(value: &Value) -> Option<IpAddr> {
    value.as_str()?.split('/').next()?.parse().ok()
}

/// What the managers say, by the docker CLI.
fn told(nodes: &Nodes, at: usize) -> Result<Told> {
    let mut told = Told::default();
    let listed = nodes.docker(at, &["network", "ls", "-q", "--no-trunc", "--filter", "driver=overlay"])?;
    let ids: Vec<_> = listed.lines().collect();
    let mut names = BTreeMap::new();
    for network in inspect(nodes, at, &["network", "inspect"], &ids)? {
        let text = |field: &str| network[field].as_str().map(str::to_owned).context("a network without a name");
        names.insert(text("Id")?, (text("Name")?, network["Ingress"].as_bool() == Some(true)));
    }
    let listed = nodes.docker(at, &["service", "ls", "-q"])?;
    let ids: Vec<_> = listed.lines().collect();
    for service in inspect(nodes, at, &["service", "inspect"], &ids)? {
        tell_service(nodes, at, &service, &names, &mut told)?;
    }
    Ok(told)
}

fn tell_service(
    nodes: &Nodes,
    at: usize,
    service: &Value,
    networks: &BTreeMap<String, (String, bool)>,
    told: &mut Told,
) -> Result<()> {
    let (id, name) = (service["ID"].as_str().context("no ID")?, service["Spec"]["Name"].as_str().context("no name")?);
    for vip in service["Endpoint"]["VirtualIPs"].as_array().into_iter().flatten() {
        let network = networks.get(vip["NetworkID"].as_str().unwrap_or_default());
        if let (Some((network, false)), Some(address)) = (network, address(&vip["Addr"])) {
            told.names.entry((network.clone(), name.to_owned())).or_default().insert(address);
        }
    }
    let listed = nodes.docker(at, &["service", "ps", id, "-q", "--no-trunc", "--filter", "desired-state=running"])?;
    let ids: Vec<_> = listed.lines().collect();
    let mut slots = BTreeSet::new();
    for task in inspect(nodes, at, &["inspect", "--type", "task"], &ids)? {
        let state = task["Status"]["State"].as_str().unwrap_or_default();
        let slot = if task["Slot"].is_null() { &task["NodeID"] } else { &task["Slot"] };
        let place = format!("{name}.{slot}");
        if state != "running" {
            told.wrong.push(format!("{place} is {state}"));
        }
        if !slots.insert(place.clone()) {
            told.wrong.push(format!("{place} runs twice"));
        }
        let id = task["ID"].as_str().context("a task without an ID")?;
        for attachment in task["NetworksAttachments"].as_array().into_iter().flatten() {
            let network = networks.get(attachment["Network"]["ID"].as_str().unwrap_or_default());
            let Some((network, is_ingress)) = network else { continue };
            for address in attachment["Addresses"].as_array().into_iter().flatten().filter_map(address) {
                told.tasks.entry(id.to_owned()).or_default().insert((network.clone(), address));
                if !is_ingress {
                    told.names.entry((network.clone(), format!("tasks.{name}"))).or_default().insert(address);
                }
            }
            if !is_ingress {
                told.networks.entry(id.to_owned()).or_default().insert(network.clone());
            }
        }
    }
    Ok(())
}
