//! Whatever happens, in whatever order.

use crate::model::id::TaskId;
use crate::model::node::{Availability, NodeState};
use crate::model::service::UpdateState;
use crate::model::state::TaskState;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

use super::{SERVICE, World, image, replicas};

/// Something that happens to a cluster.
#[derive(Debug, Clone)]
enum Happens {
    Scale(u64),
    Change(u8),
    Fail(usize),
    NodeDown(u128),
    NodeUp(u128),
    Drain(u128),
    Leader,
    Time(u8),
}

fn happens() -> impl Strategy<Value = Happens> {
    let node = 1_u128..4;
    prop_oneof![
        (0_u64..8).prop_map(Happens::Scale),
        any::<u8>().prop_map(Happens::Change),
        any::<usize>().prop_map(Happens::Fail),
        node.clone().prop_map(Happens::NodeDown),
        node.clone().prop_map(Happens::NodeUp),
        node.prop_map(Happens::Drain),
        Just(Happens::Leader),
        (1_u8..40).prop_map(Happens::Time),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever happens, when it ends and a node is there the service is as its user wants it.
    #[test]
    fn after_everything_the_service_is_as_wanted(steps in proptest::collection::vec(happens(), 1..25)) {
        let mut world = World::new(3);
        world.with_service(replicas(3));
        let mut wanted = 3;
        for step in steps {
            match step {
                Happens::Scale(count) => { wanted = count; world.change(replicas(count)); }
                Happens::Change(number) => world.change(|spec| image(&format!("image{number}"))(spec)),
                Happens::Fail(which) => {
                    let running = world.running();
                    if let Some(task) = running.get(which % running.len().max(1)) {
                        world.end(task.id, TaskState::Failed);
                    }
                }
                Happens::NodeDown(number) => world.on_node(number, |node| node.status.state = NodeState::Down),
                Happens::NodeUp(number) => world.on_node(number, |node| {
                    node.status.state = NodeState::Ready;
                    node.spec.availability = Availability::Active;
                }),
                Happens::Drain(number) => world.on_node(number, |node| node.spec.availability = Availability::Drain),
                Happens::Leader => world.new_leader(),
                Happens::Time(tenths) => world.pass_time(f64::from(tenths) / 10.0),
            }
        }
        for number in 1..=3 {
            world.on_node(number, |node| {
                node.status.state = NodeState::Ready;
                node.spec.availability = Availability::Active;
            });
        }
        world.pass_time(120.0);
        let service = world.store.view().services().get(SERVICE).cloned().unwrap();
        if service.update_status.as_ref().is_none_or(|status| status.state != UpdateState::Paused) {
            let slots: BTreeSet<_> = world.running().iter().map(|task| task.slot).collect();
            prop_assert_eq!(slots.len(), usize::try_from(wanted).unwrap(), "{:#?}", world.states());
            prop_assert_eq!(world.running().len(), slots.len(), "one in each place: {:#?}", world.states());
            let current = world.running().iter().all(|task| task.spec.container == service.spec.task.container);
            prop_assert!(current, "{:#?}", world.states());
        }
        let mut seen: BTreeMap<TaskId, TaskState> = BTreeMap::new();
        for (task, state) in &world.log {
            let before = seen.insert(*task, *state);
            prop_assert!(before.is_none_or(|before| before <= *state), "{} went from {:?} to {}", task, before, state);
        }
    }
}
