//! Takes what a task sends: checks that it speaks for itself, and sends it to the task it is for.
//! Reads `ENDPOINTS`, `NODES` and `NODE`.

use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::{Endpoint, Link};
use mesh_common::header::{UdpHeader, proto};
use mesh_common::parse::{self, Bytes as _, ETH_LEN, Frame, Ip};

use crate::maps;
use crate::packet::{Packet, TcPacket};
use crate::verdict::Verdict;
use crate::vxlan;

/// Longest headers looked at: Ethernet with a tag, IPv6, and the first bytes of the transport.
const PULL: usize = ETH_LEN + 4 + 40 + 28;

/// The frame, if its sender is who it says.
#[inline(always)]
pub(crate) fn admit(packet: &mut TcPacket<'_>, link: &Link) -> Result<Frame, DropReason> {
    packet.pull(PULL);
    let frame = parse::frame(packet, 0)?;
    if frame.eth.src != link.mac {
        return Err(DropReason::SpoofedMac);
    }
    Ok(frame)
}

/// Sends the frame to the task that its destination address names.
#[inline(always)]
pub(crate) fn to_endpoint(packet: &mut TcPacket<'_>, link: &Link, frame: &Frame) -> Result<Verdict, DropReason> {
    let ip = parse::ip(packet, frame)?.ok_or(DropReason::UnknownProtocol)?;
    if frame.eth.dst.is_group() {
        return Err(DropReason::GroupTraffic);
    }
    if ip.src != link.addr4 && ip.src != link.addr6 {
        return Err(DropReason::SpoofedAddress);
    }
    let config = maps::node_config()?;
    refuse_nested(packet, &ip, config.vxlan_port)?;
    let endpoint = maps::endpoint(link.vni, frame.eth.dst).ok_or(DropReason::UnknownEndpoint)?;
    if endpoint.node == Endpoint::HERE {
        maps::count(Counter::Local);
        return Ok(Verdict::Redirect(endpoint.ifindex));
    }
    let node = maps::node(endpoint.node).ok_or(DropReason::NoNeighbour)?;
    if node.ifindex == 0 {
        return Err(DropReason::NoNeighbour);
    }
    vxlan::wrap(packet, node, config.vxlan_port, link.vni)?;
    maps::count(Counter::Encap);
    Ok(Verdict::Redirect(node.ifindex))
}

/// A task that speaks VXLAN to the overlay's own port wants to be taken for a node.
#[inline(always)]
fn refuse_nested(packet: &TcPacket<'_>, ip: &Ip, vxlan_port: [u8; 2]) -> Result<(), DropReason> {
    if ip.proto != proto::UDP || ip.fragment {
        return Ok(());
    }
    let udp: UdpHeader = packet.need(ip.payload_at)?;
    if udp.dst == vxlan_port {
        return Err(DropReason::Nested);
    }
    Ok(())
}
