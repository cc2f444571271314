//! What people see of packets: explained before they are sent, traced when they are dropped, captured
//! as the programs see them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use harness::clients::ask;
use harness::meshd::{Cluster, Meshd, State, TaskSpec};
use harness::process::Proc;
use harness::{Plan, Transport, servers};
use serde_json::Value;

use super::{addresses, cluster};

const SERVICES: &str = r#"
[[services]]
name = "web"
network = "net"
vips = ["10.0.9.100", "fd00:9::64"]
ports = [{ published = 8080, target = 7000 }, { protocol = "udp", published = 8080, target = 7000 }]

[[services]]
name = "empty"
network = "net"
ports = [{ protocol = "udp", published = 8090, target = 7000 }]
"#;

const LIMIT: Duration = Duration::from_secs(10);

/// Two nodes: the first has a task of no service, the second the one of "web".
fn two_nodes() -> (Cluster, Proc) {
    let tasks = vec![TaskSpec::new("one", 0, 2), TaskSpec::new("web", 1, 3).of("web")];
    let cluster = cluster(&Plan::default(), State { services: SERVICES.to_owned(), tasks, ..State::default() }, &[]);
    let server = servers::whoami(&cluster.task("web").unwrap().ns, "web", 7000).unwrap();
    (cluster, server)
}

/// What `meshctl datapath explain` says, line by line, and its verdict.
#[track_caller]
fn explain(meshd: &Meshd, arguments: &[&str]) -> Value {
    let output = meshd.meshctl_datapath(&[&["explain", "-o", "json"], arguments].concat()).unwrap().run().unwrap();
    serde_json::from_str(&output.stdout).unwrap()
}

/// The lines about something.
fn about(answer: &Value, what: &str) -> String {
    let lines = answer["lines"].as_array().unwrap().iter().filter(|line| line["about"] == what);
    lines.filter_map(|line| line["text"].as_str()).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_packet_is_explained_as_it_then_happens_and_leaves_no_trace() {
    let (cluster, _server) = two_nodes();
    let [entry, home] = &cluster.meshd[..] else { panic!("two nodes") };
    let vteps = [cluster.bed.nodes[0].ip4, cluster.bed.nodes[1].ip4].map(|ip| ip.to_string());
    for (client, dialled) in addresses(&cluster.bed.clients[0]).into_iter().zip(addresses(&cluster.bed.nodes[0])) {
        let (src, dst) = (SocketAddr::new(client, 40000).to_string(), SocketAddr::new(dialled, 8080).to_string());
        let task: IpAddr = if dialled.is_ipv4() { [10, 0, 9, 3].into() } else { "fd00:9::3".parse().unwrap() };
        // At the node that is dialled.
        let answer = explain(entry, &[&src, &dst]);
        assert_eq!((&answer["verdict"], &answer["reason"]), (&"redirected".into(), &Value::Null), "{answer:#}");
        assert!(about(&answer, "service").starts_with(&format!("web: published port 8080 at {dialled}")), "{answer:#}");
        assert!(about(&answer, "backend").contains(&format!("task {task} ")), "{answer:#}");
        assert!(about(&answer, "backend").contains(&format!("on node {}", vteps[1])), "{answer:#}");
        assert!(about(&answer, "program").contains("the program that is attached"), "{answer:#}");
        assert!(about(&answer, "leaves as").contains(&format!("vni 4096: {src} > {dst} tcp syn")), "{answer:#}");
        assert_eq!(about(&answer, "counts"), "Forwarded 1", "{answer:#}");
        assert_eq!(about(&answer, "differs"), "", "{answer:#}");
        // At the node of the task.
        let answer = explain(home, &[&src, &dst, "--from", &vteps[0]]);
        assert_eq!(answer["verdict"], "redirected", "{answer:#}");
        let target = SocketAddr::new(task, 7000);
        assert!(about(&answer, "leaves as").starts_with(&format!("{src} > {target} tcp syn")), "{answer:#}");
        assert!(about(&answer, "verdict").contains("passed on: not for XDP"), "{answer:#}");
        assert!(about(&answer, "verdict").ends_with("out of v-web"), "{answer:#}");
        if dialled.is_ipv6() {
            continue; // each question loads the programs anew
        }
        // In the middle of a connection that nobody knows.
        let answer = explain(home, &[&src, &dst, "--from", &vteps[0], "--midflow"]);
        assert_eq!(answer["reason"], "UnknownFlow", "{answer:#}");
        assert!(about(&answer, "verdict").contains("refused, UnknownFlow"), "{answer:#}");
        // From a task to the VIP.
        let answer = explain(entry, &["10.0.9.2:4000", "10.0.9.100:99", "udp"]);
        assert!(about(&answer, "packet").contains("sent by the task behind v-one, network 77"), "{answer:#}");
        assert!(about(&answer, "service").starts_with("web: VIP "), "{answer:#}");
        assert!(about(&answer, "leaves as").contains("vni 77: "), "{answer:#}");
        // What has no backend, and what is not ours.
        let empty = SocketAddr::new(dialled, 8090).to_string();
        let answer = explain(entry, &[&src, &empty, "udp"]);
        assert_eq!((&answer["verdict"], &answer["reason"]), (&"redirected".into(), &"NoBackend".into()), "{answer:#}");
        let other = SocketAddr::new(dialled, 22).to_string();
        let answer = explain(entry, &[&src, &other]);
        assert_eq!(answer["verdict"], "passed", "{answer:#}");
    }
    for meshd in [entry, home] {
        assert_eq!(meshd.dump("FLOWS").unwrap(), Vec::<Value>::new());
        assert_eq!(super::drops(meshd), []);
        assert_eq!(meshd.counter("Forwarded").unwrap(), 0);
    }
    // And then it happens.
    let client = &cluster.bed.clients[0];
    ask(&client.ns, Transport::Tcp, cluster.bed.nodes[0].ip4, 8080).unwrap();
    let flow = home.dump("FLOWS").unwrap().remove(0);
    // A packet of a flow that is known is explained as such.
    let port = flow["client_port"].as_u64().unwrap();
    let (src, dst) = (format!("{}:{port}", client.ip4), format!("{}:8080", vteps[0]));
    let answer = explain(home, &[&src, &dst, "--from", &vteps[0], "--midflow"]);
    assert_eq!((&answer["verdict"], &answer["reason"]), (&"redirected".into(), &Value::Null), "{answer:#}");
}

/// Sends a datagram from a client until `enough`.
#[track_caller]
fn send_until(cluster: &Cluster, to: SocketAddr, mut enough: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + LIMIT;
    while !enough() {
        assert!(std::time::Instant::now() < deadline, "not within {LIMIT:?}");
        let send = || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.send_to(b"hello", to)
        };
        cluster.bed.clients[0].ns.enter(send).unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn drops_and_refusals_are_followed_with_reason_ends_and_network() {
    let (cluster, _server) = two_nodes();
    let node = &cluster.bed.nodes[0];
    let client = cluster.bed.clients[0].ip4.to_string();
    let trace = |arguments: &[&str]| {
        cluster.meshd[0].meshctl_datapath(&[&["trace", "-o", "json"], arguments].concat()).unwrap()
    };
    let first = |mut process: Proc, to: SocketAddr| -> Value {
        send_until(&cluster, to, || process.stdout().unwrap().contains('\n') || !process.is_running().unwrap());
        let output = process.wait(LIMIT).unwrap();
        serde_json::from_str(output.stdout.lines().next().unwrap_or_else(|| panic!("{output}"))).unwrap()
    };
    // Refused.
    let to = SocketAddr::new(node.ip4.into(), 8090);
    let told = first(trace(&["--count", "1", "--filter", "reason=NoBackend"]).spawn().unwrap(), to);
    assert_eq!((&told["verdict"], &told["reason"]), (&"refused".into(), &"NoBackend".into()), "{told:#}");
    assert_eq!((&told["src"], &told["dst_port"]), (&client.into(), &8090.into()), "{told:#}");
    // A frame as short as this is refused behind TC's hook.
    assert_eq!((&told["interface"], &told["program"]), (&node.uplink.into(), &"underlay_bulk".into()), "{told:#}");
    // Dropped: a stranger's VXLAN for the network 77.
    let to = SocketAddr::new(node.ip4.into(), 4789);
    let process = trace(&["--count", "1", "--filter", "reason=UnknownVtep"]).spawn().unwrap();
    let vxlan = {
        let mut bytes = vec![8, 0, 0, 0, 0, 0, 77, 0];
        bytes.extend(harness::packet::udp("10.0.9.9:1", "10.0.9.2:2").build());
        bytes
    };
    let mut process = process;
    let deadline = std::time::Instant::now() + LIMIT;
    while !process.stdout().unwrap().contains('\n') && process.is_running().unwrap() {
        assert!(std::time::Instant::now() < deadline);
        let send = || UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(&vxlan, to));
        cluster.bed.clients[0].ns.enter(send).unwrap().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    let told: Value = serde_json::from_str(process.wait(LIMIT).unwrap().stdout.lines().next().unwrap()).unwrap();
    assert_eq!((&told["verdict"], &told["reason"]), (&"dropped".into(), &"UnknownVtep".into()), "{told:#}");
    assert_eq!(
        (&told["vni"], &told["src"], &told["dst_port"]),
        (&77.into(), &"10.0.9.9".into(), &2.into()),
        "{told:#}"
    );
    // What is not dropped, if it is asked for.
    let process = trace(&["--count", "1", "--verdicts", "1", "--filter", "port=8080"]).spawn().unwrap();
    let told = first(process, SocketAddr::new(node.ip4.into(), 8080));
    assert_eq!((&told["verdict"], &told["to"]), (&"redirected".into(), &node.uplink.into()), "{told:#}");
}

#[test]
fn one_follows_at_a_time_and_one_that_is_killed_leaves_nothing_on() {
    let (cluster, _server) = two_nodes();
    let trace = || cluster.meshd[0].meshctl_datapath(&["trace", "-o", "json"]).unwrap();
    let mut first = trace().spawn().unwrap();
    let to = SocketAddr::new(cluster.bed.nodes[0].ip4.into(), 8090);
    send_until(&cluster, to, || first.stdout().unwrap().contains("NoBackend"));
    let second = trace().attempt().unwrap();
    assert_eq!(second.status.code(), Some(1), "{second}");
    assert_eq!(second.stderr, "meshctl: another `meshctl datapath trace` runs on this node; only one can\n");
    assert!(first.is_running().unwrap());
    first.signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    first.wait(LIMIT).unwrap();
    let is_on = || {
        let pin = harness::meshd::files_below(&cluster.meshd[0].pins).into_iter().find(|pin| pin.ends_with("WATCH"));
        let pin = pin.unwrap().to_string_lossy().into_owned();
        let dump = cluster.bed.nodes[0].ns.run(["bpftool", "-j", "map", "dump", "pinned", &pin]).unwrap();
        let rows: Value = serde_json::from_str(&dump.stdout).unwrap();
        rows[0]["formatted"]["value"]["on"].as_u64().unwrap() != 0
    };
    assert!(is_on(), "nobody has noticed yet");
    // The next event notices.
    send_until(&cluster, to, || !is_on());
    let third = trace().spawn().unwrap();
    send_until(&cluster, to, || third.stdout().unwrap().contains("NoBackend"));
    // Interrupted, it ends well, and at once.
    third.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(third.wait(LIMIT).unwrap().status.success());
    assert!(!is_on());
}

#[test]
fn frames_are_captured_as_they_come_and_as_they_leave_and_tcpdump_reads_them() {
    let (cluster, _server) = two_nodes();
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("seen.pcapng");
    let file = file.to_str().unwrap();
    let [entry, home] = &cluster.meshd[..] else { panic!("two nodes") };
    let client = &cluster.bed.clients[0];
    let dialled = SocketAddr::new(cluster.bed.nodes[0].ip4.into(), 8080);
    let read = |meshd: &Meshd, more: &[&str]| {
        let argv = [&["capture", "-w", file, "--count", "6", "--filter", "port=8080"], more].concat();
        let mut process = meshd.meshctl_datapath(&argv).unwrap().spawn().unwrap();
        send_until(&cluster, dialled, || !process.is_running().unwrap());
        let said = process.wait(LIMIT).unwrap();
        assert!(said.status.success(), "{said}");
        assert!(said.stderr.starts_with("6 frames captured, 0 lost"), "{said}");
        client.ns.run(["tcpdump", "-nn", "-r", file]).unwrap().stdout
    };
    let read_entry = read(entry, &[]);
    // An answer to a packet of before may be among them.
    let lines: Vec<_> = read_entry.lines().collect();
    let dialled = format!("> {}.8080: UDP, length 5", dialled.ip());
    let came = lines.iter().position(|line| line.contains(&dialled) && line.contains(" IP ")).unwrap();
    assert!(lines[came + 1].contains("VXLAN, flags [I] (0x08), vni 4096"), "{read_entry}");
    let read_home = read(home, &["--filter", "vni=4096"]);
    assert!(read_home.contains("vni 4096"), "{read_home}");
    let names = std::fs::read(file).unwrap();
    let name = format!("{} underlay in", cluster.bed.nodes[1].uplink);
    assert!(names.windows(name.len()).any(|window| window == name.as_bytes()), "no interface {name:?}");
}

#[test]
fn the_status_says_what_is_attached_how_full_how_busy_and_what_was_lost() {
    let (cluster, _server) = two_nodes();
    let client = &cluster.bed.clients[0].ns;
    for _ in 0..3 {
        ask(client, Transport::Udp, cluster.bed.nodes[0].ip4, 8080).unwrap();
    }
    let status = |meshd: &Meshd| -> Value {
        let output = meshd.meshctl_datapath(&["status", "-o", "json", "--interval-ms", "10"]).unwrap().run().unwrap();
        serde_json::from_str(&output.stdout).unwrap()
    };
    let (entry, home) = (status(&cluster.meshd[0]), status(&cluster.meshd[1]));
    let find = |rows: &Value, key: &str, value: &str| -> Value {
        let found = rows.as_array().unwrap().iter().find(|row| row[key] == value).cloned();
        found.unwrap_or_else(|| panic!("no {key} {value} in {rows:#}"))
    };
    let uplink = cluster.bed.nodes[0].uplink;
    assert_eq!(find(&entry["programs"], "program", "underlay")["interface"], uplink);
    assert_eq!(find(&home["programs"], "program", "container")["interface"], "v-web");
    assert_eq!(find(&entry["maps"], "map", "NODES")["used"], 1);
    assert_eq!(find(&home["maps"], "map", "FLOWS")["used"], 3);
    let web = find(&entry["services"], "service", "web");
    assert_eq!((&web["packets"], &web["new_flows"]), (&3.into(), &0.into()), "{web:#}");
    let task = find(&home["services"], "task", "10.0.9.3");
    assert_eq!((&task["packets"], &task["replies"], &task["new_flows"]), (&3.into(), &3.into(), &3.into()), "{task:#}");
    assert_eq!(task["live_flows"], 3, "{task:#}");
    let to = SocketAddr::new(cluster.bed.nodes[0].ip4.into(), 8090);
    let lost = || status(&cluster.meshd[0])["drops"].as_array().unwrap().iter().any(|row| row["reason"] == "NoBackend");
    send_until(&cluster, to, lost);
    let text = cluster.meshd[0].meshctl_datapath(&["status", "--interval-ms", "10"]).unwrap().run().unwrap().stdout;
    assert!(text.contains("The service has no backend that is fit"), "{text}");
}
