//! The kernel programs of mesh: the programs and nothing else. Each names its pipeline.
//!
//! A program is named by where its packets come from. It never decides what a drop looks like:
//! `verdict` turns a `Result<Verdict, DropReason>` into a counter and an action.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "compare-and-swap: see `maps::swap_if`")]

mod conntrack;
mod deliver;
mod dial;
mod host;
mod local;
mod maps;
mod masquerade;
mod nat;
mod neighbour;
mod packet;
mod policy;
mod quoted;
mod refuse;
mod send;
mod verdict;
mod vxlan;
mod watch;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use mesh_common::addr::Mac;
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::flow::state;
use mesh_common::header::{EthHeader, proto};
use mesh_common::node::NodeConfig;
use mesh_common::parse::{self, ETH_LEN};
use mesh_common::watch::hook;

use crate::dial::Dial;
use crate::local::Origin;
use crate::packet::{Packet, TcPacket, XdpPacket};
use crate::refuse::Back;
use crate::verdict::{Packed, Step, Verdict};
use crate::vxlan::Tunnel;

/// Frames of the uplink, as the driver hands them over.
#[xdp]
fn underlay(ctx: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(&ctx);
    let ingress = packet.ifindex();
    watch::arrival(&packet, u32::from(hook::UNDERLAY));
    let outcome = from_underlay(&mut packet, Counter::DecapXdp);
    watch::departure(&packet, u32::from(hook::UNDERLAY), &outcome);
    verdict::finish_xdp(outcome, ingress)
}

/// Frames of the uplink that XDP passed, after the kernel coalesced them (GRO).
#[classifier]
fn underlay_bulk(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    watch::arrival(&packet, u32::from(hook::UNDERLAY_BULK));
    let outcome = from_underlay(&mut packet, Counter::DecapTc);
    watch::departure(&packet, u32::from(hook::UNDERLAY_BULK), &outcome);
    verdict::finish_tc(outcome, &mut packet)
}

/// Frames that a task sends: the host side of its link.
#[classifier]
fn container(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    watch::arrival(&packet, u32::from(hook::CONTAINER));
    let outcome = from_container(&mut packet);
    watch::departure(&packet, u32::from(hook::CONTAINER), &outcome);
    verdict::finish_tc(outcome, &mut packet)
}

/// Frames of a task that open a flow to the outside: `container` passes them on.
///
/// A program of its own, since the verifier would not follow both to their ends.
#[classifier]
fn outward(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    watch::arrival(&packet, u32::from(hook::OUTWARD));
    let outcome = match maps::link(packet.ifindex()) {
        Some(link) => send::outward(&mut packet, link),
        None => Err(DropReason::UnknownLink),
    };
    watch::departure(&packet, u32::from(hook::OUTWARD), &outcome);
    verdict::finish_tc(outcome, &mut packet)
}

/// What this node says to itself, on the loopback interface: a packet to a published port by an address
/// that others do not know gets one that they do. `host` is next in line.
///
/// A program of its own, as `outward` is.
#[classifier]
fn host_lend(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    watch::arrival(&packet, u32::from(hook::HOST_LEND));
    let outcome = host::lend(&mut packet);
    watch::departure(&packet, u32::from(hook::HOST_LEND), &outcome);
    verdict::finish_tc(outcome, &mut packet)
}

/// What this node says to itself, on the loopback interface: packets of its own processes to a published
/// port, and what they are answered.
#[classifier]
fn host(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    watch::arrival(&packet, u32::from(hook::HOST));
    let outcome = host::from_host(&mut packet);
    watch::departure(&packet, u32::from(hook::HOST), &outcome);
    verdict::finish_tc(outcome, &mut packet)
}

/// Headers up to the inner transport, the longest case: IPv6 in IPv6.
const PULL: usize = ETH_LEN + 40 + 8 + 8 + ETH_LEN + 40 + 20;

#[inline(always)]
fn from_underlay<P: Packet>(packet: &mut P, counter: Counter) -> Result<Verdict, DropReason> {
    let dial = maps::dial_room()?;
    dial.vni = 0;
    dial.hook = if P::LEAVES_BULK_TO_GRO { hook::UNDERLAY } else { hook::UNDERLAY_BULK };
    match examine(packet, dial, counter).step()? {
        Step::Redirect(ifindex) => Ok(Verdict::Redirect(ifindex)),
        Step::Route(ifindex) => Ok(Verdict::Route(ifindex)),
        Step::Home(mark) => Ok(Verdict::Home(mark)),
        Step::Balance => dial.balance(packet),
        Step::Accept => dial.accept(packet),
        Step::Return => masquerade::to_owner(packet, dial).outcome(),
        Step::Quoted => match quoted::to_owner(packet, dial).outcome()? {
            Verdict::Pass => Ok(passes::<P>()),
            other => Ok(other),
        },
        _ => Ok(Verdict::Pass),
    }
}

/// What is not ours goes on unchanged.
#[inline(always)]
fn passes<P: Packet>() -> Verdict {
    if !P::LEAVES_BULK_TO_GRO {
        maps::count(Counter::UnderlayPassed); // once: what XDP passes comes by here again
    }
    Verdict::Pass
}

/// Reads the packet's headers into `dial` and says what it is.
///
/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
fn examine<P: Packet>(packet: &mut P, dial: &mut Dial, counter: Counter) -> Packed {
    Packed::of_step(step_of(packet, dial, counter))
}

#[inline(always)]
fn step_of<P: Packet>(packet: &mut P, dial: &mut Dial, counter: Counter) -> Result<Step, DropReason> {
    // Before the daemon has said what is ours, nothing is.
    let Ok(config) = maps::node_config() else { return Ok(Step::Pass) };
    if packet.is_tagged() {
        return Ok(Step::Pass); // belongs to the interface of its VLAN
    }
    packet.pull(PULL);
    // What is odd before we know that it is for us is not ours to judge: the host's stack does.
    let Some(eth) = packet.read::<EthHeader>(0) else { return Ok(Step::Pass) };
    let Ok(Some(ip)) = parse::ip(packet, &eth, 0) else { return Ok(Step::Pass) };
    (dial.eth, dial.ip) = (eth, ip);
    if let Some(tunnel) = vxlan::recognise(packet, config, &dial.ip)? {
        return from_tunnel(packet, config, tunnel, dial, counter);
    }
    Ok(from_outside(packet, config, dial))
}

/// A frame that another node sent us.
#[inline(always)]
fn from_tunnel<P: Packet>(
    packet: &mut P,
    config: &NodeConfig,
    tunnel: Tunnel,
    dial: &mut Dial,
    counter: Counter,
) -> Result<Step, DropReason> {
    dial.vni = tunnel.vni;
    dial.eth = packet.need(tunnel.outer)?;
    let inner = parse::ip(packet, &dial.eth, tunnel.outer)?;
    let is_ip = inner.is_some();
    if let Some(ip) = inner {
        dial.ip = ip;
    }
    let reply = is_ip && tunnel.vni == config.ingress_vni && dial.eth.dst == Mac::ROUTER;
    let bulk = is_ip && dial.ip.proto == proto::TCP;
    if P::LEAVES_BULK_TO_GRO && (reply || bulk) {
        return Ok(Step::Pass); // the kernel coalesces it first, `underlay_bulk` takes it
    }
    if reply {
        return deliver::to_client(packet, tunnel, dial);
    }
    deliver::to_task(packet, config, tunnel, is_ip, dial, counter)
}

/// A frame that came to one of this host's addresses, or passes by.
#[inline(always)]
fn from_outside<P: Packet>(packet: &mut P, config: &NodeConfig, dial: &mut Dial) -> Step {
    let transport = parse::transport(packet, &dial.ip);
    // RFC 1122 section 3.2.2: nothing is answered that came by broadcast.
    if dial.eth.dst.is_group() {
        passes::<P>();
        return Step::Pass;
    }
    match transport {
        Ok(Some(transport)) => dial.transport = transport,
        // An error, or a message between neighbours.
        Ok(None) if !dial.ip.fragment && matches!(dial.ip.proto, proto::ICMP | proto::ICMPV6) => return Step::Quoted,
        _ => {
            passes::<P>();
            return Step::Pass;
        }
    }
    if let Some(service) = dial::published(&dial.ip, &dial.transport) {
        let here = packet.ifindex();
        (dial.service, dial.vni) = (service, config.ingress_vni);
        dial.origin = Origin { bits: state::PUBLISHED | state::HERE, number: here };
        dial.back = Back::Interface(here);
        return Step::Balance;
    }
    // Who sends from the address it sends to is the node itself, or a forger.
    let is_bulk = P::LEAVES_BULK_TO_GRO && dial.ip.proto == proto::TCP;
    if config.is_lent(dial.transport.ports.dst)
        && !is_bulk
        && dial.ip.src != dial.ip.dst
        && maps::is_local(dial.ip.dst)
        && masquerade::find(config, dial)
    {
        return Step::Return;
    }
    passes::<P>();
    Step::Pass
}

#[inline(always)]
fn from_container(packet: &mut TcPacket<'_>) -> Result<Verdict, DropReason> {
    let dial = maps::dial_room()?;
    (dial.vni, dial.hook) = (0, hook::CONTAINER);
    let link = maps::link(packet.ifindex()).ok_or(DropReason::UnknownLink)?;
    dial.vni = link.vni;
    send::admit(packet, link)?;
    match neighbour::answer(packet, link).outcome()? {
        Verdict::Pass => send::onward(packet, link, dial),
        answer => Ok(answer),
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: `cargo xtask build-ebpf` fails if the object can panic.
    loop {}
}

/// GPL-compatible: the kernel lets only such programs call the helpers used here.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
#[expect(unsafe_code, reason = "the loader finds the licence by its section")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
