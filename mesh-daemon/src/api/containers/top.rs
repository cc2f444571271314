//! `/containers/ID/top`: the processes of a container, from /proc: those in the process namespace of its first.

use std::fs;
use std::path::Path;

use axum::Json;
use axum::extract::{Path as UrlPath, State as AxumState};
use nix::unistd::{Uid, User};

use super::{Api, find_running};
use crate::api::error::Error;
use crate::api::wire::TopAnswer;
use crate::runtime::State;

/// More processes are not listed: a container may have many thousands.
const MAX_PROCESSES: usize = 4096;

pub(in crate::api) async fn top(AxumState(api): Api, UrlPath(name): UrlPath<String>) -> Result<Json<TopAnswer>, Error> {
    let one = find_running(&api, &name).await?;
    let State::Running { pid, .. } = one.state else { return Err(Error::NoContainer(name)) };
    let read = tokio::task::spawn_blocking(move || processes(pid)).await;
    let processes = read.map_err(|_| Error::internal("a thread that looked at processes ended early"))?;
    let titles = ["UID", "PID", "PPID", "CMD"].map(str::to_owned).to_vec();
    Ok(Json(TopAnswer { titles, processes, ..TopAnswer::default() }))
}

fn processes(first: u32) -> Vec<Vec<String>> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    let Some(wanted) = namespace(&Path::new("/proc").join(first.to_string())) else { return Vec::new() };
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| namespace(&Path::new("/proc").join(pid.to_string())).as_ref() == Some(&wanted))
        .collect();
    pids.sort_unstable();
    pids.truncate(MAX_PROCESSES);
    pids.into_iter().filter_map(describe).collect()
}

/// None if it has ended meanwhile.
fn describe(pid: u32) -> Option<Vec<String>> {
    let process = Path::new("/proc").join(pid.to_string());
    let status = fs::read_to_string(process.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    let uid: u32 = field("Uid:")?.parse().ok()?;
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name);
    let line = fs::read(process.join("cmdline")).ok()?;
    let words: Vec<_> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
    let command = String::from_utf8_lossy(&words.join(&b' ')).into_owned();
    Some(vec![user, pid.to_string(), field("PPid:")?.to_owned(), command])
}
