//! Rewrites one end of a packet and keeps its checksums right. Touches only the packet.

use mesh_common::addr::Addr;
use mesh_common::checksum;
use mesh_common::drop::DropReason;
use mesh_common::header::{IcmpHeader, Ipv4Header, Ipv6Header, Ports, TcpHeader, UdpHeader, proto};
use mesh_common::parse::{ETH_LEN, Ip};

use crate::packet::{Change, Packet};

/// Which end of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// Gives one end of the packet another address and port; a port of `None` stays. The port of an echo
/// is its identifier, which both ends share. The network header is the one behind the frame's first Ethernet header.
#[inline(always)]
pub(crate) fn rewrite<P: Packet>(
    packet: &mut P,
    ip: &Ip,
    end: End,
    addr: &Addr,
    port: Option<[u8; 2]>,
) -> Result<(), DropReason> {
    let old = if end == End::Source { ip.src } else { ip.dst };
    let pseudo = checksum::address_difference(&old, addr);
    let is_v4 = old.is_v4();
    if is_v4 {
        rewrite_v4(packet, end, addr, pseudo)?;
    } else {
        rewrite_v6(packet, end, addr)?;
    }
    let mut segment = 0;
    if let Some(port) = port {
        segment = rewrite_port(packet, ip, end, port)?;
    }
    let at = match ip.proto {
        proto::TCP => core::mem::offset_of!(TcpHeader, checksum),
        proto::UDP => core::mem::offset_of!(UdpHeader, checksum),
        proto::ICMPV6 => core::mem::offset_of!(IcmpHeader, checksum),
        // ICMP for IPv4 has no pseudo-header.
        proto::ICMP => {
            let change = Change { pseudo: 0, segment, zero_is_none: false };
            return packet.fix_checksum(ip.payload_at + core::mem::offset_of!(IcmpHeader, checksum), &change);
        }
        _ => return Ok(()),
    };
    // RFC 768, RFC 8200 section 8.1: a UDP sum that comes to zero is sent as all ones.
    let zero_is_none = ip.proto == proto::UDP;
    packet.fix_checksum(ip.payload_at + at, &Change { pseudo, segment, zero_is_none })
}

/// The difference that this makes to the checksum.
#[inline(always)]
fn rewrite_port<P: Packet>(packet: &mut P, ip: &Ip, end: End, port: [u8; 2]) -> Result<u64, DropReason> {
    let is_echo = ip.proto == proto::ICMP || ip.proto == proto::ICMPV6;
    if !is_echo && ip.proto != proto::TCP && ip.proto != proto::UDP {
        return Ok(0);
    }
    // Where source and destination are of ports, an echo has its identifier four bytes on.
    let at = if is_echo { ip.payload_at + core::mem::offset_of!(IcmpHeader, rest) } else { ip.payload_at };
    let mut ports: Ports = packet.need(at)?;
    let field = if is_echo || end == End::Source { &mut ports.src } else { &mut ports.dst };
    let difference = checksum::port_difference(*field, port);
    *field = port;
    packet.write(at, &ports)?;
    Ok(difference)
}

#[inline(always)]
fn rewrite_v4<P: Packet>(packet: &mut P, end: End, addr: &Addr, difference: u64) -> Result<(), DropReason> {
    let mut header: Ipv4Header = packet.need(ETH_LEN)?;
    match end {
        End::Source => header.src = addr.low4(),
        End::Destination => header.dst = addr.low4(),
    }
    header.checksum = checksum::update(u16::from_ne_bytes(header.checksum), difference).to_ne_bytes();
    packet.write(ETH_LEN, &header)
}

#[inline(always)]
fn rewrite_v6<P: Packet>(packet: &mut P, end: End, addr: &Addr) -> Result<(), DropReason> {
    let mut header: Ipv6Header = packet.need(ETH_LEN)?;
    match end {
        End::Source => header.src = addr.bytes,
        End::Destination => header.dst = addr.bytes,
    }
    packet.write(ETH_LEN, &header)
}
