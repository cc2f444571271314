//! What an engine says, in our words.

use std::collections::BTreeMap;

use bollard::container::LogOutput;
use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerStatsResponse, DistributionInspect, HealthStatusEnum,
    ImageSummary as EngineImage,
};
use bytes::Bytes;
use jiff::Timestamp;

use super::{ContainerId, Described, Digest, Exit, Health, ImageSummary, Output, State, Stats, Status, Stream, TASK};
use crate::runtime::{LogLine, RuntimeError};

fn time(text: Option<&str>) -> Timestamp {
    text.and_then(|text| text.parse().ok()).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A container.
pub(super) fn status(id: ContainerId, seen: ContainerInspectResponse) -> Status {
    let config = seen.config.unwrap_or_default();
    let labels = config.labels.unwrap_or_default();
    let state = seen.state.unwrap_or_default();
    let health = match state.health.as_ref().and_then(|health| health.status) {
        None | Some(HealthStatusEnum::EMPTY | HealthStatusEnum::NONE) => Health::None,
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => {
            let last = state.health.as_ref().and_then(|health| health.log.as_ref()?.last()?.output.clone());
            Health::Unhealthy { output: last.unwrap_or_default() }
        }
    };
    let how = match state.status {
        None | Some(ContainerStateStatusEnum::EMPTY | ContainerStateStatusEnum::CREATED) => {
            // A start that failed leaves its container created, with an error.
            match state.error.as_deref().filter(|error| !error.is_empty()) {
                None => State::Created,
                Some(error) => State::Exited(Exit {
                    code: code(state.exit_code),
                    oom_killed: false,
                    error: Some(error.to_owned()),
                    at: time(seen.created.as_deref()),
                }),
            }
        }
        Some(
            ContainerStateStatusEnum::RUNNING
            | ContainerStateStatusEnum::PAUSED
            | ContainerStateStatusEnum::RESTARTING
            | ContainerStateStatusEnum::STOPPING,
        ) => State::Running {
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or_default(),
            since: time(state.started_at.as_deref()),
        },
        Some(
            ContainerStateStatusEnum::REMOVING | ContainerStateStatusEnum::EXITED | ContainerStateStatusEnum::DEAD,
        ) => State::Exited(Exit {
            code: code(state.exit_code),
            oom_killed: state.oom_killed.unwrap_or_default(),
            error: state.error.filter(|error| !error.is_empty()),
            at: time(state.finished_at.as_deref()),
        }),
    };
    Status {
        id,
        task: labels.get(TASK).and_then(|task| task.parse().ok()),
        name: seen.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        labels: labels.into_iter().collect(),
        image: config.image.unwrap_or_default(),
        image_id: seen.image.unwrap_or_default(),
        ports: config.exposed_ports.into_iter().flatten().collect(),
        tty: config.tty.unwrap_or_default(),
        command: seen.path.into_iter().chain(seen.args.into_iter().flatten()).collect(),
        created: time(seen.created.as_deref()),
        state: how,
        health,
    }
}

fn code(code: Option<i64>) -> i32 {
    code.and_then(|code| i32::try_from(code).ok()).unwrap_or(255)
}

/// A piece of an exec's output.
pub(super) fn output(frame: LogOutput) -> Output {
    let (stream, bytes) = split(frame);
    Output { stream, bytes }
}

fn split(frame: LogOutput) -> (Stream, Bytes) {
    match frame {
        LogOutput::StdErr { message } => (Stream::Stderr, message),
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            (Stream::Stdout, message)
        }
    }
}

/// A line of a log: a time, a space, and what was written.
pub(super) fn line(frame: LogOutput) -> Option<LogLine> {
    let (stream, bytes) = split(frame);
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let at = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    Some(LogLine { at, stream, text: bytes.slice(space + 1..) })
}

/// What a container uses.
pub(super) fn stats(seen: &ContainerStatsResponse) -> Stats {
    let memory = seen.memory_stats.clone().unwrap_or_default();
    let idle = |stats: &std::collections::HashMap<String, u64>| {
        stats.get("total_inactive_file").or_else(|| stats.get("inactive_file")).copied()
    };
    let idle = memory.stats.as_ref().and_then(idle).unwrap_or_default();
    let networks = seen.networks.iter().flatten().map(|(_, network)| network);
    let blocks = seen.blkio_stats.as_ref().and_then(|blocks| blocks.io_service_bytes_recursive.clone());
    let blocks = blocks.unwrap_or_default();
    let moved = |op: &str| {
        let of = blocks.iter().filter(|entry| entry.op.as_deref().is_some_and(|of| of.eq_ignore_ascii_case(op)));
        of.filter_map(|entry| entry.value).sum()
    };
    let cpu = seen.cpu_stats.as_ref().and_then(|cpu| cpu.cpu_usage.as_ref()?.total_usage);
    Stats {
        cpu_ns: cpu.unwrap_or_default(),
        memory_bytes: memory.usage.unwrap_or_default().saturating_sub(idle),
        memory_limit: memory.limit,
        pids: seen.pids_stats.as_ref().and_then(|pids| pids.current).unwrap_or_default(),
        network_bytes: networks.fold((0, 0), |(came, went), network| {
            (came + network.rx_bytes.unwrap_or_default(), went + network.tx_bytes.unwrap_or_default())
        }),
        disk_bytes: (moved("read"), moved("write")),
    }
}

/// What a registry said of a name.
pub(super) fn described(seen: DistributionInspect) -> Result<Described, RuntimeError> {
    let descriptor = seen.descriptor;
    let digest = descriptor.digest.unwrap_or_default().parse()?;
    let platform = |of: bollard::models::OciPlatform| (of.os.unwrap_or_default(), of.architecture.unwrap_or_default());
    Ok(Described {
        digest,
        media_type: descriptor.media_type.unwrap_or_default(),
        size: descriptor.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default(),
        platforms: seen.platforms.into_iter().map(platform).collect(),
    })
}

/// An image. The engine gives a digest of the manifest only for what came from a registry.
pub(super) fn image(seen: EngineImage) -> Option<ImageSummary> {
    let id: Digest = seen.id.parse().ok()?;
    let from_registry = seen.repo_digests.iter().find_map(|name| name.split_once('@')?.1.parse::<Digest>().ok());
    Some(ImageSummary {
        names: seen.repo_tags.into_iter().filter(|name| name != "<none>:<none>").collect(),
        manifest: from_registry.clone().unwrap_or_else(|| id.clone()),
        index: from_registry,
        created: Timestamp::from_second(seen.created).ok().map(|created| created.to_string()),
        parts: BTreeMap::from([(id.clone(), u64::try_from(seen.size).unwrap_or_default())]),
        id,
    })
}
