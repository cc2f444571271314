//! How the docker CLI words things: ages, sizes, states, short ids and names of images.

use jiff::Timestamp;

/// Ids are shown to this length.
const SHORT: usize = 12;

/// The first of an id.
pub(super) fn short(id: &str) -> String {
    id.chars().take(SHORT).collect()
}

/// With a capital letter.
pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// How long ago something was, as `now` sees it; empty if that cannot be read.
pub(super) fn ago(then: &str, now: Timestamp) -> String {
    let Ok(then) = then.parse::<Timestamp>() else { return String::new() };
    format!("{} ago", duration(now.duration_since(then).as_secs().max(0)))
}

/// A duration in seconds, rounded as docker rounds.
pub(super) fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        () if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// The name of an image without its digest, if it has a tag beside it.
pub(super) fn image(reference: &str) -> &str {
    match reference.split_once('@') {
        Some((name, _)) if name.rsplit('/').next().is_some_and(|last| last.contains(':')) => name,
        _ => reference,
    }
}

/// Bytes as docker prints them in binary units: four digits at most.
pub(super) fn bytes(count: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "four digits are shown")]
    let mut size = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size >= 1024.0
        && let Some(next) = units.next()
    {
        size /= 1024.0;
        unit = next;
    }
    let digits = match size {
        ..10.0 => 3,
        ..100.0 => 2,
        ..1000.0 => 1,
        _ => 0,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Bytes as docker prints sizes of images: in decimal units, three digits.
pub(super) fn decimal(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut size = count as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    while size >= 1000.0
        && let Some(next) = units.next()
    {
        size /= 1000.0;
        unit = next;
    }
    let digits = match size {
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    let text = format!("{size:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_as_docker_rounds() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86400 * 2, "2 days"),
            (86400 * 14, "2 weeks"),
            (86400 * 60, "2 months"),
            (86400 * 730, "2 years"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn an_image_loses_its_digest_only_beside_a_tag() {
        for (reference, shown) in [
            ("nginx:latest@sha256:0", "nginx:latest"),
            ("nginx@sha256:0", "nginx@sha256:0"),
            ("a.b:5000/web@sha256:0", "a.b:5000/web@sha256:0"),
            ("a.b:5000/web:1@sha256:0", "a.b:5000/web:1"),
        ] {
            assert_eq!(image(reference), shown);
        }
    }

    #[test]
    fn sizes_of_images_have_three_digits() {
        for (count, text) in [(1_984_175, "1.98MB"), (77_800_000, "77.8MB"), (512, "512B"), (2_000_000_000, "2GB")] {
            assert_eq!(decimal(count), text);
        }
    }

    #[test]
    fn sizes_have_four_digits_at_most() {
        for (count, text) in [(67_108_864, "64MiB"), (25_276_510_208, "23.54GiB"), (512, "512B"), (1_572_864, "1.5MiB")]
        {
            assert_eq!(bytes(count), text);
        }
    }
}
