//! Answers ARP (RFC 826) and neighbour solicitations (RFC 4861) of tasks from the endpoint table,
//! so that neither ever crosses the network. Reads `NEIGHBOURS`.

use mesh_common::addr::{Addr, Mac};
use mesh_common::checksum::{self, address, dword, finish, word};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::Link;
use mesh_common::header::{ArpPacket, EthHeader, IcmpHeader, Ipv6Header, NeighbourBody, ether_type, proto};
use mesh_common::parse::{Bytes as _, ETH_LEN};

use crate::maps;
use crate::packet::{Packet as _, TcPacket};
use crate::verdict::{Packed, Verdict};

const ARP_REQUEST: [u8; 2] = [0, 1];
const ARP_REPLY: [u8; 2] = [0, 2];
/// RFC 4861: router and neighbour solicitation and advertisement, redirect.
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// RFC 4861 section 4.4: solicited, override.
const SOLICITED_OVERRIDE: [u8; 4] = [0x60, 0, 0, 0];
const TARGET_LINK_LAYER: u8 = 2;
/// RFC 4861 section 7.1: anything less came from outside the link.
const ND_HOP_LIMIT: u8 = 255;
/// A solicitation with the one option that gives the asker's link-layer address.
const SOLICITATION_LEN: u16 = (size_of::<IcmpHeader>() + size_of::<NeighbourBody>()) as u16;

/// The answer, sent back where the question came from; `Pass` if the frame is no such question.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
pub(crate) fn answer(packet: &mut TcPacket<'_>, link: &Link) -> Packed {
    Packed::new(answer_to(packet, link))
}

#[inline(always)]
fn answer_to(packet: &mut TcPacket<'_>, link: &Link) -> Result<Verdict, DropReason> {
    let eth: EthHeader = packet.need(0)?;
    match eth.ether_type {
        ether_type::ARP => arp(packet, link, &eth),
        ether_type::IPV6 => solicitation(packet, link, &eth),
        _ => Ok(Verdict::Pass),
    }
}

#[inline(always)]
fn arp(packet: &mut TcPacket<'_>, link: &Link, eth: &EthHeader) -> Result<Verdict, DropReason> {
    let request: ArpPacket = packet.need(ETH_LEN)?;
    if request.sender_mac != link.mac {
        return Err(DropReason::SpoofedMac);
    }
    // RFC 5227: a probe for an address conflict has a zero sender.
    if request.sender_ip != [0; 4] && Addr::v4(request.sender_ip) != link.addr4 {
        return Err(DropReason::SpoofedAddress);
    }
    if request.operation != ARP_REQUEST {
        return Err(DropReason::UnknownNeighbour); // announcements: the table is not learned
    }
    let mac = lookup(link, Addr::v4(request.target_ip))?;
    let reply = ArpPacket {
        operation: ARP_REPLY,
        sender_mac: mac,
        sender_ip: request.target_ip,
        target_mac: request.sender_mac,
        target_ip: request.sender_ip,
        ..request
    };
    packet.write(ETH_LEN, &reply)?;
    back(packet, link, eth, mac)
}

#[inline(always)]
fn solicitation(packet: &mut TcPacket<'_>, link: &Link, eth: &EthHeader) -> Result<Verdict, DropReason> {
    let ip: Ipv6Header = packet.need(ETH_LEN)?;
    if ip.proto != proto::ICMPV6 {
        return Ok(Verdict::Pass);
    }
    let icmp_at = ETH_LEN + size_of::<Ipv6Header>();
    let icmp: IcmpHeader = packet.need(icmp_at)?;
    if !NEIGHBOUR_DISCOVERY.contains(&icmp.kind) {
        return Ok(Verdict::Pass);
    }
    // Nobody else asks a task, so nobody waits for what it advertises: a claim to another's address.
    if icmp.kind != NEIGHBOUR_SOLICITATION || ip.hop_limit != ND_HOP_LIMIT {
        return Err(DropReason::UnknownNeighbour);
    }
    let body_at = icmp_at + size_of::<IcmpHeader>();
    // Without the one option this is duplicate address detection (RFC 4862): nobody else has the
    // address, and silence says so.
    if ip.payload_len != SOLICITATION_LEN.to_be_bytes() {
        return Err(DropReason::UnknownNeighbour);
    }
    let question: NeighbourBody = packet.need(body_at)?;
    let mac = lookup(link, Addr::v6(question.target))?;
    let body = NeighbourBody { option: TARGET_LINK_LAYER, mac, ..question };
    let mut head = IcmpHeader { kind: NEIGHBOUR_ADVERTISEMENT, code: 0, checksum: [0; 2], rest: SOLICITED_OVERRIDE };
    let answer = Ipv6Header { src: question.target, dst: ip.src, ..ip };
    head.checksum = icmpv6_checksum(&answer, &head, &body);
    packet.write(ETH_LEN, &answer)?;
    packet.write(icmp_at, &head)?;
    packet.write(body_at, &body)?;
    back(packet, link, eth, mac)
}

#[inline(always)]
fn lookup(link: &Link, addr: Addr) -> Result<Mac, DropReason> {
    if addr == link.addr4 || addr == link.addr6 {
        return Err(DropReason::UnknownNeighbour); // asks whether anybody else has its address
    }
    maps::neighbour(link.vni, addr).ok_or(DropReason::UnknownNeighbour)
}

/// Turns the frame around.
#[inline(always)]
fn back(packet: &mut TcPacket<'_>, link: &Link, eth: &EthHeader, mac: Mac) -> Result<Verdict, DropReason> {
    packet.write(0, &EthHeader { dst: link.mac, src: mac, ether_type: eth.ether_type })?;
    maps::count(Counter::NeighbourAnswered);
    Ok(Verdict::Redirect(packet.ifindex()))
}

/// RFC 4443 section 2.3: over the pseudo-header and the message.
#[inline(always)]
fn icmpv6_checksum(ip: &Ipv6Header, head: &IcmpHeader, body: &NeighbourBody) -> [u8; 2] {
    let sum = address(&Addr::v6(ip.src))
        + address(&Addr::v6(ip.dst))
        + word(ip.payload_len)
        + word([0, proto::ICMPV6])
        + word([head.kind, head.code])
        + dword(head.rest)
        + address(&Addr::v6(body.target))
        + word([body.option, body.option_len])
        + checksum::mac(&body.mac);
    finish(sum)
}
