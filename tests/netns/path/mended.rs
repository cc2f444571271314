//! Small things that were wrong once.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::Duration;

use harness::Plan;
use harness::clients::Ping;
use harness::meshd::{State, TaskSpec};

use super::{addresses, assert_pings, cluster, drops};

fn two_tasks() -> State {
    let services = "[[services]]\nname = \"empty\"\nnetwork = \"net\"\nports = [{ protocol = \"udp\", published = 8090, target = 7000 }]\n";
    let tasks = vec![TaskSpec::new("one", 0, 2), TaskSpec::new("two", 1, 3)];
    State { services: services.to_owned(), tasks, ..State::default() }
}

#[test]
fn a_short_datagram_is_refused_like_a_long_one() {
    let cluster = cluster(&Plan::default(), two_tasks(), &[]);
    for address in addresses(&cluster.bed.nodes[0]) {
        for length in [0, 1, 7, 20, 64, 1000] {
            let attempt = || {
                let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
                socket.connect((address, 8090))?;
                socket.set_read_timeout(Some(Duration::from_secs(1)))?;
                socket.send(&vec![b'?'; length])?;
                socket.recv(&mut [0; 64])
            };
            let kind = || cluster.bed.clients[0].ns.enter(attempt).unwrap().unwrap_err().kind();
            // A datagram may be lost; not one length and family always.
            let refused = (0..3).any(|_| kind() == ErrorKind::ConnectionRefused);
            assert!(refused, "{length} bytes to {address}: {:?}", drops(&cluster.meshd[0]));
        }
    }
}

/// XDP and TC both see what passes; it is one frame.
#[test]
fn a_frame_that_passes_is_counted_once() {
    let cluster = cluster(&Plan::default(), two_tasks(), &[]);
    let from = &cluster.bed.nodes[0].ns;
    let target = cluster.bed.nodes[1].ip4.into();
    assert_pings(from, target, &Ping::default());
    let before = cluster.meshd[1].counter("UnderlayPassed").unwrap();
    assert_pings(from, target, &Ping { count: 100, ..Ping::default() });
    let passed = cluster.meshd[1].counter("UnderlayPassed").unwrap() - before;
    // Room for what the nodes ask each other by ARP meanwhile.
    assert!((100..120).contains(&passed), "{passed} of 100 echo requests");
}
