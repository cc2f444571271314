//! The steps of a decision in words.

use mesh_common::addr::Addr;
use mesh_common::endpoint::{Endpoint, EndpointKey};
use mesh_common::maglev;
use mesh_common::node::network_flag;
use mesh_common::route::{Prefix, route_flag};
use mesh_common::service::{Backend, Service, ServiceKey, Slot, service_flag};
use mesh_common::watch::verdict;

use super::super::attach;
use super::super::desired::{addr, mac};
use super::explain::{Entry, Line, Scene, Twin};
use super::frame::{Frame, ip};
use super::sandbox::Ran;
use super::watch::verdict_name;

/// The backend that a flow's slot names.
pub(super) struct Choice {
    pub(super) service: Service,
    index: u32,
    slots: u32,
    slot: Slot,
    pub(super) backend: Backend,
}

/// Which backend the flow of the packet falls to, by the arithmetic that the programs use.
pub(super) fn choice(scene: &Scene<'_>, key: &ServiceKey) -> Option<Choice> {
    let service = *scene.tables.services.get(key)?;
    let (src, dst) = scene.packet.ports.unwrap_or_default();
    let flow = maglev::Tuple {
        client: addr(scene.packet.src),
        client_port: src.to_be_bytes(),
        port: dst.to_be_bytes(),
        proto: scene.packet.proto,
    };
    let affinity = service.flags & service_flag::CLIENT_AFFINITY != 0;
    let run = if matches!(scene.entry, Entry::Node(..)) { service.all() } else { service.entry() };
    let index = maglev::slot(if affinity { flow.client_hash() } else { flow.hash() }, run.len);
    let slot = *scene.tables.slots.get(&run.at)?.get(index as usize)?;
    let backend = *scene.tables.backends.get(&slot.current)?;
    Some(Choice { service, index, slots: run.len, slot, backend })
}

fn line(about: &'static str, text: impl Into<String>) -> Line {
    Line { about, text: text.into() }
}

/// Packet, service, slot, backend and way, as the maps have them.
pub(super) fn before(scene: &Scene<'_>) -> Vec<Line> {
    let mut lines = vec![line("packet", format!("{}, {}", scene.packet, arrival(scene)))];
    let Some(key) = dialled(scene) else {
        lines.push(line("service", "none: neither a VIP nor a port that is published here"));
        lines.extend(endpoint(scene));
        lines.extend(way(scene));
        return lines;
    };
    lines.push(line("service", service(scene, &key)));
    let Some(choice) = choice(scene, &key) else {
        lines.push(line("backend", "none is fit"));
        return lines;
    };
    let Choice { service, index, slots, slot, backend } = &choice;
    let previous = match slot.previous {
        0 => String::new(),
        number => format!(", before it backend {number}: what the present one does not know is handed to that"),
    };
    lines.push(line("slot", format!("{index} of {slots}, by {}: backend {}{previous}", policy(service), slot.current)));
    lines.push(line(
        "backend",
        format!("task {} on {}", task(backend, scene.packet.dst.is_ipv4()), node(scene, backend.node)),
    ));
    lines
}

/// How the slot is come by, and who may decide otherwise.
fn policy(service: &Service) -> &'static str {
    let has = |flag| service.flags & flag != 0;
    if has(service_flag::ROUND_ROBIN) {
        "the flow's hash, where the node that is dialled does not deal flows out in turn"
    } else if has(service_flag::LEAST_CONNECTIONS) {
        "the flow's hash, where the node that is dialled finds no less busy one"
    } else if has(service_flag::CLIENT_AFFINITY) {
        "the client's hash"
    } else {
        "the flow's hash"
    }
}

fn arrival(scene: &Scene<'_>) -> String {
    match scene.entry {
        Entry::Uplink(ifindex) => format!("comes in by uplink {}", (scene.name_of)(ifindex)),
        Entry::Link(ifindex) => {
            let link = scene.tables.links.get(&ifindex);
            let vni = link.map_or(0, |link| link.vni);
            format!("sent by the task behind {}, network {vni}", (scene.name_of)(ifindex))
        }
        Entry::Node(ifindex, vtep) => format!("in VXLAN from node {vtep}, by uplink {}", (scene.name_of)(ifindex)),
    }
}

/// The key with which the program looks the service up, if there is one.
fn dialled(scene: &Scene<'_>) -> Option<ServiceKey> {
    let to = addr(scene.packet.dst);
    let key = match scene.entry {
        Entry::Uplink(_) => {
            let port = scene.packet.ports.unwrap_or_default().1;
            ServiceKey::published(to, scene.packet.proto, port.to_be_bytes())
        }
        Entry::Link(ifindex) => ServiceKey::vip(scene.tables.links.get(&ifindex)?.vni, to),
        Entry::Node(..) => scene.dialled_elsewhere()?.1,
    };
    scene.tables.services.contains_key(&key).then_some(key)
}

fn service(scene: &Scene<'_>, key: &ServiceKey) -> String {
    let Some(service) = scene.tables.services.get(key) else { return String::new() };
    let label = scene.tables.labels.get(&u32::from(service.tally));
    let name = label.map_or("?", |label| label.service.as_str());
    let port = scene.packet.ports.unwrap_or_default().1;
    let what = if key.proto == 0 {
        format!("VIP {} of network {}", scene.packet.dst, key.vni)
    } else {
        format!("published port {port} at {}", scene.packet.dst)
    };
    let target = match u16::from_be_bytes(service.target_port) {
        0 => String::new(),
        target => format!(", port {target} of its tasks"),
    };
    let back = if key.proto != 0 && service.flags & service_flag::DIRECT != 0 { ", replies go direct" } else { "" };
    format!("{name}: {what}{target}{back}")
}

/// Where a packet to no service goes.
fn endpoint(scene: &Scene<'_>) -> Option<Line> {
    let Entry::Link(ifindex) = scene.entry else { return None };
    let vni = scene.tables.links.get(&ifindex)?.vni;
    let target = scene.mac_of(vni, scene.packet.dst);
    let text = match scene.tables.endpoints.get(&EndpointKey::new(vni, target)) {
        Some(endpoint) => format!("task {} on {}", mac::format(target), node(scene, endpoint.node)),
        None => format!("no task of network {vni} has {}: to the router, {}", scene.packet.dst, mac::format(target)),
    };
    Some(line("endpoint", text))
}

/// The way out of a packet that a task sends to nobody in its network.
fn way(scene: &Scene<'_>) -> Option<Line> {
    let Entry::Link(ifindex) = scene.entry else { return None };
    let tables = scene.tables;
    let vni = tables.links.get(&ifindex)?.vni;
    let to = addr(scene.packet.dst);
    if tables.endpoints.contains_key(&EndpointKey::new(vni, scene.mac_of(vni, scene.packet.dst))) {
        return None;
    }
    let is_internal = tables.networks.get(&vni).is_none_or(|network| network.flags & network_flag::INTERNAL != 0);
    let whole = Prefix::of_bits(to, Prefix::WHOLE);
    let covering = tables.routes.iter().filter(|(prefix, _)| prefix.covers(&whole));
    let text = match covering.max_by_key(|(prefix, _)| prefix.bits).map(|(_, route)| *route) {
        _ if is_internal => "none: the network is internal".to_owned(),
        _ if tables.locals.contains_key(&to) => "to this node itself".to_owned(),
        Some(route) if route.flags & route_flag::OVERLAY != 0 => "none: an address of an overlay network".to_owned(),
        Some(route) if route.ifindex != 0 && route.source != Addr::ZERO => {
            format!("out of {}, from {}", (scene.name_of)(route.ifindex), ip(route.source))
        }
        _ => "none: no uplink leads there with an address of the family".to_owned(),
    };
    Some(line("way out", text))
}

fn task(backend: &Backend, v4: bool) -> String {
    let like = if v4 { Addr::v4([0; 4]) } else { Addr::ZERO };
    format!("{} ({})", ip(backend.addr_like(&like)), mac::format(backend.mac))
}

fn node(scene: &Scene<'_>, number: u32) -> String {
    if number == Endpoint::HERE {
        return "this node".to_owned();
    }
    match scene.tables.nodes.get(&number) {
        Some(node) if node.ifindex != 0 => format!(
            "node {} by {}, next hop {}, MTU {}",
            ip(node.vtep),
            (scene.name_of)(node.ifindex),
            mac::format(node.next_hop),
            node.mtu
        ),
        Some(node) => format!("node {}, whose next hop is not resolved", ip(node.vtep)),
        None => format!("node number {number}, which nobody knows"),
    }
}

/// What a program did.
pub(super) fn program(scene: &Scene<'_>, program: &'static str, twin: Twin, ran: &Ran) -> Vec<Line> {
    let hook = if program == attach::UNDERLAY { "XDP" } else { "TC" };
    let who = match twin {
        Twin::Same(id) => format!("the program that is attached (id {id})"),
        Twin::Other(id) => format!("ANOTHER program is attached (id {id}): meshd and meshctl differ in version"),
        Twin::None => "no pinned attachment of it here".to_owned(),
    };
    let mut lines = vec![line("program", format!("{program} ({hook}), run on the packet; {who}"))];
    let event = &ran.told.event;
    let refused = ran.drops.first().filter(|_| event.verdict != verdict::DROPPED);
    let reason = ran.told.reason().or(refused.map(|(reason, _)| *reason));
    let verdict = match (event.verdict, reason) {
        (verdict::DROPPED, Some(reason)) => format!("dropped, {}: {}", reason.name(), reason.describe().trim()),
        (verdict::REDIRECTED | verdict::ROUTED | verdict::TAKEN_HOME, Some(reason)) => format!(
            "refused, {}: {} The answer leaves by {}",
            reason.name(),
            reason.describe().trim(),
            (scene.name_of)(event.to)
        ),
        (verdict::REDIRECTED, None) => format!("out of {}", (scene.name_of)(event.to)),
        (verdict::ROUTED, None) => format!("routed out of {}", (scene.name_of)(event.to)),
        (verdict::PASSED, _) => passed(program).to_owned(),
        (other, _) => verdict_name(other).to_owned(),
    };
    lines.push(line("verdict", verdict));
    if matches!(event.verdict, verdict::REDIRECTED | verdict::ROUTED | verdict::TAKEN_HOME) {
        lines.push(line("leaves as", leaves(scene, ran)));
        lines.extend(agreement(scene, ran, reason.is_some()));
    }
    if !ran.counters.is_empty() {
        let counted: Vec<_> =
            ran.counters.iter().map(|(counter, count)| format!("{} {count}", counter.name())).collect();
        lines.push(line("counts", counted.join(", ")));
    }
    lines
}

fn passed(program: &str) -> &'static str {
    if program == attach::UNDERLAY {
        "passed on: not for XDP; TC sees it next, tunnelled TCP after the kernel coalesced it"
    } else if program == attach::CONTAINER {
        "passed on: for nobody in the network, and no flow that is known; `outward` sees it next"
    } else {
        "passed on to the host's stack: not ours"
    }
}

fn vxlan_port(scene: &Scene<'_>) -> u16 {
    scene.tables.config.get(&0).map_or(0, |config| u16::from_be_bytes(config.vxlan_port))
}

fn leaves(scene: &Scene<'_>, ran: &Ran) -> String {
    let frame = Frame::read(&ran.frame, vxlan_port(scene));
    let to = frame.macs.map(|(_, to)| format!(", to {}", mac::format(to)));
    format!("{frame}{}", to.unwrap_or_default())
}

/// Says so if the frame is not for the task that the maps' arithmetic names: a flow that is known stays
/// with its own, or the versions differ.
fn agreement(scene: &Scene<'_>, ran: &Ran, refused: bool) -> Option<Line> {
    let choice = choice(scene, &dialled(scene)?).filter(|_| !refused)?;
    let (_, to) = Frame::read(&ran.frame, vxlan_port(scene)).macs?;
    if to == choice.backend.mac {
        return None;
    }
    let others = scene.tables.backends.values().find(|backend| backend.mac == to);
    let v4 = scene.packet.dst.is_ipv4();
    let who = others.map_or_else(|| mac::format(to), |backend| task(backend, v4));
    Some(line("differs", format!("the program chose {who}, not the present backend of the slot")))
}
