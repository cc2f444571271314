//! The packets there are: each function names one and gives it what it cannot be without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::TcpHeader;

use super::{Body, Checksum, Packet, Upper, parse};

/// UDP port of VXLAN (IANA).
pub const VXLAN_PORT: u16 = 4789;

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
    let octets = |text| parse::<Ipv4Addr>(text).octets();
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
    let asked = parse::<Ipv6Addr>(target).octets();
    let [.., x, y, z] = asked;
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from(y) << 8 | u16::from(z));
    let mut body = asked.to_vec();
    body.extend([1, 1]);
    body.extend(sender_mac);
    let packet = icmp(sender, IpAddr::from(group), 135, 0, [0; 4]).payload(body).ttl(255);
    packet.macs(sender_mac, [0x33, 0x33, 0xff, x, y, z])
}

/// Tells `to` that `target` is at `target_mac` (RFC 4861), solicited and overriding.
#[track_caller]
pub fn neighbour_advertisement(target_mac: [u8; 6], target: &str, to_mac: [u8; 6], to: &str) -> Packet {
    let mut body = parse::<Ipv6Addr>(target).octets().to_vec();
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
