//! Bytes to headers. The same code runs in the kernel on packet memory and in tests on slices, so
//! the two can be compared on any input.

use crate::addr::Addr;
use crate::drop::DropReason;
use crate::header::{
    EthHeader, Header, IcmpHeader, Ipv4Header, Ipv6Header, Ports, TcpHeader, UdpHeader, ether_type, proto,
};

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
    /// Bytes of payload by the header: a frame may be longer, for Ethernet pads short ones.
    pub payload_len: u16,
}

/// The network layer behind the Ethernet header at `at`; `None` if it is neither IPv4 nor IPv6.
///
/// A VLAN tag is such a "neither": tagged frames belong to another interface.
#[inline(always)]
pub fn ip<P: Bytes + ?Sized>(packet: &P, eth: &EthHeader, at: usize) -> Result<Option<Ip>, DropReason> {
    match eth.ether_type {
        ether_type::IPV4 => ipv4(packet, at + ETH_LEN).map(Some),
        ether_type::IPV6 => ipv6(packet, at + ETH_LEN).map(Some),
        _ => Ok(None),
    }
}

/// What tells the flows of two hosts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Source and destination port; an ICMP echo has its identifier as both.
    pub ports: Ports,
    /// Flags of a TCP header, else 0.
    pub tcp_flags: u8,
}

/// The transport behind `ip`; `None` for a protocol that has no ports, or a fragment.
#[inline(always)]
pub fn transport<P: Bytes + ?Sized>(packet: &P, ip: &Ip) -> Result<Option<Transport>, DropReason> {
    if ip.fragment {
        return Ok(None);
    }
    match ip.proto {
        proto::TCP => {
            let tcp: TcpHeader = packet.need(ip.payload_at)?;
            Ok(Some(Transport { ports: Ports { src: tcp.src, dst: tcp.dst }, tcp_flags: tcp.flags }))
        }
        proto::UDP => {
            let udp: UdpHeader = packet.need(ip.payload_at)?;
            Ok(Some(Transport { ports: Ports { src: udp.src, dst: udp.dst }, tcp_flags: 0 }))
        }
        proto::ICMP | proto::ICMPV6 => {
            let icmp: IcmpHeader = packet.need(ip.payload_at)?;
            if !is_echo(ip.proto, icmp.kind) {
                return Ok(None);
            }
            let id = [icmp.rest[0], icmp.rest[1]];
            Ok(Some(Transport { ports: Ports { src: id, dst: id }, tcp_flags: 0 }))
        }
        _ => Ok(None),
    }
}

/// Echo request or reply (RFC 792, RFC 4443).
#[inline(always)]
const fn is_echo(protocol: u8, kind: u8) -> bool {
    match protocol {
        proto::ICMP => kind == 8 || kind == 0,
        _ => kind == 128 || kind == 129,
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
    let header_len = u16::from(ihl) * 4;
    Ok(Ip {
        src: Addr::v4(ip.src),
        dst: Addr::v4(ip.dst),
        proto: ip.proto,
        fragment: u16::from_be_bytes(ip.fragment) & FRAGMENT_BITS != 0,
        payload_at: at + header_len as usize,
        payload_len: u16::from_be_bytes(ip.total_len).wrapping_sub(header_len),
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
        fragment: ip.proto == proto::IPV6_FRAGMENT,
        payload_at: at + size_of::<Ipv6Header>(),
        payload_len: u16::from_be_bytes(ip.payload_len),
    })
}
