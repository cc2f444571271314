//! Bytes to headers. The same code runs in the kernel on packet memory and in tests on slices, so
//! the two can be compared on any input.

use crate::addr::Addr;
use crate::drop::DropReason;
use crate::header::{EthHeader, Header, Ipv4Header, Ipv6Header, VlanTag, ether_type};

/// Something headers can be read from.
pub trait Bytes {
    /// The header at this offset, if the packet is that long.
    fn read<H: Header>(&self, at: usize) -> Option<H>;

    /// The header at this offset, or [`DropReason::Truncated`].
    #[inline(always)]
    fn need<H: Header>(&self, at: usize) -> Result<H, DropReason> {
        self.read(at).ok_or(DropReason::Truncated)
    }
}

impl Bytes for [u8] {
    fn read<H: Header>(&self, at: usize) -> Option<H> {
        let bytes = self.get(at..at.checked_add(size_of::<H>())?)?;
        // SAFETY: `bytes` is exactly as long as `H`, which has alignment 1 and no invalid value.
        #[expect(unsafe_code, reason = "reads a `Header` from bytes of its size")]
        Some(unsafe { bytes.as_ptr().cast::<H>().read() })
    }
}

/// Length of an Ethernet header without tags.
pub const ETH_LEN: usize = size_of::<EthHeader>();

/// The link layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The Ethernet header.
    pub eth: EthHeader,
    /// EtherType of the payload, behind at most one VLAN tag.
    pub ether_type: [u8; 2],
    /// Where the payload starts.
    pub payload_at: usize,
}

/// The network layer of a packet, one shape for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// Protocol of the payload.
    pub proto: u8,
    /// Does it belong to a fragmented packet?
    pub fragment: bool,
    /// Where the payload starts.
    pub payload_at: usize,
}

/// The link layer of a frame that starts at `at`.
#[inline(always)]
pub fn frame<P: Bytes + ?Sized>(packet: &P, at: usize) -> Result<Frame, DropReason> {
    let eth: EthHeader = packet.need(at)?;
    if eth.ether_type != ether_type::VLAN {
        return Ok(Frame { eth, ether_type: eth.ether_type, payload_at: at + ETH_LEN });
    }
    let tag: VlanTag = packet.need(at + ETH_LEN)?;
    Ok(Frame { eth, ether_type: tag.ether_type, payload_at: at + ETH_LEN + size_of::<VlanTag>() })
}

/// The network layer behind `frame`; `None` if it is neither IPv4 nor IPv6.
#[inline(always)]
pub fn ip<P: Bytes + ?Sized>(packet: &P, frame: &Frame) -> Result<Option<Ip>, DropReason> {
    match frame.ether_type {
        ether_type::IPV4 => ipv4(packet, frame.payload_at).map(Some),
        ether_type::IPV6 => ipv6(packet, frame.payload_at).map(Some),
        _ => Ok(None),
    }
}

/// RFC 791: the smallest header is five words.
const MIN_IHL: u8 = 5;
/// RFC 791: the "more fragments" bit and the offset; "don't fragment" is neither.
const FRAGMENT_BITS: u16 = 0x3fff;

#[inline(always)]
fn ipv4<P: Bytes + ?Sized>(packet: &P, at: usize) -> Result<Ip, DropReason> {
    let ip: Ipv4Header = packet.need(at)?;
    let ihl = ip.version_ihl & 0x0f;
    if ip.version_ihl >> 4 != 4 || ihl < MIN_IHL {
        return Err(DropReason::Malformed);
    }
    Ok(Ip {
        src: Addr::v4(ip.src),
        dst: Addr::v4(ip.dst),
        proto: ip.proto,
        fragment: u16::from_be_bytes(ip.fragment) & FRAGMENT_BITS != 0,
        payload_at: at + (ihl as usize) * 4,
    })
}

#[inline(always)]
fn ipv6<P: Bytes + ?Sized>(packet: &P, at: usize) -> Result<Ip, DropReason> {
    let ip: Ipv6Header = packet.need(at)?;
    if ip.version_flow[0] >> 4 != 6 {
        return Err(DropReason::Malformed);
    }
    Ok(Ip {
        src: Addr::v6(ip.src),
        dst: Addr::v6(ip.dst),
        proto: ip.proto,
        fragment: ip.proto == crate::header::proto::IPV6_FRAGMENT,
        payload_at: at + size_of::<Ipv6Header>(),
    })
}
