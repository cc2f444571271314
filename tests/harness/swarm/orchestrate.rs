//! Makes what a store asks for come true at once: addresses, ports, tasks that run.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mesh_daemon::model::cidr::Cidr;
use mesh_daemon::model::id::{NodeId, TaskId};
use mesh_daemon::model::network::{Network, Subnet, Vni};
use mesh_daemon::model::node::{Availability, Node, NodeState, Role};
use mesh_daemon::model::service::{Endpoint, PublishMode, Service, ServiceMode, UpdateState, UpdateStatus, Vip};
use mesh_daemon::model::state::TaskState;
use mesh_daemon::model::task::{ContainerStatus, NetworkAttachment, Task, TaskStatus};
use mesh_daemon::store::{Error, Key, Store, Tx};

use super::FakeCluster;

/// Settles each store that the cluster gets, after each change.
pub(super) async fn run(cluster: Arc<FakeCluster>) {
    let mut stores = cluster.stores.subscribe();
    loop {
        let store = stores.borrow_and_update().clone();
        let Some(store) = store else {
            if stores.changed().await.is_err() {
                return;
            }
            continue;
        };
        let (_, mut watch) = store.watch();
        loop {
            // A refusal is a race with the API: the next change settles it.
            let _ = settle(&store).await;
            tokio::select! {
                next = watch.next() => if next.is_none() { break },
                _ = stores.changed() => break,
                // Updates end after a while.
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }
}

/// How often what only time changes is looked at.
const TICK: Duration = Duration::from_millis(250);

/// How long an update takes: as long as the real one's monitor, and then some.
const UPDATE: SignedDuration = SignedDuration::from_secs(7);

/// Does all that is to be done now.
///
/// # Errors
/// The store's.
pub async fn settle(store: &Store) -> Result<(), Error> {
    store
        .update(|tx| {
            networks(tx)?;
            roles(tx)?;
            let services: Vec<_> = tx.services().iter().cloned().collect();
            for service in services {
                self::service(tx, Service::clone(&service))?;
            }
            orphans(tx)
        })
        .await
}

fn networks(tx: &mut Tx) -> Result<(), Error> {
    let bare: Vec<_> = tx.networks().iter().filter(|network| network.vni.is_none()).cloned().collect();
    for network in bare {
        let taken = tx.networks().iter().filter_map(|network| network.vni).map(|vni| vni.0).max();
        let number = taken.map_or(4096, |last| last + 1);
        let octet = u8::try_from(number - 4096).unwrap_or(255);
        let mut network = Network::clone(&network);
        network.vni = Some(Vni(number));
        let asked = network.spec.ipam.first().cloned().unwrap_or_default();
        let default = Cidr { address: IpAddr::V4(Ipv4Addr::new(10, 0, octet, 0)), prefix: 24 };
        let subnet = asked.subnet.unwrap_or(default);
        let gateway = asked.gateway.unwrap_or_else(|| host(subnet, 1));
        network.subnets = vec![Subnet { subnet, range: asked.range, gateway, reserved: asked.reserved }];
        tx.update(network)?;
    }
    Ok(())
}

/// Nodes become what they should be.
fn roles(tx: &mut Tx) -> Result<(), Error> {
    let wrong: Vec<_> = tx.nodes().iter().filter(|node| node.role != node.spec.role).map(|node| node.id).collect();
    wrong.into_iter().try_for_each(|id| {
        tx.modify::<Node>(id, |node| {
            node.role = node.spec.role;
            node.manager = node.manager.take().filter(|_| node.role == Role::Manager);
        })
    })
}

fn host(subnet: Cidr, number: u32) -> IpAddr {
    match subnet.address {
        IpAddr::V4(v4) => IpAddr::V4((u32::from(v4) + number).into()),
        v6 => v6,
    }
}

fn service(tx: &mut Tx, mut service: Service) -> Result<(), Error> {
    let mut changed = allocate(tx, &mut service);
    changed |= tasks(tx, &service)?;
    changed |= go_on(&mut service, changed);
    let there = tx.services().get(service.id).is_some_and(|there| **there == service);
    if changed && !there { tx.update(service) } else { Ok(()) }
}

/// An update begins with the first task that is replaced, and ends after [`UPDATE`].
fn go_on(service: &mut Service, replaced: bool) -> bool {
    let now = Timestamp::now();
    let Some(status) = &mut service.update_status else {
        let begins = replaced && service.previous_spec.is_some();
        let state = UpdateState::Updating;
        let message = "update in progress".to_owned();
        service.update_status =
            begins.then_some(UpdateStatus { state, started_at: Some(now), completed_at: None, message });
        return begins;
    };
    let (state, message) = match status.state {
        UpdateState::RollbackStarted => (UpdateState::RollbackCompleted, "rollback completed"),
        UpdateState::Updating => (UpdateState::Completed, "update completed"),
        _ => return false,
    };
    if status.started_at.is_some_and(|at| now.duration_since(at) < UPDATE) {
        return false;
    }
    status.state = state;
    status.completed_at = Some(now);
    message.clone_into(&mut status.message);
    true
}

/// Ports as asked for, a VIP in each network; whether anything was given.
fn allocate(tx: &Tx, service: &mut Service) -> bool {
    if service.endpoint.as_ref().is_some_and(|endpoint| endpoint.spec == service.spec.endpoint) {
        return false;
    }
    let ingress = tx.networks().iter().find(|network| network.spec.ingress);
    let publishes = service.spec.endpoint.ports.iter().any(|port| port.publish_mode == PublishMode::Ingress);
    let asked = service.spec.networks().iter().filter_map(|attachment| tx.networks().get(attachment.network_id));
    let networks: Vec<_> = ingress.filter(|_| publishes).into_iter().chain(asked).collect();
    let number = u32::try_from(tx.services().len()).unwrap_or(0) + 100;
    let vips = networks.iter().filter_map(|network| {
        let subnet = network.subnets.first()?.subnet;
        Some(Vip { network_id: network.id, address: Cidr { address: host(subnet, number), prefix: subnet.prefix } })
    });
    let endpoint = Endpoint {
        spec: service.spec.endpoint.clone(),
        ports: service.spec.endpoint.ports.clone(),
        vips: vips.collect(),
        most_tasks: 0,
    };
    service.endpoint = Some(endpoint);
    true
}

/// Makes tasks as the mode wants; whether an old one was replaced.
fn tasks(tx: &mut Tx, service: &Service) -> Result<bool, Error> {
    let nodes: Vec<_> = tx.nodes().iter().filter(|node| takes(node, service)).map(|node| node.id).collect();
    let places: Vec<(u64, Option<NodeId>)> = match service.spec.mode {
        ServiceMode::Replicated { replicas } => (1..=replicas)
            .map(|slot| (slot, nodes.get(usize::try_from(slot).unwrap_or(0) % nodes.len().max(1)).copied()))
            .collect(),
        ServiceMode::ReplicatedJob { total_completions, .. } => {
            (1..=total_completions).map(|slot| (slot, nodes.first().copied())).collect()
        }
        ServiceMode::Global | ServiceMode::GlobalJob => nodes.iter().map(|id| (0, Some(*id))).collect(),
    };
    let there: Vec<_> = tx.tasks().by_key(Key::Service(service.id)).cloned().collect();
    let is_live = |task: &Task| task.desired_state <= TaskState::Complete && task.desired_state != TaskState::Shutdown;
    let mut replaced = false;
    for (slot, node) in &places {
        let of_place = |task: &&Arc<Task>| is_live(task) && task.slot == *slot && (*slot > 0 || task.node_id == *node);
        let old: Vec<_> = there.iter().filter(of_place).collect();
        if old.iter().any(|task| task.spec == service.spec.task) {
            continue;
        }
        for task in old {
            tx.modify::<Task>(task.id, stop)?;
            replaced = true;
        }
        tx.create(run_task(tx, service, *slot, *node))?;
    }
    for task in there.iter().filter(|task| is_live(task)) {
        if !places.iter().any(|(slot, node)| *slot == task.slot && (*slot > 0 || *node == task.node_id)) {
            tx.remove::<Task>(task.id)?;
        }
    }
    Ok(replaced)
}

fn takes(node: &Node, service: &Service) -> bool {
    let fits = service.spec.task.placement.constraints.iter().all(|constraint| {
        let (key, value) = constraint.split_once("==").unwrap_or((constraint, ""));
        match key.trim() {
            "node.role" => value.trim() == if node.manager.is_some() { "manager" } else { "worker" },
            "node.hostname" => value.trim() == node.name(),
            "node.platform.os" => value.trim() == "linux",
            _ => false,
        }
    });
    fits && node.status.state == NodeState::Ready && node.spec.availability == Availability::Active
}

fn stop(task: &mut Task) {
    task.desired_state = TaskState::Shutdown;
    task.status.state = TaskState::Shutdown;
    task.status.timestamp = Timestamp::now();
    "shutdown".clone_into(&mut task.status.message);
}

fn run_task(tx: &Tx, service: &Service, slot: u64, node: Option<NodeId>) -> Task {
    let id = TaskId::from_u128(super::random());
    let mut task = Task::new(id, Some(service.id), service.spec.task.clone());
    let (desired, state, message) = match (service.spec.mode.is_job(), node) {
        (_, None) => (TaskState::Running, TaskState::Pending, "pending task scheduling"),
        (true, Some(_)) => (TaskState::Complete, TaskState::Complete, "finished"),
        (false, Some(_)) => (TaskState::Running, TaskState::Running, "started"),
    };
    task.desired_state = desired;
    task.slot = slot;
    task.node_id = node;
    task.spec_version = service.spec_version;
    task.service_labels.clone_from(&service.spec.annotations.labels);
    task.service_name.clone_from(&service.spec.annotations.name);
    task.job_iteration = service.job_status.map(|job| job.iteration);
    let host_ports = service.spec.endpoint.ports.iter().filter(|port| port.publish_mode == PublishMode::Host);
    task.status = TaskStatus {
        timestamp: Timestamp::now(),
        state,
        message: message.to_owned(),
        container: node.map(|_| ContainerStatus {
            container_id: format!("{:032x}{:032x}", super::random(), super::random()),
            pid: 1,
            exit_code: 0,
        }),
        ports: host_ports.cloned().collect(),
        ..TaskStatus::default()
    };
    let number = u32::try_from(tx.tasks().len()).unwrap_or(0) % 100 + 2;
    task.networks = service
        .endpoint
        .iter()
        .flat_map(|endpoint| &endpoint.vips)
        .filter_map(|vip| {
            let subnet = tx.networks().get(vip.network_id)?.subnets.first()?.subnet;
            let address = Cidr { address: host(subnet, number), prefix: subnet.prefix };
            Some(NetworkAttachment {
                network_id: vip.network_id,
                addresses: vec![address],
                aliases: Vec::new(),
                driver_options: std::collections::BTreeMap::new(),
            })
        })
        .collect();
    task
}

/// Tasks of services that are gone go too.
fn orphans(tx: &mut Tx) -> Result<(), Error> {
    let gone = |task: &Task| task.service_id.is_some_and(|id| tx.services().get(id).is_none());
    let gone: Vec<_> = tx.tasks().iter().filter(|task| gone(task)).map(|task| task.id).collect();
    gone.into_iter().try_for_each(|id| tx.remove::<Task>(id))
}
