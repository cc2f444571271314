//! The one line that every client gets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Answers {
    name: String,
    sequence: AtomicU64,
}

impl Answers {
    pub(crate) fn new(name: String) -> Self {
        Self { name, sequence: AtomicU64::new(0) }
    }

    /// Who asked, whom, over what, and as which number since the start.
    pub(crate) fn reply(&self, proto: &str, peer: SocketAddr, local: Option<SocketAddr>, said: &str) -> String {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed) + 1;
        // An IPv4 client of a socket for both families shows up in its mapped form.
        let (peer_ip, peer_port) = (peer.ip().to_canonical(), peer.port());
        let local = local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port()).to_string());
        format!(
            "{{\"name\":{},\"proto\":\"{proto}\",\"peer\":\"{peer_ip}\",\"port\":{peer_port},\"local\":\"{}\",\"seq\":{sequence},\"said\":{}}}\n",
            quoted(&self.name),
            local.unwrap_or_default(),
            quoted(said),
        )
    }
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let escaped = text.chars().flat_map(|char| match char {
        '"' | '\\' => vec!['\\', char],
        control if control < ' ' => format!("\\u{:04x}", u32::from(control)).chars().collect(),
        other => vec![other],
    });
    format!("\"{}\"", escaped.collect::<String>())
}
