//! One bounds-checked view of packet memory for XDP and TC: the home of raw pointers and of the
//! helpers that move packet memory.
//!
//! It knows nothing of what the bytes mean. Every access checks the end of the packet, because the
//! verifier asks for it and because helpers move the packet between two accesses.
#![expect(unsafe_code, reason = "packet memory is a pair of raw addresses in the context")]

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6,
    BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO, xdp_md,
};
use aya_ebpf::helpers::generated::{bpf_get_hash_recalc, bpf_redirect, bpf_xdp_adjust_head};
use aya_ebpf::programs::{TcContext, XdpContext};
use mesh_common::drop::DropReason;
use mesh_common::header::{EthHeader, Header, OuterV4, OuterV6};
use mesh_common::parse::Bytes;

/// Highest offset that is ever looked at. The verifier needs a bound on variable offsets, and no
/// header chain we follow is longer.
const MAX_OFFSET: usize = 512;

/// A frame in kernel memory.
pub(crate) trait Packet: Bytes {
    /// Does the kernel coalesce what this hook passes, with another program behind it?
    const LEAVES_BULK_TO_GRO: bool;

    /// Overwrites the header at this offset.
    fn write<H: Header>(&mut self, at: usize, header: &H) -> Result<(), DropReason>;

    /// Makes the first `len` bytes of the frame readable in place, as far as it has them.
    fn pull(&mut self, len: usize);

    /// Takes `outer` bytes of tunnel off the front: what is left starts with `inner`.
    fn strip(&mut self, outer: usize, inner: &EthHeader) -> Result<(), DropReason>;
}

/// A frame at an XDP hook.
pub(crate) struct XdpPacket<'a> {
    ctx: &'a XdpContext,
}

impl<'a> XdpPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a XdpContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let md: *mut xdp_md = self.ctx.ctx;
        // SAFETY: the context is valid for the run. Volatile keeps the compiler from widening the
        // 32-bit fields, which the verifier refuses.
        unsafe {
            ((&raw const (*md).data).read_volatile() as usize, (&raw const (*md).data_end).read_volatile() as usize)
        }
    }
}

/// A frame at a TC hook.
pub(crate) struct TcPacket<'a> {
    ctx: &'a TcContext,
}

impl<'a> TcPacket<'a> {
    #[inline(always)]
    pub(crate) fn new(ctx: &'a TcContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn skb(&self) -> *mut __sk_buff {
        self.ctx.skb.skb
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let skb = self.skb();
        // SAFETY: as in `XdpPacket::bounds`.
        unsafe {
            ((&raw const (*skb).data).read_volatile() as usize, (&raw const (*skb).data_end).read_volatile() as usize)
        }
    }

    /// Index of the interface the frame is on.
    #[inline(always)]
    pub(crate) fn ifindex(&self) -> u32 {
        // SAFETY: a field of the valid context.
        unsafe { (*self.skb()).ifindex }
    }

    /// Bytes of the whole frame, paged parts included.
    #[inline(always)]
    pub(crate) fn len(&self) -> u32 {
        self.ctx.len()
    }

    /// A hash of the flow, the same for all its packets.
    #[inline(always)]
    pub(crate) fn flow_hash(&self) -> u32 {
        // SAFETY: the helper takes the valid context.
        unsafe { bpf_get_hash_recalc(self.skb()) }
    }

    /// Puts `outer` in front of the whole frame.
    #[inline(always)]
    pub(crate) fn wrap<H: Outer>(&mut self, outer: &H) -> Result<(), DropReason> {
        let inner: EthHeader = self.need(0)?;
        // The room opens behind the link-layer header and the kernel takes the present one for the
        // outer one; the 14 bytes of `ENCAP_L2` become the inner one. A longer inner layer-2
        // length breaks segmentation of what we send.
        let flags = u64::from(H::ROOM_FLAGS | BPF_F_ADJ_ROOM_FIXED_GSO)
            | u64::from(BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)
            | ((size_of::<EthHeader>() as u64) << 56);
        let room = size_of::<H>() as i32;
        self.ctx.adjust_room(room, BPF_ADJ_ROOM_MAC, flags).map_err(|_| DropReason::NoRoom)?;
        self.write(0, outer)?;
        self.write(size_of::<H>(), &inner)
    }
}

/// What a tunnel puts in front of a frame.
pub(crate) trait Outer: Header {
    /// How `bpf_skb_adjust_room` calls its network layer.
    const ROOM_FLAGS: u32;
}

impl Outer for OuterV4 {
    const ROOM_FLAGS: u32 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV4;
}

impl Outer for OuterV6 {
    const ROOM_FLAGS: u32 = BPF_F_ADJ_ROOM_ENCAP_L3_IPV6;
}

/// The address of `size` bytes at `at`, if they lie inside the packet.
#[inline(always)]
fn window((data, end): (usize, usize), at: usize, size: usize) -> Option<usize> {
    if at > MAX_OFFSET {
        return None;
    }
    let start = data + at;
    if start + size > end {
        return None;
    }
    Some(start)
}

#[inline(always)]
fn read_at<H: Header>(bounds: (usize, usize), at: usize) -> Option<H> {
    let start = window(bounds, at, size_of::<H>())?;
    // SAFETY: `window` checked that the bytes lie in the packet; `H` has alignment 1 and no
    // invalid value.
    Some(unsafe { (start as *const H).read() })
}

#[inline(always)]
fn write_at<H: Header>(bounds: (usize, usize), at: usize, header: &H) -> Result<(), DropReason> {
    let start = window(bounds, at, size_of::<H>()).ok_or(DropReason::Truncated)?;
    // SAFETY: as in `read_at`; packet memory is writable in both program types.
    unsafe { (start as *mut H).write(*header) };
    Ok(())
}

impl Bytes for XdpPacket<'_> {
    #[inline(always)]
    fn read<H: Header>(&self, at: usize) -> Option<H> {
        read_at(self.bounds(), at)
    }
}

impl Bytes for TcPacket<'_> {
    #[inline(always)]
    fn read<H: Header>(&self, at: usize) -> Option<H> {
        read_at(self.bounds(), at)
    }
}

impl Packet for XdpPacket<'_> {
    const LEAVES_BULK_TO_GRO: bool = true;

    #[inline(always)]
    fn write<H: Header>(&mut self, at: usize, header: &H) -> Result<(), DropReason> {
        write_at(self.bounds(), at, header)
    }

    #[inline(always)]
    fn pull(&mut self, _len: usize) {} // always in place

    #[inline(always)]
    fn strip(&mut self, outer: usize, _inner: &EthHeader) -> Result<(), DropReason> {
        // SAFETY: the helper takes the valid context and checks the length itself.
        if unsafe { bpf_xdp_adjust_head(self.ctx.ctx, outer as i32) } != 0 {
            return Err(DropReason::NoRoom);
        }
        Ok(())
    }
}

impl Packet for TcPacket<'_> {
    const LEAVES_BULK_TO_GRO: bool = false;

    #[inline(always)]
    fn write<H: Header>(&mut self, at: usize, header: &H) -> Result<(), DropReason> {
        write_at(self.bounds(), at, header)
    }

    #[inline(always)]
    fn pull(&mut self, len: usize) {
        let (data, end) = self.bounds();
        if data + len <= end {
            return;
        }
        let want = if (len as u32) < self.len() { len as u32 } else { self.len() };
        // A failure leaves the frame as it was: the next read says `Truncated`.
        let _ = self.ctx.pull_data(want);
    }

    #[inline(always)]
    fn strip(&mut self, outer: usize, inner: &EthHeader) -> Result<(), DropReason> {
        // The helper keeps the outer link-layer header; it is overwritten with the inner one.
        let flags = u64::from(BPF_F_ADJ_ROOM_FIXED_GSO);
        self.ctx.adjust_room(-(outer as i32), BPF_ADJ_ROOM_MAC, flags).map_err(|_| DropReason::NoRoom)?;
        self.write(0, inner)
    }
}

/// Sends the frame out of an interface; the action to return from the program.
#[inline(always)]
pub(crate) fn redirect(ifindex: u32) -> i64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_redirect(ifindex, 0) }
}
