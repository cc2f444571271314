//! Bytes to text, one line a layer, every checksum judged.
//!
//! Reads the bytes by itself and not by the builder's crate, so that each checks the other.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::VXLAN_PORT;
use crate::netns::mac_text;

/// A frame as text. A frame that ends inside a header says so in its last line.
pub fn describe(frame: &[u8]) -> String {
    let mut text = Text { lines: Vec::new(), depth: 0 };
    if text.frame(frame).is_none() {
        text.line("ends inside this header".to_owned());
    }
    text.lines.join("\n")
}

struct Text {
    lines: Vec<String>,
    depth: usize,
}

/// What an upper layer needs to know of the IP header.
struct Below {
    src: IpAddr,
    dst: IpAddr,
    proto: u8,
    /// Are checksums over the payload meaningful: is it whole?
    whole: bool,
}

impl Text {
    fn line(&mut self, line: String) {
        self.lines.push(format!("{}{line}", "  ".repeat(self.depth)));
    }

    fn frame(&mut self, frame: &[u8]) -> Option<()> {
        let (Some(dst), Some(src), Some(mut ether_type)) = (array(frame, 0), array(frame, 6), be16(frame, 12)) else {
            self.line(format!("eth: {} bytes", frame.len()));
            return None;
        };
        let mut line = format!("eth {} > {}", mac_text(src), mac_text(dst));
        let mut at = 14;
        while matches!(ether_type, 0x8100 | 0x88a8) {
            let (Some(tag), Some(next)) = (be16(frame, at), be16(frame, at + 2)) else {
                self.line(format!("{line} vlan?"));
                return None;
            };
            let _ = write!(line, " vlan {}", tag & 0x0fff);
            (ether_type, at) = (next, at + 4);
        }
        self.line(format!("{line} type {ether_type:#06x} len {}", frame.len()));
        let payload = frame.get(at..)?;
        match ether_type {
            0x0800 => self.ipv4(payload, true),
            0x86dd => self.ipv6(payload, true),
            0x0806 => self.arp(payload),
            _ => self.data(payload),
        }
    }

    fn arp(&mut self, bytes: &[u8]) -> Option<()> {
        let kind = match be16(bytes, 6) {
            Some(1) => "request",
            Some(2) => "reply",
            _ => "?",
        };
        self.line(format!("arp {kind}"));
        let (sender, target) = (Ipv4Addr::from(array(bytes, 14)?), Ipv4Addr::from(array(bytes, 24)?));
        let (from, to) = (mac_text(array(bytes, 8)?), mac_text(array(bytes, 18)?));
        self.lines.pop();
        self.line(format!("arp {kind} sender {sender} at {from} target {target} at {to}"));
        self.trailer(bytes.get(28..)?);
        Some(())
    }

    /// `complete` is false for the packet quoted by an ICMP error, which may be cut.
    fn ipv4(&mut self, bytes: &[u8], complete: bool) -> Option<()> {
        let (Some(src), Some(dst)) = (array(bytes, 12), array(bytes, 16)) else {
            self.line(format!("ipv4: {} bytes", bytes.len()));
            return None;
        };
        let (src, dst) = (Ipv4Addr::from(src), Ipv4Addr::from(dst));
        let (version, header_len) = (bytes[0] >> 4, usize::from(bytes[0] & 0x0f) * 4);
        let (total_len, id, flags) = (be16(bytes, 2)?, be16(bytes, 4)?, be16(bytes, 6)?);
        let (ttl, proto) = (bytes[8], bytes[9]);
        let mut line = format!("ipv4 {src} > {dst} proto {proto} ttl {ttl} tos {:#04x} id {id}", bytes[1]);
        line.push_str(if flags & 0x4000 != 0 { " df" } else { "" });
        let (offset, more) = ((flags & 0x1fff) * 8, flags & 0x2000 != 0);
        let fragment = offset != 0 || more;
        if fragment {
            let _ = write!(line, " fragment at {offset}{}", if more { ", more follow" } else { ", the last" });
        }
        if version != 4 || header_len < 20 {
            self.line(format!("{line} IMPOSSIBLE version {version} header length {header_len}"));
            return Some(());
        }
        let Some(header) = bytes.get(..header_len) else {
            self.line(line);
            return None;
        };
        if header_len > 20 {
            let _ = write!(line, " options {}", hex(&header[20..]));
        }
        self.line(format!("{line} len {total_len} checksum {}", judged(of(header) == 0)));
        let below = Below { src: src.into(), dst: dst.into(), proto, whole: complete && !fragment };
        let payload = self.bounded(bytes, header_len, usize::from(total_len), complete)?;
        if offset == 0 { self.upper(payload, &below) } else { self.data(payload) }
    }

    fn ipv6(&mut self, bytes: &[u8], complete: bool) -> Option<()> {
        let (Some(src), Some(dst)) = (array::<16>(bytes, 8), array::<16>(bytes, 24)) else {
            self.line(format!("ipv6: {} bytes", bytes.len()));
            return None;
        };
        let (src, dst) = (Ipv6Addr::from(src), Ipv6Addr::from(dst));
        let first = u32::from_be_bytes(array(bytes, 0)?);
        let (payload_len, mut proto, hop_limit) = (be16(bytes, 4)?, bytes[6], bytes[7]);
        let mut line = format!("ipv6 {src} > {dst} proto {proto} ttl {hop_limit} tos {:#04x}", first >> 20 & 0xff);
        if first & 0x000f_ffff != 0 {
            let _ = write!(line, " flow {:#x}", first & 0x000f_ffff);
        }
        self.line(format!("{line} len {payload_len}"));
        if first >> 28 != 6 {
            self.line(format!("IMPOSSIBLE version {}", first >> 28));
            return Some(());
        }
        let mut payload = self.bounded(bytes, 40, 40 + usize::from(payload_len), complete)?;
        let (mut whole, mut offset) = (complete, 0);
        if proto == 44 {
            self.line("fragment header".to_owned());
            let (word, id) = (be16(payload, 2)?, u32::from_be_bytes(array(payload, 4)?));
            (proto, offset, whole) = (payload[0], word & 0xfff8, false);
            let more = if word & 1 == 1 { "more follow" } else { "the last" };
            self.lines.pop();
            self.line(format!("fragment of proto {proto} at {offset}, {more}, id {id}"));
            payload = payload.get(8..)?;
        }
        let below = Below { src: src.into(), dst: dst.into(), proto, whole };
        if offset == 0 { self.upper(payload, &below) } else { self.data(payload) }
    }

    /// The payload of an IP packet, and a line for what lies behind or is missing.
    fn bounded<'a>(&mut self, bytes: &'a [u8], from: usize, to: usize, complete: bool) -> Option<&'a [u8]> {
        if to < from {
            self.line(format!("IMPOSSIBLE length {to}: the header alone has {from}"));
            return Some(&[]);
        }
        let payload = bytes.get(from..to.min(bytes.len()))?;
        if to > bytes.len() && complete {
            self.line(format!("CUT: {} of {to} bytes are here", bytes.len()));
        }
        self.trailer(bytes.get(to..).unwrap_or_default());
        Some(payload)
    }

    fn upper(&mut self, bytes: &[u8], below: &Below) -> Option<()> {
        match (below.proto, below.src) {
            (6, _) => self.tcp(bytes, below),
            (17, _) => self.udp(bytes, below),
            (1, IpAddr::V4(_)) | (58, IpAddr::V6(_)) => self.icmp(bytes, below),
            _ => self.data(bytes),
        }
    }

    fn tcp(&mut self, bytes: &[u8], below: &Below) -> Option<()> {
        self.line("tcp".to_owned());
        let (src, dst) = (be16(bytes, 0)?, be16(bytes, 2)?);
        self.lines.pop();
        self.line(format!("tcp {src} > {dst}"));
        let (seq, ack) = (u32::from_be_bytes(array(bytes, 4)?), u32::from_be_bytes(array(bytes, 8)?));
        let (header_len, window, urgent) = (usize::from(*bytes.get(12)? >> 4) * 4, be16(bytes, 14)?, be16(bytes, 18)?);
        let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let flags: Vec<_> =
            names.iter().enumerate().filter(|(bit, _)| bytes[13] >> bit & 1 == 1).map(|(_, name)| *name).collect();
        self.lines.pop();
        let mut line = format!("tcp {src} > {dst} [{}] seq {seq} ack {ack} win {window}", flags.join(" "));
        if urgent != 0 {
            let _ = write!(line, " urg {urgent}");
        }
        let Some(options) = bytes.get(20..header_len) else {
            self.line(format!("{line} header length {header_len}"));
            return None;
        };
        if !options.is_empty() {
            let _ = write!(line, " <{}>", tcp_options(options));
        }
        self.line(format!("{line} checksum {}", below.judge(bytes)));
        self.data(bytes.get(header_len..)?)
    }

    fn udp(&mut self, bytes: &[u8], below: &Below) -> Option<()> {
        self.line("udp".to_owned());
        let (src, dst, length, checksum) = (be16(bytes, 0)?, be16(bytes, 2)?, be16(bytes, 4)?, be16(bytes, 6)?);
        self.lines.pop();
        let covered = bytes.get(..usize::from(length));
        let verdict = match (checksum, covered) {
            (0, _) => "none".to_owned(),
            (_, Some(covered)) => below.judge(covered),
            (_, None) => "not judged".to_owned(),
        };
        self.line(format!("udp {src} > {dst} len {length} checksum {verdict}"));
        if length < 8 || covered.is_none() && below.whole {
            self.line(format!("IMPOSSIBLE length {length}: {} bytes are here", bytes.len()));
        }
        let payload = bytes.get(8..)?;
        if dst == VXLAN_PORT && below.whole { self.vxlan(payload) } else { self.data(payload) }
    }

    fn vxlan(&mut self, bytes: &[u8]) -> Option<()> {
        self.line("vxlan".to_owned());
        let (flags, vni) = (*bytes.first()?, u32::from_be_bytes(array(bytes, 4)?));
        self.lines.pop();
        let reserved = if array(bytes, 1)? == [0u8; 3] && vni & 0xff == 0 { "" } else { " RESERVED BITS SET" };
        self.line(format!("vxlan vni {} flags {flags:#04x}{reserved}", vni >> 8));
        self.depth += 1;
        let inner = self.frame(bytes.get(8..)?);
        if inner.is_none() {
            self.line("ends inside this header".to_owned());
        }
        self.depth -= 1;
        Some(())
    }

    fn icmp(&mut self, bytes: &[u8], below: &Below) -> Option<()> {
        let name = if below.src.is_ipv4() { "icmp" } else { "icmpv6" };
        self.line(name.to_owned());
        let (kind, code, rest) = (*bytes.first()?, *bytes.get(1)?, array::<4>(bytes, 4)?);
        self.lines.pop();
        let verdict = below.judge(bytes);
        let what = icmp_meaning(below.src.is_ipv4(), kind, code, rest);
        self.line(format!("{name} type {kind} code {code}{what} checksum {verdict}"));
        let payload = bytes.get(8..)?;
        match (below.src, kind) {
            (IpAddr::V4(_), 3 | 4 | 5 | 11 | 12) => self.quoted(payload),
            (IpAddr::V6(_), 1..=4) => self.quoted(payload),
            (IpAddr::V6(_), 135 | 136) => {
                let target = Ipv6Addr::from(array::<16>(payload, 0)?);
                let option = match (payload.get(16), array(payload, 18)) {
                    (Some(1), Some(mac)) => format!(" source {}", mac_text(mac)),
                    (Some(2), Some(mac)) => format!(" at {}", mac_text(mac)),
                    _ => String::new(),
                };
                self.line(format!("neighbour {target}{option}"));
                Some(())
            }
            _ => self.data(payload),
        }
    }

    /// The packet an ICMP error is about.
    fn quoted(&mut self, bytes: &[u8]) -> Option<()> {
        self.depth += 1;
        let quoted = match bytes.first().map(|byte| byte >> 4) {
            Some(4) => self.ipv4(bytes, false),
            Some(6) => self.ipv6(bytes, false),
            _ => self.data(bytes),
        };
        if quoted.is_none() {
            self.line("quoted so far".to_owned());
        }
        self.depth -= 1;
        Some(())
    }

    fn data(&mut self, bytes: &[u8]) -> Option<()> {
        self.some("data", bytes);
        Some(())
    }

    fn trailer(&mut self, bytes: &[u8]) {
        self.some("trailer", bytes);
    }

    fn some(&mut self, name: &str, bytes: &[u8]) {
        const SHOWN: usize = 24;
        if !bytes.is_empty() {
            let shown = &bytes[..bytes.len().min(SHOWN)];
            let dots = if bytes.len() > SHOWN { ".." } else { "" };
            self.line(format!("{name} {} bytes {}{dots}", bytes.len(), hex(shown)));
        }
    }
}

impl Below {
    /// The verdict on a checksum over the upper layer, pseudo-header included (RFC 8200 section 8.1).
    fn judge(&self, bytes: &[u8]) -> String {
        if !self.whole {
            return "not judged".to_owned();
        }
        let pseudo = self.pseudo_header(bytes.len());
        judged(of(&[&pseudo, bytes].concat()) == 0).to_owned()
    }

    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let addresses = match (self.src, self.dst) {
            (IpAddr::V4(_), _) if self.proto == 1 => return Vec::new(),
            (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
            (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
            _ => Vec::new(),
        };
        let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        [&addresses[..], &length, &[0, 0, 0, self.proto]].concat()
    }
}

fn icmp_meaning(v4: bool, kind: u8, code: u8, rest: [u8; 4]) -> String {
    let ([a, b, c, d], word) = (rest, u32::from_be_bytes(rest));
    let echo = format!("id {} seq {}", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match (v4, kind, code) {
        (true, 8, _) | (false, 128, _) => format!(" echo request {echo}"),
        (true, 0, _) | (false, 129, _) => format!(" echo reply {echo}"),
        (true, 3, 4) => format!(" fragmentation needed, mtu {}", u16::from_be_bytes([c, d])),
        (false, 2, _) => format!(" packet too big, mtu {word}"),
        (true, 3, 3) | (false, 1, 4) => " port unreachable".to_owned(),
        (true, 11, _) | (false, 3, _) => " time exceeded".to_owned(),
        (false, 135, _) => " neighbour solicitation".to_owned(),
        (false, 136, _) => format!(" neighbour advertisement flags {a:#04x}"),
        _ => format!(" rest {}", hex(&rest)),
    }
}

fn tcp_options(mut options: &[u8]) -> String {
    let mut texts = Vec::new();
    while let [kind, rest @ ..] = options {
        let Some((text, length)) = tcp_option(*kind, rest) else {
            texts.push(format!("BROKEN {}", hex(options)));
            break;
        };
        texts.push(text);
        options = &options[length..];
    }
    texts.join(" ")
}

/// Text and length of the option that starts with `kind`.
fn tcp_option(kind: u8, rest: &[u8]) -> Option<(String, usize)> {
    if kind < 2 {
        return Some((if kind == 0 { "end" } else { "nop" }.to_owned(), 1));
    }
    let length = usize::from(*rest.first()?);
    let value = rest.get(1..length.checked_sub(1)?)?;
    let text = match (kind, value) {
        (2, [high, low]) => format!("mss {}", u16::from_be_bytes([*high, *low])),
        (3, [shift]) => format!("wscale {shift}"),
        (4, []) => "sack-ok".to_owned(),
        _ => format!("option {kind} {}", hex(value)),
    };
    Some((text, length))
}

fn judged(right: bool) -> &'static str {
    if right { "ok" } else { "BAD" }
}

/// The checksum over bytes that contain their own: zero if it is right.
fn of(bytes: &[u8]) -> u16 {
    mesh_common::checksum::of(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}
