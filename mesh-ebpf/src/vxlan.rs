//! VXLAN (RFC 7348): recognises what other nodes send us, and wraps what goes to them.
//!
//! Reads `NODE`, `VTEPS`, `NETWORKS` and `NODES`. Never looks at endpoints: that is `deliver`'s and
//! `send`'s part.

use mesh_common::addr::Mac;
use mesh_common::checksum;
use mesh_common::drop::DropReason;
use mesh_common::header::{
    EthHeader, Ipv4Header, Ipv6Header, OuterV4, OuterV6, UdpHeader, VxlanHeader, ether_type, proto,
};
use mesh_common::node::{Node, NodeConfig, node_flag};
use mesh_common::parse::{ETH_LEN, Ip};

use crate::maps;
use crate::packet::Packet;
use crate::verdict::{Packed, Verdict};

/// Where a frame that another node sent us comes from.
#[derive(Clone, Copy)]
pub(crate) struct Tunnel {
    /// Its network.
    pub(crate) vni: u32,
    /// Number of the node.
    pub(crate) node: u32,
    /// Bytes in front of the inner frame.
    pub(crate) outer: usize,
}

/// The tunnel a frame with this outer network header came through; `None` if it came through none of
/// ours.
#[inline(always)]
pub(crate) fn recognise<P: Packet>(packet: &P, config: &NodeConfig, outer: &Ip) -> Result<Option<Tunnel>, DropReason> {
    if outer.proto != proto::UDP || outer.fragment || outer.dst != config.vtep {
        return Ok(None);
    }
    let Some(udp) = packet.read::<UdpHeader>(outer.payload_at) else { return Ok(None) };
    if udp.dst != config.vxlan_port {
        return Ok(None);
    }
    let at = outer.payload_at + size_of::<UdpHeader>();
    let header: VxlanHeader = packet.need(at)?;
    // RFC 7348 section 5: a VXLAN packet with the I flag unset is not valid.
    let vni = header.network().ok_or(DropReason::Malformed)?;
    if !maps::is_network(vni) {
        if config.flags & node_flag::SHARED_PORT != 0 {
            return Ok(None); // another VXLAN device on this port may know it
        }
        return Err(DropReason::UnknownVni);
    }
    let node = maps::vtep(outer.src).ok_or(DropReason::UnknownVtep)?;
    Ok(Some(Tunnel { vni, node, outer: at + size_of::<VxlanHeader>() }))
}

/// RFC 9293, RFC 7348 section 5: an ephemeral source port that differs by inner flow, so that
/// routers and receive queues spread flows and keep each in order.
#[inline(always)]
fn source_port(hash: u32) -> [u8; 2] {
    (((hash ^ (hash >> 16)) as u16) | 0xc000).to_be_bytes()
}

/// Does the frame fit into a tunnel to a node? What stands for several segments does if they do, and
/// those are as long as their sender's link allows.
#[inline(always)]
pub(crate) fn check_fit<P: Packet>(packet: &P, node: u32) -> Result<(), DropReason> {
    let len = packet.len().wrapping_sub(ETH_LEN as u32);
    if len > room(node) && !packet.is_segmented() {
        return Err(DropReason::TooBig);
    }
    Ok(())
}

/// The largest IP packet that fits into a tunnel to a node.
#[inline(always)]
pub(crate) fn room(node: u32) -> u32 {
    let Some(node) = maps::node(node) else { return u32::MAX };
    if node.ifindex == 0 {
        return u32::MAX; // not known yet: `wrap` says so
    }
    let outer = if node.vtep.is_v4() { size_of::<OuterV4>() } else { size_of::<OuterV6>() };
    node.mtu.saturating_sub(outer as u32)
}

/// Hops a packet of ours may take (RFC 1700).
pub(crate) const TTL: u8 = 64;

/// Puts the frame into a tunnel to a node, on a network; `hash` is of its flow.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
pub(crate) fn wrap<P: Packet>(packet: &mut P, node: u32, vni: u32, hash: u32) -> Packed {
    Packed::new(put_outer(packet, node, vni, hash))
}

#[inline(always)]
fn put_outer<P: Packet>(packet: &mut P, node: u32, vni: u32, hash: u32) -> Result<Verdict, DropReason> {
    let port = maps::node_config()?.vxlan_port;
    let node = maps::node(node).ok_or(DropReason::NoNeighbour)?;
    if node.ifindex == 0 {
        return Err(DropReason::NoNeighbour);
    }
    let inner_len = packet.len() as usize;
    if node.vtep.is_v4() {
        let len = (inner_len + size_of::<OuterV4>() - ETH_LEN) as u16;
        packet.wrap(&outer_v4(node, port, vni, hash, len))?;
    } else {
        let len = (inner_len + size_of::<OuterV6>() - ETH_LEN - size_of::<Ipv6Header>()) as u16;
        packet.wrap(&outer_v6(node, port, vni, hash, len))?;
    }
    Ok(Verdict::Redirect(node.ifindex))
}

#[inline(always)]
fn eth(dst: Mac, src: Mac, ether_type: [u8; 2]) -> EthHeader {
    EthHeader { dst, src, ether_type }
}

#[inline(always)]
fn outer_v4(node: &Node, port: [u8; 2], vni: u32, hash: u32, total_len: u16) -> OuterV4 {
    let mut ip = Ipv4Header {
        version_ihl: 0x45,
        tos: 0,
        total_len: total_len.to_be_bytes(),
        id: [0; 2],
        fragment: [0x40, 0], // don't fragment: path MTU errors come back to us
        ttl: TTL,
        proto: proto::UDP,
        checksum: [0; 2],
        src: node.source.low4(),
        dst: node.vtep.low4(),
    };
    ip.checksum = checksum::finish(checksum::ipv4(&ip));
    OuterV4 {
        eth: eth(node.next_hop, node.source_mac, ether_type::IPV4),
        ip,
        udp: UdpHeader {
            src: source_port(hash),
            dst: port,
            len: (total_len - size_of::<Ipv4Header>() as u16).to_be_bytes(),
            // RFC 7348 section 5: SHOULD be transmitted as zero.
            checksum: [0; 2],
        },
        vxlan: VxlanHeader::new(vni),
    }
}

#[inline(always)]
fn outer_v6(node: &Node, port: [u8; 2], vni: u32, hash: u32, payload_len: u16) -> OuterV6 {
    OuterV6 {
        eth: eth(node.next_hop, node.source_mac, ether_type::IPV6),
        ip: Ipv6Header {
            version_flow: [0x60, 0, 0, 0],
            payload_len: payload_len.to_be_bytes(),
            proto: proto::UDP,
            hop_limit: TTL,
            src: node.source.bytes,
            dst: node.vtep.bytes,
        },
        udp: UdpHeader {
            src: source_port(hash),
            dst: port,
            len: payload_len.to_be_bytes(),
            // RFC 6935 section 5: a tunnel may send zero checksums over IPv6.
            checksum: [0; 2],
        },
        vxlan: VxlanHeader::new(vni),
    }
}
