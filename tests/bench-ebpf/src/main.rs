//! Kernel programs of the benchmark: the two drivers, and the references.
//!
//! A driver gives each round of `BPF_PROG_TEST_RUN` a fresh packet and calls the program under test.
//! The kernel itself does not: with `repeat`, a program gets the packet as its last run left it,
//! with the head where that run moved it.
#![no_std]
#![no_main]

mod balancer;
mod packet;

use core::hint::black_box;

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use aya_ebpf::btf_maps::{Array, PerCpuArray, ProgramArray};
use aya_ebpf::helpers::generated::bpf_xdp_adjust_head;
use aya_ebpf::macros::{btf_map, classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use crate::packet::{at, words_at};

/// Bytes of every packet of the benchmark.
const FRAME: usize = 128;
/// Fields that vary begin below this.
const VARIES_BELOW: usize = FRAME - 8;

/// What a driver does; the same type stands in tests/bench/datapath/driver.rs.
#[repr(C)]
#[derive(Clone, Copy)]
struct Script {
    /// The packet.
    frame: [u64; FRAME / 8],
    /// Packets made so far.
    made: u32,
    /// Packet `n` is of flow `n & flows`.
    flows: u32,
    /// Where the client's port is: the low half of the flow's number goes there.
    port_at: u32,
    /// Where the middle bytes of the client's address are: the high half goes there.
    addr_at: u32,
}

#[btf_map]
static SCRIPT: Array<Script, 1> = Array::new();
#[btf_map]
static XDP_UNDER_TEST: ProgramArray<1> = ProgramArray::new();
#[btf_map]
static TC_UNDER_TEST: ProgramArray<1> = ProgramArray::new();
/// Frames that `sink` took.
#[btf_map]
static SUNK: PerCpuArray<u64, 1> = PerCpuArray::new();
/// All zero: see `array_lookups`.
#[btf_map]
static ZEROES: Array<u32, 64> = Array::new();

#[xdp]
fn drive_xdp(ctx: XdpContext) -> u32 {
    let moved = (ctx.data_end() - ctx.data()) as i32 - FRAME as i32;
    // Always, even by nothing: it costs the same, so that it can be subtracted.
    // SAFETY: the helper takes the valid context and checks the length itself.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, moved) } == 0 && make(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: a tail call has no precondition.
        unsafe { XDP_UNDER_TEST.tail_call(&ctx, 0) };
    }
    xdp_action::XDP_ABORTED
}

#[classifier]
fn drive_tc(ctx: TcContext) -> i32 {
    if make(ctx.data(), ctx.data_end()).is_some() {
        // SAFETY: a tail call has no precondition.
        unsafe { TC_UNDER_TEST.tail_call(&ctx, 0) };
    }
    TC_ACT_SHOT
}

/// Writes the next packet of the script.
#[inline(always)]
fn make(data: usize, end: usize) -> Option<()> {
    let script = SCRIPT.get_ptr_mut(0)?;
    // SAFETY: a map element; one CPU runs the benchmark.
    let script = unsafe { &mut *script };
    let frame = words_at::<{ FRAME / 8 }>(data, end, 0)?;
    let mut word = 0;
    while word < FRAME / 8 {
        // SAFETY: `words_at` checked the whole frame.
        unsafe { frame.add(word).write_volatile(script.frame[word]) };
        word += 1;
    }
    script.made = script.made.wrapping_add(1);
    let flow = script.made & script.flows;
    let (port_at, addr_at) = (script.port_at as usize, script.addr_at as usize);
    if port_at >= VARIES_BELOW || addr_at >= VARIES_BELOW {
        return None;
    }
    // The compiler would see that these checks follow from the one above; the verifier does not.
    let end = black_box(end);
    // SAFETY: `at` checks the bounds.
    unsafe {
        at::<[u8; 2]>(data, end, port_at)?.write((flow as u16).to_be_bytes());
        at::<[u8; 2]>(data, end, addr_at)?.write(((flow >> 16) as u16).to_be_bytes());
    }
    Some(())
}

#[xdp]
fn empty_xdp(_: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

#[classifier]
fn empty_tc(_: TcContext) -> i32 {
    -1
}

/// The least that sends anything: addresses swapped, out where it came in.
#[xdp]
fn mac_swap(ctx: XdpContext) -> u32 {
    let Some(macs) = at::<[[u8; 6]; 2]>(ctx.data(), ctx.data_end(), 0) else { return xdp_action::XDP_DROP };
    // SAFETY: `at` checked the bounds.
    unsafe {
        let [dst, src] = macs.read();
        macs.write([src, dst]);
    }
    xdp_action::XDP_TX
}

/// The unit of docs/design/packet-path.md, sixteen times: each index comes from the lookup before.
#[xdp]
fn array_lookups(_: XdpContext) -> u32 {
    let mut index = 0;
    let mut turn = 0;
    while turn < 16 {
        let Some(value) = ZEROES.get_ptr(index & 63) else { return xdp_action::XDP_DROP };
        // SAFETY: a map element; volatile, since the compiler knows that it is never written.
        index = unsafe { value.read_volatile() };
        turn += 1;
    }
    xdp_action::XDP_PASS + (index & 1)
}

/// Takes frames and counts them.
#[xdp]
fn sink(_: XdpContext) -> u32 {
    if let Some(count) = SUNK.get_ptr_mut(0) {
        // SAFETY: this CPU's own element.
        unsafe { *count += 1 }
    }
    xdp_action::XDP_DROP
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
