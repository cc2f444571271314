//! The Internet checksum: a sum from scratch, and the change of one (RFC 1624).

/// Folds a running sum of 16-bit words to 16 bits.
#[inline(always)]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// Two bytes of a packet as a term of a sum.
///
/// One's complement addition does not care about byte order as long as all words and the result
/// share it (RFC 1071 section 2 (B)): here everything stays as it lies in memory.
#[inline(always)]
pub const fn word(bytes: [u8; 2]) -> u64 {
    u16::from_ne_bytes(bytes) as u64
}

/// Four bytes of a packet, at an even offset, as a term of a sum.
#[inline(always)]
pub const fn dword(bytes: [u8; 4]) -> u64 {
    u32::from_ne_bytes(bytes) as u64
}

/// An address as a term of a sum. All of it: for an IPv4 pseudo-header take [`dword`] of the low four.
#[inline(always)]
pub const fn address(addr: &crate::addr::Addr) -> u64 {
    let words = addr.words();
    words[0] as u64 + words[1] as u64 + words[2] as u64 + words[3] as u64
}

/// A link-layer address as a term of a sum.
#[inline(always)]
pub const fn mac(mac: &crate::addr::Mac) -> u64 {
    let m = &mac.bytes;
    word([m[0], m[1]]) + word([m[2], m[3]]) + word([m[4], m[5]])
}

/// The words of an IPv4 header without options, its checksum field included.
#[inline(always)]
pub const fn ipv4(ip: &crate::header::Ipv4Header) -> u64 {
    word([ip.version_ihl, ip.tos])
        + word(ip.total_len)
        + word(ip.id)
        + word(ip.fragment)
        + word([ip.ttl, ip.proto])
        + word(ip.checksum)
        + dword(ip.src)
        + dword(ip.dst)
}

/// A finished checksum, as a header stores it.
#[inline(always)]
pub const fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// What replacing `old` by `new` adds to a sum: `~old + new` (RFC 1624 equation 3).
#[inline(always)]
pub const fn difference(old: u32, new: u32) -> u64 {
    (!old) as u64 + new as u64
}

/// A stored checksum after the words under it changed by `difference` (RFC 1624 equation 3).
#[inline(always)]
pub const fn update(stored: u16, difference: u64) -> u16 {
    !fold((!stored) as u64 + fold(difference) as u64)
}

/// The difference of two addresses of the same family.
#[inline(always)]
pub const fn address_difference(old: &crate::addr::Addr, new: &crate::addr::Addr) -> u64 {
    let (old, new) = (old.words(), new.words());
    difference(old[0], new[0]) + difference(old[1], new[1]) + difference(old[2], new[2]) + difference(old[3], new[3])
}

/// The difference of two ports.
#[inline(always)]
pub const fn port_difference(old: [u8; 2], new: [u8; 2]) -> u64 {
    // Two zero bytes in front change nothing: ~0xffff.... cancels against the same bits of `new`.
    (!u16::from_ne_bytes(old)) as u64 + u16::from_ne_bytes(new) as u64
}

/// The checksum of a byte string, as a header stores it. Slow and plain: for tests and for headers
/// built in user space.
pub fn of(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    let mut words = bytes.chunks_exact(2);
    for word in &mut words {
        sum += u64::from(u16::from_be_bytes([word[0], word[1]]));
    }
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    !fold(sum)
}
