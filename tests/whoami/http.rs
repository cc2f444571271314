//! As much of HTTP/1.1 as a health check and a load test need: GET and HEAD, keep-alive and close.

use std::io::{self, BufReader, Write as _};
use std::net::TcpStream;

use crate::read_line;

/// Header lines of one request.
const HEADERS_MAX: usize = 64;

/// Is the first line of a connection, or of its next request, HTTP?
pub(crate) fn is_request(line: &str) -> bool {
    line.ends_with(" HTTP/1.1") || line.ends_with(" HTTP/1.0")
}

/// Answers the request that starts with `line`; true if the connection stays open.
pub(crate) fn serve(
    line: &str,
    reader: &mut BufReader<&TcpStream>,
    mut to: &TcpStream,
    answer: impl FnOnce(&str) -> String,
    closing: impl FnOnce() -> bool,
) -> io::Result<bool> {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut keep, has_body) = read_headers(reader, line.ends_with("/1.1"))?;
    let (status, body) = match method {
        // A body would be read as the next request.
        _ if has_body => ("413 Content Too Large", "no body is read here\n".to_owned()),
        "GET" | "HEAD" => ("200 OK", answer(path)),
        _ => ("405 Method Not Allowed", "GET and HEAD only\n".to_owned()),
    };
    keep &= !has_body && !closing();
    let connection = if keep { "keep-alive" } else { "close" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    if method != "HEAD" {
        response.push_str(&body);
    }
    to.write_all(response.as_bytes())?;
    Ok(keep)
}

/// Whether the client wants to keep the connection, and whether it sends a body.
fn read_headers(reader: &mut BufReader<&TcpStream>, mut keep: bool) -> io::Result<(bool, bool)> {
    let mut has_body = false;
    for _ in 0..HEADERS_MAX {
        let line = read_line(reader)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if line.is_empty() {
            return Ok((keep, has_body));
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        let (name, value) = (name.to_ascii_lowercase(), value.trim().to_ascii_lowercase());
        match name.as_str() {
            "connection" => keep = value != "close" && (keep || value == "keep-alive"),
            "content-length" => has_body |= value != "0",
            "transfer-encoding" => has_body = true,
            _ => {}
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many header lines"))
}
