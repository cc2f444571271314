//! What the tables become, from desired states and facts; and that a plan leads there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use mesh_common::addr::{Addr, Mac};
use mesh_common::endpoint::{EndpointKey, NeighbourKey};
use mesh_common::service::{ServiceKey, Slot};
use proptest::prelude::*;

use super::{Waiting, render};
use crate::datapath::facts::{Facts, Interface, Path as Way};
use crate::datapath::status;
use crate::datapath::tables::{Tables, plan};
use crate::datapath::{Desired, file};

const FLOW_SETS: u32 = 1024;

/// Node `a` with a task of service `web`, and the tasks numbered in `remote` on node `b`; those in
/// `draining` drain.
fn desired(remote: &[u8], draining: &[u8]) -> Desired {
    let mut text = r#"
        node = { name = "a", uplinks = ["eth0"], vtep = "192.0.2.1", ingress_vni = 4096 }
        nodes = [{ name = "b", vtep = "192.0.2.2" }]
        networks = [{ name = "net", vni = 5000, gateways = ["10.1.0.1"] }]
        [[services]]
        name = "web"
        network = "net"
        vips = ["10.1.0.100", "fd01::100"]
        ports = [{ published = 80, target = 8080 }]
        [[endpoints]]
        network = "net"
        node = "a"
        link = "v-web"
        mac = "02:42:0a:01:00:02"
        addresses = ["10.1.0.2", "fd01::2"]
        service = "web"
    "#
    .to_owned();
    for number in remote {
        let drains = draining.contains(number);
        text += &format!(
            "[[endpoints]]\nnetwork = \"net\"\nnode = \"b\"\nmac = \"02:42:0a:01:01:{number:02x}\"\n\
             addresses = [\"10.1.1.{number}\"]\nservice = \"web\"\ndraining = {drains}\n"
        );
    }
    file::parse(Path::new("test"), &text).expect("a good file")
}

fn facts() -> Facts {
    let interface = |ifindex| Interface {
        ifindex,
        mac: Mac { bytes: [2, 0, 0, 0, 0, ifindex as u8] },
        mtu: 1500,
        xdp_program: None,
    };
    let way = Way { ifindex: 2, source_mac: Mac { bytes: [2; 6] }, mtu: 1500, next_hop: Mac { bytes: [4; 6] } };
    Facts {
        interfaces: [("eth0".to_owned(), interface(2)), ("v-web".to_owned(), interface(7))].into(),
        paths: [(IpAddr::from([192, 0, 2, 2]), way)].into(),
        ..Facts::default()
    }
}

fn rendered(desired: &Desired, before: &Tables) -> Tables {
    render(desired, &facts(), FLOW_SETS, before).0
}

fn slots(tables: &Tables) -> &[Slot] {
    let key = ServiceKey::vip(5000, Addr::v4([10, 1, 0, 100]));
    let service = tables.services[&key];
    &tables.slots[&service.slots_at]
}

#[test]
fn everything_that_can_be_dialled_has_a_key() {
    let tables = rendered(&desired(&[1], &[]), &Tables::default());
    let any4 = Addr::v4([0; 4]);
    for key in [
        ServiceKey::vip(5000, Addr::v4([10, 1, 0, 100])),
        ServiceKey::published(Addr::v4([192, 0, 2, 1]), 6, [0, 80]),
        ServiceKey::forwarded(4096, &any4, 6, [0, 80]),
        ServiceKey::forwarded(4096, &Addr::ZERO, 6, [0, 80]),
    ] {
        assert!(tables.services.contains_key(&key), "{key:?}");
    }
    let router = |addr| tables.neighbours[&NeighbourKey { addr, vni: 5000 }].mac;
    assert_eq!(router(Addr::v4([10, 1, 0, 100])), Mac::ROUTER);
    assert_eq!(router(Addr::v4([10, 1, 0, 1])), Mac::ROUTER);
    // A task with a published port is reached on the ingress network too.
    let mac = Mac { bytes: [2, 0x42, 10, 1, 0, 2] };
    assert_eq!(tables.endpoints[&EndpointKey::new(4096, mac)], tables.endpoints[&EndpointKey::new(5000, mac)]);
}

#[test]
fn a_family_without_addresses_has_no_slots() {
    // The remote task has no IPv6 address, the local one has.
    let tables = rendered(&desired(&[1], &[]), &Tables::default());
    let v6 = tables.services[&ServiceKey::vip(5000, Addr::v6([0xfd, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]))];
    let backends: BTreeSet<_> = tables.slots[&v6.slots_at].iter().map(|slot| slot.current).collect();
    assert_eq!(backends.len(), 1);
}

#[test]
fn a_draining_task_gets_no_new_flows_and_keeps_its_old_ones() {
    let before = rendered(&desired(&[1, 2], &[]), &Tables::default());
    let mac = Mac { bytes: [2, 0x42, 10, 1, 1, 1] };
    let number = before.endpoints[&EndpointKey::new(5000, mac)].backend;
    let after = rendered(&desired(&[1, 2], &[1]), &before);
    for (old, new) in slots(&before).iter().zip(slots(&after)) {
        assert_ne!(new.current, number);
        if old.current == number {
            assert_eq!(new.previous, number);
        }
    }
    // Gone, it is nobody's previous any more.
    let gone = rendered(&desired(&[2], &[]), &after);
    assert!(slots(&gone).iter().all(|slot| slot.current != number && slot.previous != number));
}

/// The text of a service or of its first task, changed.
fn changed(remote: &[u8], with: impl FnOnce(&mut Desired)) -> Desired {
    let mut state = desired(remote, &[]);
    with(&mut state);
    assert_eq!(state.check(), Ok(()));
    state
}

#[test]
fn a_table_has_the_size_that_is_desired_or_that_its_tasks_ask_for() {
    let many: Vec<u8> = (1..=10).collect();
    let large = rendered(&desired(&many, &[]), &Tables::default());
    assert_eq!(slots(&large).len(), 512);
    // Whatever was before.
    assert_eq!(slots(&rendered(&desired(&[1], &[]), &large)).len(), 64);
    let named = changed(&[1], |state| state.services[0].slots = Some(1024));
    for before in [Tables::default(), large] {
        assert_eq!(slots(&rendered(&named, &before)).len(), 1024);
    }
}

#[test]
fn a_table_that_shrinks_keeps_in_reach_whom_it_can() {
    let before = rendered(&changed(&[1, 2], |state| state.services[0].slots = Some(128)), &Tables::default());
    let after = rendered(&changed(&[1, 2], |state| state.services[0].slots = Some(64)), &before);
    for (old, new) in slots(&before).chunks(2).zip(slots(&after)) {
        let reached = old.iter().filter(|slot| [new.current, new.previous].contains(&slot.current)).count();
        assert!(reached >= 1, "{old:?} became {new:?}");
    }
}

#[test]
fn a_drain_that_is_over_ends_everywhere_at_its_time() {
    let state = changed(&[1, 2], |state| {
        state.endpoints[1].draining = true;
        state.endpoints[1].drain_until = Some(1000);
    });
    let number = |tables: &Tables| tables.endpoints[&EndpointKey::new(5000, state.endpoints[1].mac)].backend;
    let during = rendered(&status::at(&state, 999), &rendered(&desired(&[1, 2], &[]), &Tables::default()));
    assert!(slots(&during).iter().any(|slot| slot.previous == number(&during)));
    let after = rendered(&status::at(&state, 1000), &during);
    assert_eq!(number(&after), 0, "nobody's task");
    let gone = number(&during);
    assert!(slots(&after).iter().all(|slot| slot.previous != gone && slot.current != gone && slot.current != 0));
    // The endpoint itself stays, and so does its link.
    assert_eq!(after.endpoints.len(), during.endpoints.len() - 1, "but not in the ingress network");
}

#[test]
fn where_all_tasks_drain_they_go_on_serving() {
    let tables = rendered(&desired(&[1], &[1]), &Tables::default());
    assert!(slots(&tables).iter().all(|slot| slot.current != 0));
}

#[test]
fn what_is_missing_is_waited_for() {
    let state = desired(&[1], &[]);
    let (tables, waiting) = render(&state, &Facts::default(), FLOW_SETS, &Tables::default());
    assert_eq!(
        waiting,
        [
            Waiting::Path { node: "b".to_owned(), vtep: IpAddr::from([192, 0, 2, 2]) },
            Waiting::Link { link: "v-web".to_owned(), network: "net".to_owned() },
        ]
    );
    assert!(tables.links.is_empty());
    assert_eq!(tables.nodes[&1].ifindex, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever was before: the plan's changes, applied one by one, end at the tables wanted; what
    /// is settled stays settled; and numbers keep their meaning.
    #[test]
    fn a_plan_leads_from_any_state_to_any_other(
        first in proptest::collection::btree_set(1u8..20, 0..8),
        second in proptest::collection::btree_set(1u8..20, 0..8),
        draining in proptest::collection::btree_set(1u8..20, 0..4),
    ) {
        let list = |set: &BTreeSet<u8>| set.iter().copied().collect::<Vec<_>>();
        let before = rendered(&desired(&list(&first), &[]), &Tables::default());
        let state = desired(&list(&second), &list(&draining));
        let after = rendered(&state, &before);
        let mut tables = before.clone();
        for change in plan(&before, &after) {
            tables.apply(change);
        }
        prop_assert_eq!(&tables, &after);
        prop_assert!(plan(&after, &rendered(&state, &after)).is_empty());
        for (key, old) in &before.endpoints {
            if let Some(new) = after.endpoints.get(key) {
                prop_assert_eq!(old.backend, new.backend);
            }
        }
        for (number, backend) in &after.backends {
            let same = before.backends.get(number).is_none_or(|old| old.mac == backend.mac);
            prop_assert!(same, "number {} changed its meaning", number);
        }
    }
}
