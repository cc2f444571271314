//! Tells a sender that nobody takes its packet: a TCP reset (RFC 9293 section 3.10.7.1) or an ICMP
//! error (RFC 792, RFC 4443), in the place of the packet. Silence would make it wait.

use mesh_common::addr::{Addr, Mac};
use mesh_common::checksum::{self, address, dword, finish, word};
use mesh_common::drop::DropReason;
use mesh_common::header::{EthHeader, IcmpHeader, Ipv4Header, Ipv6Header, TcpHeader, UdpHeader, proto, tcp_flag};
use mesh_common::parse::ETH_LEN;

use crate::dial::Dial;
use crate::packet::{MARK, Packet};
use crate::verdict::Verdict;
use crate::vxlan::{self, TTL};

/// Where a refusal goes.
#[derive(Clone, Copy)]
pub(crate) enum Back {
    /// Out of this interface, to who sent the frame.
    Interface(u32),
    /// To a process of this node.
    Home,
    /// To this node, on the packet's network.
    Node(u32),
}

/// Turns the packet into its refusal and sends that back.
///
/// # Errors
/// The packet is one that must not be answered, or too short to be.
#[inline(always)]
pub(crate) fn answer<P: Packet>(packet: &mut P, dial: &Dial, reason: DropReason) -> Result<Verdict, DropReason> {
    let too_big = reason == DropReason::TooBig;
    match (dial.ip.proto, dial.ip.dst.is_v4()) {
        // RFC 9293 section 3.10.7.1: a reset is never answered.
        (proto::TCP, _) if !too_big && dial.transport.tcp_flags & tcp_flag::RST != 0 => return Err(reason),
        (proto::TCP, _) if !too_big => reset(packet, dial)?,
        // No backend is a reason for silence to an echo: a VIP answers while one lives.
        (protocol, _) if reason == DropReason::NoBackend && protocol != proto::UDP => return Err(reason),
        (_, true) => error_v4(packet, dial, reason)?,
        (_, false) => {
            let quoted = quote_v6(packet, dial.ip.payload_at);
            error_v6(packet, dial, quoted, reason)?;
        }
    }
    let eth = EthHeader { dst: dial.eth.src, src: dial.eth.dst, ether_type: dial.eth.ether_type };
    match dial.back {
        Back::Interface(ifindex) => {
            packet.write(0, &eth)?;
            Ok(Verdict::Redirect(ifindex))
        }
        Back::Home => Ok(Verdict::Home(MARK)),
        Back::Node(number) => {
            packet.write(0, &EthHeader { src: Mac::ROUTER, ..eth })?;
            vxlan::wrap(packet, number, dial.vni, 0).outcome()
        }
    }
}

#[inline(never)]
fn reset<P: Packet>(packet: &mut P, dial: &Dial) -> Result<(), DropReason> {
    let tcp: TcpHeader = packet.need(dial.ip.payload_at)?;
    let mut answer = TcpHeader { src: tcp.dst, dst: tcp.src, offset: 5 << 4, flags: tcp_flag::RST, ..TcpHeader::ZERO };
    if tcp.flags & tcp_flag::ACK != 0 {
        answer.seq = tcp.ack;
    } else {
        let syn = u32::from(tcp.flags & tcp_flag::SYN != 0);
        let fin = u32::from(tcp.flags & tcp_flag::FIN != 0);
        let header = u32::from(tcp.offset >> 4) * 4;
        let data = u32::from(dial.ip.payload_len).wrapping_sub(header);
        let next = u32::from_be_bytes(tcp.seq).wrapping_add(data).wrapping_add(syn + fin);
        answer.ack = next.to_be_bytes();
        answer.flags |= tcp_flag::ACK;
    }
    let len = size_of::<TcpHeader>() as u16;
    let sum = pseudo_sum(dial, proto::TCP, len)
        + word(answer.src)
        + word(answer.dst)
        + dword(answer.seq)
        + dword(answer.ack)
        + word([answer.offset, answer.flags]);
    answer.checksum = finish(sum);
    let at = network(packet, dial, proto::TCP, len)?;
    packet.write(at, &answer)
}

/// How much of the packet an ICMP error quotes behind its network header: 64 bits (RFC 792), which
/// are the ports.
const QUOTED: usize = size_of::<UdpHeader>();

/// "Unreachable", or "fragmentation needed" with the size that fits (RFC 1191 section 4).
#[inline(never)]
fn error_v4<P: Packet>(packet: &mut P, dial: &Dial, reason: DropReason) -> Result<(), DropReason> {
    let udp: UdpHeader = packet.need(dial.ip.payload_at)?;
    let mut quoted: Ipv4Header = packet.need(ETH_LEN)?;
    if quoted.version_ihl != 0x45 {
        // The quoted header loses its options.
        quoted.version_ihl = 0x45;
        quoted.checksum = [0; 2];
        quoted.checksum = finish(checksum::ipv4(&quoted));
    }
    // RFC 1812 section 5.2.7.1.
    let code = match reason {
        DropReason::NoRoute => 0,
        DropReason::Internal | DropReason::OtherNetwork | DropReason::PortsExhausted => 13,
        _ => 3,
    };
    let mut icmp = IcmpHeader { kind: 3, code, ..IcmpHeader::ZERO };
    if reason == DropReason::TooBig {
        if quoted.fragment[0] & DONT_FRAGMENT == 0 {
            return Err(DropReason::TooBig); // its sender does not listen to this error
        }
        icmp.code = 4;
        icmp.rest = vxlan::room(dial.far).to_be_bytes();
    }
    let head = word([icmp.kind, icmp.code]) + dword(icmp.rest);
    icmp.checksum = finish(head + checksum::ipv4(&quoted) + udp_sum(&udp));
    let len = size_of::<IcmpHeader>() + size_of::<Ipv4Header>() + QUOTED;
    let at = network(packet, dial, proto::ICMP, len as u16)?;
    packet.write(at, &icmp)?;
    packet.write(at + size_of::<IcmpHeader>(), &quoted)?;
    packet.write(at + size_of::<IcmpHeader>() + size_of::<Ipv4Header>(), &udp)
}

#[inline(always)]
fn udp_sum(udp: &UdpHeader) -> u64 {
    word(udp.src) + word(udp.dst) + word(udp.len) + word(udp.checksum)
}

/// RFC 791: in the first byte of the fragment field.
const DONT_FRAGMENT: u8 = 0x40;

/// "Unreachable", or "packet too big" with the size that fits (RFC 4443 section 3.2).
#[inline(never)]
fn error_v6<P: Packet>(packet: &mut P, dial: &Dial, quoted: u64, reason: DropReason) -> Result<(), DropReason> {
    let len = ICMPV6_ERROR_LEN;
    if quoted == NOT_QUOTED {
        return Err(DropReason::NoRoom);
    }
    // RFC 4443 section 3.1.
    let code = match reason {
        DropReason::NoRoute => 0,
        DropReason::Internal | DropReason::OtherNetwork | DropReason::PortsExhausted => 1,
        _ => 4,
    };
    let mut icmp = IcmpHeader { kind: 1, code, ..IcmpHeader::ZERO };
    if reason == DropReason::TooBig {
        icmp = IcmpHeader { kind: 2, code: 0, rest: vxlan::room(dial.far).to_be_bytes(), ..IcmpHeader::ZERO };
    }
    let head = word([icmp.kind, icmp.code]) + dword(icmp.rest);
    icmp.checksum = finish(pseudo_sum(dial, proto::ICMPV6, len) + head + quoted);
    let at = network(packet, dial, proto::ICMPV6, len)?;
    packet.write(at, &icmp)
}

/// An ICMPv6 error with the headers it quotes.
const ICMPV6_ERROR_LEN: u16 = (size_of::<IcmpHeader>() + size_of::<Ipv6Header>() + QUOTED) as u16;

/// No sum: a sum of 24 words is far below it.
const NOT_QUOTED: u64 = u64::MAX;

/// Copies the packet's headers to where the error quotes them; their sum.
#[inline(never)]
fn quote_v6<P: Packet>(packet: &mut P, payload_at: usize) -> u64 {
    const AT: usize = ETH_LEN + size_of::<Ipv6Header>() + size_of::<IcmpHeader>();
    if packet.resize(u32::from(ICMPV6_ERROR_LEN) + (ETH_LEN + size_of::<Ipv6Header>()) as u32).is_err() {
        return NOT_QUOTED;
    }
    let (Some(udp), Some(ip)) = (packet.read::<UdpHeader>(payload_at), packet.read::<Ipv6Header>(ETH_LEN)) else {
        return NOT_QUOTED;
    };
    if packet.write(AT, &ip).is_err() || packet.write(AT + size_of::<Ipv6Header>(), &udp).is_err() {
        return NOT_QUOTED;
    }
    dword(ip.version_flow)
        + word(ip.payload_len)
        + word([ip.proto, ip.hop_limit])
        + address(&Addr::v6(ip.src))
        + address(&Addr::v6(ip.dst))
        + udp_sum(&udp)
}

/// Gives the frame its new length and network header; says where the transport goes.
#[inline(always)]
fn network<P: Packet>(packet: &mut P, dial: &Dial, protocol: u8, payload: u16) -> Result<usize, DropReason> {
    let (src, dst) = (dial.ip.dst, dial.ip.src);
    if dst.is_v4() {
        let total = payload + size_of::<Ipv4Header>() as u16;
        packet.resize(u32::from(total) + ETH_LEN as u32)?;
        let mut ip = Ipv4Header {
            version_ihl: 0x45,
            total_len: total.to_be_bytes(),
            fragment: [0x40, 0],
            ttl: TTL,
            proto: protocol,
            src: src.low4(),
            dst: dst.low4(),
            ..Ipv4Header::ZERO
        };
        ip.checksum = finish(checksum::ipv4(&ip));
        packet.write(ETH_LEN, &ip)?;
        return Ok(ETH_LEN + size_of::<Ipv4Header>());
    }
    packet.resize(u32::from(payload) + (ETH_LEN + size_of::<Ipv6Header>()) as u32)?;
    let ip = Ipv6Header {
        version_flow: [0x60, 0, 0, 0],
        payload_len: payload.to_be_bytes(),
        proto: protocol,
        hop_limit: TTL,
        src: src.bytes,
        dst: dst.bytes,
    };
    packet.write(ETH_LEN, &ip)?;
    Ok(ETH_LEN + size_of::<Ipv6Header>())
}

/// Addresses, protocol and length (RFC 9293 section 3.1, RFC 8200 section 8.1). The mapped form's
/// constant bytes are no part of an IPv4 pseudo-header, so only the low four count there.
#[inline(always)]
fn pseudo_sum(dial: &Dial, protocol: u8, len: u16) -> u64 {
    let head = word([0, protocol]) + word(len.to_be_bytes());
    if dial.ip.dst.is_v4() {
        head + dword(dial.ip.src.low4()) + dword(dial.ip.dst.low4())
    } else {
        head + address(&dial.ip.src) + address(&dial.ip.dst)
    }
}
