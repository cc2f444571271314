//! A change of the store as an event: what happened to whom, and of an update, what is new.

use jiff::Timestamp;

use crate::api::wire::{self, Labels};
use crate::model::node::{Availability, Node, NodeState, Reachability, Role};
use crate::model::service::{Service, ServiceMode, UpdateState};
use crate::store::{AnyObject, Event};

/// None for what Docker has no events of: tasks, and the cluster itself.
pub(super) fn event(event: &Event, now: Timestamp) -> Option<wire::Event> {
    let object = event.object();
    let (action, at) = match event {
        Event::Created(_) => ("create", object.meta().created_at),
        Event::Changed { .. } => ("update", object.meta().updated_at),
        Event::Removed(_) => ("remove", now),
    };
    let (kind, id, name) = named(object)?;
    let mut attributes = Labels::from([("name".to_owned(), name)]);
    match event {
        Event::Changed { before: AnyObject::Node(before), after: AnyObject::Node(after) } => {
            news(&mut attributes, &of_node(before), &of_node(after));
        }
        Event::Changed { before: AnyObject::Service(before), after: AnyObject::Service(after) } => {
            news(&mut attributes, &of_service(before), &of_service(after));
        }
        Event::Created(_) | Event::Changed { .. } | Event::Removed(_) => {}
    }
    Some(wire::Event {
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: wire::Actor { id, attributes, ..wire::Actor::default() },
        scope: "swarm".to_owned(),
        time: at.as_second(),
        time_nano: i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX),
        ..wire::Event::default()
    })
}

fn named(object: &AnyObject) -> Option<(&'static str, String, String)> {
    match object {
        AnyObject::Service(service) => Some(("service", service.id.to_string(), service.spec.annotations.name.clone())),
        AnyObject::Node(node) => Some(("node", node.id.to_string(), node.name().to_owned())),
        AnyObject::Network(network) => Some(("network", network.id.to_string(), network.spec.annotations.name.clone())),
        AnyObject::Secret(secret) => Some(("secret", secret.id.to_string(), secret.spec.annotations.name.clone())),
        AnyObject::Config(config) => Some(("config", config.id.to_string(), config.spec.annotations.name.clone())),
        AnyObject::Task(_) | AnyObject::Cluster(_) => None,
    }
}

/// `KEY.new` and `KEY.old` of what differs.
fn news(attributes: &mut Labels, before: &[(&str, String)], after: &[(&str, String)]) {
    for ((key, old), (_, new)) in before.iter().zip(after).filter(|(before, after)| before != after) {
        attributes.insert(format!("{key}.new"), new.clone());
        if !old.is_empty() {
            attributes.insert(format!("{key}.old"), old.clone());
        }
    }
}

fn of_node(node: &Node) -> [(&'static str, String); 5] {
    let state = match node.status.state {
        NodeState::Unknown => "unknown",
        NodeState::Down => "down",
        NodeState::Ready => "ready",
        NodeState::Disconnected => "disconnected",
    };
    let role = match node.spec.role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    };
    let availability = match node.spec.availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    };
    let reachability = match node.manager.as_ref().map(|manager| manager.reachability) {
        None => "",
        Some(Reachability::Unknown) => "unknown",
        Some(Reachability::Unreachable) => "unreachable",
        Some(Reachability::Reachable) => "reachable",
    };
    let leader = node.manager.as_ref().map(|manager| manager.leader.to_string()).unwrap_or_default();
    [
        ("state", state.to_owned()),
        ("role", role.to_owned()),
        ("availability", availability.to_owned()),
        ("reachability", reachability.to_owned()),
        ("leader", leader),
    ]
}

fn of_service(service: &Service) -> [(&'static str, String); 3] {
    let replicas = match service.spec.mode {
        ServiceMode::Replicated { replicas } => replicas.to_string(),
        ServiceMode::Global | ServiceMode::ReplicatedJob { .. } | ServiceMode::GlobalJob => String::new(),
    };
    let update = match service.update_status.as_ref().map(|status| status.state) {
        None => "",
        Some(UpdateState::Updating) => "updating",
        Some(UpdateState::Paused) => "paused",
        Some(UpdateState::Completed) => "completed",
        Some(UpdateState::RollbackStarted) => "rollback_started",
        Some(UpdateState::RollbackPaused) => "rollback_paused",
        Some(UpdateState::RollbackCompleted) => "rollback_completed",
    };
    [("replicas", replicas), ("image", service.spec.task.container.image.clone()), ("updatestate", update.to_owned())]
}
