//! The kernel programs of mesh: the programs and nothing else. Each names its pipeline.
//!
//! A program is named by where its packets come from. It never decides what a drop looks like:
//! [`verdict::finish`] turns a `Result<Verdict, DropReason>` into a counter and an action.
#![no_std]
#![no_main]

mod deliver;
mod maps;
mod neighbour;
mod packet;
mod send;
mod verdict;
mod vxlan;

use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;

use crate::packet::{Packet, TcPacket, XdpPacket};
use crate::verdict::Verdict;

/// Frames of the uplink, as the driver hands them over.
#[xdp]
fn underlay(ctx: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(&ctx);
    let outcome = from_underlay(&mut packet, Counter::DecapXdp);
    verdict::finish_xdp(outcome)
}

/// Frames of the uplink that XDP passed, after the kernel coalesced them (GRO).
#[classifier]
fn underlay_bulk(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    let outcome = from_underlay(&mut packet, Counter::DecapTc);
    verdict::finish_tc(outcome)
}

/// Frames that a task sends: the host side of its link.
#[classifier]
fn container(ctx: TcContext) -> i32 {
    let mut packet = TcPacket::new(&ctx);
    let outcome = from_container(&mut packet);
    verdict::finish_tc(outcome)
}

#[inline(always)]
fn from_underlay<P: Packet>(packet: &mut P, counter: Counter) -> Result<Verdict, DropReason> {
    let config = maps::node_config()?;
    let Some(tunnel) = vxlan::recognise(packet, config)? else {
        return Ok(Verdict::Pass); // not ours: the host's stack decides
    };
    if P::LEAVES_BULK_TO_GRO && tunnel.bulk {
        return Ok(Verdict::Pass); // the kernel coalesces it first, `underlay_bulk` takes it
    }
    deliver::to_task(packet, &tunnel, counter)
}

#[inline(always)]
fn from_container(packet: &mut TcPacket<'_>) -> Result<Verdict, DropReason> {
    let link = maps::link(packet.ifindex()).ok_or(DropReason::UnknownLink)?;
    let frame = send::admit(packet, link)?;
    if let Some(answer) = neighbour::answer(packet, link, &frame)? {
        return Ok(answer);
    }
    send::to_endpoint(packet, link, &frame)
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
