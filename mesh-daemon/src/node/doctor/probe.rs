//! Packets on the port of tunnels, of a network that no swarm has: the packet path drops them by that reason and tells
//! whoever watches, so nothing need listen on the port.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::datapath::Pins;
use crate::datapath::seeing::watch::Listener;

/// Below the numbers that networks get.
const VNI: u32 = 7;
/// All nodes listen by then: they are asked at the same time.
const GATHER: Duration = Duration::from_millis(700);
/// What was sent has come by then.
const ARRIVE: Duration = Duration::from_millis(1500);
/// Each is sent so often: UDP may be lost.
const ROUNDS: usize = 3;
/// A short packet's payload.
const SHORT: usize = 64;

/// Sends to the others, and hears what they send; None: nobody can listen here.
pub(super) async fn exchange(
    pins: Pins,
    own: IpAddr,
    port: u16,
    mtu: u32,
    others: Vec<IpAddr>,
) -> Option<BTreeMap<IpAddr, u32>> {
    let opened = tokio::task::spawn_blocking(move || Listener::drops(&pins)).await.ok()?;
    let mut listener = opened.inspect_err(|error| tracing::debug!(%error, "no look at tunnels")).ok()?;
    tokio::time::sleep(GATHER).await;
    if let Err(error) = send(own, port, mtu, &others) {
        tracing::info!(%error, %own, "probes of tunnels were not sent");
    }
    tokio::time::sleep(ARRIVE).await;
    let mut heard = BTreeMap::new();
    for told in listener.take().told {
        let frame = told.frame(port);
        if let (Some(VNI), Some((from, _))) = (frame.vni, frame.tunnel) {
            let longest = heard.entry(from).or_insert(0);
            *longest = told.event.len.max(*longest);
        }
    }
    Some(heard)
}

fn send(own: IpAddr, port: u16, mtu: u32, others: &[IpAddr]) -> std::io::Result<()> {
    let socket = UdpSocket::bind(SocketAddr::new(own, 0))?;
    socket.set_nonblocking(true)?;
    // An IP header and one of UDP.
    let headers = if own.is_ipv4() { 28 } else { 48 };
    let full = usize::try_from(mtu).unwrap_or(0).saturating_sub(headers);
    let mut last = Ok(());
    for _ in 0..ROUNDS {
        for other in others {
            for size in [SHORT, full] {
                // What one is refused the others may get; a path that bears less says so by this.
                let sent = socket.send_to(&packet(size.max(SHORT)), SocketAddr::new(*other, port));
                last = last.and(sent.map(drop));
            }
        }
    }
    last
}

/// RFC 7348 section 5, with an inner frame of zeros.
fn packet(size: usize) -> Vec<u8> {
    let mut packet = vec![0; size];
    packet[0] = 0x08;
    packet[4..8].copy_from_slice(&(VNI << 8).to_be_bytes());
    packet
}
