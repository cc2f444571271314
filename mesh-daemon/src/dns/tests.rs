//! Questions as tasks ask them, and what comes back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::answer::Reply;
use super::forward::Transport;
use super::*;

const FRONT: NetworkKey = NetworkKey(1);
const BACK: NetworkKey = NetworkKey(2);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

fn names(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn zone() -> Arc<Zone> {
    let zone = Zone::default();
    zone.put_network(FRONT, "Front", vec![Subnet { address: ip("10.0.1.0"), prefix: 24 }]);
    zone.put_network(BACK, "stack_back", vec![Subnet { address: ip("fd00:2::"), prefix: 64 }]);
    let web = Service {
        names: names(&["web", "www"]),
        vips: ips(&["10.0.1.2", "fd00:1::2"]),
        tasks: ips(&["10.0.1.10", "10.0.1.11", "10.0.1.12"]),
    };
    zone.put_service(FRONT, Owner(1), &web).unwrap();
    let peers =
        Service { names: names(&["peers"]), vips: vec![], tasks: ips(&["10.0.1.20", "10.0.1.21", "10.0.1.22"]) };
    zone.put_service(FRONT, Owner(2), &peers).unwrap();
    let host = Host { names: names(&["web.1.abc", "box"]), addresses: ips(&["10.0.1.10"]) };
    zone.put_host(FRONT, Owner(3), &host).unwrap();
    let db = Service { names: names(&["db"]), vips: ips(&["10.0.2.2"]), tasks: ips(&["10.0.2.10"]) };
    zone.put_service(BACK, Owner(4), &db).unwrap();
    zone.put_service(BACK, Owner(5), &Service { names: names(&["none"]), ..Service::default() }).unwrap();
    Arc::new(zone)
}

fn resolver(zone: Arc<Zone>, servers: Vec<SocketAddr>) -> Resolver {
    Resolver::new(zone, Forwarder::with_patience(servers, Duration::from_millis(100)), StdRng::seed_from_u64(1))
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(77, hickory_proto::op::MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_str(name).unwrap(), kind));
    message
}

fn ask_for(resolver: &Resolver, networks: &[NetworkKey], message: &Message, transport: Transport) -> Option<Message> {
    match resolver.reply(&message.to_vec().unwrap(), &View::new(networks.to_vec()), transport) {
        Reply::Now(bytes) => Some(Message::from_vec(&bytes).unwrap()),
        Reply::Forward => None,
        Reply::Nothing => panic!("no reply"),
    }
}

fn data(message: &Message) -> Vec<String> {
    let mut texts: Vec<_> = message.answers.iter().map(|record| record.data.to_string()).collect();
    texts.sort();
    texts
}

/// What the zone says: `Err` of a code, or the records.
fn check(networks: &[NetworkKey], name: &str, kind: RecordType, expected: Result<&[&str], &str>) {
    let answer = ask_for(&resolver(zone(), vec![]), networks, &question(name, kind), Transport::Udp);
    let seen = match &answer {
        None => Err("forwarded".to_owned()),
        Some(answer) if answer.metadata.response_code == ResponseCode::NoError => Ok(data(answer)),
        Some(answer) => Err(format!("{:?}", answer.metadata.response_code)),
    };
    let expected = expected.map(|texts| texts.iter().map(|text| (*text).to_owned()).collect()).map_err(str::to_owned);
    assert_eq!(seen, expected, "{name} {kind} in {networks:?}");
    if let Some(answer) = answer {
        assert!(answer.answers.iter().all(|record| record.ttl <= 5));
        assert_eq!((answer.metadata.id, answer.metadata.recursion_available), (77, true));
    }
}

#[test]
fn names_of_a_tasks_networks_are_answered() {
    use RecordType::{A, AAAA, ANY, MX};
    const TASKS: &[&str] = &["10.0.1.10", "10.0.1.11", "10.0.1.12"];
    const PEERS: &[&str] = &["10.0.1.20", "10.0.1.21", "10.0.1.22"];
    type Row = (&'static str, RecordType, Result<&'static [&'static str], &'static str>);
    let rows: &[Row] = &[
        ("web.", A, Ok(&["10.0.1.2"])),
        ("web.", AAAA, Ok(&["fd00:1::2"])),
        ("web.", ANY, Ok(&["10.0.1.2", "fd00:1::2"])),
        ("web.", MX, Ok(&[])),
        ("WwW.", A, Ok(&["10.0.1.2"])),
        ("web.front.", A, Ok(&["10.0.1.2"])),
        ("WEB.FRONT.", A, Ok(&["10.0.1.2"])),
        ("tasks.web.", A, Ok(TASKS)),
        ("tasks.www.front.", A, Ok(TASKS)),
        ("tasks.web.", AAAA, Ok(&[])),
        ("peers.", A, Ok(PEERS)),
        ("tasks.peers.", A, Ok(PEERS)),
        ("web.1.abc.", A, Ok(&["10.0.1.10"])),
        ("web.1.abc.front.", A, Ok(&["10.0.1.10"])),
        ("box.", A, Ok(&["10.0.1.10"])),
        ("localhost.", A, Ok(&["127.0.0.1"])),
    ];
    for (name, kind, expected) in rows {
        check(&[FRONT, BACK], name, *kind, *expected);
    }
}

#[test]
fn a_name_that_exists_without_an_address_is_not_a_name_that_does_not_exist() {
    check(&[BACK], "none.", RecordType::A, Ok(&[]));
    check(&[BACK], "db.", RecordType::AAAA, Ok(&[]));
    check(&[BACK], "nine.", RecordType::A, Err("NXDomain"));
}

#[test]
fn names_of_a_network_are_invisible_from_another_and_not_told_to_others() {
    for name in ["db.", "tasks.db.", "web.stack_back.", "nobody.front.", "tasks.nobody."] {
        let networks: &[NetworkKey] = if name.contains("stack") { &[BACK] } else { &[FRONT] };
        check(networks, name, RecordType::A, Err("NXDomain"));
    }
    check(&[FRONT], "db.stack_back.", RecordType::A, Err("forwarded"));
    check(&[], "web.", RecordType::A, Err("NXDomain"));
    check(&[FRONT], "example.org.", RecordType::A, Err("forwarded"));
    check(&[FRONT], ".", RecordType::NS, Err("forwarded"));
}

#[test]
fn addresses_have_names() {
    check(&[FRONT], "10.1.0.10.in-addr.arpa.", RecordType::PTR, Ok(&["web.1.abc.front."]));
    check(&[FRONT], "2.1.0.10.in-addr.arpa.", RecordType::PTR, Ok(&["web.front."]));
    check(&[FRONT], "99.1.0.10.in-addr.arpa.", RecordType::PTR, Err("NXDomain"));
    check(&[BACK], "2.1.0.10.in-addr.arpa.", RecordType::PTR, Err("forwarded"));
    check(&[FRONT], "0.10.in-addr.arpa.", RecordType::PTR, Err("forwarded"));
    let reversed = "9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa.";
    check(&[BACK], reversed, RecordType::PTR, Err("NXDomain"));
}

#[test]
fn the_first_network_that_knows_a_name_answers() {
    let zone = zone();
    zone.put_host(BACK, Owner(9), &Host { names: names(&["web"]), addresses: ips(&["10.0.2.9"]) }).unwrap();
    let resolver = resolver(zone, vec![]);
    let first = |view: &[NetworkKey]| {
        data(&ask_for(&resolver, view, &question("web.", RecordType::A), Transport::Udp).unwrap())
    };
    assert_eq!(first(&[FRONT, BACK]), ["10.0.1.2"]);
    assert_eq!(first(&[BACK, FRONT]), ["10.0.2.9"]);
}

#[test]
fn two_owners_of_a_name_share_it_and_each_goes_alone() {
    let zone = zone();
    let host = |address| Host { names: names(&["pair"]), addresses: ips(&[address]) };
    zone.put_host(FRONT, Owner(7), &host("10.0.1.70")).unwrap();
    zone.put_host(FRONT, Owner(8), &host("10.0.1.80")).unwrap();
    let resolver = resolver(Arc::clone(&zone), vec![]);
    let pair = || ask_for(&resolver, &[FRONT], &question("pair.", RecordType::A), Transport::Udp).unwrap();
    assert_eq!(data(&pair()), ["10.0.1.70", "10.0.1.80"]);
    zone.remove(FRONT, Owner(7));
    assert_eq!(data(&pair()), ["10.0.1.80"]);
    zone.put_host(FRONT, Owner(8), &host("10.0.1.81")).unwrap();
    assert_eq!(data(&pair()), ["10.0.1.81"]);
    zone.remove(FRONT, Owner(8));
    assert_eq!(pair().metadata.response_code, ResponseCode::NXDomain);
    zone.remove_network(FRONT);
    let web = ask_for(&resolver, &[FRONT], &question("web.", RecordType::A), Transport::Udp).unwrap();
    assert_eq!(web.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn tasks_are_given_in_every_order() {
    let resolver = resolver(zone(), vec![]);
    let firsts: std::collections::BTreeSet<String> = (0..100)
        .map(|_| ask_for(&resolver, &[FRONT], &question("peers.", RecordType::A), Transport::Udp).unwrap())
        .map(|answer| answer.answers[0].data.to_string())
        .collect();
    assert_eq!(firsts.len(), 3);
}

#[test]
fn an_answer_that_is_too_long_says_so_and_comes_whole_over_tcp() {
    let zone = zone();
    let tasks: Vec<IpAddr> = (0..200).map(|n| Ipv4Addr::new(10, 0, 1, n).into()).collect();
    zone.put_service(FRONT, Owner(6), &Service { names: names(&["many"]), vips: vec![], tasks }).unwrap();
    let resolver = resolver(zone, vec![]);
    let mut asked = question("many.", RecordType::A);
    let plain = ask_for(&resolver, &[FRONT], &asked, Transport::Udp).unwrap();
    assert!(plain.metadata.truncation && plain.answers.len() > 20 && plain.to_vec().unwrap().len() <= 512);
    let whole = ask_for(&resolver, &[FRONT], &asked, Transport::Tcp).unwrap();
    assert!(!whole.metadata.truncation && whole.answers.len() == 200);

    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns.clone());
    let large = ask_for(&resolver, &[FRONT], &asked, Transport::Udp).unwrap();
    assert!(!large.metadata.truncation && large.answers.len() == 200 && large.edns.is_some());

    edns.set_version(1);
    asked.set_edns(edns);
    let newer = ask_for(&resolver, &[FRONT], &asked, Transport::Udp).unwrap();
    assert_eq!(u16::from(newer.metadata.response_code), 16, "BADVERS");
}

#[test]
fn what_is_no_question_gets_an_error_or_nothing() {
    let resolver = resolver(zone(), vec![]);
    let reply = |bytes: &[u8]| match resolver.reply(bytes, &View::default(), Transport::Udp) {
        Reply::Now(answer) => format!("{:?}", Message::from_vec(&answer).unwrap().metadata.response_code),
        Reply::Forward => "forwarded".to_owned(),
        Reply::Nothing => "nothing".to_owned(),
    };
    let mut two = question("web.", RecordType::A);
    two.add_query(two.queries[0].clone());
    let mut update = question("web.", RecordType::A);
    update.metadata.op_code = OpCode::Update;
    let mut answer = question("web.", RecordType::A);
    answer.metadata.message_type = hickory_proto::op::MessageType::Response;
    let cut = question("web.", RecordType::A).to_vec().unwrap()[..16].to_vec();
    let rows = [
        (two.to_vec().unwrap(), "FormErr"),
        (update.to_vec().unwrap(), "NotImp"),
        (answer.to_vec().unwrap(), "nothing"),
        (cut, "FormErr"),
        (vec![1, 2, 3], "nothing"),
    ];
    for (bytes, expected) in rows {
        assert_eq!(reply(&bytes), expected, "{bytes:?}");
    }
}

#[test]
fn names_that_cannot_be_are_refused_and_change_nothing() {
    let zone = zone();
    let long = "a".repeat(254);
    let error = zone.put_host(FRONT, Owner(3), &Host { names: vec![long], addresses: vec![] }).unwrap_err();
    assert!(error.to_string().ends_with("is no name: 1 to 253 characters are"));
    let error = zone.put_host(NetworkKey(9), Owner(3), &Host::default()).unwrap_err();
    assert_eq!(error, ZoneError::UnknownNetwork { key: NetworkKey(9) });
    let resolver = resolver(zone, vec![]);
    let still = ask_for(&resolver, &[FRONT], &question("box.", RecordType::A), Transport::Udp).unwrap();
    assert_eq!(data(&still), ["10.0.1.10"]);
}

#[test]
fn servers_are_read_from_a_file_and_a_wrong_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name).display().to_string();
        std::fs::write(&path, text).unwrap();
        path
    };
    let good = write("good", "# a comment\nsearch corp.example\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n");
    let servers: Vec<_> = upstreams(&good).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53"]);
    let empty = write("empty", "search corp.example\n");
    assert!(upstreams(&empty).unwrap_err().to_string().ends_with("names no server: add a line `nameserver ADDRESS`"));
    assert!(upstreams("/nonexistent/resolv.conf").unwrap_err().to_string().contains("/nonexistent/resolv.conf"));
}

proptest! {
    #[test]
    fn no_bytes_stop_the_resolver(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let resolver = resolver(zone(), vec![]);
        let view = View::new(vec![FRONT]);
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Reply::Now(answer) = resolver.reply(&bytes, &view, transport) {
                prop_assert_eq!(&answer[..2], &bytes[..2]);
            }
        }
    }

    /// Almost a question is what finds the corners of a parser.
    #[test]
    fn no_question_with_changed_bytes_stops_the_resolver(
        name in "[a-z]{1,10}(\\.[a-z]{1,10}){0,3}\\.",
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let resolver = resolver(zone(), vec![]);
        let mut asked = question(&name, RecordType::A);
        asked.set_edns(Edns::new());
        let mut bytes = asked.to_vec().unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 2) + 1);
        let _ = resolver.reply(&bytes, &View::new(vec![FRONT]), Transport::Udp);
    }
}

mod on_sockets {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream, UdpSocket};
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn sockets() -> (Sockets, SocketAddr) {
        // A free port for datagrams may be taken for streams.
        loop {
            let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let address = udp.local_addr().unwrap();
            if let Ok(tcp) = std::net::TcpListener::bind(address) {
                return (Sockets { udp, tcp }, address);
            }
        }
    }

    async fn ask(server: SocketAddr, name: &str) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&question(name, RecordType::A).to_vec().unwrap(), server).await.unwrap();
        let mut buffer = [0; 4096];
        let received = tokio::time::timeout(SOON, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
        Message::from_vec(&buffer[..received]).unwrap()
    }

    async fn ask_by_tcp(stream: &mut TcpStream, name: &str) -> Message {
        let bytes = question(name, RecordType::A).to_vec().unwrap();
        stream.write_u16(bytes.len() as u16).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let length = tokio::time::timeout(SOON, stream.read_u16()).await.expect("an answer").unwrap();
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.unwrap();
        Message::from_vec(&answer).unwrap()
    }

    /// A resolver of its own whose one name is not of any network here: the server of the world.
    fn world(running: &mut JoinSet<Result<(), DnsError>>) -> SocketAddr {
        let zone = Zone::default();
        zone.put_network(FRONT, "example", vec![]);
        zone.put_host(FRONT, Owner(1), &Host { names: names(&["www.example.org"]), addresses: ips(&["192.0.2.80"]) })
            .unwrap();
        let (sockets, address) = sockets();
        let resolver = Arc::new(resolver(Arc::new(zone), vec![]));
        running.spawn(serve(sockets, resolver, Arc::new(View::new(vec![FRONT])), CancellationToken::new()));
        address
    }

    #[tokio::test]
    async fn what_is_not_ours_is_asked_elsewhere_in_order_and_changes_are_seen_at_once() {
        let mut running = JoinSet::new();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let _deaf = TcpListener::from_std({
            let listener = std::net::TcpListener::bind(silent.local_addr().unwrap()).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        })
        .unwrap();
        let servers = vec![silent.local_addr().unwrap(), world(&mut running)];
        let zone = zone();
        let resolver = Arc::new(resolver(Arc::clone(&zone), servers));
        let (sockets, address) = sockets();
        let stop = CancellationToken::new();
        let view = Arc::new(View::new(vec![FRONT]));
        running.spawn(serve(sockets, Arc::clone(&resolver), Arc::clone(&view), stop.clone()));

        assert_eq!(data(&ask(address, "web.").await), ["10.0.1.2"]);
        assert_eq!(data(&ask(address, "www.example.org.").await), ["192.0.2.80"]);
        let mut stream = TcpStream::connect(address).await.unwrap();
        assert_eq!(data(&ask_by_tcp(&mut stream, "web.").await), ["10.0.1.2"]);
        assert_eq!(data(&ask_by_tcp(&mut stream, "www.example.org.").await), ["192.0.2.80"]);

        assert_eq!(ask(address, "db.").await.metadata.response_code, ResponseCode::NXDomain);
        view.set(vec![FRONT, BACK]);
        assert_eq!(data(&ask(address, "db.").await), ["10.0.2.2"]);
        zone.remove(FRONT, Owner(1));
        assert_eq!(ask(address, "web.").await.metadata.response_code, ResponseCode::NXDomain);
        let counters = resolver.counters();
        assert_eq!((counters.forwarded, counters.failed), (2, 0));
        stop.cancel();
        running.shutdown().await;
    }

    #[tokio::test]
    async fn a_world_that_is_silent_gives_an_error_in_time_and_not_without_bound() {
        let mut running = JoinSet::new();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let resolver = Arc::new(resolver(zone(), vec![silent.local_addr().unwrap()]));
        let (sockets, address) = sockets();
        let stop = CancellationToken::new();
        running.spawn(serve(sockets, Arc::clone(&resolver), Arc::default(), stop.clone()));
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..100 {
            socket.send_to(&question("a.example.", RecordType::A).to_vec().unwrap(), address).await.unwrap();
        }
        for _ in 0..100 {
            let mut buffer = [0; 512];
            let length = tokio::time::timeout(SOON, socket.recv(&mut buffer)).await.expect("an answer").unwrap();
            let answer = Message::from_vec(&buffer[..length]).unwrap();
            assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
        }
        let counters = resolver.counters();
        assert!(counters.refused > 0 && counters.failed >= 64, "{counters:?}");
        assert_eq!(counters.refused + counters.failed, 100);
        stop.cancel();
        running.shutdown().await;
    }
}
