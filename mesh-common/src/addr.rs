//! Addresses as they lie in keys: 16 bytes for both families, IPv4 mapped into IPv6.

use crate::abi::{Field, Value};

plain_struct! {
    /// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d` (RFC 4291 section
    /// 2.5.5.2). One shape for both families: one lookup, one map, one code path.
    pub struct Addr {
        /// Network byte order.
        pub bytes: [u8; 16],
    }
}

plain_struct! {
    /// A link-layer address.
    pub struct Mac {
        /// As on the wire.
        pub bytes: [u8; 6],
    }
}

impl Field for Addr {
    fn value(&self) -> Value<'_> {
        Value::Addr(*self)
    }
}

impl Field for Mac {
    fn value(&self) -> Value<'_> {
        Value::Mac(*self)
    }
}

impl Addr {
    /// The mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn v4(a: [u8; 4]) -> Self {
        Self { bytes: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a[0], a[1], a[2], a[3]] }
    }

    /// An IPv6 address.
    #[inline(always)]
    pub const fn v6(bytes: [u8; 16]) -> Self {
        Self { bytes }
    }

    /// Is this the mapped form of an IPv4 address?
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        let words = self.words();
        words[0] == 0 && words[1] == 0 && words[2] == u32::from_ne_bytes([0, 0, 0xff, 0xff])
    }

    /// The last four bytes: the IPv4 address, if it is one.
    #[inline(always)]
    pub const fn low4(&self) -> [u8; 4] {
        let b = &self.bytes;
        [b[12], b[13], b[14], b[15]]
    }

    /// The address as four machine words, for hashing and comparing; byte order untouched.
    #[inline(always)]
    pub const fn words(&self) -> [u32; 4] {
        let b = &self.bytes;
        [
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ]
    }
}

impl Mac {
    /// Broadcast or multicast (the group bit, IEEE 802)?
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        self.bytes[0] & 1 == 1
    }
}
