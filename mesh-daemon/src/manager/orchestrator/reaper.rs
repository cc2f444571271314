//! Which records of tasks go.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::id::{NodeId, ServiceId};
use crate::model::state::TaskState;
use crate::model::task::Task;
use crate::store::Tables;

use super::super::step::Step;
use super::slot::{is_live, is_over, tasks};
use super::{Plan, is_lost};

/// Removes tasks that are wanted away and have ended or never began, and of those that ended all but so
/// many in each place, oldest first. Below 0 all are kept.
pub(super) fn plan(view: &Tables, service: ServiceId, limit: i64, plan: &mut Plan) {
    let mut ended: BTreeMap<(u64, Option<NodeId>), Vec<&Arc<Task>>> = BTreeMap::new();
    for task in tasks(view, service) {
        if task.desired_state == TaskState::Remove {
            let node_gone = task.node_id.is_some_and(|node| view.nodes().get(node).is_none());
            if is_over(task) || node_gone {
                plan.steps.push(Step::Remove(task.id));
            }
        } else if !is_live(task) && (is_over(task) || is_forgotten(view, task)) {
            let node = task.node_id.filter(|_| task.slot == 0);
            ended.entry((task.slot, node)).or_default().push(task);
        }
    }
    let Ok(keep) = usize::try_from(limit) else { return };
    for tasks in ended.values_mut() {
        tasks.sort_by_key(|task| (task.meta.created_at, task.id));
        let surplus = tasks.len().saturating_sub(keep);
        plan.steps.extend(tasks.iter().take(surplus).map(|task| Step::Remove(task.id)));
    }
}

/// Its node is no longer of the cluster: nobody will report its end.
fn is_forgotten(view: &Tables, task: &Task) -> bool {
    is_lost(view, task) && task.node_id.is_some_and(|node| view.nodes().get(node).is_none())
}
