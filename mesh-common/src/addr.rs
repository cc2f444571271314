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

    /// From two words as they lie in memory.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        let (a, b) = (words[0].to_ne_bytes(), words[1].to_ne_bytes());
        Self { bytes: [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]] }
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

impl Addr {
    /// Is it the one address by which a host calls itself?
    #[inline(always)]
    pub const fn is_loopback(&self) -> bool {
        let words = self.words();
        let head = words[0] | words[1];
        head == 0
            && (words[2] == u32::from_ne_bytes([0, 0, 0xff, 0xff]) && words[3] == u32::from_ne_bytes([127, 0, 0, 1])
                || words[2] == 0 && words[3] == u32::from_ne_bytes([0, 0, 0, 1]))
    }

    /// May a packet leave a host for this address? Not if it stays there by its kind, or names many.
    #[inline(always)]
    pub const fn is_of_one_host(&self) -> bool {
        let b = &self.bytes;
        if self.is_v4() {
            // RFC 1122 section 3.2.1.3: this network, loopback; multicast, reserved, broadcast.
            return b[12] != 0 && b[12] != 127 && b[12] < 224;
        }
        let words = self.words();
        let low = words[0] | words[1] | words[2];
        // RFC 4291 section 2.5: multicast; unspecified and loopback; link-local.
        b[0] != 0xff && low != 0 && !(b[0] == 0xfe && b[1] & 0xc0 == 0x80)
    }
}

impl Mac {
    /// What tasks know as the way to every VIP and out of their networks. No task may have it.
    pub const ROUTER: Self = Self { bytes: [0x02, 0x42, 0x6d, 0x65, 0x73, 0x68] };

    /// Broadcast or multicast (the group bit, IEEE 802)?
    #[inline(always)]
    pub const fn is_group(&self) -> bool {
        self.bytes[0] & 1 == 1
    }
}
