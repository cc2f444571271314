//! The pcapng file format (draft-ietf-opsawg-pcapng): one section, an interface for each place where a
//! frame was seen, and the frames. tcpdump and Wireshark read it.

use std::io::{self, Write};

/// Writes a file, block by block.
pub(super) struct Pcapng<W> {
    out: W,
    /// Places that have a block, by their names.
    places: Vec<String>,
    snap: u32,
}

/// A frame for the file.
pub(super) struct Record<'a> {
    /// Name of the place where it was seen.
    pub(super) place: &'a str,
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    /// Its first bytes.
    pub(super) bytes: &'a [u8],
    /// Its length.
    pub(super) len: u32,
    /// What to say about it.
    pub(super) comment: &'a str,
}

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const ETHERNET: u16 = 1;
const OPTION_COMMENT: u16 = 1;
const OPTION_NAME: u16 = 2;
const OPTION_RESOLUTION: u16 = 9;
/// Nanoseconds: ten to the power of minus nine.
const RESOLUTION: [u8; 1] = [9];

impl<W: Write> Pcapng<W> {
    /// Begins a file whose frames have at most `snap` bytes.
    pub(super) fn begin(mut out: W, snap: u32) -> io::Result<Self> {
        let mut body = BYTE_ORDER.to_le_bytes().to_vec();
        // Version 1.0, and a section of unknown length.
        body.extend([1, 0, 0, 0]);
        body.extend(u64::MAX.to_le_bytes());
        block(&mut out, SECTION, body)?;
        Ok(Self { out, places: Vec::new(), snap })
    }

    /// Adds a frame.
    pub(super) fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let place = self.place(record.place)?;
        let mut body = place.to_le_bytes().to_vec();
        body.extend(((record.time >> 32) as u32).to_le_bytes());
        body.extend((record.time as u32).to_le_bytes());
        body.extend((record.bytes.len() as u32).to_le_bytes());
        body.extend(record.len.to_le_bytes());
        body.extend(record.bytes);
        pad(&mut body);
        option(&mut body, OPTION_COMMENT, record.comment.as_bytes());
        body.extend([0; 4]);
        block(&mut self.out, PACKET, body)
    }

    /// Everything written so far reaches the file.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn place(&mut self, name: &str) -> io::Result<u32> {
        if let Some(known) = self.places.iter().position(|place| place == name) {
            return Ok(known as u32);
        }
        let mut body = ETHERNET.to_le_bytes().to_vec();
        body.extend([0; 2]);
        body.extend(self.snap.to_le_bytes());
        option(&mut body, OPTION_NAME, name.as_bytes());
        option(&mut body, OPTION_RESOLUTION, &RESOLUTION);
        body.extend([0; 4]);
        block(&mut self.out, INTERFACE, body)?;
        self.places.push(name.to_owned());
        Ok(self.places.len() as u32 - 1)
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    body.extend(code.to_le_bytes());
    body.extend((value.len() as u16).to_le_bytes());
    body.extend(value);
    pad(body);
}

/// A block says its length at both ends.
fn block(out: &mut impl Write, kind: u32, body: Vec<u8>) -> io::Result<()> {
    let len = (body.len() + 12) as u32;
    let bytes = [&kind.to_le_bytes()[..], &len.to_le_bytes(), &body, &len.to_le_bytes()].concat();
    out.write_all(&bytes)
}
