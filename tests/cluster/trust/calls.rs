use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use mesh_daemon::cluster::rpc::{Code, Downward, Hello, Refusal, Stream, Upward};
use mesh_daemon::model::id::NodeId;
use mesh_daemon::model::node::Role;

use super::world::{SOON, World};

fn pieces(pieces: impl IntoIterator<Item = Result<&'static str, Refusal>>) -> Stream<Bytes> {
    let all: Vec<_> = pieces.into_iter().map(|piece| piece.map(Bytes::from)).collect();
    stream::iter(all).boxed()
}

fn broke() -> Refusal {
    Refusal::new(Code::Internal, "the disk broke")
}

#[tokio::test]
async fn a_session_begins_with_a_hello_and_goes_both_ways() {
    let world = World::new().await;
    let member = world.join(Role::Worker).await;
    let statuses = Upward::Statuses { batch: 9, body: Bytes::from_static(b"s") };
    let up = [Upward::Hello(Hello::default()), Upward::Heartbeat, statuses.clone()];
    let mut down = world.link(&member).session(stream::iter(up).chain(stream::pending()), SOON).await.unwrap();
    assert!(matches!(down.next().await, Some(Ok(Downward::Welcome { .. }))));
    assert_eq!(down.next().await, Some(Ok(Downward::StatusesTaken(9))));
    let without = world.link(&member).session(stream::iter([statuses]), SOON).await.err().unwrap();
    assert_eq!(without, Refusal::new(Code::InvalidArgument, "a session begins with a hello"));
}

#[tokio::test]
async fn a_node_comes_to_its_invitation_and_to_no_others() {
    let world = World::new().await;
    let (member, other) = (world.join(Role::Worker).await, world.join(Role::Worker).await);
    let invited = world.relays.invite(member.node).unwrap();
    let number = invited.number();
    let gone = Refusal::new(Code::NotFound, "no such invitation, or no longer");
    for (who, number) in [(&other, number), (&member, number + 1)] {
        let refused = world.link(who).relay(number, pieces([]), SOON).await.err().unwrap();
        assert_eq!(refused, gone);
    }
    let manager = invited.meet(pieces([Ok("down")]), SOON);
    let node = async {
        let mut down = world.link(&member).relay(number, pieces([Ok("up"), Err(broke())]), SOON).await.unwrap();
        assert_eq!(down.next().await.unwrap().unwrap(), "down");
        assert!(down.next().await.is_none());
    };
    let (up, ()) = tokio::join!(manager, node);
    let all: Vec<_> = up.unwrap().collect().await;
    assert_eq!(all, [Ok(Bytes::from_static(b"up")), Err(Refusal::new(Code::Aborted, "the disk broke"))]);
    let again = world.link(&member).relay(number, pieces([]), SOON).await.err().unwrap();
    assert_eq!(again, gone);
}

#[tokio::test]
async fn an_invitation_that_nobody_comes_to_ends_and_there_are_only_so_many() {
    let world = World::new().await;
    let node = NodeId::from_u128(5);
    let waiting: Vec<_> = (0..1024).map(|_| world.relays.invite(node).unwrap()).collect();
    assert_eq!(world.relays.invite(node).err().unwrap().code, Code::ResourceExhausted);
    drop(waiting);
    let late = world.relays.invite(node).unwrap().meet(pieces([]), Duration::from_millis(50)).await;
    assert_eq!(late.err().unwrap().code, Code::Unavailable);
}

#[tokio::test]
async fn a_manager_is_joined_to_a_node_by_another_and_a_worker_is_not() {
    let world = World::new().await;
    let (worker, manager) = (world.join(Role::Worker).await, world.join(Role::Manager).await);
    let (node, request) = (worker.node, Bytes::from_static(b"what for"));
    let refused = world.link(&worker).reach(node, request.clone(), pieces([]), SOON).await.err().unwrap();
    assert_eq!(refused.code, Code::PermissionDenied, "{refused}");
    let up = world.link(&manager).reach(node, request, pieces([Ok("down"), Err(broke())]), SOON).await.unwrap();
    let all: Vec<_> = up.collect().await;
    let said = |text: String| Ok(Bytes::from(text));
    let broken = Err(Refusal::new(Code::Aborted, "the disk broke"));
    assert_eq!(all, [said(format!("{node} what for")), said("down".to_owned()), broken]);
}
