//! Packets as tests write them: `tcp("10.0.0.1:40000", "10.0.9.9:80").syn()`.
//!
//! Lengths and checksums are right unless a packet is broken on purpose. The family follows the
//! addresses. A builder used against its kind (`syn()` on a UDP packet) is a mistake in the test
//! and panics there.

mod build;
mod compare;
mod describe;
mod kinds;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::str::FromStr;

use etherparse::{TcpHeader, TcpOptionElement};

pub use build::fragments;
pub use compare::assert_packet_eq;
pub use describe::describe;
pub use kinds::{
    Address, End, VXLAN_PORT, arp_reply, arp_request, ethernet, icmp, icmp_echo, icmp_echo_reply, icmp_error,
    icmp_port_unreachable, icmp_too_big, ip, neighbour_advertisement, neighbour_solicitation, tcp, udp, vxlan,
};

/// Link-layer source of a packet that sets none.
pub const SRC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
/// Link-layer destination of a packet that sets none.
pub const DST_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];

/// A packet to be built.
#[derive(Clone, Debug)]
pub struct Packet {
    src_mac: [u8; 6],
    dst_mac: [u8; 6],
    vlans: Vec<u16>,
    body: Body,
    edits: Vec<Edit>,
}

#[derive(Clone, Debug)]
enum Body {
    Ip(Box<Ip>),
    Other { ether_type: u16, bytes: Vec<u8> },
}

#[derive(Clone, Debug)]
struct Ip {
    src: IpAddr,
    dst: IpAddr,
    ttl: u8,
    tos: u8,
    id: u16,
    dont_fragment: bool,
    /// Offset in bytes, and whether more fragments follow.
    fragment: Option<(u16, bool)>,
    options: Vec<u8>,
    wrong_checksum: bool,
    /// In place of the right total length (IPv4) or payload length (IPv6).
    length: Option<u16>,
    upper: Upper,
    checksum: Checksum,
    payload: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Upper {
    Tcp(Box<TcpHeader>),
    Udp { src: u16, dst: u16, length: Option<u16> },
    Icmp { kind: u8, code: u8, rest: [u8; 4] },
    Other { proto: u8 },
}

/// What stands in the checksum field of TCP, UDP or ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// The right one.
    Right,
    /// One that cannot be right.
    Wrong,
    /// Zero: for UDP over IPv4, none.
    Zero,
    /// The sum of the pseudo-header only, as a sender leaves it to an offload (CHECKSUM_PARTIAL).
    Partial,
}

#[derive(Clone, Debug)]
enum Edit {
    Truncate(usize),
    Set(usize, Vec<u8>),
    Append(Vec<u8>),
}

impl Packet {
    fn new(body: Body) -> Self {
        Self { src_mac: SRC_MAC, dst_mac: DST_MAC, vlans: Vec::new(), body, edits: Vec::new() }
    }

    #[track_caller]
    fn ip(src: IpAddr, dst: IpAddr, upper: Upper) -> Self {
        if src.is_ipv4() != dst.is_ipv4() {
            mistake(&format!("{src} and {dst} are of different families"));
        }
        Self::new(Body::Ip(Box::new(Ip {
            src,
            dst,
            ttl: 64,
            tos: 0,
            id: 1,
            dont_fragment: true,
            fragment: None,
            options: Vec::new(),
            wrong_checksum: false,
            length: None,
            upper,
            checksum: Checksum::Right,
            payload: Vec::new(),
        })))
    }

    /// Sets both link-layer addresses.
    #[must_use]
    pub fn macs(mut self, src: [u8; 6], dst: [u8; 6]) -> Self {
        (self.src_mac, self.dst_mac) = (src, dst);
        self
    }

    /// Puts a VLAN tag behind the addresses, outside of those already there.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlans.insert(0, id);
        self
    }

    /// Sets what follows the last header.
    #[must_use]
    #[track_caller]
    pub fn payload(self, payload: impl Into<Vec<u8>>) -> Self {
        self.with_ip(|ip| ip.payload = payload.into())
    }

    /// Sets the time to live or hop limit.
    #[must_use]
    #[track_caller]
    pub fn ttl(self, ttl: u8) -> Self {
        self.with_ip(|ip| ip.ttl = ttl)
    }

    /// Sets the type of service or traffic class, ECN bits included.
    #[must_use]
    #[track_caller]
    pub fn tos(self, tos: u8) -> Self {
        self.with_ip(|ip| ip.tos = tos)
    }

    /// Sets the identification, which only IPv4 and fragments have.
    #[must_use]
    #[track_caller]
    pub fn id(self, id: u16) -> Self {
        self.with_ip(|ip| ip.id = id)
    }

    /// Lets routers fragment it (IPv4).
    #[must_use]
    #[track_caller]
    pub fn may_fragment(self) -> Self {
        self.with_ip(|ip| ip.dont_fragment = false)
    }

    /// Marks it as one fragment; `offset` is in bytes, a multiple of 8. The upper header is built
    /// all the same: for a later fragment use [`ip`], for a whole set [`fragments`].
    #[must_use]
    #[track_caller]
    pub fn fragment(self, offset: u16, more: bool) -> Self {
        self.with_ip(|ip| (ip.fragment, ip.dont_fragment) = (Some((offset, more)), false))
    }

    /// Puts options into the IPv4 header, padded to a multiple of four bytes.
    #[must_use]
    #[track_caller]
    pub fn ip_options(self, options: &[u8]) -> Self {
        self.with_ip(|ip| {
            ip.options = options.to_owned();
            ip.options.resize(options.len().next_multiple_of(4), 0);
        })
    }

    /// Makes the IPv4 header checksum wrong.
    #[must_use]
    #[track_caller]
    pub fn bad_ip_checksum(self) -> Self {
        self.with_ip(|ip| ip.wrong_checksum = true)
    }

    /// Sets the total length (IPv4) or payload length (IPv6) to something else.
    #[must_use]
    #[track_caller]
    pub fn ip_length(self, length: u16) -> Self {
        self.with_ip(|ip| ip.length = Some(length))
    }

    /// Chooses what stands in the checksum field of TCP, UDP or ICMP.
    #[must_use]
    #[track_caller]
    pub fn checksum(self, checksum: Checksum) -> Self {
        self.with_ip(|ip| ip.checksum = checksum)
    }

    /// Makes the checksum of TCP, UDP or ICMP wrong.
    #[must_use]
    #[track_caller]
    pub fn bad_checksum(self) -> Self {
        self.checksum(Checksum::Wrong)
    }

    /// Sets the length field of UDP to something else.
    #[must_use]
    #[track_caller]
    pub fn udp_length(self, wrong: u16) -> Self {
        self.with_ip(|ip| match &mut ip.upper {
            Upper::Udp { length, .. } => *length = Some(wrong),
            _ => mistake("udp_length on a packet that is not UDP"),
        })
    }

    /// Sets identifier and sequence of an echo.
    #[must_use]
    #[track_caller]
    pub fn echo(self, identifier: u16, sequence: u16) -> Self {
        let ([a, b], [c, d]) = (identifier.to_be_bytes(), sequence.to_be_bytes());
        self.with_ip(|ip| match &mut ip.upper {
            Upper::Icmp { rest, .. } => *rest = [a, b, c, d],
            _ => mistake("echo on a packet that is not ICMP"),
        })
    }

    /// Sets SYN.
    #[must_use]
    #[track_caller]
    pub fn syn(self) -> Self {
        self.with_tcp(|tcp| tcp.syn = true)
    }

    /// Sets FIN.
    #[must_use]
    #[track_caller]
    pub fn fin(self) -> Self {
        self.with_tcp(|tcp| tcp.fin = true)
    }

    /// Sets RST.
    #[must_use]
    #[track_caller]
    pub fn rst(self) -> Self {
        self.with_tcp(|tcp| tcp.rst = true)
    }

    /// Sets PSH.
    #[must_use]
    #[track_caller]
    pub fn psh(self) -> Self {
        self.with_tcp(|tcp| tcp.psh = true)
    }

    /// Sets ACK and the number acknowledged.
    #[must_use]
    #[track_caller]
    pub fn ack(self, number: u32) -> Self {
        self.with_tcp(|tcp| (tcp.ack, tcp.acknowledgment_number) = (true, number))
    }

    /// Sets the sequence number.
    #[must_use]
    #[track_caller]
    pub fn seq(self, number: u32) -> Self {
        self.with_tcp(|tcp| tcp.sequence_number = number)
    }

    /// Sets the window.
    #[must_use]
    #[track_caller]
    pub fn window(self, window: u16) -> Self {
        self.with_tcp(|tcp| tcp.window_size = window)
    }

    /// Sets the maximum segment size as the only TCP option.
    #[must_use]
    #[track_caller]
    pub fn mss(self, mss: u16) -> Self {
        self.tcp_options(&[TcpOptionElement::MaximumSegmentSize(mss)])
    }

    /// Sets the TCP options.
    #[must_use]
    #[track_caller]
    pub fn tcp_options(self, options: &[TcpOptionElement]) -> Self {
        self.with_tcp(|tcp| {
            if tcp.set_options(options).is_err() {
                mistake("more TCP options than 40 bytes");
            }
        })
    }

    /// Sets the TCP options byte by byte, also to nonsense.
    #[must_use]
    #[track_caller]
    pub fn tcp_options_raw(self, options: &[u8]) -> Self {
        self.with_tcp(|tcp| {
            if tcp.set_options_raw(options).is_err() {
                mistake("more TCP options than 40 bytes");
            }
        })
    }

    /// Cuts the finished frame to this length. Edits happen in the order they are written.
    #[must_use]
    pub fn truncate(mut self, length: usize) -> Self {
        self.edits.push(Edit::Truncate(length));
        self
    }

    /// Overwrites bytes of the finished frame.
    #[must_use]
    pub fn set(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.edits.push(Edit::Set(offset, bytes.to_owned()));
        self
    }

    /// Puts bytes behind the finished frame that belong to no header, as Ethernet padding does.
    #[must_use]
    pub fn trailer(mut self, bytes: &[u8]) -> Self {
        self.edits.push(Edit::Append(bytes.to_owned()));
        self
    }

    #[track_caller]
    fn with_ip(mut self, change: impl FnOnce(&mut Ip)) -> Self {
        match &mut self.body {
            Body::Ip(ip) => change(ip),
            Body::Other { .. } => mistake("this packet has no IP header"),
        }
        self
    }

    #[track_caller]
    fn with_tcp(self, change: impl FnOnce(&mut TcpHeader)) -> Self {
        self.with_ip(|ip| match &mut ip.upper {
            Upper::Tcp(tcp) => change(tcp),
            _ => mistake("this packet is not TCP"),
        })
    }
}

#[track_caller]
fn parse<T: FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| mistake(&format!("{text:?} is not a {}", std::any::type_name::<T>())))
}

/// The test asks for a packet that cannot be.
#[track_caller]
#[expect(clippy::panic, reason = "the builder reads like a sentence; a wrong sentence fails where it stands")]
fn mistake(what: &str) -> ! {
    panic!("{what}")
}
