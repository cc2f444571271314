//! A change of the store, or a step of a container, as an event: what happened to whom, and of an update, what is new.

use jiff::Timestamp;

use crate::api::images;
use crate::api::wire::{self, Labels};
use crate::model::node::{Availability, Node, NodeState, Reachability, Role};
use crate::model::service::{Service, ServiceMode, UpdateState};
use crate::runtime::{Act, Health, ImageAct, Status, Step};
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

/// What has become of a container or an image of this node.
pub(super) fn step(step: Step, now: Timestamp) -> wire::Event {
    match step {
        Step::Container(one, act) => container(&one, &action(&act), &more(&act), now),
        Step::Image(name, act) => {
            let action = match act {
                ImageAct::Pulled => "pull",
                ImageAct::Loaded => "load",
                ImageAct::Untagged => "untag",
            };
            let name = images::familiar(&name);
            let untied = name.split('@').next().unwrap_or_default();
            let plain = untied.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map_or(untied, |(of, _)| of);
            let attributes = Labels::from([("name".to_owned(), plain.to_owned())]);
            local("image", action, name, String::new(), attributes, now)
        }
    }
}

/// An event of a container: its labels, image and name, and what `more` there is to say.
pub(in crate::api) fn container(one: &Status, action: &str, more: &[(&str, String)], now: Timestamp) -> wire::Event {
    let mut attributes = one.labels.clone();
    attributes.insert("image".to_owned(), one.image.clone());
    attributes.insert("name".to_owned(), one.name.clone());
    attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    local("container", action, one.id.to_string(), one.image.clone(), attributes, now)
}

/// Events of one node repeat what and who for clients of before 1.22.
fn local(kind: &str, action: &str, id: String, from: String, attributes: Labels, now: Timestamp) -> wire::Event {
    wire::Event {
        status: action.to_owned(),
        id: id.clone(),
        from,
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: wire::Actor { id, attributes, ..wire::Actor::default() },
        scope: "local".to_owned(),
        time: now.as_second(),
        time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        ..wire::Event::default()
    }
}

fn action(act: &Act) -> String {
    let word = match act {
        Act::Created => "create",
        Act::Started => "start",
        Act::Killed(_) => "kill",
        Act::Died(_) => "die",
        Act::Stopped => "stop",
        Act::Removed => "destroy",
        Act::Health(Health::Healthy) => "health_status: healthy",
        Act::Health(Health::Unhealthy { .. }) => "health_status: unhealthy",
        Act::Health(Health::Starting) => "health_status: starting",
        Act::Health(Health::None) => "health_status: none",
    };
    word.to_owned()
}

fn more(act: &Act) -> Vec<(&'static str, String)> {
    match act {
        Act::Killed(signal) => vec![("signal", signal.clone())],
        Act::Died(code) => vec![("exitCode", code.to_string())],
        Act::Created | Act::Started | Act::Stopped | Act::Removed | Act::Health(_) => Vec::new(),
    }
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
