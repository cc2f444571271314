//! Hands a tunnelled frame to the local task it is for, or to the client outside. Reads `ENDPOINTS`
//! and `SERVICES`.

use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::Endpoint;
use mesh_common::flow::state;
use mesh_common::node::NodeConfig;
use mesh_common::parse;
use mesh_common::service::{ServiceKey, service_flag};

use crate::dial::Dial;
use crate::local::{Origin, Task};
use crate::maps;
use crate::packet::{MARK, Packet};
use crate::refuse::Back;
use crate::verdict::Step;
use crate::vxlan::Tunnel;

/// Takes the tunnel off and sends the inner frame, whose headers are in `dial`, into the task's link.
///
/// A frame for a task of another node is dropped, never sent on: two nodes that each believe the
/// other has the task must not play ball with it.
#[inline(always)]
pub(crate) fn to_task<P: Packet>(
    packet: &mut P,
    config: &NodeConfig,
    tunnel: Tunnel,
    is_ip: bool,
    dial: &mut Dial,
    counter: Counter,
) -> Result<Step, DropReason> {
    if dial.eth.dst.is_group() {
        return Err(DropReason::GroupTraffic);
    }
    let endpoint = maps::endpoint(tunnel.vni, dial.eth.dst).ok_or(DropReason::UnknownEndpoint)?;
    if endpoint.node != Endpoint::HERE {
        return Err(DropReason::UnknownEndpoint);
    }
    packet.strip(tunnel.outer, &dial.eth)?;
    maps::count(counter);
    if is_ip && dial.ip.dst != endpoint.addr_like(&dial.ip.dst) {
        return to_service(packet, config, tunnel, dial, &endpoint);
    }
    Ok(Step::Redirect(endpoint.ifindex))
}

/// The inner packet dials a service, and another node chose the task.
#[inline(always)]
fn to_service<P: Packet>(
    packet: &mut P,
    config: &NodeConfig,
    tunnel: Tunnel,
    dial: &mut Dial,
    endpoint: &Endpoint,
) -> Result<Step, DropReason> {
    dial.ip.payload_at -= tunnel.outer;
    let without_ports = if dial.ip.fragment { DropReason::Fragment } else { DropReason::UnsupportedTransport };
    dial.transport = parse::transport(packet, &dial.ip)?.ok_or(without_ports)?;
    let published = tunnel.vni == config.ingress_vni;
    let key = if published {
        ServiceKey::forwarded(tunnel.vni, &dial.ip.dst, dial.ip.proto, dial.transport.ports.dst)
    } else {
        ServiceKey::vip(tunnel.vni, dial.ip.dst)
    };
    dial.service = maps::service(&key).ok_or(DropReason::UnknownService)?;
    // A packet that another node handed on comes from a third: the one dialled.
    let node = if published { maps::vtep(dial.ip.dst).unwrap_or(tunnel.node) } else { tunnel.node };
    let direct = if dial.service.flags & service_flag::DIRECT != 0 { state::DIRECT } else { 0 };
    dial.origin = Origin { bits: if published { state::PUBLISHED | direct } else { 0 }, number: node };
    dial.back = Back::Node(node);
    dial.task = Task {
        ifindex: endpoint.ifindex,
        mac: dial.eth.dst,
        addr: endpoint.addr_like(&dial.ip.dst),
        backend: endpoint.backend,
        tally: maps::backend(endpoint.backend).map_or(0, |backend| backend.tally),
        port: dial.service.target_port,
    };
    Ok(Step::Accept)
}

/// Takes the tunnel off a reply of another node's task, whose headers are in `dial`, and sends it to
/// the client by the routing table.
#[inline(always)]
pub(crate) fn to_client<P: Packet>(packet: &mut P, tunnel: Tunnel, dial: &Dial) -> Result<Step, DropReason> {
    let ip = &dial.ip;
    // An ICMP error or a fragment may come from any address; ports are checked where they are.
    if let Some(transport) = parse::transport(packet, ip)? {
        let key = ServiceKey::published(ip.src, ip.proto, transport.ports.src);
        maps::service(&key).ok_or(DropReason::SpoofedReply)?;
    }
    packet.strip(tunnel.outer, &dial.eth)?;
    maps::count(Counter::ReplyForwarded);
    // Who dials from this node itself has the address dialled.
    let is_own = ip.dst == ip.src;
    Ok(if is_own { Step::Home(MARK) } else { Step::Route(packet.ifindex()) })
}
