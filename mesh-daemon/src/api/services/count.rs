//! How many tasks a service has, and should have: `2/2` in `docker service ls`.

use crate::api::wire::ServiceStatus;
use crate::model::node::NodeState;
use crate::model::service::{Service, ServiceMode};
use crate::model::state::TaskState;
use crate::store::{Key, Tables};

pub(super) fn tasks(tables: &Tables, service: &Service) -> ServiceStatus {
    let mut status = ServiceStatus::default();
    let iteration = service.job_status.map(|job| job.iteration);
    for task in tables.tasks().by_key(Key::Service(service.id)) {
        let is_down = |id| tables.nodes().get(id).is_some_and(|node| node.status.state == NodeState::Down);
        let of_now = iteration.is_none() || task.job_iteration == iteration;
        match task.status.state {
            // What a node that is down last said of its tasks is not true any more.
            TaskState::Running if !task.node_id.is_some_and(is_down) => status.running_tasks += 1,
            TaskState::Complete if of_now => status.completed_tasks += 1,
            _ => {}
        }
        let wanted = match service.spec.mode {
            ServiceMode::Global => task.desired_state == TaskState::Running,
            ServiceMode::GlobalJob | ServiceMode::ReplicatedJob { .. } => {
                of_now && task.desired_state == TaskState::Complete && !task.status.state.is_terminal()
            }
            ServiceMode::Replicated { .. } => false,
        };
        status.desired_tasks += u64::from(wanted);
    }
    match service.spec.mode {
        ServiceMode::Replicated { replicas } => status.desired_tasks = replicas,
        ServiceMode::ReplicatedJob { max_concurrent, .. } => status.desired_tasks = max_concurrent,
        ServiceMode::Global | ServiceMode::GlobalJob => {}
    }
    status
}
