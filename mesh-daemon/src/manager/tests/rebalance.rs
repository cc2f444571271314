//! Tasks that move to nodes with fewer of them, where a service asks for it.

use std::collections::BTreeMap;

use super::{World, image, replicas};
use crate::model::node::{Availability, NodeState};
use crate::model::service::{REBALANCE_LABEL, ServiceSpec};
use crate::model::state::TaskState;

fn moving(count: u64, seconds: &'static str) -> impl Fn(&mut ServiceSpec) {
    move |spec| {
        replicas(count)(spec);
        spec.annotations.labels.insert(REBALANCE_LABEL.to_owned(), seconds.to_owned());
    }
}

/// Node 3 goes, its tasks go elsewhere, it comes back.
fn gone_and_back(world: &mut World) {
    world.on_node(3, |node| node.status.state = NodeState::Down);
    world.pass_time(6.0);
    world.on_node(3, |node| node.status.state = NodeState::Ready);
}

#[test]
fn a_node_that_comes_back_gets_tasks_one_by_one_and_no_place_is_ever_empty() {
    let mut world = World::new(3);
    world.with_service(moving(6, "10"));
    gone_and_back(&mut world);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 3), (2, 3)]));
    world.pass_time(3.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 3), (2, 3)]), "not at once");
    let mut seen = Vec::new();
    for _ in 0..400 {
        world.pass_time(0.1);
        let now = world.on_nodes();
        assert!(world.running().len() >= 6, "{now:?}");
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    assert_eq!(seen.last(), Some(&BTreeMap::from([(1, 2), (2, 2), (3, 2)])));
    // Two moves, and each is over before the next.
    let ended = world.tasks().iter().filter(|task| task.status.state == TaskState::Shutdown).count();
    assert!(ended >= 2, "{ended}");
    let before: Vec<_> = world.running().iter().map(|task| task.id).collect();
    world.pass_time(100.0);
    let after: Vec<_> = world.running().iter().map(|task| task.id).collect();
    assert_eq!(before, after, "what is even stays");
}

#[test]
fn without_the_label_a_node_that_comes_back_gets_nothing() {
    let mut world = World::new(3);
    world.with_service(replicas(6));
    gone_and_back(&mut world);
    world.pass_time(60.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 3), (2, 3)]));
}

#[test]
fn a_node_that_takes_none_gets_none() {
    let mut world = World::new(3);
    world.with_service(|spec| {
        moving(6, "10")(spec);
        spec.task.placement.constraints = vec!["node.hostname != node3".to_owned()];
    });
    world.pass_time(60.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 3), (2, 3)]));
    let mut world = World::new(3);
    world.on_node(3, |node| node.spec.availability = Availability::Pause);
    world.with_service(moving(6, "10"));
    world.pass_time(60.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 3), (2, 3)]));
}

#[test]
fn a_move_that_fails_leaves_the_task_where_it_was_and_is_tried_less_and_less() {
    let mut world = World::new(2);
    world.on_node(2, |node| node.spec.availability = Availability::Drain);
    world.with_service(moving(4, "10"));
    let before: Vec<_> = world.running().iter().map(|task| task.id).collect();
    // From now on no task of the image starts.
    world.fails.lock().unwrap().insert(String::new());
    world.on_node(2, |node| node.spec.availability = Availability::Active);
    world.pass_time(300.0);
    let after: Vec<_> = world.running().iter().map(|task| task.id).collect();
    assert_eq!(before, after);
    let tried = world.tasks().iter().filter(|task| task.status.state == TaskState::Failed).count();
    assert!((2..=6).contains(&tried), "{tried} in 300 s");
}

#[test]
fn a_change_of_the_service_comes_first_and_another_leader_goes_on() {
    let mut world = World::new(3);
    world.with_service(moving(6, "5"));
    gone_and_back(&mut world);
    world.change(image("other"));
    world.new_leader();
    world.pass_time(120.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    assert!(world.running().iter().all(|task| task.spec.container.image == "other"));
    let places: Vec<_> = world.running().iter().map(|task| task.slot).collect();
    assert_eq!(places, [1, 2, 3, 4, 5, 6]);
}
