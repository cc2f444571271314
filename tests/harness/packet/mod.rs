//! Packets as tests write them: `tcp("10.0.0.1:40000", "10.0.9.9:80").syn()`.
//!
//! Lengths and checksums are right unless a packet is broken on purpose. The family follows the
//! addresses. A builder used against its kind (`syn()` on a UDP packet) is a mistake in the test
//! and panics there.

mod build;
mod describe;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use etherparse::{TcpHeader, TcpOptionElement};

pub use build::fragments;
pub use describe::{assert_packet_eq, describe};

/// UDP port of VXLAN (IANA).
pub const VXLAN_PORT: u16 = 4789;
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

/// A TCP segment without flags.
#[track_caller]
pub fn tcp(src: impl Into<End>, dst: impl Into<End>) -> Packet {
    let (src, dst) = (src.into().0, dst.into().0);
    let header = TcpHeader::new(src.port(), dst.port(), 1, 64_240);
    Packet::ip(src.ip(), dst.ip(), Upper::Tcp(Box::new(header)))
}

/// An empty UDP datagram.
#[track_caller]
pub fn udp(src: impl Into<End>, dst: impl Into<End>) -> Packet {
    let (src, dst) = (src.into().0, dst.into().0);
    Packet::ip(src.ip(), dst.ip(), Upper::Udp { src: src.port(), dst: dst.port(), length: None })
}

/// An ICMP or ICMPv6 message: type, code, the four bytes behind the checksum.
#[track_caller]
pub fn icmp(src: impl Into<Address>, dst: impl Into<Address>, kind: u8, code: u8, rest: [u8; 4]) -> Packet {
    Packet::ip(src.into().0, dst.into().0, Upper::Icmp { kind, code, rest })
}

/// An echo request, identifier 1, sequence 1.
#[track_caller]
pub fn icmp_echo(src: impl Into<Address>, dst: impl Into<Address>) -> Packet {
    let (src, dst) = (src.into(), dst.into());
    let kind = if src.0.is_ipv4() { 8 } else { 128 };
    icmp(src, dst, kind, 0, [0, 1, 0, 1])
}

/// An echo reply, identifier 1, sequence 1.
#[track_caller]
pub fn icmp_echo_reply(src: impl Into<Address>, dst: impl Into<Address>) -> Packet {
    let (src, dst) = (src.into(), dst.into());
    let kind = if src.0.is_ipv4() { 0 } else { 129 };
    icmp(src, dst, kind, 0, [0, 1, 0, 1])
}

/// "Fragmentation needed" or "packet too big" about `original`, a frame with an Ethernet header.
#[track_caller]
pub fn icmp_too_big(
    src: impl Into<Address>,
    dst: impl Into<Address>,
    mtu: u16,
    original: impl Into<Vec<u8>>,
) -> Packet {
    let (src, dst) = (src.into(), dst.into());
    let [high, low] = mtu.to_be_bytes();
    let (kind, code) = if src.0.is_ipv4() { (3, 4) } else { (2, 0) };
    icmp_error(src, dst, kind, code, [0, 0, high, low], original)
}

/// "Port unreachable" about `original`, a frame with an Ethernet header.
#[track_caller]
pub fn icmp_port_unreachable(src: impl Into<Address>, dst: impl Into<Address>, original: impl Into<Vec<u8>>) -> Packet {
    let (src, dst) = (src.into(), dst.into());
    let (kind, code) = if src.0.is_ipv4() { (3, 3) } else { (1, 4) };
    icmp_error(src, dst, kind, code, [0; 4], original)
}

/// An ICMP error of any type about `original`, a frame with an untagged Ethernet header: quotes
/// as much as fits into the smallest datagram every host must take (RFC 1812, RFC 4443).
#[track_caller]
pub fn icmp_error(
    src: impl Into<Address>,
    dst: impl Into<Address>,
    kind: u8,
    code: u8,
    rest: [u8; 4],
    original: impl Into<Vec<u8>>,
) -> Packet {
    let (src, original) = (src.into(), original.into());
    let room = if src.0.is_ipv4() { 576 - 28 } else { 1280 - 48 };
    let quoted = original.iter().copied().skip(14).take(room).collect::<Vec<u8>>();
    icmp(src, dst, kind, code, rest).payload(quoted)
}

/// Any other protocol over IP.
#[track_caller]
pub fn ip(src: impl Into<Address>, dst: impl Into<Address>, proto: u8, payload: impl Into<Vec<u8>>) -> Packet {
    Packet::ip(src.into().0, dst.into().0, Upper::Other { proto }).payload(payload)
}

/// Any other EtherType.
pub fn ethernet(ether_type: u16, payload: impl Into<Vec<u8>>) -> Packet {
    Packet::new(Body::Other { ether_type, bytes: payload.into() })
}

/// Asks the wire who has `target`.
#[track_caller]
pub fn arp_request(sender_mac: [u8; 6], sender: &str, target: &str) -> Packet {
    arp(1, sender_mac, sender, [0; 6], target).macs(sender_mac, [0xff; 6])
}

/// Tells `target` that `sender` is at `sender_mac`.
#[track_caller]
pub fn arp_reply(sender_mac: [u8; 6], sender: &str, target_mac: [u8; 6], target: &str) -> Packet {
    arp(2, sender_mac, sender, target_mac, target).macs(sender_mac, target_mac)
}

#[track_caller]
fn arp(operation: u8, sender_mac: [u8; 6], sender: &str, target_mac: [u8; 6], target: &str) -> Packet {
    let octets = |text| parse::<std::net::Ipv4Addr>(text).octets();
    let mut bytes = vec![0, 1, 0x08, 0x00, 6, 4, 0, operation];
    bytes.extend(sender_mac);
    bytes.extend(octets(sender));
    bytes.extend(target_mac);
    bytes.extend(octets(target));
    ethernet(0x0806, bytes)
}

/// Asks, by multicast, who has the IPv6 address `target` (RFC 4861).
#[track_caller]
pub fn neighbour_solicitation(sender_mac: [u8; 6], sender: &str, target: &str) -> Packet {
    let asked = parse::<std::net::Ipv6Addr>(target).octets();
    let [.., x, y, z] = asked;
    let group = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from(y) << 8 | u16::from(z));
    let mut body = asked.to_vec();
    body.extend([1, 1]);
    body.extend(sender_mac);
    let packet = icmp(sender, IpAddr::from(group), 135, 0, [0; 4]).payload(body).ttl(255);
    packet.macs(sender_mac, [0x33, 0x33, 0xff, x, y, z])
}

/// Tells `to` that `target` is at `target_mac` (RFC 4861), solicited and overriding.
#[track_caller]
pub fn neighbour_advertisement(target_mac: [u8; 6], target: &str, to_mac: [u8; 6], to: &str) -> Packet {
    let mut body = parse::<std::net::Ipv6Addr>(target).octets().to_vec();
    body.extend([2, 1]);
    body.extend(target_mac);
    icmp(target, to, 136, 0, [0x60, 0, 0, 0]).payload(body).ttl(255).macs(target_mac, to_mac)
}

/// `inner` inside VXLAN, to the well-known port. The source port is made of the inner headers, as
/// every sender does, unless `outer_src` has one; the outer checksum is zero over IPv4 and right
/// over IPv6, as the kernel's vxlan device sends it by default.
#[track_caller]
pub fn vxlan(vni: u32, outer_src: &str, outer_dst: &str, inner: impl Into<Vec<u8>>) -> Packet {
    let inner = inner.into();
    let src = outer_src.parse().unwrap_or_else(|_| SocketAddr::new(parse(outer_src), source_port(&inner)));
    let dst = outer_dst.parse().unwrap_or_else(|_| SocketAddr::new(parse(outer_dst), VXLAN_PORT));
    let [_, high, middle, low] = vni.to_be_bytes();
    let mut payload = vec![0x08, 0, 0, 0, high, middle, low, 0];
    payload.extend(inner);
    let packet = udp(src, dst).payload(payload);
    if src.is_ipv4() { packet.checksum(Checksum::Zero) } else { packet }
}

/// A port of the dynamic range (RFC 7348 section 5) that is the same for all packets of a flow.
fn source_port(inner: &[u8]) -> u16 {
    let headers = inner.iter().skip(12).take(42);
    let hash = headers.fold(0u16, |hash, byte| hash.rotate_left(5) ^ u16::from(*byte));
    0xc000 | hash & 0x3fff
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

/// An address and a port, from text or a [`SocketAddr`].
#[derive(Clone, Copy, Debug)]
pub struct End(SocketAddr);

/// An address, from text or an [`IpAddr`].
#[derive(Clone, Copy, Debug)]
pub struct Address(IpAddr);

impl From<&str> for End {
    #[track_caller]
    fn from(text: &str) -> Self {
        Self(parse(text))
    }
}

impl From<SocketAddr> for End {
    fn from(socket: SocketAddr) -> Self {
        Self(socket)
    }
}

impl From<&str> for Address {
    #[track_caller]
    fn from(text: &str) -> Self {
        Self(parse(text))
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        Self(address)
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
