//! Behaviours of all runtimes: from nothing to an end, seen from outside.

use std::time::{Duration, Instant};

use mesh_daemon::runtime::{Exit, Health, State};

use super::bed::{container, is_running, words};
use super::{Bed, Behaviour};

pub(super) const ALL: &[Behaviour] = &[
    ("a container is made, runs, ends with its code, and is removed", |bed| Box::pin(ends_with_its_code(bed))),
    ("acts may be repeated, and a container runs once", |bed| Box::pin(acts_may_be_repeated(bed))),
    ("one that stops when asked to stops at once", |bed| Box::pin(stops_when_asked(bed))),
    ("one that does not is ended when its grace is over", |bed| Box::pin(is_ended_after_its_grace(bed))),
    ("one that was never started can be stopped and removed", |bed| Box::pin(never_started(bed))),
    ("an end that nobody asked for is seen", |bed| Box::pin(an_end_of_its_own(bed))),
];

async fn ends_with_its_code(bed: &Bed) {
    let wanted = container("exit 3");
    let id = bed.runtime.prepare(&wanted).await.unwrap();
    let made = bed.status(&id).await;
    assert_eq!((made.task, &made.name, &made.state), (Some(wanted.task), &wanted.name, &State::Created));
    assert_eq!(made.labels.get("com.docker.swarm.task.id"), Some(&wanted.task.to_string()));
    let started = bed.runtime.start(&id).await.unwrap();
    assert!(started.netns.is_absolute());
    let exit = bed.runtime.wait(&id).await.unwrap();
    assert_eq!((exit.code, exit.oom_killed, &exit.error), (3, false, &None));
    assert_eq!(bed.status(&id).await.state, State::Exited(exit));
    assert!(bed.runtime.list().await.unwrap().iter().any(|status| status.id == id));
    bed.runtime.remove(&id).await.unwrap();
    assert!(bed.runtime.list().await.unwrap().iter().all(|status| status.id != id));
    assert!(bed.runtime.inspect(&id).await.is_err());
}

async fn acts_may_be_repeated(bed: &Bed) {
    let wanted = container("sleep 1000");
    let id = bed.runtime.prepare(&wanted).await.unwrap();
    assert_eq!(bed.runtime.prepare(&wanted).await.unwrap(), id);
    let first = bed.runtime.start(&id).await.unwrap();
    assert_eq!(bed.runtime.start(&id).await.unwrap(), first);
    bed.runtime.kill(&id, "SIGKILL").await.unwrap();
    let exit = bed.runtime.wait(&id).await.unwrap();
    assert_eq!(exit.code, 137);
    assert_eq!(bed.runtime.wait(&id).await.unwrap(), exit);
    assert_eq!(bed.runtime.shutdown(&id, None).await.unwrap(), exit);
    bed.runtime.start(&id).await.expect_err("a second run");
    bed.runtime.remove(&id).await.unwrap();
    bed.runtime.remove(&id).await.unwrap();
}

async fn stops_when_asked(bed: &Bed) {
    let mut wanted = container("trap 'exit 5' TERM; while :; do sleep 0.05; done");
    wanted.spec.stop_grace = Some(Duration::from_secs(60));
    let id = bed.start(&wanted).await;
    // Until the trap stands, the signal is lost on a first process.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begun = Instant::now();
    assert_eq!(bed.runtime.shutdown(&id, None).await.unwrap().code, 5);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    bed.runtime.remove(&id).await.unwrap();
}

async fn is_ended_after_its_grace(bed: &Bed) {
    let mut wanted = container("trap '' TERM; while :; do sleep 1; done");
    wanted.spec.stop_grace = Some(Duration::from_secs(1));
    let id = bed.start(&wanted).await;
    let begun = Instant::now();
    let exit = bed.runtime.shutdown(&id, None).await.unwrap();
    assert_eq!((exit.code, exit.oom_killed), (137, false));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    bed.runtime.remove(&id).await.unwrap();
    // Another grace than its own, longer or shorter.
    for (own, other) in [(0, 1), (60, 1)] {
        wanted = container("trap '' TERM; while :; do sleep 1; done");
        wanted.spec.stop_grace = Some(Duration::from_secs(own));
        let id = bed.start(&wanted).await;
        let begun = Instant::now();
        bed.runtime.shutdown(&id, Some(Duration::from_secs(other))).await.unwrap();
        let took = begun.elapsed();
        assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(20), "{own} s, but {took:?}");
        bed.runtime.remove(&id).await.unwrap();
    }
}

async fn never_started(bed: &Bed) {
    let id = bed.runtime.prepare(&container("exit 0")).await.unwrap();
    let exit = bed.runtime.shutdown(&id, None).await.unwrap();
    assert_eq!(exit.code, 0);
    bed.runtime.remove(&id).await.unwrap();
    let id = bed.runtime.prepare(&container("exit 0")).await.unwrap();
    bed.runtime.remove(&id).await.unwrap();
}

async fn an_end_of_its_own(bed: &Bed) {
    let id = bed.start(&container("sleep 1000")).await;
    assert!(is_running(&bed.status(&id).await));
    let waiting = bed.runtime.wait(&id);
    let killing = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        bed.runtime.kill(&id, "SIGKILL").await.unwrap();
    };
    let (exit, ()) = tokio::join!(waiting, killing);
    let Exit { code, error, .. } = exit.unwrap();
    assert_eq!((code, error), (137, None));
    bed.runtime.remove(&id).await.unwrap();
}

/// A behaviour of runtimes that run real programs.
pub(super) const CHECKED: &[Behaviour] =
    &[("health follows the check: starting, healthy, unhealthy", |bed| Box::pin(health_follows(bed)))];

async fn health_follows(bed: &Bed) {
    let mut wanted = container("sleep 1000");
    wanted.spec.healthcheck = Some(mesh_daemon::model::container::Healthcheck {
        test: words(&["CMD-SHELL", "test -f /well || { echo not well; exit 1; }"]),
        interval: Some(Duration::from_millis(100)),
        timeout: Some(Duration::from_secs(10)),
        retries: Some(2),
        start_period: Some(Duration::from_secs(1000)),
        start_interval: Some(Duration::from_millis(100)),
    });
    let id = bed.start(&wanted).await;
    let mut health = bed.runtime.health(&id).await.unwrap();
    assert_eq!(*health.borrow_and_update(), Health::Starting);
    bed.exec(&id, "touch /well").await;
    health.wait_for(|health| *health == Health::Healthy).await.unwrap();
    assert_eq!(bed.status(&id).await.health, Health::Healthy);
    bed.exec(&id, "rm /well").await;
    let unhealthy = health.wait_for(|health| matches!(health, Health::Unhealthy { .. })).await.unwrap().clone();
    assert_eq!(unhealthy, Health::Unhealthy { output: "not well\n".to_owned() });
    bed.runtime.remove(&id).await.unwrap();
}
