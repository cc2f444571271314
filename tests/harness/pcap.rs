//! Classic pcap files: written for people to open, read back for assertions.

use std::io::Write;

use anyhow::{Context as _, Result, bail};

const MAGIC_US: u32 = 0xa1b2_c3d4;
const MAGIC_NS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
/// 2.4: the major number is the lower half of the little-endian word.
const VERSION: u32 = 4 << 16 | 2;
const SNAPLEN: u32 = 262_144;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Writes frames as a pcap file, one microsecond apart.
pub fn write(mut to: impl Write, frames: &[Vec<u8>]) -> Result<()> {
    let mut bytes = Vec::new();
    for word in [MAGIC_US, VERSION, 0, 0, SNAPLEN, LINKTYPE_ETHERNET] {
        bytes.extend(word.to_le_bytes());
    }
    for (at, frame) in (0u32..).zip(frames) {
        let len = u32::try_from(frame.len())?;
        for word in [0, at, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    to.write_all(&bytes).context("writing a pcap file")
}

/// The frames of a pcap file. A record that is still being written at the end is left out.
pub fn read(bytes: &[u8]) -> Result<Vec<Vec<u8>>> {
    let word = |at: usize| {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(four))
    };
    match word(0) {
        Some(MAGIC_US | MAGIC_NS) => {}
        Some(other) => bail!("{other:#010x} is not the magic number of a little-endian pcap file"),
        None => return Ok(Vec::new()),
    }
    let mut frames = Vec::new();
    let mut at = FILE_HEADER;
    while let (Some(captured), Some(original)) = (word(at + 8), word(at + 12)) {
        let start = at + RECORD_HEADER;
        let end = start + usize::try_from(captured)?;
        let Some(frame) = bytes.get(start..end) else { break };
        if captured != original {
            bail!("a frame of {original} bytes was cut to {captured}");
        }
        frames.push(frame.to_owned());
        at = end;
    }
    Ok(frames)
}
