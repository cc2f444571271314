use super::*;
use crate::model::container::ContainerSpec;
use crate::model::id::TaskId;

fn container(number: u128) -> Container {
    Container {
        task: TaskId::from_u128(number),
        name: format!("a.{number}"),
        spec: ContainerSpec { image: "a".to_owned(), ..ContainerSpec::default() },
        resources: Default::default(),
        log: None,
        labels: Default::default(),
        secrets: vec![],
        configs: vec![],
        netns: None,
        addresses: vec![],
        nameservers: vec![],
        credentials: Credentials::Anonymous,
    }
}

fn runtime(script: Script) -> FakeRuntime {
    FakeRuntime::new(Timestamp::UNIX_EPOCH, Box::new(move |_| script.clone()))
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

async fn started(runtime: &FakeRuntime) -> ContainerId {
    let id = runtime.prepare(&container(1)).await.unwrap();
    runtime.start(&id).await.unwrap();
    id
}

#[tokio::test(start_paused = true)]
async fn each_thing_happens_when_the_script_says_it() {
    let script = Script { prepare: seconds(3), start: seconds(2), ends: Some((seconds(10), 4)), ..Script::default() };
    let runtime = runtime(script);
    let id = started(&runtime).await;
    let exit = runtime.wait(&id).await.unwrap();
    assert_eq!((exit.code, exit.at.as_second()), (4, 15));
}

#[tokio::test(start_paused = true)]
async fn one_that_does_not_listen_is_killed_after_its_grace() {
    for (stops, code, after) in [(Some((seconds(3), 0)), 0, 3), (None, 137, 10), (Some((seconds(99), 0)), 137, 10)] {
        let runtime = runtime(Script { stops, ..Script::default() });
        let id = started(&runtime).await;
        let exit = runtime.shutdown(&id).await.unwrap();
        assert_eq!((exit.code, exit.at.as_second()), (code, after), "{stops:?}");
    }
}

#[tokio::test(start_paused = true)]
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

#[tokio::test(start_paused = true)]
async fn health_changes_at_its_times() {
    let script = Script { healthy: Some(seconds(5)), unhealthy: Some(seconds(8)), ..Script::default() };
    let runtime = runtime(script);
    let id = started(&runtime).await;
    let mut health = runtime.health(&id).await.unwrap();
    assert_eq!(*health.borrow_and_update(), Health::Starting);
    let begun = Instant::now();
    health.changed().await.unwrap();
    assert_eq!((health.borrow_and_update().clone(), begun.elapsed()), (Health::Healthy, seconds(5)));
    health.changed().await.unwrap();
    assert!(matches!(*health.borrow_and_update(), Health::Unhealthy { .. }));
    assert_eq!(begun.elapsed(), seconds(8));
}

#[tokio::test(start_paused = true)]
async fn an_end_by_the_hand_of_somebody_is_seen_at_once() {
    let runtime = runtime(Script::default());
    let id = started(&runtime).await;
    let ending = async {
        tokio::time::sleep(seconds(7)).await;
        runtime.end(&id, 9).unwrap();
    };
    let (exit, ()) = tokio::join!(runtime.wait(&id), ending);
    let exit = exit.unwrap();
    assert_eq!((exit.code, exit.at.as_second()), (9, 7));
}
