//! How Docker words a container: its state, how long ago, its command line.

use jiff::Timestamp;

use crate::api::wire::{ContainerPort, ContainerSummary};
use crate::runtime::{Health, State, Status};

/// The word for a state.
pub(super) fn state(state: &State) -> &'static str {
    match state {
        State::Created => "created",
        State::Running { .. } => "running",
        State::Exited(_) => "exited",
    }
}

/// The word for a health.
pub(super) fn health(health: &Health) -> &'static str {
    match health {
        Health::None => "none",
        Health::Starting => "starting",
        Health::Healthy => "healthy",
        Health::Unhealthy { .. } => "unhealthy",
    }
}

/// Whether a name is what a filter asks for: a part of it, or with `^` and `$` its beginning and end.
pub(super) fn is_named(name: &str, wanted: &str) -> bool {
    let (wanted, from_start) = match wanted.strip_prefix('^') {
        Some(rest) => (rest, true),
        None => (wanted, wanted.starts_with('/')),
    };
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    match (wanted.strip_suffix('$'), from_start) {
        (Some(whole), true) => name == whole,
        (Some(end), false) => name.ends_with(end),
        (None, true) => name.starts_with(wanted),
        (None, false) => name.contains(wanted),
    }
}

pub(super) fn summary(one: &Status, now: Timestamp) -> ContainerSummary {
    let port = |port: &String| {
        let (number, kind) = port.split_once('/').unwrap_or((port, "tcp"));
        let private_port = number.parse().ok()?;
        Some(ContainerPort { private_port, kind: kind.to_owned(), ..ContainerPort::default() })
    };
    ContainerSummary {
        id: one.id.to_string(),
        names: vec![format!("/{}", one.name)],
        image: one.image.clone(),
        image_id: one.image_id.clone(),
        command: one.command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
        created: one.created.as_second(),
        // What a task publishes is published by the node, in front of all of the service's tasks.
        ports: one.ports.iter().filter_map(port).collect(),
        labels: one.labels.clone(),
        state: state(&one.state).to_owned(),
        status: status(one, now),
        ..ContainerSummary::default()
    }
}

/// `Up 9 seconds (healthy)`.
fn status(one: &Status, now: Timestamp) -> String {
    let since = |then: Timestamp| duration(now.duration_since(then).as_secs().max(0));
    match &one.state {
        State::Created => "Created".to_owned(),
        State::Running { since: begin, .. } => {
            let health = match &one.health {
                Health::None => "",
                Health::Starting => " (health: starting)",
                Health::Healthy => " (healthy)",
                Health::Unhealthy { .. } => " (unhealthy)",
            };
            format!("Up {}{health}", since(*begin))
        }
        State::Exited(exit) => format!("Exited ({}) {} ago", exit.code, since(exit.at)),
    }
}

/// A duration in seconds, rounded as the engine rounds.
fn duration(seconds: i64) -> String {
    let minutes = seconds / 60;
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 730 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

/// A word of a command line as the engine shows it.
fn quoted(word: &str) -> String {
    if word.contains([' ', '\t', '\n', '"', '\'']) {
        format!("'{}'", word.replace('\'', "\\'"))
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{ContainerId, Exit};

    fn one(state: State, health: Health) -> Status {
        Status {
            id: ContainerId("7375d9ca".to_owned()),
            task: None,
            name: "web.1.n7k0mqpysnp0m1io9y8hs1f7l".to_owned(),
            labels: Default::default(),
            image: "web:1".to_owned(),
            image_id: "sha256:d9".to_owned(),
            command: ["sh", "-c", "echo hi"].map(str::to_owned).to_vec(),
            ports: vec!["80/tcp".to_owned(), "x".to_owned()],
            tty: false,
            created: Timestamp::UNIX_EPOCH,
            state,
            health,
        }
    }

    #[test]
    fn a_status_says_what_and_since_when() {
        let at = Timestamp::UNIX_EPOCH;
        let now: Timestamp = "1970-01-01T00:00:09Z".parse().unwrap();
        let running = State::Running { pid: 7, since: at };
        let exited = State::Exited(Exit { code: 137, oom_killed: false, error: None, at });
        for (state, health, text) in [
            (State::Created, Health::None, "Created"),
            (running.clone(), Health::None, "Up 9 seconds"),
            (running.clone(), Health::Starting, "Up 9 seconds (health: starting)"),
            (running, Health::Healthy, "Up 9 seconds (healthy)"),
            (exited, Health::Healthy, "Exited (137) 9 seconds ago"),
        ] {
            assert_eq!(status(&one(state, health), now), text);
        }
    }

    #[test]
    fn a_summary_has_the_command_line_and_the_ports_that_can_be_read() {
        let summary = summary(&one(State::Created, Health::None), Timestamp::UNIX_EPOCH);
        assert_eq!(summary.command, "sh -c 'echo hi'");
        assert_eq!(summary.names, ["/web.1.n7k0mqpysnp0m1io9y8hs1f7l"]);
        assert_eq!(summary.ports.iter().map(|port| port.private_port).collect::<Vec<_>>(), [80]);
    }

    #[test]
    fn names_are_asked_for_by_a_part_and_by_their_ends() {
        for (wanted, fits) in [
            ("web", true),
            ("1.n7", true),
            ("^web", true),
            ("/web", true),
            ("^/web.1", true),
            ("^1", false),
            ("f7l$", true),
            ("^web$", false),
        ] {
            assert_eq!(is_named("web.1.n7k0mqpysnp0m1io9y8hs1f7l", wanted), fits, "{wanted}");
        }
    }
}
