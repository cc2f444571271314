//! Nodes, from and to the client.

use super::{recall, remember, time, version};
use crate::api::error::Error;
use crate::api::wire;
use crate::model::meta::Annotations;
use crate::model::node::{
    Availability, ManagerStatus, Node, NodeDescription, NodeSpec, NodeState, Reachability, Role, TlsDescription,
};

/// Reads a spec.
pub(in crate::api) fn node_spec(spec: &wire::NodeSpec) -> Result<NodeSpec, Error> {
    let role = match spec.role.as_str() {
        "worker" => Role::Worker,
        "manager" => Role::Manager,
        other => return Err(Error::bad(format!("invalid Role: \"{other}\""))),
    };
    Ok(NodeSpec {
        annotations: Annotations { name: spec.name.clone(), labels: spec.labels.clone() },
        role,
        availability: availability(&spec.availability)?,
        docker: remember(spec)?,
    })
}

/// Reads whether a node takes tasks.
pub(in crate::api) fn availability(word: &str) -> Result<Availability, Error> {
    match word {
        "active" => Ok(Availability::Active),
        "pause" => Ok(Availability::Pause),
        "drain" => Ok(Availability::Drain),
        other => Err(Error::bad(format!("invalid Availability: \"{other}\""))),
    }
}

/// A node.
pub(in crate::api) fn node(node: &Node) -> wire::Node {
    let state = match node.status.state {
        NodeState::Unknown => "unknown",
        NodeState::Down => "down",
        NodeState::Ready => "ready",
        NodeState::Disconnected => "disconnected",
    };
    wire::Node {
        id: node.id.to_string(),
        version: version(node.meta.version),
        created_at: time(node.meta.created_at),
        updated_at: time(node.meta.updated_at),
        spec: spec(&node.spec),
        description: node.description.as_ref().map(description).unwrap_or_default(),
        status: wire::NodeStatus {
            state: state.to_owned(),
            message: node.status.message.clone(),
            addr: node.status.addr.clone(),
            ..wire::NodeStatus::default()
        },
        manager_status: node.manager.as_ref().map(manager_status),
        ..wire::Node::default()
    }
}

/// The spec of a node: unlike that of a service it is written by others too (a promotion, a label), so
/// that of the client only what the model does not know is taken.
fn spec(spec: &NodeSpec) -> wire::NodeSpec {
    let role = match spec.role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    };
    let availability = match spec.availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    };
    wire::NodeSpec {
        name: spec.annotations.name.clone(),
        labels: spec.annotations.labels.clone(),
        role: role.to_owned(),
        availability: availability.to_owned(),
        rest: recall::<wire::NodeSpec>(spec.docker.as_ref()).unwrap_or_default().rest,
    }
}

fn description(description: &NodeDescription) -> wire::NodeDescription {
    let plugin = |plugin: &crate::model::node::Plugin| wire::EnginePlugin {
        kind: plugin.kind.clone(),
        name: plugin.name.clone(),
        ..wire::EnginePlugin::default()
    };
    wire::NodeDescription {
        hostname: description.hostname.clone(),
        platform: wire::Platform {
            architecture: description.platform.architecture.clone(),
            os: description.platform.os.clone(),
            ..wire::Platform::default()
        },
        resources: wire::Resources {
            nano_cpus: description.resources.nano_cpus,
            memory_bytes: description.resources.memory_bytes,
            generic_resources: description.resources.generic.iter().map(super::task::generic).collect(),
            ..wire::Resources::default()
        },
        engine: wire::EngineDescription {
            engine_version: description.engine.version.clone(),
            labels: description.engine.labels.clone(),
            plugins: description.engine.plugins.iter().map(plugin).collect(),
            ..wire::EngineDescription::default()
        },
        tls_info: tls_info(&description.tls),
        ..wire::NodeDescription::default()
    }
}

pub(super) fn tls_info(tls: &TlsDescription) -> wire::TlsInfo {
    wire::TlsInfo {
        trust_root: tls.trust_root.clone(),
        cert_issuer_subject: tls.cert_issuer_subject.clone(),
        cert_issuer_public_key: tls.cert_issuer_public_key.clone(),
        ..wire::TlsInfo::default()
    }
}

fn manager_status(status: &ManagerStatus) -> wire::ManagerStatus {
    let reachability = match status.reachability {
        Reachability::Unknown => "unknown",
        Reachability::Unreachable => "unreachable",
        Reachability::Reachable => "reachable",
    };
    wire::ManagerStatus {
        leader: status.leader,
        reachability: reachability.to_owned(),
        addr: status.addr.to_string(),
        ..wire::ManagerStatus::default()
    }
}
