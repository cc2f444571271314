//! Numbers of up to 256 bits as digits of base 36, as Docker writes them: lower case, of a fixed width.

const BASE: u32 = 36;

/// The digits of a big-endian number, padded with zeros on the left. The width must be enough for it: the
/// callers' are (25 digits hold 128 bits, 50 hold 256).
pub(super) fn digits(number: &[u8], width: usize) -> String {
    let mut rest = number.to_vec();
    let mut digits = vec![b'0'; width];
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0;
        for byte in &mut rest {
            let value = remainder << 8 | u32::from(*byte);
            *byte = u8::try_from(value / BASE).unwrap_or(u8::MAX);
            remainder = value % BASE;
        }
        *digit = char::from_digit(remainder, BASE).map_or(b'0', |digit| digit as u8);
    }
    digits.into_iter().map(char::from).collect()
}

/// The big-endian number of `N` bytes with these digits; None if one is not a digit or a small letter, or
/// the number does not fit.
pub(super) fn number<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let mut number = [0_u8; N];
    for digit in digits.bytes() {
        if digit.is_ascii_uppercase() {
            return None;
        }
        let mut carry = char::from(digit).to_digit(BASE)?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * BASE + carry;
            *byte = u8::try_from(value & 0xff).ok()?;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}
