//! Frames for people: bytes to what they say, and a packet that somebody describes to bytes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use mesh_common::addr::{Addr, Mac};
use mesh_common::checksum;
use mesh_common::header::{EthHeader, UdpHeader, VxlanHeader, ether_type, proto, tcp_flag};
use mesh_common::parse::{self, Bytes as _, Ip};

use super::super::desired::mac;

/// What a frame says, down to the inner packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The nodes, if it is VXLAN: from, to.
    pub tunnel: Option<(IpAddr, IpAddr)>,
    /// Its network, if it is VXLAN.
    pub vni: Option<u32>,
    /// Link-layer addresses of the innermost frame: from, to.
    pub macs: Option<(Mac, Mac)>,
    /// EtherType of the innermost frame.
    pub ether_type: u16,
    /// The innermost packet, if it is IP.
    pub packet: Option<Packet>,
}

/// A packet's ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source.
    pub src: IpAddr,
    /// Destination.
    pub dst: IpAddr,
    /// Protocol.
    pub proto: u8,
    /// Source and destination port; the identifier of an echo as both.
    pub ports: Option<(u16, u16)>,
    /// Flags of TCP, else 0.
    pub tcp_flags: u8,
    /// Is it a fragment?
    pub fragment: bool,
}

/// An address as people write it.
pub fn ip(addr: Addr) -> IpAddr {
    if addr.is_v4() { IpAddr::from(addr.low4()) } else { IpAddr::from(addr.bytes) }
}

impl Frame {
    /// Reads what there is; frames may be cut off anywhere.
    pub fn read(bytes: &[u8], vxlan_port: u16) -> Self {
        let mut frame = Self::default();
        frame.layer(bytes, 0, vxlan_port);
        frame
    }

    fn layer(&mut self, bytes: &[u8], at: usize, vxlan_port: u16) {
        let link = bytes.get(at..).and_then(|rest| rest.read::<EthHeader>(0));
        let Some(eth) = link else { return };
        self.macs = Some((eth.src, eth.dst));
        self.ether_type = u16::from_be_bytes(eth.ether_type);
        let Ok(Some(header)) = parse::ip(bytes, &eth, at) else { return };
        let packet = Packet::of(bytes, &header);
        if let (None, Some(tunnel)) = (self.vni, tunnel(bytes, &header, &packet, vxlan_port)) {
            (self.tunnel, self.vni) = (Some((packet.src, packet.dst)), Some(tunnel.vni));
            self.layer(bytes, tunnel.inner_at, vxlan_port);
            return;
        }
        self.packet = Some(packet);
    }
}

struct Tunnel {
    vni: u32,
    inner_at: usize,
}

fn tunnel(bytes: &[u8], ip: &Ip, packet: &Packet, vxlan_port: u16) -> Option<Tunnel> {
    if packet.proto != proto::UDP || packet.ports?.1 != vxlan_port {
        return None;
    }
    let at = ip.payload_at + size_of::<UdpHeader>();
    let vni = bytes.read::<VxlanHeader>(at)?.network()?;
    Some(Tunnel { vni, inner_at: at + size_of::<VxlanHeader>() })
}

impl Packet {
    fn of(bytes: &[u8], ip: &Ip) -> Self {
        let transport = parse::transport(bytes, ip).ok().flatten();
        let port = u16::from_be_bytes;
        Self {
            src: self::ip(ip.src),
            dst: self::ip(ip.dst),
            proto: ip.proto,
            ports: transport.map(|transport| (port(transport.ports.src), port(transport.ports.dst))),
            tcp_flags: transport.map_or(0, |transport| transport.tcp_flags),
            fragment: ip.fragment,
        }
    }
}

/// The name of a protocol, or its number.
pub fn protocol(number: u8) -> String {
    match number {
        proto::TCP => "tcp".to_owned(),
        proto::UDP => "udp".to_owned(),
        proto::ICMP => "icmp".to_owned(),
        proto::ICMPV6 => "icmp6".to_owned(),
        other => format!("protocol {other}"),
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has_ports = matches!(self.proto, proto::TCP | proto::UDP);
        match self.ports.filter(|_| has_ports) {
            Some((src, dst)) => {
                write!(f, "{} > {}", SocketAddr::new(self.src, src), SocketAddr::new(self.dst, dst))?;
            }
            None => write!(f, "{} > {}", self.src, self.dst)?,
        }
        write!(f, " {}", protocol(self.proto))?;
        if let (false, Some((id, _))) = (has_ports, self.ports) {
            write!(f, " echo {id}")?;
        }
        for (bit, name) in
            [(tcp_flag::SYN, "syn"), (tcp_flag::ACK, "ack"), (tcp_flag::FIN, "fin"), (tcp_flag::RST, "rst")]
        {
            if self.tcp_flags & bit != 0 {
                write!(f, " {name}")?;
            }
        }
        if self.fragment { f.write_str(" fragment") } else { Ok(()) }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some((from, to)), Some(vni)) = (self.tunnel, self.vni) {
            write!(f, "{from} > {to} vni {vni}: ")?;
        }
        match (&self.packet, self.macs) {
            (Some(packet), _) => write!(f, "{packet}"),
            (None, Some((from, to))) => {
                let kind = if self.ether_type.to_be_bytes() == ether_type::ARP {
                    "arp".to_owned()
                } else {
                    format!("EtherType {:#06x}", self.ether_type)
                };
                write!(f, "{} > {} {kind}", mac::format(from), mac::format(to))
            }
            (None, None) => f.write_str("no Ethernet frame"),
        }
    }
}

/// Bytes of a TCP or UDP packet without data, checksums right.
pub fn build(packet: &Packet, (from, to): (Mac, Mac)) -> Vec<u8> {
    let (src, dst) = packet.ports.unwrap_or_default();
    let mut segment = [src.to_be_bytes(), dst.to_be_bytes()].concat();
    let checksum_at = if packet.proto == proto::TCP {
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, packet.tcp_flags, 0xff, 0xff, 0, 0, 0, 0]);
        16
    } else {
        segment.extend([0, 8, 0, 0]);
        6
    };
    let sum = checksum::of(&[pseudo(packet, segment.len() as u16), segment.clone()].concat());
    segment[checksum_at..checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    network(packet, &segment, (from, to))
}

/// Puts a frame into a tunnel between two nodes.
pub fn wrap(vni: u32, (from, to): (IpAddr, IpAddr), vxlan_port: u16, inner: &[u8]) -> Vec<u8> {
    let len = (size_of::<UdpHeader>() + size_of::<VxlanHeader>() + inner.len()) as u16;
    let vni = vni.to_be_bytes();
    let mut datagram = [0xc000u16.to_be_bytes(), vxlan_port.to_be_bytes(), len.to_be_bytes(), [0; 2]].concat();
    datagram.extend([VxlanHeader::FLAG_VNI, 0, 0, 0, vni[1], vni[2], vni[3], 0]);
    datagram.extend(inner);
    let outer = Packet { src: from, dst: to, proto: proto::UDP, ports: None, tcp_flags: 0, fragment: false };
    network(&outer, &datagram, (SENDER, RECEIVER))
}

/// Link-layer addresses of a made frame of the underlay, which no program looks at.
pub const SENDER: Mac = Mac { bytes: [2, 0, 0, 0, 0, 1] };
/// See [`SENDER`].
pub const RECEIVER: Mac = Mac { bytes: [2, 0, 0, 0, 0, 2] };

const TTL: u8 = 64;

fn network(packet: &Packet, payload: &[u8], (from, to): (Mac, Mac)) -> Vec<u8> {
    let mut frame = [to.bytes, from.bytes].concat();
    let len = payload.len() as u16;
    match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let total = (len + 20).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0x40, 0, TTL, packet.proto, 0, 0];
            header.extend([src.octets(), dst.octets()].concat());
            let sum = checksum::of(&header).to_be_bytes();
            header[10..12].copy_from_slice(&sum);
            frame.extend(ether_type::IPV4);
            frame.extend(header);
        }
        (src, dst) => {
            let len = len.to_be_bytes();
            frame.extend(ether_type::IPV6);
            frame.extend([0x60, 0, 0, 0, len[0], len[1], packet.proto, TTL]);
            frame.extend([wide(src), wide(dst)].concat());
        }
    }
    frame.extend(payload);
    frame
}

fn wide(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// RFC 9293 section 3.1, RFC 8200 section 8.1. The order of its words does not matter to the sum.
fn pseudo(packet: &Packet, len: u16) -> Vec<u8> {
    let mut bytes = match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (src, dst) => [wide(src), wide(dst)].concat(),
    };
    bytes.extend([0, packet.proto]);
    bytes.extend(len.to_be_bytes());
    bytes
}
