//! Medians, and how far apart rounds are.

/// The middle of the values; the mean of the two middle ones if their number is even, 0 of none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |at: usize| sorted.get(at).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        middle(sorted.len() / 2)
    } else {
        (middle(sorted.len() / 2) + middle((sorted.len() / 2).saturating_sub(1))) / 2.0
    }
}

/// The value that so many of a hundred lie below; 0 of none.
pub(crate) fn percentile(values: &[f64], part: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * part / 100).copied().unwrap_or(0.0)
}

/// Half of the distance between the quartiles, as a share of the median.
pub(crate) fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    if middle == 0.0 { 0.0 } else { (percentile(values, 75) - percentile(values, 25)) / 2.0 / middle }
}
