//! What becomes of services, story by story.

use crate::model::id::{NodeId, ServiceId};
use crate::model::meta::Annotations;
use crate::model::node::{Availability, Node, NodeState, Role};
use crate::model::service::{
    FailureAction, Port, Service, ServiceMode, ServiceSpec, UpdateConfig, UpdateOrder, UpdateState,
};
use crate::model::state::TaskState;
use crate::model::task::RestartCondition;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{SERVICE, World, image, node, replicas};

#[test]
fn replicas_run_spread_over_the_nodes_with_addresses_and_ports() {
    let mut world = World::new(3);
    world.with_service(|spec| {
        replicas(6)(spec);
        spec.endpoint.ports = vec![Port { target_port: 80, ..Port::default() }];
    });
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 2), (2, 2), (3, 2)]));
    let slots: Vec<_> = world.running().iter().map(|task| task.slot).collect();
    assert_eq!(slots, [1, 2, 3, 4, 5, 6]);
    let addresses: BTreeSet<_> = world.running().iter().map(|task| task.networks[0].addresses[0].address).collect();
    assert_eq!(addresses.len(), 6);
    let service = world.store.view().services().get(SERVICE).unwrap().clone();
    assert_eq!(service.endpoint.as_ref().unwrap().ports[0].published_port, 30_000);
    assert_eq!(service.update_status, None);
}

#[test]
fn scaling_keeps_who_runs_and_takes_from_the_fullest_node() {
    let mut world = World::new(3);
    world.with_service(replicas(2));
    let before: BTreeSet<_> = world.running().iter().map(|task| task.id).collect();
    world.change(replicas(7));
    assert_eq!(world.running().len(), 7);
    assert!(before.is_subset(&world.running().iter().map(|task| task.id).collect()));
    world.change(replicas(3));
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    world.change(replicas(0));
    assert_eq!(world.states(), []);
    assert_eq!(world.update_state(), None);
}

#[test]
fn a_task_that_ended_is_replaced_after_the_delay() {
    let mut world = World::new(1);
    world.with_service(replicas(1));
    let first = world.running()[0].id;
    world.end(first, TaskState::Failed);
    let waiting: Vec<_> = world.states().iter().map(|(_, state, desired, _)| (*state, *desired)).collect();
    assert_eq!(
        waiting,
        [(TaskState::Failed, TaskState::Shutdown), (TaskState::Ready, TaskState::Ready)],
        "its successor is made ready while the delay lasts"
    );
    world.pass_time(4.9);
    assert_eq!(world.running().len(), 0);
    world.pass_time(0.2);
    assert_eq!(world.running().len(), 1);
    assert_eq!(world.running()[0].slot, 1);
}

#[test]
fn who_is_not_to_be_restarted_keeps_its_place() {
    for (condition, ends, replaced) in [
        (RestartCondition::Any, TaskState::Complete, true),
        (RestartCondition::OnFailure, TaskState::Complete, false),
        (RestartCondition::OnFailure, TaskState::Failed, true),
        (RestartCondition::None, TaskState::Failed, false),
    ] {
        let mut world = World::new(1);
        world.with_service(|spec| {
            replicas(2)(spec);
            spec.task.restart.condition = condition;
        });
        let first = world.running()[0].id;
        world.end(first, ends);
        world.pass_time(6.0);
        let expected = if replaced { 2 } else { 1 };
        assert_eq!(world.running().len(), expected, "{condition:?} after {ends:?}");
        assert_eq!(world.tasks().len(), expected + 1);
        // A change of the service gives it another chance.
        world.change(image("other"));
        world.pass_time(20.0);
        assert_eq!(world.running().len(), 2);
    }
}

#[test]
fn restarts_end_at_their_limit() {
    let mut world = World::new(1);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        image("broken")(spec);
        spec.task.restart.max_attempts = 3;
        spec.task.restart.delay = Duration::from_secs(1);
    });
    world.pass_time(10.0);
    assert_eq!(world.tasks().len(), 4);
    assert!(world.tasks().iter().all(|task| task.desired_state == TaskState::Shutdown));
}

#[test]
fn history_is_bounded() {
    let mut world = World::new(1);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        image("broken")(spec);
        spec.task.restart.delay = Duration::from_millis(500);
    });
    world.pass_time(20.0);
    let ended = world.tasks().iter().filter(|task| task.status.state == TaskState::Failed).count();
    assert_eq!(ended, 5);
}

#[test]
fn tasks_of_a_lost_node_run_elsewhere_at_once_and_the_old_ones_end_when_it_returns() {
    let mut world = World::new(2);
    world.with_service(replicas(4));
    world.on_node(2, |node| node.status.state = NodeState::Down);
    world.pass_time(0.2);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 4)]));
    world.on_node(2, |node| node.status.state = NodeState::Ready);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 4)]), "nothing moves back by itself");
    let live = world.tasks().iter().filter(|task| !task.status.state.is_terminal()).count();
    assert_eq!(live, 4);
}

#[test]
fn a_drained_node_is_emptied_and_keeps_others_running() {
    for order in [UpdateOrder::StartFirst, UpdateOrder::StopFirst] {
        let mut world = World::new(2);
        world.with_service(|spec| {
            replicas(4)(spec);
            spec.update = Some(UpdateConfig { order, ..UpdateConfig::default() });
        });
        world.on_node(2, |node| node.spec.availability = Availability::Drain);
        world.pass_time(0.2);
        assert_eq!(world.on_nodes(), BTreeMap::from([(1, 4)]), "{order:?}");
    }
}

#[test]
fn a_node_that_no_longer_fits_loses_its_tasks() {
    let mut world = World::new(2);
    for number in [1, 2] {
        world.on_node(number, |node| {
            node.spec.annotations.labels.insert("zone".into(), "a".into());
        });
    }
    world.with_service(|spec| {
        replicas(2)(spec);
        spec.task.placement.constraints = vec!["node.labels.zone==a".into()];
    });
    world.on_node(1, |node| {
        node.spec.annotations.labels.insert("zone".into(), "b".into());
    });
    world.pass_time(6.0);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 2)]));
}

#[test]
fn a_service_that_no_node_takes_says_why_and_runs_when_one_does() {
    let mut world = World::new(2);
    world.with_service(|spec| spec.task.placement.constraints = vec!["node.role==manager".into()]);
    let reason = "no suitable node (scheduling constraints not satisfied on 2 nodes)";
    assert_eq!(world.states(), [(1, TaskState::Pending, TaskState::Running, reason.into())]);
    world.on_node(2, |node| node.role = Role::Manager);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 1)]));
}

#[test]
fn a_global_service_follows_the_nodes() {
    let mut world = World::new(2);
    world.with_service(|spec| spec.mode = ServiceMode::Global);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1)]));
    world.write(|tx| tx.create(node(3)));
    world.settle();
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    world.on_node(1, |node| node.spec.availability = Availability::Drain);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 1), (3, 1)]));
    world.on_node(2, |node| node.spec.availability = Availability::Pause);
    assert_eq!(world.on_nodes(), BTreeMap::from([(2, 1), (3, 1)]));
    world.on_node(1, |node| node.spec.availability = Availability::Active);
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    world.write(|tx| tx.remove::<Node>(NodeId::from_u128(3)));
    world.settle();
    assert_eq!(world.tasks().iter().filter(|task| task.node_id == Some(NodeId::from_u128(3))).count(), 0);
}

#[test]
fn a_global_service_is_updated_node_by_node() {
    let mut world = World::new(3);
    world.with_service(|spec| spec.mode = ServiceMode::Global);
    world.change(image("new"));
    world.pass_time(10.0);
    assert!(world.running().iter().all(|task| task.spec.container.image == "new"));
    assert_eq!(world.on_nodes(), BTreeMap::from([(1, 1), (2, 1), (3, 1)]));
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
}

#[test]
fn a_change_goes_place_by_place() {
    for (order, parallelism) in [
        (UpdateOrder::StopFirst, 1),
        (UpdateOrder::StopFirst, 2),
        (UpdateOrder::StartFirst, 1),
        (UpdateOrder::StartFirst, 0),
    ] {
        let mut world = World::new(3);
        world.with_service(|spec| {
            replicas(4)(spec);
            spec.update =
                Some(UpdateConfig { order, parallelism, delay: Duration::from_secs(2), ..UpdateConfig::default() });
        });
        world.write(|tx| {
            tx.modify::<Service>(SERVICE, |service| {
                service.previous_spec = Some(Box::new(service.spec.clone()));
                image("new")(&mut service.spec);
            })
        });
        let (mut fewest, mut new) = (4, Vec::new());
        for _ in 0..200 {
            world.pass_time(0.1);
            fewest = fewest.min(world.running().len());
            let now = world.running().iter().filter(|task| task.spec.container.image == "new").count();
            if new.last() != Some(&now) {
                new.push(now);
            }
        }
        let label = format!("{order:?}, {parallelism} at once");
        assert_eq!(fewest, 4, "{label}: at rest all run");
        match parallelism {
            0 => assert_eq!(new, [4], "{label}"),
            1 => assert_eq!(new, [1, 2, 3, 4], "{label}"),
            _ => assert_eq!(new, [2, 4], "{label}"),
        }
        assert_eq!(world.update_state(), Some(UpdateState::Completed), "{label}");
    }
}

#[test]
fn a_broken_change_pauses_and_waits_for_its_user() {
    let mut world = World::new(3);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(replicas(3));
    world.change(image("broken"));
    world.pass_time(30.0);
    assert_eq!(world.update_state(), Some(UpdateState::Paused));
    assert_eq!(world.running().len(), 2, "the others were not touched");
    let message = world.store.view().services().get(SERVICE).unwrap().update_status.clone().unwrap().message;
    assert!(message.starts_with("update paused due to failure or early termination of task "), "{message}");
    world.change(image("good"));
    world.pass_time(40.0);
    assert_eq!(world.running().iter().filter(|task| task.spec.container.image == "good").count(), 3);
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
}

#[test]
fn a_broken_change_goes_back_if_it_is_to() {
    let mut world = World::new(3);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        replicas(3)(spec);
        image("good")(spec);
        spec.update = Some(UpdateConfig { failure_action: FailureAction::Rollback, ..UpdateConfig::default() });
    });
    world.change(image("broken"));
    world.pass_time(40.0);
    assert_eq!(world.update_state(), Some(UpdateState::RollbackCompleted), "{:#?}", world.states());
    assert_eq!(world.running().iter().filter(|task| task.spec.container.image == "good").count(), 3);
}

#[test]
fn a_broken_change_goes_on_if_it_is_to() {
    let mut world = World::new(3);
    world.fails.lock().unwrap().insert("broken".into());
    world.with_service(|spec| {
        replicas(2)(spec);
        spec.task.restart.condition = RestartCondition::None;
        spec.update = Some(UpdateConfig { failure_action: FailureAction::Continue, ..UpdateConfig::default() });
    });
    world.change(image("broken"));
    world.pass_time(40.0);
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
    assert_eq!(world.running().len(), 0);
}

#[test]
fn what_the_packet_path_changes_alone_replaces_no_task() {
    let mut world = World::new(2);
    world.with_service(replicas(2));
    let before: Vec<_> = world.running().iter().map(|task| task.id).collect();
    world.change(|spec| {
        spec.endpoint.ports = vec![Port { target_port: 80, published_port: 8080, ..Port::default() }];
        spec.update = Some(UpdateConfig { parallelism: 2, ..UpdateConfig::default() });
        spec.annotations.labels.insert("a".into(), "b".into());
    });
    world.pass_time(10.0);
    assert_eq!(world.running().iter().map(|task| task.id).collect::<Vec<_>>(), before);
    assert_eq!(world.store.view().services().get(SERVICE).unwrap().endpoint.as_ref().unwrap().ports.len(), 1);
}

#[test]
fn a_job_runs_to_its_number_so_many_at_once_and_again_when_it_changes() {
    let mut world = World::new(2);
    let mode = ServiceMode::ReplicatedJob { max_concurrent: 2, total_completions: 5 };
    world.with_service(|spec| spec.mode = mode);
    let completed =
        |world: &World| world.tasks().iter().filter(|task| task.status.state == TaskState::Complete).count();
    assert_eq!((completed(&world), world.tasks().len()), (5, 5));
    world.change(|spec| spec.task.force_update += 1);
    assert_eq!((completed(&world), world.tasks().len()), (5, 5));
}

#[test]
fn a_global_job_runs_once_on_each_node() {
    let mut world = World::new(3);
    world.with_service(|spec| spec.mode = ServiceMode::GlobalJob);
    let done: Vec<_> = world.tasks().iter().map(|task| (task.node_id.unwrap().to_u128(), task.status.state)).collect();
    assert_eq!(done, [(1, TaskState::Complete), (2, TaskState::Complete), (3, TaskState::Complete)]);
}

#[test]
fn a_service_that_goes_leaves_nothing() {
    let mut world = World::new(2);
    world.with_service(replicas(3));
    world.write(|tx| tx.remove::<Service>(SERVICE));
    world.settle();
    assert_eq!(world.states(), []);
}

#[test]
fn a_conflict_over_a_port_is_shown_and_ends_with_it() {
    let mut world = World::new(1);
    let published = |spec: &mut ServiceSpec| {
        spec.endpoint.ports = vec![Port { target_port: 80, published_port: 8080, ..Port::default() }];
    };
    world.with_service(published);
    let other = ServiceId::from_u128(2);
    world.write(|tx| {
        let mut spec = ServiceSpec { annotations: Annotations::named("other"), ..ServiceSpec::default() };
        published(&mut spec);
        tx.create(Service::new(other, spec))
    });
    world.settle();
    let error = |world: &World| world.store.view().services().get(other).unwrap().allocation_error.clone();
    assert_eq!(error(&world), format!("port '8080' is already in use by service {SERVICE} as an ingress port"));
    world.write(|tx| tx.remove::<Service>(SERVICE));
    world.settle();
    assert_eq!((error(&world), world.running().len()), (String::new(), 1));
}

#[test]
fn a_new_leader_goes_on_where_the_old_one_stopped() {
    let mut world = World::new(3);
    world.with_service(replicas(4));
    world.change(image("new"));
    for _ in 0..40 {
        world.new_leader();
        world.pass_time(0.5);
    }
    assert_eq!(world.running().iter().filter(|task| task.spec.container.image == "new").count(), 4);
    assert_eq!(world.update_state(), Some(UpdateState::Completed));
    let (running, all) = (world.running().len(), world.tasks().len());
    assert_eq!((running, all), (4, 8), "each place was changed once");
}

/// Nobody waits for ever for a machine that does not come back.
#[test]
fn tasks_of_a_node_that_is_away_for_a_day_are_given_up() {
    let mut world = World::new(2);
    world.with_service(replicas(2));
    let now = world.now();
    world.on_node(2, |node| (node.status.state, node.status.since) = (NodeState::Down, Some(now)));
    let orphaned = |world: &World| world.tasks().iter().filter(|task| task.status.state == TaskState::Orphaned).count();
    world.clock.fetch_add(23 * 3_600_000, Ordering::Relaxed);
    world.settle();
    assert_eq!(orphaned(&world), 0);
    world.clock.fetch_add(2 * 3_600_000, Ordering::Relaxed);
    world.settle();
    assert_eq!(orphaned(&world), 1);
}
