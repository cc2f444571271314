//! Packet headers as bytes. Every field is an array of bytes, so a header has alignment 1, may
//! stand anywhere in a packet, and never has padding.

use crate::addr::Mac;

/// Marks a struct that may be read from any place in a packet: alignment 1, plain bytes.
///
/// # Safety
/// Only for `repr(C)` structs of byte arrays.
#[expect(unsafe_code, reason = "a promise about layout")]
pub unsafe trait Header: crate::abi::Shared {}

macro_rules! headers {
    ($( $(#[$doc:meta])* pub struct $name:ident ($size:literal) { $( $(#[$field_doc:meta])* pub $field:ident : $ty:ty ),* $(,)? } )*) => {
        $(
            shared! { $(#[$doc])* pub struct $name { $( $(#[$field_doc])* pub $field : $ty ),* } }
            const _: () = assert!(core::mem::align_of::<$name>() == 1 && core::mem::size_of::<$name>() == $size);
            // SAFETY: alignment 1 and the size of the RFC, both asserted above.
            #[expect(unsafe_code, reason = "see the trait")]
            unsafe impl Header for $name {}
        )*
    };
}

headers! {
    /// Ethernet II (IEEE 802.3).
    pub struct EthHeader (14) {
        /// Destination.
        pub dst: Mac,
        /// Source.
        pub src: Mac,
        /// EtherType, one of [`ether_type`].
        pub ether_type: [u8; 2],
    }

    /// ARP for IPv4 over Ethernet (RFC 826).
    pub struct ArpPacket (28) {
        /// Hardware type, 1 for Ethernet.
        pub hardware: [u8; 2],
        /// Protocol type, 0x0800.
        pub protocol: [u8; 2],
        /// Hardware and protocol address lengths: 6, 4.
        pub lengths: [u8; 2],
        /// 1 request, 2 reply.
        pub operation: [u8; 2],
        /// Sender MAC.
        pub sender_mac: Mac,
        /// Sender IPv4.
        pub sender_ip: [u8; 4],
        /// Target MAC.
        pub target_mac: Mac,
        /// Target IPv4.
        pub target_ip: [u8; 4],
    }

    /// IPv4 without options (RFC 791).
    pub struct Ipv4Header (20) {
        /// Version 4 and header length in 32-bit words.
        pub version_ihl: u8,
        /// Differentiated services and ECN.
        pub tos: u8,
        /// Header and payload, bytes.
        pub total_len: [u8; 2],
        /// Fragment identification.
        pub id: [u8; 2],
        /// Flags and fragment offset.
        pub fragment: [u8; 2],
        /// Time to live.
        pub ttl: u8,
        /// Next protocol, one of [`proto`].
        pub proto: u8,
        /// Header checksum.
        pub checksum: [u8; 2],
        /// Source.
        pub src: [u8; 4],
        /// Destination.
        pub dst: [u8; 4],
    }

    /// IPv6 (RFC 8200).
    pub struct Ipv6Header (40) {
        /// Version 6, traffic class, flow label.
        pub version_flow: [u8; 4],
        /// Bytes behind this header.
        pub payload_len: [u8; 2],
        /// Next header, one of [`proto`].
        pub proto: u8,
        /// Hop limit.
        pub hop_limit: u8,
        /// Source.
        pub src: [u8; 16],
        /// Destination.
        pub dst: [u8; 16],
    }

    /// UDP (RFC 768).
    pub struct UdpHeader (8) {
        /// Source port.
        pub src: [u8; 2],
        /// Destination port.
        pub dst: [u8; 2],
        /// Header and payload, bytes.
        pub len: [u8; 2],
        /// 0 means none (IPv4 only).
        pub checksum: [u8; 2],
    }

    /// An Internet checksum on its own.
    pub struct Checksum (2) {
        /// In packet order.
        pub bytes: [u8; 2],
    }

    /// The first four bytes of TCP and UDP alike.
    pub struct Ports (4) {
        /// Source port.
        pub src: [u8; 2],
        /// Destination port.
        pub dst: [u8; 2],
    }

    /// TCP without options (RFC 9293).
    pub struct TcpHeader (20) {
        /// Source port.
        pub src: [u8; 2],
        /// Destination port.
        pub dst: [u8; 2],
        /// Sequence number.
        pub seq: [u8; 4],
        /// Acknowledgement number.
        pub ack: [u8; 4],
        /// Header length in 32-bit words, in the high four bits.
        pub offset: u8,
        /// One of [`tcp_flag`], or'ed.
        pub flags: u8,
        /// Receive window.
        pub window: [u8; 2],
        /// Checksum.
        pub checksum: [u8; 2],
        /// Urgent pointer.
        pub urgent: [u8; 2],
    }

    /// The first eight bytes of ICMP (RFC 792) and ICMPv6 (RFC 4443).
    pub struct IcmpHeader (8) {
        /// Message type.
        pub kind: u8,
        /// Subtype.
        pub code: u8,
        /// Checksum.
        pub checksum: [u8; 2],
        /// Identifier and sequence of an echo; unused or MTU in an error.
        pub rest: [u8; 4],
    }

    /// A neighbour solicitation or advertisement with one link-layer option (RFC 4861 section 4.3),
    /// behind the eight ICMPv6 bytes.
    pub struct NeighbourBody (24) {
        /// The address asked for.
        pub target: [u8; 16],
        /// Option type: 1 source, 2 target link-layer address.
        pub option: u8,
        /// Option length in units of 8 bytes: 1.
        pub option_len: u8,
        /// The link-layer address.
        pub mac: Mac,
    }

    /// VXLAN (RFC 7348).
    pub struct VxlanHeader (8) {
        /// 0x08: the I bit, the VNI is valid.
        pub flags: u8,
        /// Zero on transmit, ignored on receipt.
        pub reserved: [u8; 3],
        /// The 24-bit network identifier.
        pub vni: [u8; 3],
        /// Zero on transmit, ignored on receipt.
        pub reserved2: u8,
    }

    /// What stands in front of the inner frame over IPv4: 50 bytes.
    pub struct OuterV4 (50) {
        /// Underlay Ethernet.
        pub eth: EthHeader,
        /// Underlay IPv4, no options.
        pub ip: Ipv4Header,
        /// Underlay UDP.
        pub udp: UdpHeader,
        /// The tunnel.
        pub vxlan: VxlanHeader,
    }

    /// What stands in front of the inner frame over IPv6: 70 bytes.
    pub struct OuterV6 (70) {
        /// Underlay Ethernet.
        pub eth: EthHeader,
        /// Underlay IPv6.
        pub ip: Ipv6Header,
        /// Underlay UDP.
        pub udp: UdpHeader,
        /// The tunnel.
        pub vxlan: VxlanHeader,
    }
}

// SAFETY: six bytes, alignment 1.
#[expect(unsafe_code, reason = "see the trait")]
unsafe impl Header for Mac {}

/// EtherTypes, as they lie in the packet.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: [u8; 2] = [0x08, 0x00];
    /// ARP.
    pub const ARP: [u8; 2] = [0x08, 0x06];
    /// IPv6.
    pub const IPV6: [u8; 2] = [0x86, 0xdd];
}

/// IP protocol numbers (IANA).
pub mod proto {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 fragment header.
    pub const IPV6_FRAGMENT: u8 = 44;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// TCP flag bits.
pub mod tcp_flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Open.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Acknowledges.
    pub const ACK: u8 = 0x10;
}

impl VxlanHeader {
    /// RFC 7348 section 5: the I bit must be set.
    pub const FLAG_VNI: u8 = 0x08;

    /// A header of this network; the VNI is 24 bits wide.
    #[inline(always)]
    pub const fn new(vni: u32) -> Self {
        let v = vni.to_be_bytes();
        Self { flags: Self::FLAG_VNI, reserved: [0; 3], vni: [v[1], v[2], v[3]], reserved2: 0 }
    }

    /// The network, if the header says that it names one.
    #[inline(always)]
    pub const fn network(&self) -> Option<u32> {
        if self.flags & Self::FLAG_VNI == 0 {
            return None;
        }
        Some(u32::from_be_bytes([0, self.vni[0], self.vni[1], self.vni[2]]))
    }
}
