//! VXLAN (RFC 7348): recognises what other nodes send us, and wraps what goes to them.
//!
//! Reads `NODE`, `VTEPS`, `NETWORKS` and `NODES`. Never looks at endpoints: that is `deliver`'s and
//! `send`'s part.

use mesh_common::addr::{Addr, Mac};
use mesh_common::checksum;
use mesh_common::drop::DropReason;
use mesh_common::header::{
    EthHeader, Ipv4Header, Ipv6Header, OuterV4, OuterV6, UdpHeader, VxlanHeader, ether_type, proto,
};
use mesh_common::node::{Node, NodeConfig, node_flag};
use mesh_common::parse::{self, ETH_LEN, Frame};

use crate::maps;
use crate::packet::{Packet, TcPacket};

/// A frame that another node sent us.
pub(crate) struct Tunnel {
    /// Its network.
    pub(crate) vni: u32,
    /// Bytes in front of the inner frame.
    pub(crate) outer: usize,
    /// The inner link layer.
    pub(crate) inner: Frame,
    /// Does it belong to a stream that gains from being coalesced?
    pub(crate) bulk: bool,
}

/// Headers up to the inner network header, the longest case: IPv6 outer, one VLAN tag each.
const PULL: usize = ETH_LEN + 4 + 40 + 8 + 8 + ETH_LEN + 4 + 40;

/// The tunnel a frame came through; `None` if the frame is not for us.
#[inline(always)]
pub(crate) fn recognise<P: Packet>(packet: &mut P, config: &NodeConfig) -> Result<Option<Tunnel>, DropReason> {
    packet.pull(PULL);
    let Some((source, at)) = vxlan_at(packet, config) else {
        maps::count(mesh_common::counter::Counter::UnderlayPassed);
        return Ok(None);
    };
    let header: VxlanHeader = packet.need(at)?;
    // RFC 7348 section 5: a VXLAN packet with the I flag unset is not valid.
    let vni = header.network().ok_or(DropReason::Malformed)?;
    if !maps::is_network(vni) {
        if config.flags & node_flag::SHARED_PORT != 0 {
            return Ok(None); // another VXLAN device on this port may know it
        }
        return Err(DropReason::UnknownVni);
    }
    maps::vtep(source).ok_or(DropReason::UnknownVtep)?;
    let outer = at + size_of::<VxlanHeader>();
    let inner = parse::frame(packet, outer)?;
    let bulk = match parse::ip(packet, &inner)? {
        Some(ip) => ip.proto == proto::TCP,
        None => false,
    };
    Ok(Some(Tunnel { vni, outer, inner, bulk }))
}

/// Who sent it and where its VXLAN header starts, if this is UDP to our VXLAN port and address.
/// Anything odd on the way is not ours to judge: the host's stack does.
#[inline(always)]
fn vxlan_at<P: Packet>(packet: &P, config: &NodeConfig) -> Option<(Addr, usize)> {
    let frame = parse::frame(packet, 0).ok()?;
    let ip = parse::ip(packet, &frame).ok()??;
    if ip.proto != proto::UDP || ip.fragment || ip.dst != config.vtep {
        return None;
    }
    let udp: UdpHeader = packet.read(ip.payload_at)?;
    if udp.dst != config.vxlan_port {
        return None;
    }
    Some((ip.src, ip.payload_at + size_of::<UdpHeader>()))
}

/// RFC 9293, RFC 7348 section 5: an ephemeral source port that differs by inner flow, so that
/// routers and receive queues spread flows and keep each in order.
#[inline(always)]
fn source_port(hash: u32) -> [u8; 2] {
    (((hash ^ (hash >> 16)) as u16) | 0xc000).to_be_bytes()
}

/// Hops a tunnel packet may take. RFC 1700's default.
const TTL: u8 = 64;

/// Puts the frame into a tunnel to `node`.
#[inline(always)]
pub(crate) fn wrap(packet: &mut TcPacket<'_>, node: &Node, port: [u8; 2], vni: u32) -> Result<(), DropReason> {
    let inner_len = packet.len();
    let hash = packet.flow_hash();
    if node.vtep.is_v4() {
        let len = (inner_len as usize + size_of::<OuterV4>() - ETH_LEN) as u16;
        packet.wrap(&outer_v4(node, port, vni, hash, len))
    } else {
        let len = (inner_len as usize + size_of::<OuterV6>() - ETH_LEN - size_of::<Ipv6Header>()) as u16;
        packet.wrap(&outer_v6(node, port, vni, hash, len))
    }
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
    ip.checksum = ipv4_checksum(&ip);
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

#[inline(always)]
fn ipv4_checksum(ip: &Ipv4Header) -> [u8; 2] {
    let word = |a: u8, b: u8| u64::from(u16::from_ne_bytes([a, b]));
    let sum = word(ip.version_ihl, ip.tos)
        + word(ip.total_len[0], ip.total_len[1])
        + word(ip.fragment[0], ip.fragment[1])
        + word(ip.ttl, ip.proto)
        + word(ip.src[0], ip.src[1])
        + word(ip.src[2], ip.src[3])
        + word(ip.dst[0], ip.dst[1])
        + word(ip.dst[2], ip.dst[3]);
    (!checksum::fold(sum)).to_ne_bytes()
}
