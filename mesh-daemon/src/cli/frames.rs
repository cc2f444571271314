//! Output of containers as the API frames it.

use anyhow::Result;

/// Cuts a stream into its frames: a byte for the output, three zeros, four of length.
#[derive(Default)]
pub(super) struct Frames {
    kept: Vec<u8>,
}

impl Frames {
    pub(super) fn take(&mut self, piece: &[u8], mut each: impl FnMut(u8, &[u8]) -> Result<()>) -> Result<()> {
        self.kept.extend_from_slice(piece);
        let mut at = 0;
        while let Some(head) = self.kept.get(at..at + 8) {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let output = head[0];
            let Some(payload) = self.kept.get(at + 8..at + 8 + length) else { break };
            each(output, payload)?;
            at += 8 + length;
        }
        self.kept.drain(..at);
        Ok(())
    }
}

#[test]
fn frames_are_cut_wherever_pieces_end() {
    let stream = b"\x01\0\0\0\0\0\0\x03hi\n\x02\0\0\0\0\0\0\x02e\n";
    for size in 1..stream.len() {
        let (mut frames, mut seen) = (Frames::default(), Vec::new());
        for piece in stream.chunks(size) {
            let see = |output, bytes: &[u8]| {
                seen.push((output, bytes.to_vec()));
                Ok(())
            };
            frames.take(piece, see).unwrap();
        }
        assert_eq!(seen, [(1, b"hi\n".to_vec()), (2, b"e\n".to_vec())]);
    }
}
