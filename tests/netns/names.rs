//! Names as a task's C library resolves them: 127.0.0.11 in its namespace, /etc/resolv.conf pointing
//! there, `getent` asking.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;

use harness::{Bed, Netns, Plan};
use mesh_daemon::dns::{self, DnsError, Forwarder, Host, NetworkKey, Owner, Resolver, Service, Sockets, View, Zone};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const FRONT: NetworkKey = NetworkKey(1);
const BACK: NetworkKey = NetworkKey(2);

/// Resolvers on a thread of their own, outside of any namespace of the test.
struct Running {
    stop: CancellationToken,
    thread: JoinHandle<Result<(), DnsError>>,
}

impl Running {
    fn start(resolver: Arc<Resolver>, tasks: Vec<(Sockets, Arc<View>)>) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for (sockets, view) in tasks {
                    all.spawn(dns::serve(sockets, Arc::clone(&resolver), view, until.clone()));
                }
                while let Some(ended) = all.join_next().await {
                    ended.unwrap()?;
                }
                Ok(())
            })
        });
        Self { stop, thread }
    }

    fn end(self) {
        self.stop.cancel();
        self.thread.join().unwrap().unwrap();
    }
}

fn sockets(ns: &Netns, address: SocketAddr) -> Sockets {
    let bind = || Sockets { udp: UdpSocket::bind(address).unwrap(), tcp: TcpListener::bind(address).unwrap() };
    ns.enter(bind).unwrap()
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn task(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, last).into()
}

fn resolver(zone: &Arc<Zone>) -> Arc<Resolver> {
    Arc::new(Resolver::new(Arc::clone(zone), Forwarder::new(vec![]), StdRng::seed_from_u64(1)))
}

/// What `getent` prints, word by word; nothing where it finds nothing.
fn getent(ns: &Netns, what: &str) -> Vec<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), format!("nameserver {}\noptions ndots:0\n", dns::ADDRESS.ip())).unwrap();
    let script = format!("mount --bind {} /etc/resolv.conf && exec getent {what}", file.path().display());
    let done = ns.command(["unshare", "--mount", "sh", "-c", &script]).attempt().unwrap();
    done.stdout.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_task_resolves_by_its_own_node() {
    let bed = Bed::new(&Plan { nodes: 2, clients: 0, ..Plan::default() }).unwrap();
    let zone = Arc::new(Zone::default());
    zone.put_network(FRONT, "front", vec![]);
    zone.put_network(BACK, "back", vec![]);
    let web = Service { names: names(&["web"]), vips: vec![task(2)], tasks: vec![task(10), task(11)] };
    zone.put_service(FRONT, Owner(1), &web).unwrap();
    let many = Service { names: names(&["many"]), vips: vec![], tasks: (20..220).map(task).collect() };
    zone.put_service(FRONT, Owner(2), &many).unwrap();
    let db = Host { names: names(&["db"]), addresses: vec![Ipv4Addr::new(10, 0, 2, 2).into()] };
    zone.put_host(BACK, Owner(3), &db).unwrap();
    let tasks = [(&bed.nodes[0].ns, FRONT), (&bed.nodes[1].ns, BACK)];
    let served = tasks.map(|(ns, network)| (sockets(ns, dns::ADDRESS), Arc::new(View::new(vec![network]))));
    let running = Running::start(resolver(&zone), served.into());
    let [front, back] = tasks.map(|(ns, _)| ns);

    assert_eq!(getent(front, "ahostsv4 web")[..2], ["10.0.1.2", "STREAM"]);
    assert_eq!(getent(front, "hosts WEB.front"), ["10.0.1.2", "WEB.front"]);
    assert_eq!(getent(front, "hosts 10.0.1.2"), ["10.0.1.2", "web.front"]);
    let tasks = getent(front, "ahostsv4 tasks.web");
    assert!(tasks.contains(&"10.0.1.10".to_owned()) && tasks.contains(&"10.0.1.11".to_owned()), "{tasks:?}");
    let all = getent(front, "ahostsv4 many");
    assert_eq!(all.iter().filter(|word| *word == "STREAM").count(), 200, "cut at 512 bytes, then whole by TCP");

    assert_eq!(getent(back, "hosts db"), ["10.0.2.2", "db"]);
    assert!(getent(back, "hosts web").is_empty(), "a name of another network");
    assert!(getent(front, "hosts db").is_empty(), "a name of another network");

    zone.remove(FRONT, Owner(1));
    assert!(getent(front, "hosts web").is_empty(), "a service that is gone");
    running.end();
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Other tests of this process run at the same time, so the bounds are wide; the page on names has
/// what it takes alone.
#[test]
fn a_hundred_tasks_and_ten_thousand_services_take_little_memory() {
    let bed = Bed::new(&Plan { nodes: 1, clients: 0, ..Plan::default() }).unwrap();
    let ns = &bed.nodes[0].ns;
    let before = resident_kib();
    let zone = Arc::new(Zone::default());
    zone.put_network(FRONT, "front", vec![]);
    for number in 0..10_000u32 {
        let address = |kind: u8| IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes([10, kind, 0, 0]) + number));
        let service = Service {
            names: vec![format!("stack_service-{number}"), format!("service-{number}")],
            vips: vec![address(1)],
            tasks: vec![address(2), address(3), address(4)],
        };
        zone.put_service(FRONT, Owner(number.into()), &service).unwrap();
    }
    let zoned = resident_kib();
    let served = (0..100).map(|n| {
        let address = SocketAddr::from(([127, 0, 1, n], 53));
        (sockets(ns, address), Arc::new(View::new(vec![FRONT])))
    });
    let running = Running::start(resolver(&zone), served.collect());
    let answered = ns.enter(|| {
        (0..100u8).all(|n| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
            // A question for the A record of `service-7`.
            let question = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09service-7\x00\x00\x01\x00\x01";
            socket.send_to(question, (Ipv4Addr::new(127, 0, 1, n), 53)).unwrap();
            let mut answer = [0; 512];
            let length = socket.recv(&mut answer).unwrap();
            answer[..length].ends_with(&[10, 1, 0, 7])
        })
    });
    assert!(answered.unwrap());
    let served = resident_kib();
    println!("10,000 services: {} KiB; 100 tasks: {} KiB", zoned - before, served.saturating_sub(zoned));
    assert!(zoned.saturating_sub(before) < 64 << 10 && served.saturating_sub(zoned) < 16 << 10);
    running.end();
}
