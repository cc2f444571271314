//! Durations and sizes, as the docker CLI reads them.

use anyhow::{Context as _, Result, bail};

/// Reads `1m30s` or `500ms` as nanoseconds.
pub(super) fn duration(text: &str) -> Result<i64> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];
    let wrong = || format!("invalid duration \"{text}\": it should be as 1m30s or 500ms");
    let mut rest = text;
    let mut nanos = 0.0;
    if rest == "0" {
        return Ok(0);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').with_context(wrong)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).with_context(wrong)?;
        nanos += number.parse::<f64>().with_context(wrong)? * factor;
        rest = after;
    }
    if text.is_empty() || nanos > 9.2e18 {
        bail!(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bound is below i64's")]
    Ok(nanos.round() as i64)
}

/// Reads `64m` or `1.5g` as bytes, in binary units.
pub(super) fn size(text: &str) -> Result<i64> {
    let wrong = || format!("invalid size: '{text}'");
    let lower = text.trim().to_lowercase();
    let lower = lower.strip_suffix("ib").or_else(|| lower.strip_suffix('b')).unwrap_or(&lower);
    let (number, shift) = match lower.chars().last() {
        Some('k') => (&lower[..lower.len() - 1], 10),
        Some('m') => (&lower[..lower.len() - 1], 20),
        Some('g') => (&lower[..lower.len() - 1], 30),
        Some('t') => (&lower[..lower.len() - 1], 40),
        Some(_) => (lower, 0),
        None => bail!(wrong()),
    };
    let number: f64 = number.trim().parse().with_context(wrong)?;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let bytes = number * (1u64 << shift) as f64;
    if !(0.0..9e18).contains(&bytes) {
        bail!(wrong());
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bound is below i64's")]
    Ok(bytes as i64)
}

/// Reads `0.5` processors as billionths.
pub(super) fn cpus(text: &str) -> Result<i64> {
    let cpus: f64 = text.parse().with_context(|| format!("invalid cpus value: \"{text}\""))?;
    if !(0.0..1e6).contains(&cpus) {
        bail!("invalid cpus value: \"{text}\"");
    }
    #[expect(clippy::cast_possible_truncation, reason = "the bound is below i64's")]
    Ok((cpus * 1e9).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, nanos) in
            [("1m30s", 90_000_000_000), ("500ms", 500_000_000), ("1.5h", 5_400_000_000_000), ("0", 0), ("0s", 0)]
        {
            assert_eq!(duration(text).unwrap(), nanos);
        }
        for text in ["", "5", "s", "1x", "-1s", "1..2s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_binary() {
        for (text, bytes) in [("64m", 67_108_864), ("64MiB", 67_108_864), ("1.5g", 1_610_612_736), ("512", 512)] {
            assert_eq!(size(text).unwrap(), bytes);
        }
        for text in ["", "m", "-1", "1x"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_counted_in_billionths() {
        assert_eq!(cpus("0.5").unwrap(), 500_000_000);
        assert!(cpus("-1").is_err() && cpus("x").is_err());
    }
}
