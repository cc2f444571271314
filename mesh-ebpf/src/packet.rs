//! One bounds-checked view of packet memory for XDP and TC: the home of raw pointers and of the
//! helpers that move packet memory.
//!
//! It knows nothing of what the bytes mean. Every access checks the end of the packet, because the
//! verifier asks for it and because helpers move the packet between two accesses.
#![expect(unsafe_code, reason = "packet memory is a pair of raw addresses in the context")]

use core::ffi::c_void;

use aya_ebpf::bindings::bpf_adj_room_mode::BPF_ADJ_ROOM_MAC;
use aya_ebpf::bindings::{
    __sk_buff, BPF_F_ADJ_ROOM_DECAP_L3_IPV4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L2_ETH,
    BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L3_IPV6, BPF_F_ADJ_ROOM_ENCAP_L4_UDP, BPF_F_ADJ_ROOM_FIXED_GSO,
    BPF_F_CURRENT_CPU, BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2, xdp_md,
};
use aya_ebpf::helpers::generated::{
    bpf_get_prandom_u32, bpf_jiffies64, bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_perf_event_output, bpf_redirect,
    bpf_redirect_neigh, bpf_sk_lookup_tcp, bpf_sk_lookup_udp, bpf_sk_release, bpf_skb_change_tail, bpf_skb_change_type,
    bpf_xdp_adjust_head, bpf_xdp_adjust_tail,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use mesh_common::checksum;
use mesh_common::drop::DropReason;
use mesh_common::header::{Checksum, EthHeader, Header, OuterV4, OuterV6, Ports, ether_type, proto};
use mesh_common::parse::Bytes;
use mesh_common::watch::Event;

use crate::maps;
use crate::watch::Watcher;

/// Highest offset that is ever looked at. The verifier needs a bound on variable offsets, and no
/// header chain we follow is longer.
const MAX_OFFSET: usize = 512;

/// Where `bpf_skb_adjust_room` takes the inner layer-2 length (`BPF_F_ADJ_ROOM_ENCAP_L2`).
const ENCAP_L2_SHIFT: u32 = 56;

/// Tells the program on the loopback interface that a packet is for a process of this node. No packet
/// bears it elsewhere.
pub(crate) const MARK: u32 = 0x6d65_7368;

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

    /// Puts `outer` in front of the whole frame.
    fn wrap<H: Outer>(&mut self, outer: &H) -> Result<(), DropReason>;

    /// Cuts the frame to `len` bytes or makes it that long.
    fn resize(&mut self, len: u32) -> Result<(), DropReason>;

    /// Updates the transport checksum at `at` for words that changed in the pseudo-header and in
    /// the segment. A frame whose checksum the hardware will fill in is understood.
    fn fix_checksum(&mut self, at: usize, change: &Change) -> Result<(), DropReason>;

    /// Bytes of the whole frame, paged parts included.
    fn len(&self) -> u32;

    /// Index of the interface the frame came in by.
    fn ifindex(&self) -> u32;

    /// Does the frame carry a VLAN tag that is not among its bytes?
    fn is_tagged(&self) -> bool;

    /// Does the frame stand for several segments, each of which fits the link?
    fn is_segmented(&self) -> bool;

    /// Sends an event and the first `taken` bytes of the frame to a watcher. False if nobody listens
    /// on this CPU; a listener that is too slow is told how much it missed.
    fn tell(&self, watcher: Watcher, event: &Event, taken: u32) -> bool;
}

/// What changed under a transport checksum, as differences of RFC 1624.
pub(crate) struct Change {
    /// In the pseudo-header: addresses.
    pub(crate) pseudo: u64,
    /// In the segment itself: ports.
    pub(crate) segment: u64,
    /// Is a checksum of zero none at all (UDP)?
    pub(crate) zero_is_none: bool,
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
        self.move_head(outer as i32)
    }

    #[inline(always)]
    fn wrap<H: Outer>(&mut self, outer: &H) -> Result<(), DropReason> {
        self.move_head(-(size_of::<H>() as i32))?;
        self.write(0, outer)
    }

    #[inline(always)]
    fn resize(&mut self, len: u32) -> Result<(), DropReason> {
        // SAFETY: the helper takes the valid context and checks the length itself.
        if unsafe { bpf_xdp_adjust_tail(self.ctx.ctx, len as i32 - self.len() as i32) } != 0 {
            return Err(DropReason::NoRoom);
        }
        Ok(())
    }

    #[inline(always)]
    fn fix_checksum(&mut self, at: usize, change: &Change) -> Result<(), DropReason> {
        let stored: Checksum = self.need(at)?;
        let stored = u16::from_ne_bytes(stored.bytes);
        if change.zero_is_none && stored == 0 {
            return Ok(());
        }
        let mut updated = checksum::update(stored, change.pseudo + change.segment);
        if change.zero_is_none && updated == 0 {
            updated = 0xffff; // RFC 768: a sum that is zero is sent as all ones
        }
        self.write(at, &Checksum { bytes: updated.to_ne_bytes() })
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        let (data, end) = self.bounds();
        // Kept whole: the compiler would subtract more from one of the two, which the verifier takes
        // for arithmetic on pointers.
        core::hint::black_box((end - data) as u32)
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a field of the valid context.
        unsafe { (*self.ctx.ctx).ingress_ifindex }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        false // a tag is among the bytes, and no EtherType we know
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        false
    }

    #[inline(always)]
    fn tell(&self, watcher: Watcher, event: &Event, taken: u32) -> bool {
        tell(self.ctx.ctx.cast(), watcher, event, taken)
    }
}

impl XdpPacket<'_> {
    #[inline(always)]
    fn move_head(&mut self, by: i32) -> Result<(), DropReason> {
        // SAFETY: the helper takes the valid context and checks the length itself.
        if unsafe { bpf_xdp_adjust_head(self.ctx.ctx, by) } != 0 {
            return Err(DropReason::NoRoom);
        }
        Ok(())
    }
}

impl TcPacket<'_> {
    /// Marks the packet.
    #[inline(always)]
    pub(crate) fn mark(&mut self, mark: u32) {
        // SAFETY: a field of the valid context, writable at TC.
        unsafe { (*self.skb()).mark = mark };
        // It came in for the router's link-layer address, so the kernel took it for another's.
        // SAFETY: the helper takes the valid context; 0 is `PACKET_HOST`.
        unsafe { bpf_skb_change_type(self.skb(), 0) };
    }

    /// Is it marked by us?
    #[inline(always)]
    pub(crate) fn is_marked(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.skb()).mark == MARK }
    }

    /// Has a process of this node a socket for a packet between these ports of the loopback address, bound
    /// to that address and not to all?
    #[inline(always)]
    pub(crate) fn is_awaited(&self, is_v4: bool, ports: &Ports, protocol: u8) -> bool {
        let (sport, dport) = (u16::from_ne_bytes(ports.src), u16::from_ne_bytes(ports.dst));
        let (v4, v6) = (u32::from_ne_bytes([127, 0, 0, 1]), [0, 0, 0, 1u32.to_be()]);
        let mut tuple = bpf_sock_tuple {
            __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
                ipv6: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr: v6, daddr: v6, sport, dport },
            },
        };
        let mut size = V6_TUPLE;
        if is_v4 {
            tuple.__bindgen_anon_1.ipv4 =
                bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 { saddr: v4, daddr: v4, sport, dport };
            size = V4_TUPLE;
        }
        let (skb, tuple) = (self.skb().cast(), &raw mut tuple);
        // SAFETY: the context and the tuple are valid, and the tuple is as long as `size` says. A socket that is
        // found is let go of.
        unsafe {
            let socket = if protocol == proto::TCP {
                bpf_sk_lookup_tcp(skb, tuple, size, CURRENT_NETNS, 0)
            } else {
                bpf_sk_lookup_udp(skb, tuple, size, CURRENT_NETNS, 0)
            };
            if socket.is_null() {
                return false;
            }
            // The last word tells the loopback address from the unspecified one. Volatile keeps the compiler
            // from choosing between addresses of fields, which the verifier refuses.
            let bound4 = (&raw const (*socket).src_ip4).read_volatile();
            let bound6 = (&raw const (*socket).src_ip6[3]).read_volatile();
            bpf_sk_release(socket.cast());
            if is_v4 { bound4 != 0 } else { bound6 != 0 }
        }
    }

    /// Was it marked by us? It is no longer: the host's own rules see no mark of ours.
    #[inline(always)]
    pub(crate) fn take_mark(&mut self) -> bool {
        let is_marked = self.is_marked();
        if is_marked {
            // SAFETY: as above.
            unsafe { (*self.skb()).mark = 0 };
        }
        is_marked
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
        let room = -(outer as i32);
        // Told of the inner family, the kernel can route what is left. It knows these flags from 6.3
        // on; before, frames still go to tasks, whose link reads the family anew.
        let family = match inner.ether_type {
            ether_type::IPV6 => u64::from(BPF_F_ADJ_ROOM_DECAP_L3_IPV6),
            ether_type::IPV4 => u64::from(BPF_F_ADJ_ROOM_DECAP_L3_IPV4),
            _ => 0,
        };
        if self.ctx.adjust_room(room, BPF_ADJ_ROOM_MAC, flags | family).is_err() {
            self.ctx.adjust_room(room, BPF_ADJ_ROOM_MAC, flags).map_err(|_| DropReason::NoRoom)?;
        }
        self.write(0, inner)
    }

    #[inline(always)]
    fn wrap<H: Outer>(&mut self, outer: &H) -> Result<(), DropReason> {
        let inner: EthHeader = self.need(0)?;
        // The room opens behind the link-layer header and the kernel takes the present one for the
        // outer one; the 14 bytes of `ENCAP_L2` become the inner one. A longer inner layer-2
        // length breaks segmentation of what we send.
        let flags = u64::from(H::ROOM_FLAGS | BPF_F_ADJ_ROOM_FIXED_GSO)
            | u64::from(BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2_ETH)
            | ((size_of::<EthHeader>() as u64) << ENCAP_L2_SHIFT);
        let room = size_of::<H>() as i32;
        self.ctx.adjust_room(room, BPF_ADJ_ROOM_MAC, flags).map_err(|_| DropReason::NoRoom)?;
        self.write(0, outer)?;
        self.write(size_of::<H>(), &inner)
    }

    #[inline(always)]
    fn resize(&mut self, len: u32) -> Result<(), DropReason> {
        // SAFETY: the helper takes the valid context and checks the length itself.
        if unsafe { bpf_skb_change_tail(self.skb(), len, 0) } != 0 {
            return Err(DropReason::NoRoom);
        }
        Ok(())
    }

    #[inline(always)]
    fn fix_checksum(&mut self, at: usize, change: &Change) -> Result<(), DropReason> {
        let mangled = if change.zero_is_none { u64::from(BPF_F_MARK_MANGLED_0) } else { 0 };
        // With size 0 the helper adds a difference. The pseudo-header's share is told apart, since
        // a checksum that the hardware will complete covers only that.
        for (difference, flags) in [(change.pseudo, u64::from(BPF_F_PSEUDO_HDR)), (change.segment, 0)] {
            let difference = u64::from(checksum::fold(difference));
            if difference != 0 {
                self.ctx.l4_csum_replace(at, 0, difference, flags | mangled).map_err(|_| DropReason::Truncated)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn len(&self) -> u32 {
        self.ctx.len()
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: a field of the valid context.
        unsafe { (*self.skb()).ifindex }
    }

    #[inline(always)]
    fn is_tagged(&self) -> bool {
        // SAFETY: a field of the valid context.
        unsafe { (*self.skb()).vlan_present != 0 }
    }

    #[inline(always)]
    fn is_segmented(&self) -> bool {
        // SAFETY: a field of the valid context.
        unsafe { (*self.skb()).gso_size != 0 }
    }

    #[inline(always)]
    fn tell(&self, watcher: Watcher, event: &Event, taken: u32) -> bool {
        tell(self.skb().cast(), watcher, event, taken)
    }
}

/// Sizes of the two forms of `struct bpf_sock_tuple`.
const V4_TUPLE: u32 = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>() as u32;
const V6_TUPLE: u32 = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>() as u32;
/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;

/// The helper itself takes the bytes out of the frame, wherever they lie.
#[inline(always)]
fn tell(ctx: *mut c_void, watcher: Watcher, event: &Event, taken: u32) -> bool {
    let flags = u64::from(taken) << 32 | BPF_F_CURRENT_CPU;
    let (from, size) = ((&raw const *event).cast_mut().cast(), size_of::<Event>() as u64);
    // SAFETY: the context is valid, the map is of the right kind, and the helper reads `size` bytes.
    let done = unsafe { bpf_perf_event_output(ctx, maps::events(watcher), flags, from, size) };
    done != -ENOENT
}

/// What the helper answers when no buffer is open.
const ENOENT: i64 = 2;

/// Nanoseconds since the system started.
#[inline(always)]
pub(crate) fn nanoseconds() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_ktime_get_ns() }
}

/// A random number.
#[inline(always)]
pub(crate) fn random() -> u32 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_get_prandom_u32() }
}

/// Sends the frame out of an interface; the action to return from the program.
#[inline(always)]
pub(crate) fn redirect(ifindex: u32) -> i64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_redirect(ifindex, 0) }
}

/// Sends the packet out of an interface to the next hop that the routing table names, with the
/// link-layer header the kernel makes for it. TC only.
#[inline(always)]
pub(crate) fn redirect_routed(ifindex: u32) -> i64 {
    // SAFETY: a null next hop of length 0 asks for a route lookup.
    unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) }
}

/// Jiffies since boot: costs no call, the verifier inlines it.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
    // SAFETY: the helper has no precondition.
    unsafe { bpf_jiffies64() }
}

/// Seconds since boot, as exact as a tick.
#[inline(always)]
pub(crate) fn second() -> u32 {
    // SAFETY: the helper has no precondition.
    (unsafe { bpf_ktime_get_coarse_ns() } / 1_000_000_000) as u32
}
