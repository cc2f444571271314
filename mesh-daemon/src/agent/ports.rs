//! Ports of this node that lead to one task alone: mode `host` of a published port.

use std::collections::BTreeSet;

use crate::datapath::preflight::sockets::{self, Listening};
use crate::model::service::{Port, Protocol, PublishMode};
use crate::model::task::Task;

/// Ports for tasks that leave the number to the node: neither of those that managers give, nor of those that
/// Linux gives to sockets unless it is told otherwise.
const CHOSEN: std::ops::RangeInclusive<u16> = 20_000..=29_999;

/// Ports that others have.
#[derive(Default)]
pub(super) struct Taken {
    tasks: BTreeSet<(Protocol, u16)>,
    sockets: Vec<Listening>,
}

impl Taken {
    /// Those of processes of the node, as its kernel says: it takes a moment, and a thread that may wait.
    pub(super) fn by_processes() -> Self {
        Self { tasks: BTreeSet::new(), sockets: sockets::listening() }
    }

    /// These, and those of tasks.
    pub(super) fn and_by_tasks<'a>(mut self, others: impl Iterator<Item = &'a Port>) -> Self {
        self.tasks.extend(others.map(|port| (port.protocol, port.published_port)));
        self
    }

    /// Who has the port, if somebody has.
    fn by(&self, protocol: Protocol, number: u16) -> Option<Owner> {
        if self.tasks.contains(&(protocol, number)) {
            return Some(Owner::Task);
        }
        let name = word(protocol);
        let socket = self.sockets.iter().find(|socket| socket.port == number && socket.table.starts_with(name))?;
        Some(Owner::Socket(socket.inode))
    }
}

/// Who has a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// Another task.
    Task,
    /// The process that has the socket of this number.
    Socket(u64),
}

/// Why a task does not get its ports.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Somebody has the one it names.
    Taken(Protocol, u16, Owner),
    /// None is left to choose from.
    NoneLeft,
}

impl Refused {
    /// In words. A process is looked for by its socket: that takes a moment, and a thread that may wait.
    pub(super) fn tell(&self) -> String {
        let (protocol, number, owner) = match self {
            Self::Taken(protocol, number, owner) => (word(*protocol), number, owner),
            Self::NoneLeft => return format!("no port of {} to {} is free", CHOSEN.start(), CHOSEN.end()),
        };
        let owner = match owner {
            Owner::Task => "another task".to_owned(),
            Owner::Socket(inode) => sockets::process_of(*inode).unwrap_or_else(|| "a process".to_owned()),
        };
        format!("port {number}/{protocol} of this node is in use by {owner}")
    }
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// The ports that a task asks for. SCTP is not carried.
pub(super) fn wanted(task: &Task) -> impl Iterator<Item = &Port> {
    let all = task.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
    all.filter(|port| port.publish_mode == PublishMode::Host && port.protocol != Protocol::Sctp)
}

/// The ports that a task gets: those it names, and for those it leaves open some that nobody has.
///
/// # Errors
///
/// Somebody has one of them.
pub(super) fn take(task: &Task, taken: &Taken) -> Result<Vec<Port>, Refused> {
    let mut given: Vec<Port> = Vec::new();
    for port in wanted(task) {
        let mut port = port.clone();
        if port.published_port == 0 {
            port.published_port = choose(task, &port, taken, &given).ok_or(Refused::NoneLeft)?;
        } else if let Some(owner) = taken.by(port.protocol, port.published_port) {
            return Err(Refused::Taken(port.protocol, port.published_port, owner));
        }
        given.push(port);
    }
    Ok(given)
}

/// The number it had before this daemon, or the first free one from a place that its id says.
fn choose(task: &Task, port: &Port, taken: &Taken, given: &[Port]) -> Option<u16> {
    let is_free = |number: &u16| {
        let is_given = given.iter().any(|other| (other.protocol, other.published_port) == (port.protocol, *number));
        !is_given && taken.by(port.protocol, *number).is_none()
    };
    let same =
        |old: &&Port| (old.protocol, old.target_port, &old.name) == (port.protocol, port.target_port, &port.name);
    let before = task.status.ports.iter().find(same).map(|old| old.published_port).filter(is_free);
    let place = u16::try_from(task.id.to_u128() % 10_000).unwrap_or(0);
    let from = CHOSEN.start().saturating_add(place);
    before.or_else(|| (from..=*CHOSEN.end()).chain(*CHOSEN.start()..from).find(is_free))
}

#[cfg(test)]
mod tests {
    use super::{Taken, take};
    use crate::datapath::preflight::sockets::Listening;
    use crate::model::id::TaskId;
    use crate::model::service::{Endpoint, Port, Protocol, PublishMode};
    use crate::model::task::{Task, TaskSpec};

    fn port(protocol: Protocol, published: u16) -> Port {
        Port {
            protocol,
            target_port: 80,
            published_port: published,
            publish_mode: PublishMode::Host,
            ..Port::default()
        }
    }

    fn task(ports: &[Port]) -> Task {
        let mut task = Task::new(TaskId::from_u128(7), None, TaskSpec::default());
        task.endpoint = Some(Endpoint { ports: ports.to_vec(), ..Endpoint::default() });
        task
    }

    fn taken(tasks: &[(Protocol, u16)], table: &'static str, socket: u16) -> Taken {
        // No process has the socket of this number.
        let sockets = vec![Listening { table, port: socket, inode: u64::MAX }];
        Taken { tasks: tasks.iter().copied().collect(), sockets }
    }

    fn numbers(task: &Task, taken: &Taken) -> Vec<u16> {
        take(task, taken).unwrap().iter().map(|port| port.published_port).collect()
    }

    #[test]
    fn a_port_by_number_is_had_or_its_owner_is_named() {
        let wanted = task(&[port(Protocol::Tcp, 8080)]);
        assert_eq!(numbers(&wanted, &taken(&[(Protocol::Udp, 8080)], "udp6", 8080)), [8080]);
        let refused = take(&wanted, &taken(&[(Protocol::Tcp, 8080)], "udp", 1)).unwrap_err();
        assert_eq!(refused.tell(), "port 8080/tcp of this node is in use by another task");
        let refused = take(&wanted, &taken(&[], "tcp6", 8080)).unwrap_err();
        assert_eq!(refused.tell(), "port 8080/tcp of this node is in use by a process");
    }

    #[test]
    fn a_port_that_is_left_open_is_one_that_nobody_has_and_stays() {
        let mut open = task(&[port(Protocol::Tcp, 0), port(Protocol::Udp, 0)]);
        assert_eq!(numbers(&open, &taken(&[], "tcp", 1)), [20_007, 20_007]);
        let busy = taken(&[(Protocol::Tcp, 20_007)], "udp", 20_007);
        assert_eq!(numbers(&open, &busy), [20_008, 20_008]);
        open.status.ports = take(&open, &busy).unwrap();
        assert_eq!(numbers(&open, &taken(&[], "tcp", 1)), [20_008, 20_008]);
    }

    #[test]
    fn ports_of_all_nodes_are_no_concern_of_one() {
        let ingress = Port { publish_mode: PublishMode::Ingress, ..port(Protocol::Tcp, 8080) };
        assert!(numbers(&task(&[ingress]), &taken(&[(Protocol::Tcp, 8080)], "tcp", 8080)).is_empty());
    }
}
