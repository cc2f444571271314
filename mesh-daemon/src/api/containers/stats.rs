//! `/containers/ID/stats`: what a container uses, once or every second. Each answer has the sample before, since
//! clients show the difference.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State as AxumState};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};

use super::{Api, find_running};
use crate::api::error::Error;
use crate::api::query::Params;
use crate::api::{Shared, convert, refusal, wire};
use crate::runtime::{Stats, Status};

/// Between two samples, as Docker has it.
const EVERY: Duration = Duration::from_secs(1);

/// The kernel counts processor time in hundredths of seconds (proc(5), USER_HZ).
const TICK_NS: u64 = 10_000_000;

pub(in crate::api) async fn stats(
    AxumState(api): Api,
    Path(name): Path<String>,
    params: Params,
) -> Result<Response, Error> {
    let one = find_running(&api, &name).await?;
    let (once, at_once) = (params.get("stream").is_some() && !params.flag("stream"), params.flag("one-shot"));
    let first = sample(&api, &one, None).await?;
    let json = [(header::CONTENT_TYPE, "application/json")];
    if once && at_once {
        return Ok((json, text(&first)).into_response());
    }
    if once {
        tokio::time::sleep(EVERY).await;
        return Ok((json, text(&sample(&api, &one, Some(first)).await?)).into_response());
    }
    // Ends with the container.
    let samples = stream::unfold((Arc::clone(&api), one, first), |(api, one, before)| async move {
        tokio::time::sleep(EVERY).await;
        let next = sample(&api, &one, Some(before)).await.ok()?;
        Some((text(&next), (api, one, next)))
    });
    Ok((json, Body::from_stream(samples.map(Ok::<_, std::convert::Infallible>))).into_response())
}

fn text(answer: &wire::StatsAnswer) -> String {
    serde_json::to_string(answer).unwrap_or_default() + "\n"
}

async fn sample(api: &Shared, one: &Status, before: Option<wire::StatsAnswer>) -> Result<wire::StatsAnswer, Error> {
    let stats = api.runtime().stats(&one.id).await.map_err(|error| refusal(&error))?;
    let before = before.unwrap_or_default();
    Ok(wire::StatsAnswer {
        read: convert::time(api.cluster.now()),
        preread: if before.read.is_empty() { super::inspect::NEVER.to_owned() } else { before.read },
        name: format!("/{}", one.name),
        id: one.id.to_string(),
        precpu_stats: before.cpu_stats,
        ..answer(&stats, &Machine::read())
    })
}

/// The whole machine's part of the numbers.
struct Machine {
    cpu_ns: u64,
    cpus: u64,
    memory_bytes: u64,
}

impl Machine {
    fn read() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let all = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
        // Guests' time is in the user's already (proc(5)).
        let ticks: u64 = all.take(8).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        Self {
            cpu_ns: ticks * TICK_NS,
            cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u64),
            memory_bytes: kib.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(0) * 1024,
        }
    }
}

fn answer(stats: &Stats, machine: &Machine) -> wire::StatsAnswer {
    let disk = |op: &str, value| wire::DiskBytes { op: op.to_owned(), value, ..wire::DiskBytes::default() };
    let (rx_bytes, tx_bytes) = stats.network_bytes;
    // Counted for all links at once.
    let links = wire::LinkStats { rx_bytes, tx_bytes, ..wire::LinkStats::default() };
    wire::StatsAnswer {
        pids_stats: wire::PidsStats { current: stats.pids, ..wire::PidsStats::default() },
        cpu_stats: wire::CpuStats {
            cpu_usage: wire::CpuUsage { total_usage: stats.cpu_ns, ..wire::CpuUsage::default() },
            system_cpu_usage: machine.cpu_ns,
            online_cpus: machine.cpus,
            ..wire::CpuStats::default()
        },
        memory_stats: wire::MemoryStats {
            usage: stats.memory_bytes,
            limit: stats.memory_limit.unwrap_or(machine.memory_bytes).min(machine.memory_bytes),
            ..wire::MemoryStats::default()
        },
        blkio_stats: wire::DiskStats {
            io_service_bytes_recursive: vec![disk("read", stats.disk_bytes.0), disk("write", stats.disk_bytes.1)],
            ..wire::DiskStats::default()
        },
        networks: BTreeMap::from([("all".to_owned(), links)]),
        ..wire::StatsAnswer::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_without_a_limit_has_the_machines_memory() {
        let machine = Machine { cpu_ns: 9, cpus: 2, memory_bytes: 4096 };
        let limit = |memory_limit| answer(&Stats { memory_limit, ..Stats::default() }, &machine).memory_stats.limit;
        assert_eq!((limit(None), limit(Some(1024)), limit(Some(u64::MAX))), (4096, 1024, 4096));
    }
}
