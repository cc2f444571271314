//! Membership, one piece at a time. Whole clusters are in tests/cluster/members.

use std::net::SocketAddr;
use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::notices::{Heard, Notice, Notices};
use super::seal::Seal;
use super::*;

const NOW: Duration = Duration::from_secs(1);

fn ring(numbers: &[u32]) -> KeyRing {
    KeyRing::new(numbers.iter().map(|number| RingKey { number: *number, secret: [*number as u8; 32] }).collect())
        .unwrap()
}

fn seal(node: u128, life: u64, numbers: &[u32]) -> Seal {
    Seal::new(Me { node: NodeKey(node), life }, ring(numbers), &mut StdRng::seed_from_u64(life)).unwrap()
}

fn detector(node: u8) -> Detector {
    let me = Me { node: NodeKey(node.into()), life: 1 };
    let address = SocketAddr::from(([10, 0, 0, node], PORT));
    Detector::new(me, address, Timing::default(), ring(&[1]), StdRng::seed_from_u64(node.into())).unwrap()
}

#[test]
fn what_is_sealed_is_opened_once_by_who_has_the_key() {
    let (mut one, mut two) = (seal(1, 1, &[1]), seal(2, 1, &[2, 1]));
    let packet = one.seal(b"text").unwrap();
    assert_eq!(two.open(&packet, NOW), Ok((NodeKey(1), b"text".to_vec())));
    assert_eq!(two.open(&packet, NOW), Err(Rejected::Replayed));
    assert_eq!(one.open(&packet, NOW), Err(Rejected::Own));
    assert_eq!(seal(3, 1, &[2]).open(&packet, NOW), Err(Rejected::UnknownKey));
    assert!(!packet.windows(4).any(|part| part == b"text"), "nothing is in clear");
}

#[test]
fn packets_may_overtake_each_other_but_not_come_twice() {
    let (mut one, mut two) = (seal(1, 1, &[1]), seal(2, 1, &[1]));
    let packets: Vec<_> = (0..2000).map(|_| one.seal(b"x").unwrap()).collect();
    for range in [500..600, 0..500, 600..700] {
        for packet in &packets[range] {
            assert!(two.open(packet, NOW).is_ok());
        }
    }
    assert!(packets[..700].iter().all(|packet| two.open(packet, NOW) == Err(Rejected::Replayed)));
    assert!(two.open(&packets[1999], NOW).is_ok());
    assert_eq!(two.open(&packets[800], NOW), Err(Rejected::Replayed), "too old to be told from a repetition");
    assert!(two.open(&packets[1500], NOW).is_ok());
}

#[test]
fn an_earlier_life_is_not_heard_after_a_later_one() {
    let mut two = seal(2, 1, &[1]);
    let (old, new) = (seal(1, 5, &[1]).seal(b"old").unwrap(), seal(1, 6, &[1]).seal(b"new").unwrap());
    assert!(two.open(&new, NOW).is_ok());
    assert_eq!(two.open(&old, NOW), Err(Rejected::Replayed));
}

#[test]
fn a_retired_key_is_not_heard_any_more() {
    let (mut one, mut two) = (seal(1, 1, &[1]), seal(2, 1, &[1]));
    assert!(two.open(&one.seal(b"x").unwrap(), NOW).is_ok());
    two.rotate(ring(&[2, 1]));
    assert!(two.open(&one.seal(b"x").unwrap(), NOW).is_ok());
    two.rotate(ring(&[2]));
    assert_eq!(two.open(&one.seal(b"x").unwrap(), NOW), Err(Rejected::UnknownKey));
}

#[test]
fn a_ring_says_what_is_wrong_with_it() {
    let key = |number| RingKey { number, secret: [0; 32] };
    let text = |keys| KeyRing::new(keys).unwrap_err().to_string();
    assert_eq!(text(vec![]), "membership: the key ring is empty");
    assert_eq!(text(vec![key(1), key(2), key(1)]), "membership: two keys of the ring have the number 1");
    assert!(text((0..4).map(key).collect()).starts_with("membership: 4 keys in the ring; at most 3"));
    assert!(!format!("{:?}", key(1)).contains("secret"));
}

#[test]
fn timing_that_cannot_work_is_named() {
    let wrong = Timing { suspicion: Duration::ZERO, ..Timing::default() };
    assert!(wrong.check().unwrap_err().to_string().starts_with("membership: suspicion is 0"));
    let wrong = Timing { probe_timeout: Duration::from_secs(1), ..Timing::default() };
    assert!(wrong.check().unwrap_err().to_string().contains("not shorter than probe_period"));
    assert!(Timing::default().check().is_ok());
}

#[test]
fn suspicion_grows_with_the_rounds_a_rumour_takes() {
    let among = |members| Timing::default().suspicion_among(members).as_millis();
    assert_eq!([1, 63, 64, 128, 1000].map(among), [500, 500, 625, 750, 1000]);
}

#[test]
fn what_was_missed_is_asked_for_by_number() {
    let notice = |number| Notice { origin: NodeKey(9), life: 1, number, fact: Fact::Gone(TaskKey(number.into())) };
    let (mut whole, mut holes) = (Notices::default(), Notices::default());
    for number in 1..=10 {
        assert_eq!(whole.hear(&notice(number), NOW), Heard::New);
    }
    for number in [1, 2, 5, 10] {
        assert_eq!(holes.hear(&notice(number), NOW), Heard::New);
        assert_eq!(holes.hear(&notice(number), NOW), Heard::Known);
    }
    let (lacking, then) = whole.beyond(&holes.marks(), 100);
    assert_eq!(lacking.len(), 8, "3 to 10");
    assert!(lacking.iter().all(|notice| holes.hear(notice, NOW) != Heard::Refused));
    holes.complete(&then);
    assert_eq!((holes.gone(), holes.marks()), (whole.gone(), whole.marks()));
    assert_eq!(whole.beyond(&holes.marks(), 100), (vec![], holes.marks()));
}

#[test]
fn a_later_life_makes_an_earlier_one_void() {
    let fact = |life, number, draining| Notice { origin: NodeKey(9), life, number, fact: Fact::Draining(draining) };
    let mut notices = Notices::default();
    assert_eq!(notices.hear(&fact(1, 7, true), NOW), Heard::New);
    assert_eq!(notices.hear(&fact(2, 1, false), NOW), Heard::New);
    assert_eq!(notices.hear(&fact(1, 8, true), NOW), Heard::Known);
    assert!(!notices.is_draining(NodeKey(9)));
}

#[test]
fn notices_have_a_bound_and_an_end() {
    let notice = |origin, number| Notice {
        origin: NodeKey(origin),
        life: 1,
        number,
        fact: Fact::Gone(TaskKey(u128::from(number) << 64 | origin)),
    };
    let mut notices = Notices::default();
    for number in 1..=5000 {
        notices.hear(&notice(1, number), NOW);
    }
    assert_eq!(notices.gone().len(), 4096, "the oldest make room");
    let refused = (2..40)
        .flat_map(|origin| (1..=4096).map(move |number| (origin, number)))
        .filter(|(origin, number)| notices.hear(&notice(*origin, *number), NOW) == Heard::Refused)
        .count();
    assert_eq!(refused, 39 * 4096 - 65_536);
    notices.expire(NOW + Duration::from_hours(1));
    assert!(notices.gone().is_empty());
    assert_eq!(notices.hear(&notice(1, 5001), NOW), Heard::New);
}

#[test]
fn too_much_metadata_is_refused_by_name() {
    let error = detector(1).tell(Fact::Metadata(vec![0; 257]), NOW).unwrap_err();
    assert_eq!(error.to_string(), "membership: 257 bytes of metadata; at most 256 are told");
}

proptest! {
    #[test]
    fn no_packet_from_a_stranger_is_heard(packet in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut detector = detector(1);
        detector.receive(&packet, NOW);
        prop_assert_eq!(detector.counters().received, 0);
        prop_assert_eq!(detector.counters().rejected.values().sum::<u64>(), 1);
        prop_assert!(detector.transmits().is_empty(), "and is not answered");
    }

    #[test]
    fn a_changed_bit_is_noticed(bit in 0usize..8 * 61) {
        let (mut one, mut two) = (seal(1, 1, &[1]), seal(2, 1, &[1]));
        let mut packet = one.seal(b"text").unwrap();
        packet[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(two.open(&packet, NOW).is_err());
    }

    /// Who has the key may be of another version, or mad.
    #[test]
    fn nonsense_of_a_member_does_no_harm(
        texts in prop::collection::vec((0u8..7, prop::collection::vec(any::<u8>(), 0..120)), 1..20),
    ) {
        let (mut sender, mut detector) = (seal(2, 1, &[1]), detector(1));
        for (kind, rest) in texts {
            let mut text = vec![kind];
            if kind == 0 {
                text.push(rest.len() as u8);
            }
            text.extend(rest);
            let packet = sender.seal(&text).unwrap();
            detector.receive(&packet, NOW);
            let message = sender.seal(&text).unwrap();
            let _ = detector.continue_exchange(&message, Exchange::Answer, NOW);
            detector.tick(NOW);
        }
        prop_assert!(detector.members().len() <= MAX_MEMBERS);
    }
}

/// Real sockets on this machine: what a simulation cannot say is whether the transport works.
mod on_sockets {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    use super::*;

    struct Node {
        handle: Handle,
        key: NodeKey,
        address: SocketAddr,
        stop: CancellationToken,
    }

    async fn start(net: u8, nodes: u8, running: &mut JoinSet<Result<(), GossipError>>) -> Vec<Node> {
        let mut all = Vec::new();
        for number in 1..=nodes {
            let address = SocketAddr::from(([127, 46, net, number], PORT));
            let me = Me { node: NodeKey(number.into()), life: 1 };
            // A machine that runs tests is not a quiet one.
            let timing = Timing { suspicion: Duration::from_secs(2), ..Timing::default() };
            let chance = StdRng::seed_from_u64(number.into());
            let detector = Detector::new(me, address, timing, ring(&[1]), chance).unwrap();
            let endpoint = Endpoint::bind(address, detector).await.unwrap();
            let stop = CancellationToken::new();
            all.push(Node { handle: endpoint.handle(), key: me.node, address, stop: stop.clone() });
            running.spawn(endpoint.run(stop));
        }
        all
    }

    async fn wait_for(node: &Node, holds: impl Fn(&Members) -> bool) {
        let mut members = node.handle.members();
        let held = members.wait_for(|members| holds(members));
        tokio::time::timeout(Duration::from_secs(20), held).await.expect("in time").unwrap();
    }

    fn is(members: &Members, node: NodeKey, liveness: Liveness) -> bool {
        members.get(&node).is_some_and(|member| member.liveness == liveness)
    }

    #[tokio::test]
    async fn nodes_find_each_other_tell_each_other_and_say_good_bye() {
        let mut running = JoinSet::new();
        let nodes = start(78, 5, &mut running).await;
        let first = Peer { node: nodes[0].key, address: nodes[0].address, generation: None };
        nodes[1..].iter().for_each(|node| node.handle.introduce(&[first]));
        for node in &nodes {
            wait_for(node, |members| members.len() == 4 && members.values().all(|m| m.liveness == Liveness::Alive))
                .await;
        }
        nodes[2].handle.tell(Fact::Gone(TaskKey(7))).unwrap();
        for node in &nodes {
            let mut gone = node.handle.gone();
            let told = gone.wait_for(|gone| gone.get(&TaskKey(7)) == Some(&nodes[2].key));
            tokio::time::timeout(Duration::from_secs(10), told).await.expect("in time").unwrap();
        }
        nodes[4].handle.leave();
        nodes[4].stop.cancel();
        for node in &nodes[..4] {
            wait_for(node, |members| is(members, nodes[4].key, Liveness::Down)).await;
        }
        nodes.iter().for_each(|node| node.stop.cancel());
        while let Some(ended) = running.join_next().await {
            ended.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn who_dies_without_a_word_is_found_dead_and_a_late_comer_gets_all_by_exchange() {
        let mut running = JoinSet::new();
        let nodes = start(79, 4, &mut running).await;
        let peers: Vec<_> =
            nodes.iter().map(|node| Peer { node: node.key, address: node.address, generation: Some(1) }).collect();
        nodes[..3].iter().for_each(|node| node.handle.introduce(&peers[..3]));
        for task in 0..300 {
            nodes[0].handle.tell(Fact::Gone(TaskKey(task))).unwrap();
        }
        nodes[3].handle.introduce(&peers[..1]);
        let mut gone = nodes[3].handle.gone();
        let told = gone.wait_for(|gone| gone.len() == 300);
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("in time").unwrap();
        assert!(nodes[3].handle.counters().exchanges > 0);

        // All four run in one process; the one that dies is a fifth, whose task is dropped.
        let mut dying = JoinSet::new();
        let address = SocketAddr::from(([127, 46, 79, 99], PORT));
        let me = Me { node: NodeKey(99), life: 1 };
        let detector = Detector::new(me, address, Timing::default(), ring(&[1]), StdRng::seed_from_u64(99)).unwrap();
        let endpoint = Endpoint::bind(address, detector).await.unwrap();
        endpoint.handle().introduce(&peers);
        dying.spawn(endpoint.run(CancellationToken::new()));
        wait_for(&nodes[0], |members| is(members, NodeKey(99), Liveness::Alive)).await;
        dying.shutdown().await;
        for node in &nodes {
            wait_for(node, |members| is(members, NodeKey(99), Liveness::Down)).await;
        }
        running.shutdown().await;
    }

    /// Its thread sleeps, as a process that gets SIGSTOP: nothing of it runs, its socket fills.
    #[tokio::test]
    async fn who_was_stopped_is_away_for_the_others_comes_back_and_blames_nobody() {
        let mut running = JoinSet::new();
        let nodes = start(77, 4, &mut running).await;
        let peers: Vec<_> =
            nodes.iter().map(|node| Peer { node: node.key, address: node.address, generation: Some(1) }).collect();
        nodes.iter().for_each(|node| node.handle.introduce(&peers));
        let address = SocketAddr::from(([127, 46, 77, 99], PORT));
        let (sleep, asleep) = std::sync::mpsc::channel::<Duration>();
        let (tell, told) = tokio::sync::oneshot::channel();
        let stop = CancellationToken::new();
        let until = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let me = Me { node: NodeKey(99), life: 1 };
                let timing = Timing { suspicion: Duration::from_secs(2), ..Timing::default() };
                let chance = StdRng::seed_from_u64(99);
                let detector = Detector::new(me, address, timing, ring(&[1]), chance).unwrap();
                let endpoint = Endpoint::bind(address, detector).await.unwrap();
                let handle = endpoint.handle();
                handle.introduce(&peers);
                tell.send(handle).ok().unwrap();
                let mut work = JoinSet::new();
                work.spawn(async move {
                    loop {
                        if let Ok(time) = asleep.try_recv() {
                            std::thread::sleep(time);
                        }
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                });
                endpoint.run(until).await
            })
        });
        let stopped = told.await.unwrap();
        wait_for(&nodes[0], |members| is(members, NodeKey(99), Liveness::Alive)).await;
        let mut seen = stopped.members();
        let reached = seen.wait_for(|members| members.len() == 4);
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("in time").unwrap();

        sleep.send(Duration::from_secs(6)).unwrap();
        for node in &nodes {
            wait_for(node, |members| is(members, NodeKey(99), Liveness::Away)).await;
        }
        let mut seen = stopped.members();
        let blamed = async {
            let down = |members: &Members| members.values().any(|member| member.liveness == Liveness::Down);
            seen.wait_for(|members| down(members)).await.map(drop)
        };
        let back = async {
            for node in &nodes {
                wait_for(node, |members| is(members, NodeKey(99), Liveness::Alive)).await;
            }
        };
        tokio::select! {
            () = back => {}
            _ = blamed => panic!("who was stopped believes another dead"),
        }
        assert!(stopped.generation() > 1 && stopped.counters().stalls > 0);
        stop.cancel();
        thread.join().unwrap().unwrap();
        running.shutdown().await;
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let address = SocketAddr::from(([127, 46, 80, 1], PORT));
        let taken = Arc::new(tokio::net::UdpSocket::bind(address).await.unwrap());
        let error = Endpoint::bind(address, detector(1)).await.err().unwrap();
        assert_eq!(error.to_string(), "membership: listen on udp 127.46.80.1:7946");
        drop(taken);
    }
}
