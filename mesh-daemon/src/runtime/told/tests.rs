use std::time::Duration;

use jiff::Timestamp;

use super::*;
use crate::model::container::ContainerSpec;
use crate::model::id::TaskId;
use crate::runtime::fake::{FakeRuntime, Script};

fn container() -> Container {
    let spec = ContainerSpec { image: "a".to_owned(), ..ContainerSpec::default() };
    Container::new(TaskId::from_u128(1), "a.1".to_owned(), spec)
}

fn fake(script: &Script) -> Arc<FakeRuntime> {
    let script = script.clone();
    Arc::new(FakeRuntime::new(Timestamp::UNIX_EPOCH, Box::new(move |_| script.clone())))
}

/// What was told of containers so far.
fn acts(steps: &mut broadcast::Receiver<Step>) -> Vec<Act> {
    std::iter::from_fn(|| steps.try_recv().ok())
        .filter_map(|step| match step {
            Step::Container(_, act) => Some(act),
            Step::Image(..) => None,
        })
        .collect()
}

#[tokio::test]
async fn each_step_of_a_life_is_told_once_whoever_waits_for_it() {
    let told = Told::new(fake(&Script::default()));
    let mut steps = told.listen();
    let id = told.prepare(&container()).await.unwrap();
    for _ in 0..2 {
        told.start(&id).await.unwrap();
    }
    assert_eq!(acts(&mut steps), [Act::Created, Act::Started]);
    let (one, other, stop) = tokio::join!(told.wait(&id), told.wait(&id), told.shutdown(&id, None));
    assert_eq!((one.unwrap().code, other.unwrap().code, stop.unwrap().code), (0, 0, 0));
    assert_eq!(acts(&mut steps), [Act::Died(0), Act::Stopped]);
    told.remove(&id).await.unwrap();
    told.remove(&id).await.unwrap();
    assert_eq!(acts(&mut steps), [Act::Removed]);
}

#[tokio::test]
async fn a_signal_and_a_health_are_told() {
    let soon = Duration::from_millis(30);
    let told = Told::new(fake(&Script { healthy: Some(soon), unhealthy: Some(2 * soon), ..Script::default() }));
    let mut steps = told.listen();
    let id = told.prepare(&container()).await.unwrap();
    told.start(&id).await.unwrap();
    // Whoever asks for it besides changes nothing.
    let _watched = [told.health(&id).await.unwrap(), told.health(&id).await.unwrap()];
    let mut seen = Vec::new();
    while seen.len() < 4 {
        let step = tokio::time::timeout(Duration::from_secs(5), steps.recv()).await.unwrap().unwrap();
        let Step::Container(_, act) = step else { continue };
        seen.push(act);
    }
    assert_eq!(seen[2], Act::Health(Health::Healthy));
    assert!(matches!(seen[3], Act::Health(Health::Unhealthy { .. })), "{seen:?}");
    told.kill(&id, "KILL").await.unwrap();
    told.wait(&id).await.unwrap();
    assert_eq!(acts(&mut steps), [Act::Killed("KILL".to_owned()), Act::Died(137)]);
}

#[tokio::test]
async fn what_an_earlier_daemon_saw_is_not_told_again() {
    let inner = fake(&Script::default());
    let id = inner.prepare(&container()).await.unwrap();
    inner.start(&id).await.unwrap();
    let told = Told::new(Arc::clone(&inner) as Arc<dyn Runtime>);
    let mut steps = told.listen();
    told.prepare(&container()).await.unwrap();
    told.start(&id).await.unwrap();
    assert_eq!(acts(&mut steps), []);
    // Its end is news; that of one that had ended is not.
    inner.end(&id, 3).unwrap();
    let again = Told::new(inner as Arc<dyn Runtime>);
    let mut later = again.listen();
    told.wait(&id).await.unwrap();
    again.wait(&id).await.unwrap();
    assert_eq!((acts(&mut steps), acts(&mut later)), (vec![Act::Died(3)], vec![]));
}

#[tokio::test]
async fn one_that_is_removed_while_it_runs_is_told_to_have_ended_before() {
    let told = Told::new(fake(&Script::default()));
    let id = told.prepare(&container()).await.unwrap();
    told.start(&id).await.unwrap();
    let mut steps = told.listen();
    told.remove(&id).await.unwrap();
    assert_eq!(acts(&mut steps), [Act::Killed("KILL".to_owned()), Act::Died(137), Act::Removed]);
}

#[tokio::test]
async fn a_stop_is_told_behind_the_end_that_another_saw() {
    let told = Told::new(fake(&Script::default()));
    let id = told.prepare(&container()).await.unwrap();
    told.start(&id).await.unwrap();
    let mut steps = told.listen();
    // Another, who waits, has seen the end, and looks at the container before it tells.
    let turn = told.turns.take(&id.0).await;
    let stop = told.shutdown(&id, None);
    tokio::pin!(stop);
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut stop).await.is_err(), "it does not wait for its turn");
    assert!(told.running().remove(&id));
    assert_eq!(acts(&mut steps), []);
    told.tell_of(&id, Act::Died(0)).await;
    drop(turn);
    assert_eq!(stop.await.unwrap().code, 0);
    assert_eq!(acts(&mut steps), [Act::Died(0), Act::Stopped]);
}

#[tokio::test]
async fn a_removal_tells_the_end_that_nobody_has_told() {
    let inner = fake(&Script::default());
    let told = Told::new(Arc::clone(&inner) as Arc<dyn Runtime>);
    let id = told.prepare(&container()).await.unwrap();
    told.start(&id).await.unwrap();
    let mut steps = told.listen();
    inner.end(&id, 3).unwrap();
    told.remove(&id).await.unwrap();
    assert_eq!(acts(&mut steps), [Act::Died(3), Act::Removed]);
}
