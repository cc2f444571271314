use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::board::Board;
use super::liveness::{Signs, judge};
use crate::model::assignment::{Batch, Item, ItemKey, Picture};
use crate::model::cidr::Cidr;
use crate::model::id::{NetworkId, NodeId, TaskId};
use crate::model::node::{Node, NodeState, Role};
use crate::model::state::TaskState;
use crate::model::task::{NetworkAttachment, Task, TaskSpec};
use crate::store::{Notice, Store};

fn node_id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

/// A store, a board that follows it, and what two nodes know.
struct World {
    runtime: tokio::runtime::Runtime,
    store: Store,
    watch: crate::store::Watch,
    board: Board,
    known: BTreeMap<NodeId, (u64, Picture)>,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let store = Store::local(Arc::new(|| jiff::Timestamp::UNIX_EPOCH));
        let (view, watch) = store.watch();
        let mut board = Board::default();
        board.rebuild(&view);
        let known = [1, 2].into_iter().map(|number| (node_id(number), Default::default())).collect();
        let mut world = Self { runtime, store, watch, board, known };
        for number in [1, 2] {
            let mut node = Node::new(node_id(number), Role::Worker);
            node.status.state = NodeState::Ready;
            world.write(|tx| tx.create(node.clone()));
        }
        world
    }

    fn write(&mut self, run: impl Fn(&mut crate::store::Tx) -> Result<(), crate::store::Error>) {
        self.runtime.block_on(self.store.update(run)).unwrap();
        while let Some(notice) = self.watch.try_next() {
            let Notice::Transaction(transaction) = notice else { panic!("a resync of a short test") };
            self.board.note(&transaction.view, &transaction.events);
        }
    }

    /// The node takes in what is new.
    fn tell(&mut self, node: NodeId) {
        let (since, picture) = self.known.get_mut(&node).unwrap();
        let news = self.board.news(node, *since);
        if news.complete {
            *picture = Picture::default();
        }
        let set = news.set.iter().map(|item| Item::clone(item)).collect();
        picture.apply(Batch { set, gone: news.gone, more: false });
        *since = news.version;
    }

    fn picture(&mut self, number: u128) -> Picture {
        self.tell(node_id(number));
        self.known[&node_id(number)].1.clone()
    }

    fn task(&mut self, number: u128, node: u128, state: TaskState) {
        let mut task = Task::new(TaskId::from_u128(number), None, TaskSpec::default());
        task.node_id = Some(node_id(node));
        task.status.state = state;
        let address = Cidr { address: [10, 0, 0, u8::try_from(number).unwrap()].into(), prefix: 24 };
        task.networks = vec![NetworkAttachment {
            network_id: NetworkId::from_u128(1),
            addresses: vec![address],
            aliases: Vec::new(),
            driver_options: BTreeMap::new(),
        }];
        self.write(|tx| tx.create(task.clone()));
    }

    fn change(&mut self, number: u128, change: impl Fn(&mut Task)) {
        self.write(|tx| tx.modify::<Task>(TaskId::from_u128(number), &change));
    }
}

#[test]
fn a_task_is_its_nodes_and_is_reached_by_all_while_it_runs() {
    let mut world = World::new();
    world.task(1, 1, TaskState::Assigned);
    let task = TaskId::from_u128(1);
    assert!(world.picture(1).tasks.contains_key(&task));
    assert!(world.picture(2).tasks.is_empty());
    assert!(world.picture(2).backends.is_empty(), "it does not run yet");
    world.change(1, |task| task.status.state = TaskState::Running);
    assert!(!world.picture(2).backends[&task].draining);
    world.change(1, |task| task.status.state = TaskState::Failed);
    assert!(world.picture(2).backends.is_empty());
    assert!(world.picture(1).tasks.contains_key(&task), "its node keeps its output");
    world.write(|tx| tx.remove::<Task>(task));
    assert!(world.picture(1).tasks.is_empty());
}

#[test]
fn a_task_stops_when_no_node_sends_to_it_any_more() {
    let mut world = World::new();
    world.task(1, 1, TaskState::Running);
    let task = TaskId::from_u128(1);
    world.change(1, |task| task.desired_state = TaskState::Shutdown);
    assert!(!world.picture(1).tasks[&task].drained);
    assert!(world.picture(2).backends[&task].draining);
    let told = world.board.version();
    assert!(!world.board.applied_everywhere(told - 1));
    assert!(!world.picture(1).tasks[&task].drained);
    assert!(world.board.applied_everywhere(told));
    assert!(world.picture(1).tasks[&task].drained);
}

#[test]
fn what_was_in_force_for_another_leader_does_not_end_a_drain() {
    let mut world = World::new();
    world.task(1, 1, TaskState::Running);
    let task = TaskId::from_u128(1);
    world.board.lead(3);
    world.change(1, |task| task.desired_state = TaskState::Shutdown);
    let told = world.board.version();
    // Another manager, which has followed the same store, leads.
    let mut next = Board::default();
    next.rebuild(&world.store.view());
    next.lead(4);
    assert!(!next.applied_everywhere(told), "told by the leader before");
    assert!(next.applied_everywhere(next.version()));
    assert!(
        matches!(next.news(node_id(1), 0).set.iter().find(|item| item.key() == ItemKey::Task(task)).map(|item| &**item),
        Some(Item::Task(assigned)) if assigned.drained)
    );
}

#[test]
fn a_task_that_nobody_was_told_of_need_not_be_drained() {
    let mut world = World::new();
    world.task(1, 1, TaskState::Preparing);
    world.change(1, |task| task.desired_state = TaskState::Shutdown);
    assert!(world.picture(1).tasks[&TaskId::from_u128(1)].drained);
}

#[test]
fn tasks_of_a_node_that_is_down_are_reached_by_nobody() {
    let mut world = World::new();
    world.task(1, 1, TaskState::Running);
    assert_eq!(world.picture(2).backends.len(), 1);
    world.write(|tx| tx.modify::<Node>(node_id(1), |node| node.status.state = NodeState::Down));
    assert_eq!((world.picture(2).backends.len(), world.picture(2).members.len()), (0, 1));
    world.write(|tx| tx.modify::<Node>(node_id(1), |node| node.status.state = NodeState::Ready));
    assert_eq!((world.picture(2).backends.len(), world.picture(2).members.len()), (1, 2));
}

#[test]
fn nodes_are_judged_by_every_sign() {
    let second = Duration::from_secs(1);
    let signs = Signs {
        connected: true,
        heard: Some(second / 10),
        alive: false,
        dead: false,
        away: false,
        leading: 60 * second,
        heartbeat: second,
    };
    use NodeState::{Down, Ready, Unknown};
    let rows = [
        ("heard a moment ago", Unknown, signs, Some(Ready)),
        ("silent, but not for long", Ready, Signs { heard: Some(2 * second), ..signs }, None),
        ("silent for three heartbeats", Ready, Signs { heard: Some(4 * second), ..signs }, Some(Down)),
        ("dead to its peers but talking", Ready, Signs { dead: true, ..signs }, None),
        ("dead to its peers, silent but a moment", Ready, Signs { dead: true, heard: Some(2 * second), ..signs }, None),
        ("dead to its peers and silent", Ready, Signs { dead: true, heard: Some(3 * second), ..signs }, Some(Down)),
        ("session lost just now", Ready, Signs { connected: false, heard: Some(second), ..signs }, None),
        ("session lost", Ready, Signs { connected: false, heard: Some(3 * second), ..signs }, Some(Down)),
        (
            "session lost, but its place is held",
            Ready,
            Signs { connected: false, heard: Some(9 * second), away: true, ..signs },
            None,
        ),
        (
            "silent in its session, but its place is held",
            Ready,
            Signs { heard: Some(9 * second), away: true, ..signs },
            None,
        ),
        ("new leader, its place is held", Ready, Signs { connected: false, heard: None, away: true, ..signs }, None),
        ("given up, and its place is held", Down, Signs { connected: false, heard: None, away: true, ..signs }, None),
        ("back before membership knows", Down, Signs { away: true, ..signs }, Some(Ready)),
        ("silent, but membership hears it", Ready, Signs { heard: Some(4 * second), alive: true, ..signs }, None),
        (
            "session lost, but membership hears it",
            Ready,
            Signs { connected: false, heard: Some(4 * second), alive: true, ..signs },
            None,
        ),
        (
            "heard by membership alone, for too long",
            Ready,
            Signs { connected: false, heard: Some(11 * second), alive: true, ..signs },
            Some(Down),
        ),
        ("new leader, not here yet", Ready, Signs { connected: false, heard: None, leading: second, ..signs }, None),
        ("new leader, never came", Ready, Signs { connected: false, heard: None, ..signs }, Some(Down)),
        ("down and still away", Down, Signs { connected: false, heard: None, ..signs }, None),
    ];
    for (what, state, signs, expected) in rows {
        let mut node = Node::new(node_id(1), Role::Worker);
        node.status.state = state;
        assert_eq!(judge(&node, signs).map(|(state, _)| state), expected, "{what}");
    }
}

proptest! {
    /// However often a node looks, it ends with what one knows that looks once at the end.
    #[test]
    fn pieces_add_up_to_the_whole(steps in proptest::collection::vec((0_u128..6, 0_u8..5, any::<bool>()), 1..60)) {
        let mut world = World::new();
        for (number, what, looks) in steps {
            let id = TaskId::from_u128(number);
            let there = world.store.view().tasks().get(id).cloned();
            match (there, what) {
                (None, _) => world.task(number, 1 + number % 2, TaskState::Assigned),
                (Some(_), 0) => world.write(|tx| tx.remove::<Task>(id)),
                (Some(task), 1) if task.status.state < TaskState::Failed => {
                    world.change(number, |task| task.status.state = TaskState::Failed);
                }
                (Some(task), 2) if task.desired_state < TaskState::Shutdown => {
                    world.change(number, |task| task.desired_state = TaskState::Shutdown);
                }
                (Some(task), _) if task.status.state < TaskState::Running => {
                    world.change(number, |task| task.status.state = TaskState::Running);
                }
                _ => { let version = world.board.version(); world.board.applied_everywhere(version); }
            }
            if looks {
                world.tell(node_id(1));
            }
        }
        let bit_by_bit = world.picture(1);
        world.known.insert(node_id(1), Default::default());
        prop_assert_eq!(world.picture(1), bit_by_bit);
    }
}
