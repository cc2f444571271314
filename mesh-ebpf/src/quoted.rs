//! ICMP errors about flows that this node lent a port: a router or the other end tells the node's
//! address of them, and quotes a packet with the port. The owner gets the error as if it had been told
//! itself, so that path MTU discovery (RFC 1191, RFC 8201) and refusals work for tasks.
//!
//! The quoted transport checksum stays as it was: what is quoted need not have it whole, and nobody checks
//! it there (RFC 5508 section 4.2).

use mesh_common::addr::Mac;
use mesh_common::checksum;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::flow::FlowKey;
use mesh_common::header::{EthHeader, IcmpHeader, Ipv4Header, Ipv6Header, Ports, proto};
use mesh_common::parse::{self, ETH_LEN, Ip};

use crate::dial::Dial;
use crate::nat::{self, End};
use crate::packet::{Change, Packet};
use crate::verdict::{Packed, Verdict};
use crate::{conntrack, local, maps};

/// Where an error quotes the packet it is about, behind its network header.
const QUOTE: usize = size_of::<IcmpHeader>();

/// Gives an ICMP error, whose network header is in `dial`, to the task whose packet it quotes; `Pass` if
/// it quotes none of those.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
pub(crate) fn to_owner<P: Packet>(packet: &mut P, dial: &mut Dial) -> Packed {
    Packed::new(give_back(packet, dial))
}

#[inline(always)]
fn give_back<P: Packet>(packet: &mut P, dial: &mut Dial) -> Result<Verdict, DropReason> {
    let Some(inner) = quoted(packet, dial) else { return Ok(Verdict::Pass) };
    if !find(packet, &inner, dial) {
        return Ok(Verdict::Pass);
    }
    // A process of this node hears of it by the host's stack, as of all else.
    let Some(link) = maps::link(dial.flow.origin) else { return Ok(Verdict::Pass) };
    rewrite(packet, &inner, dial)?;
    nat::rewrite(packet, &dial.ip, End::Destination, &dial.flow.dialled, None)?;
    packet.write(0, &EthHeader { dst: link.mac, src: Mac::ROUTER, ether_type: dial.eth.ether_type })?;
    maps::count(Counter::ErrorReturned);
    Ok(Verdict::Redirect(dial.flow.origin))
}

/// The network header that the error quotes, if it is an error and about a packet from where it goes to.
#[inline(always)]
fn quoted<P: Packet>(packet: &P, dial: &Dial) -> Option<Ip> {
    let icmp: IcmpHeader = packet.read(dial.ip.payload_at)?;
    if !is_error(dial.ip.proto, icmp.kind) {
        return None;
    }
    let inner = parse::ip(packet, &dial.eth, dial.ip.payload_at + QUOTE - ETH_LEN).ok()??;
    (inner.src == dial.ip.dst && !inner.fragment).then_some(inner)
}

/// RFC 792, RFC 4443: errors quote a packet, informational messages do not.
#[inline(always)]
const fn is_error(protocol: u8, kind: u8) -> bool {
    match protocol {
        // Unreachable, time exceeded, parameter problem. Source quench is obsolete (RFC 6633), and no
        // host follows the redirect of another's packet.
        proto::ICMP => kind == 3 || kind == 11 || kind == 12,
        _ => kind >= 1 && kind <= 4,
    }
}

/// Looks for the flow of the quoted packet, into `dial.flow`.
#[inline(always)]
fn find<P: Packet>(packet: &P, inner: &Ip, dial: &mut Dial) -> bool {
    let Ok(config) = maps::node_config() else { return false };
    let (Some(ports), true) = (ports(packet, inner), maps::is_local(inner.src)) else { return false };
    if !config.is_lent(ports.src) {
        return false;
    }
    let key =
        FlowKey { client: inner.dst, ifindex: 0, client_port: ports.dst, task_port: ports.src, proto: inner.proto };
    let Some((_, _, flow)) = conntrack::look(&key, config.flow_mask) else { return false };
    dial.flow = flow;
    true
}

/// The ports of the quoted packet; of an echo its identifier, twice.
#[inline(always)]
fn ports<P: Packet>(packet: &P, inner: &Ip) -> Option<Ports> {
    if local::has_ports(inner.proto) {
        return packet.read(inner.payload_at);
    }
    if inner.proto != proto::ICMP && inner.proto != proto::ICMPV6 {
        return None;
    }
    let icmp: IcmpHeader = packet.read(inner.payload_at)?;
    let id = [icmp.rest[0], icmp.rest[1]];
    Some(Ports { src: id, dst: id })
}

/// Gives the quoted packet back the source that its owner sent it from.
#[inline(always)]
fn rewrite<P: Packet>(packet: &mut P, inner: &Ip, dial: &Dial) -> Result<(), DropReason> {
    let at = dial.ip.payload_at + QUOTE;
    let (owner, port) = (&dial.flow.dialled, dial.flow.dialled_port);
    let addresses = checksum::address_difference(&inner.src, owner);
    let mut changed = 0;
    if inner.src.is_v4() {
        // Its own checksum makes up for what changes in it, so the error's does not see it.
        let mut header: Ipv4Header = packet.need(at)?;
        header.src = owner.low4();
        header.checksum = checksum::update(u16::from_ne_bytes(header.checksum), addresses).to_ne_bytes();
        packet.write(at, &header)?;
    } else {
        let mut header: Ipv6Header = packet.need(at)?;
        header.src = owner.bytes;
        packet.write(at, &header)?;
        changed = addresses;
    }
    let port_at = if local::has_ports(inner.proto) {
        inner.payload_at
    } else {
        inner.payload_at + core::mem::offset_of!(IcmpHeader, rest)
    };
    let mut ports: Ports = packet.need(port_at)?;
    changed += checksum::port_difference(ports.src, port);
    ports.src = port;
    packet.write(port_at, &ports)?;
    let sum = dial.ip.payload_at + core::mem::offset_of!(IcmpHeader, checksum);
    packet.fix_checksum(sum, &Change { pseudo: 0, segment: changed, zero_is_none: false })
}
