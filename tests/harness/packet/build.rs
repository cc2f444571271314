//! A described packet to bytes.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{
    EtherType, Ethernet2Header, IpDscp, IpEcn, IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, Ipv6FragmentHeader,
    Ipv6Header, SingleVlanHeader, TcpHeader, UdpHeader, VlanId,
};

use super::{Body, Checksum, Edit, Ip, Packet, Upper, mistake};

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6_FRAGMENT: u8 = 44;
/// Where the checksum stands in each header.
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const ICMP_CHECKSUM_AT: usize = 2;

impl Packet {
    /// The frame.
    #[track_caller]
    pub fn build(&self) -> Vec<u8> {
        let (ether_type, body) = match &self.body {
            Body::Ip(ip) if ip.src.is_ipv4() => (0x0800, ipv4(ip)),
            Body::Ip(ip) => (0x86dd, ipv6(ip)),
            Body::Other { ether_type, bytes } => (*ether_type, bytes.clone()),
        };
        let mut frame = self.link(EtherType(ether_type));
        frame.extend(body);
        for edit in &self.edits {
            apply(&mut frame, edit);
        }
        frame
    }

    #[track_caller]
    fn link(&self, ether_type: EtherType) -> Vec<u8> {
        // From the inside out: each tag names what follows it.
        let mut next = ether_type;
        let mut tags = Vec::new();
        for &id in self.vlans.iter().rev() {
            let Ok(vlan_id) = VlanId::try_new(id) else { mistake("a VLAN id has 12 bits") };
            let tag = SingleVlanHeader { vlan_id, ether_type: next, ..SingleVlanHeader::default() };
            tags.splice(0..0, tag.to_bytes());
            next = EtherType::VLAN_TAGGED_FRAME;
        }
        let eth = Ethernet2Header { source: self.src_mac, destination: self.dst_mac, ether_type: next };
        [&eth.to_bytes()[..], &tags].concat()
    }
}

impl From<Packet> for Vec<u8> {
    #[track_caller]
    fn from(packet: Packet) -> Self {
        packet.build()
    }
}

impl From<&Packet> for Vec<u8> {
    #[track_caller]
    fn from(packet: &Packet) -> Self {
        packet.build()
    }
}

/// Splits a finished untagged frame of IPv4 or IPv6 into fragments with at most `size` bytes of
/// payload each, a multiple of 8.
#[track_caller]
pub fn fragments(whole: &Packet, size: usize) -> Vec<Packet> {
    let Body::Ip(ip) = &whole.body else { mistake("only IP is fragmented") };
    if size == 0 || !size.is_multiple_of(8) {
        mistake("the size of a fragment is a multiple of 8");
    }
    let upper = upper(ip);
    let mut parts = Vec::new();
    for (at, part) in upper.chunks(size).enumerate() {
        let Ok(offset) = u16::try_from(at * size) else { mistake("the packet is longer than IP allows") };
        let more = usize::from(offset) + part.len() < upper.len();
        let other = Ip { upper: Upper::Other { proto: proto(ip) }, payload: part.to_owned(), ..(**ip).clone() };
        let packet = Packet { body: Body::Ip(Box::new(other)), ..whole.clone() };
        parts.push(packet.fragment(offset, more));
    }
    parts
}

#[track_caller]
fn ipv4(ip: &Ip) -> Vec<u8> {
    let (IpAddr::V4(src), IpAddr::V4(dst)) = (ip.src, ip.dst) else { mistake("not IPv4") };
    let upper = upper(ip);
    let Ok(dscp) = IpDscp::try_new(ip.tos >> 2) else { mistake("DSCP has 6 bits") };
    let Ok(ecn) = IpEcn::try_new(ip.tos & 3) else { mistake("ECN has 2 bits") };
    let mut header = Ipv4Header {
        dscp,
        ecn,
        identification: ip.id,
        dont_fragment: ip.dont_fragment,
        time_to_live: ip.ttl,
        protocol: IpNumber(proto(ip)),
        source: src.octets(),
        destination: dst.octets(),
        ..Ipv4Header::default()
    };
    if let Some((offset, more)) = ip.fragment {
        (header.fragment_offset, header.more_fragments) = (fragment_offset(offset), more);
    }
    header.options = match Ipv4Options::try_from(&ip.options[..]) {
        Ok(options) => options,
        Err(_) => mistake("more IPv4 options than 40 bytes"),
    };
    header.total_len = ip.length.unwrap_or_else(|| length16(header.header_len() + upper.len()));
    header.header_checksum = header.calc_header_checksum();
    if ip.wrong_checksum {
        header.header_checksum = wrong(header.header_checksum);
    }
    [&header.to_bytes()[..], &upper].concat()
}

#[track_caller]
fn ipv6(ip: &Ip) -> Vec<u8> {
    let (IpAddr::V6(src), IpAddr::V6(dst)) = (ip.src, ip.dst) else { mistake("not IPv6") };
    if !ip.options.is_empty() || ip.wrong_checksum {
        mistake("IPv6 has neither header options nor a header checksum");
    }
    let mut body = upper(ip);
    let mut next_header = IpNumber(proto(ip));
    if let Some((offset, more)) = ip.fragment {
        let fragment = Ipv6FragmentHeader::new(next_header, fragment_offset(offset), more, u32::from(ip.id));
        body.splice(0..0, fragment.to_bytes());
        next_header = IpNumber(IPV6_FRAGMENT);
    }
    let header = Ipv6Header {
        traffic_class: ip.tos,
        payload_length: ip.length.unwrap_or_else(|| length16(body.len())),
        next_header,
        hop_limit: ip.ttl,
        source: src.octets(),
        destination: dst.octets(),
        ..Ipv6Header::default()
    };
    [&header.to_bytes()[..], &body].concat()
}

fn proto(ip: &Ip) -> u8 {
    match &ip.upper {
        Upper::Tcp(_) => TCP,
        Upper::Udp { .. } => UDP,
        Upper::Icmp { .. } if ip.src.is_ipv4() => 1,
        Upper::Icmp { .. } => 58,
        Upper::Other { proto } => *proto,
    }
}

/// The upper header with its checksum, and the payload.
#[track_caller]
fn upper(ip: &Ip) -> Vec<u8> {
    let (header, checksum_at) = match &ip.upper {
        Upper::Tcp(tcp) => (TcpHeader::clone(tcp).to_bytes().to_vec(), Some(TCP_CHECKSUM_AT)),
        Upper::Udp { src, dst, length } => {
            let length = length.unwrap_or_else(|| length16(UdpHeader::LEN + ip.payload.len()));
            let header = UdpHeader { source_port: *src, destination_port: *dst, length, checksum: 0 };
            (header.to_bytes().to_vec(), Some(UDP_CHECKSUM_AT))
        }
        Upper::Icmp { kind, code, rest } => {
            let [a, b, c, d] = *rest;
            (vec![*kind, *code, 0, 0, a, b, c, d], Some(ICMP_CHECKSUM_AT))
        }
        Upper::Other { .. } => (Vec::new(), None),
    };
    let mut bytes = [&header[..], &ip.payload].concat();
    if let Some(at) = checksum_at {
        let checksum = checksum(ip, &bytes);
        bytes[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

/// Of an upper header with zero in its checksum field, and the payload.
fn checksum(ip: &Ip, bytes: &[u8]) -> u16 {
    let pseudo = pseudo_header(ip, bytes.len());
    let whole = pseudo.clone().add_slice(bytes);
    let right = match ip.upper {
        // Zero would mean "none" (RFC 768).
        Upper::Udp { .. } => whole.to_ones_complement_with_no_zero(),
        Upper::Tcp(_) | Upper::Icmp { .. } | Upper::Other { .. } => whole.ones_complement(),
    };
    match ip.checksum {
        Checksum::Right => right.to_be(),
        Checksum::Wrong => wrong(right.to_be()),
        Checksum::Zero => 0,
        Checksum::Partial => !pseudo.ones_complement().to_be(),
    }
}

/// RFC 9293 section 3.1 and RFC 8200 section 8.1; ICMP over IPv4 has none.
fn pseudo_header(ip: &Ip, length: usize) -> Sum16BitWords {
    let sum = Sum16BitWords::new();
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    match (ip.src, ip.dst, &ip.upper) {
        (IpAddr::V4(_), _, Upper::Icmp { .. }) => sum,
        (IpAddr::V4(src), IpAddr::V4(dst), _) => {
            sum.add_slice(&src.octets()).add_slice(&dst.octets()).add_2bytes([0, proto(ip)]).add_slice(&length)
        }
        (IpAddr::V6(src), IpAddr::V6(dst), _) => {
            sum.add_slice(&src.octets()).add_slice(&dst.octets()).add_2bytes([0, proto(ip)]).add_slice(&length)
        }
        _ => sum,
    }
}

/// Neither the right one nor zero.
fn wrong(right: u16) -> u16 {
    match right ^ 0x5555 {
        0 => 0x1234,
        other => other,
    }
}

#[track_caller]
fn fragment_offset(bytes: u16) -> IpFragOffset {
    match IpFragOffset::try_new(bytes / 8) {
        Ok(offset) if bytes.is_multiple_of(8) => offset,
        _ => mistake("a fragment offset is a multiple of 8"),
    }
}

#[track_caller]
fn length16(length: usize) -> u16 {
    u16::try_from(length).unwrap_or_else(|_| mistake("the packet is longer than its length field can say"))
}

#[track_caller]
fn apply(frame: &mut Vec<u8>, edit: &Edit) {
    match edit {
        Edit::Truncate(length) if *length > frame.len() => mistake("truncate makes no frame longer"),
        Edit::Truncate(length) => frame.truncate(*length),
        Edit::Append(bytes) => frame.extend(bytes),
        Edit::Set(offset, bytes) => match frame.get_mut(*offset..*offset + bytes.len()) {
            Some(place) => place.copy_from_slice(bytes),
            None => mistake("set reaches behind the end of the frame"),
        },
    }
}
