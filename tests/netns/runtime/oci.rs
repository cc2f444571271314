//! The embedded runtime: the suite, and what only it has.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use mesh_daemon::runtime::netns;
use mesh_daemon::runtime::oci::OciRuntime;
use mesh_daemon::runtime::{Runtime as _, State, Status};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::{Bed, container, directory, is_running, options};
use super::{lifecycle, process, run_all};

#[test]
fn the_embedded_runtime_behaves() {
    let bed = Bed::oci();
    run_all(&bed, &[lifecycle::ALL, lifecycle::CHECKED, process::ALL].concat());
}

#[test]
fn a_daemon_that_starts_adopts_what_runs_and_learns_what_ended() {
    let mut bed = Bed::oci();
    let (runs, ends) = (container("sleep 1000"), container("sleep 1; echo late; exit 9"));
    let (runs, ends) = bed.block_on(async { (bed.start(&runs).await, bed.start(&ends).await) });
    bed.restart();
    bed.block_on(async {
        assert!(is_running(&bed.status(&runs).await));
        assert_eq!(bed.runtime.wait(&ends).await.unwrap().code, 9);
        assert_eq!(bed.written(&ends).await.0, "late\n");
        assert_eq!(bed.exec(&runs, "echo here").await, (0, "here\n".to_owned()));
        assert_eq!(bed.runtime.shutdown(&runs, None).await.unwrap().code, 137);
    });
}

/// The processes of a container's shim: those that were started with its directory. What started it may still be there.
fn shim_of(bed: &Bed, status: &Status) -> Vec<Pid> {
    let wanted = directory(bed).join("containers").join(&status.id.0);
    let is_it = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.contains("shim") && line.contains(wanted.to_str().unwrap())
    };
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let pids: Vec<i32> = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_it).collect();
    assert!(!pids.is_empty(), "the container has a shim");
    pids.into_iter().map(Pid::from_raw).collect()
}

#[test]
fn a_container_whose_shim_is_killed_is_ended_and_said_to_be_lost() {
    let bed = Bed::oci();
    bed.block_on(async {
        let id = bed.start(&container("sleep 1000")).await;
        let status = bed.status(&id).await;
        let State::Running { pid, .. } = status.state else { panic!("{status:?}") };
        for pid in shim_of(&bed, &status) {
            // One that has just ended is no matter.
            let _gone = kill(pid, Signal::SIGKILL);
        }
        let exit = bed.runtime.wait(&id).await.unwrap();
        assert_eq!(exit.code, 137);
        assert!(exit.error.unwrap().contains("lost sight of"));
        bed.until("its process is gone", async || !Path::new(&format!("/proc/{pid}/ns/net")).exists()).await;
    });
}

#[test]
fn health_is_known_at_once_after_a_restart_of_the_daemon() {
    let mut bed = Bed::oci();
    let mut wanted = container("sleep 1000");
    wanted.spec.healthcheck = Some(mesh_daemon::model::container::Healthcheck {
        test: vec!["CMD".to_owned(), "/bin/sh".to_owned(), "-c".to_owned(), "exit 0".to_owned()],
        interval: Some(Duration::from_millis(200)),
        ..Default::default()
    });
    let id = bed.block_on(async {
        let id = bed.start(&wanted).await;
        let mut health = bed.runtime.health(&id).await.unwrap();
        health.wait_for(|health| *health == mesh_daemon::runtime::Health::Healthy).await.unwrap();
        let kept = directory(&bed).join("containers").join(&id.0).join("health.json");
        bed.until("it is kept", async || kept.exists()).await;
        id
    });
    bed.restart();
    bed.block_on(async {
        let health = bed.runtime.health(&id).await.unwrap();
        assert_eq!(*health.borrow(), mesh_daemon::runtime::Health::Healthy);
    });
}

#[test]
fn a_container_joins_the_network_namespace_that_is_there() {
    let bed = Bed::oci();
    let path = bed.files.path().join("ns").join("task");
    netns::create(&path).unwrap();
    assert!(netns::exists(&path) && netns::create(&path).is_err());
    let inside =
        || fs::metadata("/proc/thread-self/ns/net").map(|of| std::os::unix::fs::MetadataExt::ino(&of)).unwrap();
    let inode = netns::enter(&path, inside).unwrap();
    assert_ne!(inode, inside());
    let mut wanted = container("readlink /proc/self/ns/net");
    wanted.netns = Some(path.clone());
    let (_, out, err) = bed.block_on(bed.run(&wanted));
    netns::remove(&path).unwrap();
    netns::remove(&path).unwrap();
    assert!(!netns::exists(&path) && !path.exists());
    assert_eq!(out, format!("net:[{inode}]\n"), "{err}");
}

#[test]
fn removed_means_gone_and_a_node_that_leaves_leaves_nothing() {
    let mut bed = Bed::oci();
    let (ended, runs, made) = (container("exit 0"), container("sleep 1000"), container("exit 0"));
    bed.block_on(async {
        let id = bed.start(&ended).await;
        bed.runtime.wait(&id).await.unwrap();
        bed.runtime.remove(&id).await.unwrap();
        bed.start(&runs).await;
        bed.runtime.prepare(&made).await.unwrap();
    });
    let root = bed.files.path().to_owned();
    let mounts = || {
        let info = fs::read_to_string("/proc/self/mountinfo").unwrap();
        info.lines().filter(|line| line.contains(root.to_str().unwrap())).count()
    };
    assert_eq!((mounts(), fs::read_dir(directory(&bed).join("containers")).unwrap().count()), (4, 2));
    // What a crash left half made is no container, and goes.
    fs::remove_file(directory(&bed).join("containers").join(made_id(&bed, &made)).join("record.json")).unwrap();
    bed.restart();
    assert_eq!(mounts(), 2);
    bed.block_on(async {
        let runtime = OciRuntime::open(options(&bed.files), Timestamp::now).await.unwrap();
        runtime.leave().await.unwrap();
    });
    let groups = options(&bed.files).cgroup_parent;
    let left: Vec<_> = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join(groups.trim_start_matches('/')))
        .filter(|path| path.exists())
        .collect();
    assert_eq!((mounts(), left), (0, vec![]));
    assert_eq!(fs::read_dir(directory(&bed).join("containers")).unwrap().count(), 0);
    assert!(!options(&bed.files).state.exists());
}

fn made_id(bed: &Bed, wanted: &mesh_daemon::runtime::Container) -> String {
    bed.block_on(async { bed.runtime.prepare(wanted).await.unwrap().0 })
}
