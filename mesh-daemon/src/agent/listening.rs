//! Waits until a task's program listens where its service's published ports lead.
//!
//! A task without a health check runs from the moment its process does; but a program needs a moment until it
//! listens, and whoever is sent to it before is refused. So it counts as started when it listens, or when it had
//! time enough: a port that leads nowhere is its user's affair.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::model::assignment::{Assigned, Picture};
use crate::model::service::{Protocol, PublishMode};

/// A program has so long.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// The state of a socket that listens (include/net/tcp_states.h).
const LISTEN: &str = "0A";

/// The TCP ports of a task that others are led to.
pub(super) fn targets(assigned: &Assigned, picture: &Picture) -> Vec<u16> {
    let service = assigned.task.service_id.and_then(|service| picture.services.get(&service));
    let ports = service.into_iter().flat_map(|service| &service.endpoint.ports);
    let led = ports.filter(|port| port.protocol == Protocol::Tcp && port.publish_mode == PublishMode::Ingress);
    led.map(|port| port.target_port).collect()
}

/// Waits until the network namespace of this process has a listener on each of these ports.
pub(super) async fn until_listening(pid: u32, ports: &[u16]) {
    let (deadline, mut wait) = (Instant::now() + PATIENCE, LOOK.0);
    while !ports.is_empty() && Instant::now() < deadline {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
        let sockets = [read("tcp"), read("tcp6")].concat();
        if ports.iter().all(|port| has_listener(&sockets, *port)) {
            return;
        }
        sleep(wait).await;
        wait = (wait * 2).min(LOOK.1);
    }
}

/// Whether the kernel's list of sockets has one that listens on this port for others than the task itself.
fn has_listener(sockets: &str, port: u16) -> bool {
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (Some(local), _, Some(state)) = (words.next(), words.next(), words.next()) else { return false };
        let Some((address, of_socket)) = local.rsplit_once(':') else { return false };
        let is_port = u16::from_str_radix(of_socket, 16) == Ok(port);
        state == LISTEN && is_port && address_of(address).is_some_and(|address| !address.is_loopback())
    })
}

/// An address as the kernel prints it: 32 bits at a time, each in the order of the machine.
fn address_of(text: &str) -> Option<IpAddr> {
    let words = text.as_bytes().chunks(8).map(|word| {
        let word = std::str::from_utf8(word).ok()?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    });
    let bytes = words.collect::<Option<Vec<_>>>()?.concat();
    match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => Some(Ipv4Addr::from(v4).into()),
        Err(_) => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?).to_canonical()),
    }
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::has_listener;

    #[test]
    fn who_listens_for_others_is_told_from_who_does_not() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let rows = [
            ("nothing yet", "", false),
            ("all addresses", "   0: 00000000:1B58 00000000:0000 0A 00000000:00000000", true),
            ("one address", "   0: 0900000A:1B58 00000000:0000 0A 00000000:00000000", true),
            (
                "all of IPv6",
                "   0: 00000000000000000000000000000000:1B58 00000000000000000000000000000000:0000 0A 0",
                true,
            ),
            ("another port", "   0: 00000000:1B59 00000000:0000 0A 00000000:00000000", false),
            ("itself alone", "   0: 0100007F:1B58 00000000:0000 0A 00000000:00000000", false),
            (
                "itself, IPv6",
                "   0: 00000000000000000000000001000000:1B58 00000000000000000000000000000000:0000 0A 0",
                false,
            ),
            ("a connection", "   0: 0900000A:1B58 0100000A:C350 01 00000000:00000000", false),
        ];
        for (what, row, expected) in rows {
            assert_eq!(has_listener(&format!("{head}{row}\n"), 7000), expected, "{what}");
        }
    }
}
