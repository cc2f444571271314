//! What is counted by service and by task, and where.

use harness::packet::{tcp, udp};
use harness::run::Node;
use mesh_common::addr::Mac;
use mesh_common::tally::Tally;

use crate::world::{BOTH, BULK, CLIENT_MAC, Site, V4, World, XDP, at, from_task, mac, red, uplink_mac, web};

const ROUTER: [u8; 6] = crate::world::ROUTER;

/// The count of the service "web" as a whole, or of its task with this address.
#[track_caller]
fn tally(node: &Node, task: Option<u8>) -> Tally {
    let task = task.map_or(Mac::ZERO, |host| Mac { bytes: mac(host) });
    let rows = node.tallies().unwrap();
    let row = rows.iter().find(|row| row.label.service.as_str() == "web" && row.label.task == task);
    row.unwrap_or_else(|| panic!("no tally of {task:?} in {rows:?}")).tally
}

#[test]
fn a_packet_is_counted_for_its_service_where_it_is_dialled_and_for_its_task_where_that_runs() {
    let site = Site::new(World::new(V4, &[web(1, 21)]).with_web(), 2);
    let [entry, home] = &site.nodes[..] else { panic!("two nodes") };
    let mut seen = 0;
    for family in BOTH {
        let (client, dialled) = (at(&family.client(7), 40000), at(&family.node(0), 5353));
        let ask = udp(&*client, &*dialled).payload("hello").macs(CLIENT_MAC, uplink_mac(0));
        let (before, length) = (tally(entry, None), ask.build().len() as u64);
        for _ in 0..3 {
            let outer = entry.run(XDP, &ask.build()).unwrap().frame;
            home.run(XDP, &outer).unwrap();
        }
        let after = tally(entry, None);
        assert_eq!((after.packets - before.packets, after.bytes - before.bytes), (3, 3 * length));
        assert_eq!((after.flows, after.replies), (0, 0), "the entry node knows of no flow");
        seen += 1;
        let (service, task) = (tally(home, None), tally(home, Some(21)));
        assert_eq!((service.packets, service.flows), (0, seen), "{service:?}");
        assert_eq!((task.packets, task.flows), (3 * seen, seen), "{task:?}");
        let answer = udp(&*at(&family.host(21), 53), &*client).payload("hi").macs(mac(21), ROUTER);
        let before = task;
        home.run(from_task(0), &answer.build()).unwrap();
        let after = tally(home, Some(21));
        let length = answer.build().len() as u64;
        assert_eq!((after.replies - before.replies, after.reply_bytes - before.reply_bytes), (1, length));
        assert_eq!(after.packets, before.packets);
    }
}

#[test]
fn tasks_that_dial_a_vip_count_as_clients_outside_do() {
    let site = Site::new(World::new(V4, &[red(0, 11), web(0, 21)]).with_web(), 1);
    let node = &site.nodes[0];
    for (step, family) in (1..).zip(BOTH) {
        let ask = tcp(&*at(&family.host(11), 4000), &*at(&family.host(80), 99)).syn().macs(mac(11), ROUTER);
        node.run(from_task(0), &ask.build()).unwrap();
        let (service, task) = (tally(node, None), tally(node, Some(21)));
        assert_eq!((service.packets, service.flows), (step, step));
        assert_eq!((task.packets, task.flows), (step, step));
    }
}

#[test]
fn what_is_refused_is_counted_for_the_service_alone() {
    let site = Site::new(World::new(V4, &[web(0, 21)]).with_web(), 1);
    let node = &site.nodes[0];
    // The middle of a connection that nobody knows.
    let lost = tcp(&*at(&V4.client(7), 4000), &*at(&V4.node(0), 8080)).ack(1).macs(CLIENT_MAC, uplink_mac(0));
    node.run(BULK, &lost.build()).unwrap();
    let (service, task) = (tally(node, None), tally(node, Some(21)));
    assert_eq!((service.packets, service.flows, task), (1, 0, Tally::ZERO));
}

#[test]
fn a_number_that_is_given_away_starts_from_nothing() {
    let mut site = Site::new(World::new(V4, &[web(0, 21), web(0, 22)]).with_web(), 1);
    let dial = |site: &Site, port| {
        let ask = udp(&*at(&V4.client(7), port), &*at(&V4.node(0), 5353)).macs(CLIENT_MAC, uplink_mac(0));
        site.nodes[0].run(XDP, &ask.build()).unwrap();
    };
    (0..64).for_each(|port| dial(&site, 4000 + port));
    let number = |site: &Site, task: u8| {
        let task = Mac { bytes: mac(task) };
        site.nodes[0].tallies().unwrap().iter().find(|row| row.label.task == task).map(|row| row.number)
    };
    let (kept, freed) = (number(&site, 21), number(&site, 22));
    let counted = tally(&site.nodes[0], Some(21));
    assert!(counted.packets > 0 && tally(&site.nodes[0], Some(22)).packets > 0);
    site.world.tasks.pop();
    site.apply();
    assert_eq!((number(&site, 21), number(&site, 22)), (kept, None));
    site.world.tasks.push(web(0, 23));
    site.apply();
    assert_eq!(number(&site, 23), freed, "the lowest free number");
    assert_eq!(tally(&site.nodes[0], Some(23)), Tally::ZERO);
    assert_eq!(tally(&site.nodes[0], Some(21)), counted, "who stays keeps number and count");
}
