//! A node that is no mesh node at all: a vxlan device of the kernel, with static entries.

use std::net::IpAddr;

use harness::clients::{Ping, ask, iperf3};
use harness::meshd::{Cluster, State, TaskSpec, VNI};
use harness::{Host, Plan, Transport, servers};

use super::{addresses, assert_no_drops, assert_pings, cluster};

/// The second node runs no meshd that matters: its "task" is the device. Its own file would want a
/// link for the task, so the first node alone gets one.
#[track_caller]
fn check(underlay_v6: bool) {
    let plan = Plan { nodes: 1, clients: 1, ..Plan::default() };
    let state = State { underlay_v6, tasks: vec![TaskSpec::new("one", 0, 2)], ..State::default() };
    let mut cluster: Cluster = cluster(&plan, state, &[]);
    let (node, stock) = (cluster.bed.nodes[0].clone(), cluster.bed.clients[0].clone());
    let family = usize::from(underlay_v6);
    let (local, remote) = (addresses(&stock)[family], addresses(&node)[family]);
    let text = cluster.state.file(&cluster.bed.nodes, 0)
        + &format!(
            "\n[[nodes]]\nname = \"stock\"\nvtep = \"{local}\"\n\n[[endpoints]]\nnetwork = \"net\"\nnode = \"stock\"\n\
             mac = \"02:42:0a:00:09:09\"\naddresses = [\"10.0.9.9\", \"fd00:9::9\"]\n"
        );
    cluster.meshd[0].apply(&text).unwrap();
    cluster.meshd[0].wait_for_neighbours(1).unwrap();

    add_device(&stock, local, remote);
    for address in cluster.state.tasks[0].addresses() {
        stock.ns.ip(&[format!("neigh add {address} lladdr 02:42:0a:00:09:02 dev vx0 nud permanent")]).unwrap();
    }
    let task = &cluster.tasks[0].ns;
    let there: [IpAddr; 2] = ["10.0.9.9".parse().unwrap(), "fd00:9::9".parse().unwrap()];
    for (from, to, own) in
        [(task, there, cluster.state.tasks[0].addresses()), (&stock.ns, cluster.state.tasks[0].addresses(), there)]
    {
        let far = if from == task { &stock.ns } else { task };
        let _whoami = servers::whoami(far, "far", 7000).unwrap();
        let _iperf3 = servers::iperf3(far, 5201).unwrap();
        for (to, own) in to.into_iter().zip(own) {
            assert_pings(from, to, &Ping { count: 20, ..Ping::default() });
            for transport in [Transport::Tcp, Transport::Udp] {
                let seen = ask(from, transport, to, 7000).unwrap();
                assert_eq!((seen.peer.ip(), Some(seen.peer)), (own, seen.sent_from));
            }
            let measured = iperf3(from, to, 5201, &["-n", "2M"]).unwrap();
            assert!(measured.sent >= 2 << 20, "{measured:?}");
        }
    }
    for counter in ["Encap", "DecapXdp", "DecapTc"] {
        assert!(cluster.meshd[0].counter(counter).unwrap() > 40, "{counter}");
    }
    assert_no_drops(&cluster);
}

fn add_device(host: &Host, local: IpAddr, remote: IpAddr) {
    // RFC 6935: we send no checksum over IPv6, and a device takes that only if told to.
    let (mtu, more) = if local.is_ipv4() { (1450, "") } else { (1430, "udp6zerocsumrx") };
    let lines = [
        format!(
            "link add vx0 address 02:42:0a:00:09:09 mtu {mtu} type vxlan id {VNI} dstport 4789 local {local} \
             remote {remote} dev eth0 {more}"
        ),
        "link set vx0 up".to_owned(),
        "addr add 10.0.9.9/24 dev vx0".to_owned(),
        "addr add fd00:9::9/64 dev vx0 nodad".to_owned(),
    ];
    host.ns.ip(&lines).unwrap();
}

#[test]
fn a_vxlan_device_of_the_kernel_is_a_node_like_another() {
    check(false);
}

#[test]
fn a_vxlan_device_of_the_kernel_over_ipv6_is_a_node_too() {
    check(true);
}
