use super::*;
use crate::model::container::ContainerSpec;
use crate::model::id::TaskId;

fn container(number: u128) -> Container {
    let spec = ContainerSpec { image: "a".to_owned(), stop_grace: Some(ticks(10)), ..ContainerSpec::default() };
    Container::new(TaskId::from_u128(number), format!("a.{number}"), spec)
}

fn runtime(script: Script) -> FakeRuntime {
    FakeRuntime::new(Timestamp::UNIX_EPOCH, Box::new(move |_| script.clone()))
}

/// So many hundredths of a second.
fn ticks(number: u64) -> Duration {
    Duration::from_millis(10 * number)
}

/// It happened at this tick, or as much later as a busy machine takes.
#[track_caller]
fn assert_at(at: Timestamp, tick: u64) {
    let at = Duration::try_from(at.duration_since(Timestamp::UNIX_EPOCH)).unwrap();
    assert!(at >= ticks(tick) && at < ticks(tick) + Duration::from_secs(5), "{at:?} is not at tick {tick}");
}

async fn started(runtime: &FakeRuntime) -> ContainerId {
    let id = runtime.prepare(&container(1)).await.unwrap();
    runtime.start(&id).await.unwrap();
    id
}

#[tokio::test]
async fn each_thing_happens_when_the_script_says_it() {
    let script = Script { prepare: ticks(3), start: ticks(2), ends: Some((ticks(10), 4)), ..Script::default() };
    let runtime = runtime(script);
    let id = started(&runtime).await;
    let exit = runtime.wait(&id).await.unwrap();
    assert_eq!(exit.code, 4);
    assert_at(exit.at, 15);
}

#[tokio::test]
async fn one_that_does_not_listen_is_killed_after_its_grace() {
    for (stops, code, after) in [(Some((ticks(3), 0)), 0, 3), (None, 137, 10), (Some((ticks(99), 0)), 137, 10)] {
        let runtime = runtime(Script { stops, ..Script::default() });
        let id = started(&runtime).await;
        let exit = runtime.shutdown(&id, None).await.unwrap();
        assert_eq!(exit.code, code, "{stops:?}");
        assert_at(exit.at, after);
    }
}

#[tokio::test]
async fn scripted_failures_say_what_the_script_says() {
    let fails = |script| async move {
        let runtime = runtime(script);
        let prepared = runtime.prepare(&container(1)).await;
        let error = match prepared {
            Ok(id) => runtime.start(&id).await.unwrap_err(),
            Err(error) => error,
        };
        error.to_string()
    };
    let script = Script { prepare_fails: Some("no image".to_owned()), ..Script::default() };
    assert!(fails(script).await.starts_with("prepare of container "));
    let script = Script { start_fails: Some("no program".to_owned()), ..Script::default() };
    assert!(fails(script).await.ends_with(": no program"));
}

#[tokio::test]
async fn health_changes_at_its_times() {
    let script = Script { healthy: Some(ticks(5)), unhealthy: Some(ticks(8)), ..Script::default() };
    let runtime = runtime(script);
    let id = started(&runtime).await;
    let mut health = runtime.health(&id).await.unwrap();
    assert_eq!(*health.borrow_and_update(), Health::Starting);
    let begun = Instant::now();
    health.changed().await.unwrap();
    assert_eq!(health.borrow_and_update().clone(), Health::Healthy);
    health.changed().await.unwrap();
    assert!(matches!(*health.borrow_and_update(), Health::Unhealthy { .. }));
    assert!(begun.elapsed() >= ticks(7), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_end_by_the_hand_of_somebody_is_seen_at_once() {
    let runtime = runtime(Script::default());
    let id = started(&runtime).await;
    let ending = async {
        tokio::time::sleep(ticks(7)).await;
        runtime.end(&id, 9).unwrap();
    };
    let (exit, ()) = tokio::join!(runtime.wait(&id), ending);
    let exit = exit.unwrap();
    assert_eq!(exit.code, 9);
    assert_at(exit.at, 7);
}
