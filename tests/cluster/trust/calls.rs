use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use mesh_daemon::cluster::rpc::{Code, Downward, Hello, Http, Refusal, Request, Stream, Upward};
use mesh_daemon::model::id::NodeId;
use mesh_daemon::model::node::Role;
use tokio::sync::mpsc;

use super::world::{SOON, World};

fn pieces(pieces: impl IntoIterator<Item = Result<&'static str, Refusal>>) -> Stream<Bytes> {
    let all: Vec<_> = pieces.into_iter().map(|piece| piece.map(Bytes::from)).collect();
    stream::iter(all).boxed()
}

fn broke() -> Refusal {
    Refusal::new(Code::Internal, "the disk broke")
}

#[tokio::test]
async fn a_request_of_http_is_answered_by_another_manager_with_streams_both_ways() {
    let world = World::new().await;
    let link = world.link(&world.join(Role::Manager).await);
    let headers = vec![("x-meta".to_owned(), Bytes::from_static(b"\xff\x00"))];
    let request =
        |target: &str| Request { method: "POST".to_owned(), target: target.to_owned(), headers: headers.clone() };

    // A hijacked connection: each side speaks when it likes.
    let (say, said) = mpsc::channel::<Bytes>(1);
    let said = stream::unfold(said, async |mut said| Some((Ok(said.recv().await?), said))).boxed();
    let mut answer = link.http(Http { head: request("/exec/1/start?x=y"), data: said }, SOON).await.unwrap();
    assert_eq!((answer.head.status, &answer.head.headers), (101, &headers));
    for word in ["one", "two"] {
        say.send(Bytes::from_static(word.as_bytes())).await.unwrap();
        assert_eq!(answer.data.next().await.unwrap().unwrap(), word);
    }
    drop(say);
    assert!(answer.data.next().await.is_none());

    // A body that breaks off is not taken for a whole one.
    let broken = pieces([Ok("half"), Err(broke()), Ok("never")]);
    let answer = link.http(Http { head: request("/load"), data: broken }, SOON).await.unwrap();
    let all: Vec<_> = answer.data.collect().await;
    assert_eq!(all, [Ok(Bytes::from_static(b"half")), Err(Refusal::new(Code::Aborted, "the disk broke"))]);

    let refused = link.http(Http { head: request("/none"), data: pieces([]) }, SOON).await.err().unwrap();
    assert_eq!(refused, Refusal::new(Code::NotFound, "POST /none not found"));
    assert_eq!(refused.to_string(), "rpc error: code = NotFound desc = POST /none not found");
}

#[tokio::test]
async fn a_snapshot_comes_in_pieces_and_a_broken_one_is_known() {
    let world = World::new().await;
    let link = world.link(&world.join(Role::Manager).await);
    let piece = Bytes::from(vec![7; 64 * 1024]);
    let long = stream::iter(std::iter::repeat_n(Ok(piece), 1000)).boxed();
    let head = Bytes::from_static(b"snapshot 1");
    let took = link.snapshot(head.clone(), long, Duration::from_secs(60)).await.unwrap();
    assert_eq!(took, format!("snapshot 1: {}", 64 * 1024 * 1000));
    let broken = link.snapshot(head, pieces([Ok("half"), Err(broke())]), SOON).await.unwrap_err();
    assert_eq!(broken, Refusal::new(Code::Aborted, "the disk broke"));
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
