//! The assertion on packets.

use std::fmt::Write as _;

use super::describe;

/// Fails with both descriptions and the bytes that differ, unless the frames are equal.
#[track_caller]
#[expect(clippy::panic, reason = "an assertion")]
pub fn assert_packet_eq(got: impl Into<Vec<u8>>, want: impl Into<Vec<u8>>) {
    let (got, want) = (got.into(), want.into());
    if got != want {
        panic!("packets differ\ngot:\n{}\nwant:\n{}\n{}", describe(&got), describe(&want), hex_difference(&got, &want));
    }
}

fn hex_difference(got: &[u8], want: &[u8]) -> String {
    const ROW: usize = 16;
    let mut text = format!("bytes that differ (got {}, want {} long):\n", got.len(), want.len());
    let row = |of: &[u8], other: &[u8], at: usize| -> String {
        let byte = |at: usize| match (of.get(at), other.get(at)) {
            (Some(here), there) if there == Some(here) => format!(" {here:02x} "),
            (Some(here), _) => format!("[{here:02x}]"),
            (None, _) => "    ".to_owned(),
        };
        (at..at + ROW).map(byte).collect()
    };
    for at in (0..got.len().max(want.len())).step_by(ROW) {
        if got.get(at..).map(|rest| &rest[..rest.len().min(ROW)])
            != want.get(at..).map(|rest| &rest[..rest.len().min(ROW)])
        {
            let _ = writeln!(text, "{at:5}  got  {}\n       want {}", row(got, want, at), row(want, got, at));
        }
    }
    text
}
