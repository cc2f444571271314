//! The framing of container output: eight bytes of head, then the bytes as the container wrote them.

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use bytes::{BufMut as _, BytesMut};
use futures_util::{Stream, StreamExt as _};

use super::version::{MEDIA_TYPE_OF_STREAMS, Version};

/// Which of a container's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Puts the head before a piece of output: stream, three zeros, length.
pub(super) fn frame(output: Output, payload: &[u8]) -> Bytes {
    // A piece is far below 4 GiB: the runtimes cut output into lines of 16 KiB.
    let payload = &payload[..payload.len().min(u32::MAX as usize)];
    let mut framed = BytesMut::with_capacity(8 + payload.len());
    framed.put_u8(match output {
        Output::Stdout => 1,
        Output::Stderr => 2,
    });
    framed.put_bytes(0, 3);
    framed.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    framed.put_slice(payload);
    framed.freeze()
}

/// An answer that streams `pieces`; `raw` for a terminal, whose outputs are one.
pub(super) fn answer<S>(pieces: S, version: Version, raw: bool) -> Response
where
    S: Stream<Item = Result<(Output, Bytes), std::io::Error>> + Send + 'static,
{
    let framed = pieces.map(move |piece| piece.map(|(output, bytes)| if raw { bytes } else { frame(output, &bytes) }));
    let mut response = Response::new(Body::from_stream(framed));
    if version >= MEDIA_TYPE_OF_STREAMS {
        let kind = if raw { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_stream_and_length_before_the_bytes() {
        assert_eq!(frame(Output::Stdout, b"hi\n")[..], *b"\x01\0\0\0\0\0\0\x03hi\n");
        assert_eq!(frame(Output::Stderr, b"")[..], *b"\x02\0\0\0\0\0\0\0");
    }
}
