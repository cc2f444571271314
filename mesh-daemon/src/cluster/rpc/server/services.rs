//! The services as gRPC has them: checks who calls, converts, and calls the trait behind it.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Caller, Services};
use crate::cluster::ca::Peer;
use crate::cluster::rpc::convert;
use crate::cluster::rpc::face::{self, Asked, Proof, Upward};
use crate::cluster::rpc::limits::{CALL, MAX_MESSAGE, MAX_RAFT_MESSAGE, MAX_TRUST_MESSAGE};
use crate::cluster::rpc::proto::{self, relay_piece};
use crate::cluster::rpc::refusal::{Code, Refusal};
use crate::model::id::NodeId;
use crate::model::node::Role;

/// All services of a manager.
pub(super) fn routes(services: Services, own: NodeId) -> Routes {
    let Services { trust, raft, dispatcher, relay, health } = services;
    let raft = proto::raft_server::RaftServer::new(RaftService(raft)).max_decoding_message_size(MAX_RAFT_MESSAGE);
    Routes::new(proto::trust_server::TrustServer::new(TrustService(trust)).max_decoding_message_size(MAX_TRUST_MESSAGE))
        .add_service(raft.max_encoding_message_size(MAX_RAFT_MESSAGE))
        .add_service(
            proto::dispatcher_server::DispatcherServer::new(DispatcherService(dispatcher))
                .max_decoding_message_size(MAX_MESSAGE),
        )
        .add_service(proto::relay_server::RelayServer::new(RelayService(relay)).max_decoding_message_size(MAX_MESSAGE))
        .add_service(
            proto::health_server::HealthServer::new(HealthService { health, own })
                .max_decoding_message_size(MAX_TRUST_MESSAGE),
        )
}

/// Who calls. Every connection's requests carry it.
fn caller<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| Refusal::new(Code::Internal, "call without a connection"))
}

/// The node that calls, if the cluster still knows it.
fn any_node<T>(request: &Request<T>) -> Result<Peer, Refusal> {
    let caller = caller(request)?;
    let peer = caller.peer.ok_or_else(|| Refusal::new(Code::Unauthenticated, "no client certificates in request"))?;
    caller.gate.admits(&peer)?;
    Ok(peer)
}

/// The manager that calls.
fn manager<T>(request: &Request<T>) -> Result<Peer, Refusal> {
    let peer = any_node(request)?;
    match caller(request)?.gate.admits(&peer)? {
        Role::Manager => Ok(peer),
        Role::Worker => {
            let text = "Permission denied: remote certificate not authorized for a manager's calls";
            Err(Refusal::new(Code::PermissionDenied, text))
        }
    }
}

/// A call that is no stream, under its deadline.
async fn answer<T>(call: impl Future<Output = Result<T, Refusal>> + Send) -> Result<Response<T>, Status> {
    match timeout(CALL, call).await {
        Ok(answer) => Ok(Response::new(answer?)),
        Err(_) => Err(Refusal::new(Code::DeadlineExceeded, "the call took too long").into()),
    }
}

struct TrustService(Arc<dyn face::Trust>);

#[async_trait]
impl proto::trust_server::Trust for TrustService {
    async fn get_root(&self, _: Request<proto::RootRequest>) -> Result<Response<proto::RootReply>, Status> {
        answer(async { Ok(proto::RootReply { roots: self.0.root().await? }) }).await
    }

    async fn issue(&self, request: Request<proto::IssueRequest>) -> Result<Response<proto::IssueReply>, Status> {
        let from = caller(&request)?.from;
        // With a token a node is made, whatever else it shows; without one its certificate is renewed.
        let known = if request.get_ref().token.is_empty() { Some(any_node(&request)?) } else { None };
        let proto::IssueRequest { csr, token, availability } = request.into_inner();
        let proof = known.map_or(Proof::Token { token, availability }, Proof::Certificate);
        let csr = String::from_utf8(csr.to_vec())
            .map_err(|_| Refusal::new(Code::InvalidArgument, "certificate signing request is not PEM"))?;
        answer(async {
            let granted = self.0.issue(Asked { csr, proof, from }).await?;
            Ok(proto::IssueReply { node: granted.node.to_string(), chain: granted.chain, roots: granted.roots })
        })
        .await
    }

    async fn status(&self, request: Request<proto::StatusRequest>) -> Result<Response<proto::StatusReply>, Status> {
        let peer = any_node(&request)?;
        answer(async {
            let standing = self.0.status(peer).await?;
            let role = convert::role_name(standing.role).to_owned();
            Ok(proto::StatusReply { role, renew: standing.renew, roots: standing.roots })
        })
        .await
    }
}

struct RaftService(Arc<dyn face::Raft>);

#[async_trait]
impl proto::raft_server::Raft for RaftService {
    async fn call(&self, request: Request<proto::RaftRequest>) -> Result<Response<proto::RaftReply>, Status> {
        let peer = manager(&request)?;
        let proto::RaftRequest { kind, body } = request.into_inner();
        answer(async { Ok(proto::RaftReply { body: self.0.call(peer, kind, body).await? }) }).await
    }
}

struct DispatcherService(Arc<dyn face::Dispatcher>);

#[async_trait]
impl proto::dispatcher_server::Dispatcher for DispatcherService {
    type SessionStream = BoxStream<'static, Result<proto::Downward, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<proto::Upward>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = any_node(&request)?;
        let mut up = convert::said::<_, Upward>(request.into_inner());
        let first = up.next().await.transpose()?;
        if !matches!(first, Some(Upward::Hello(_))) {
            return Err(Refusal::new(Code::InvalidArgument, "a session begins with a hello").into());
        }
        let up = futures_util::stream::iter(first.map(Ok)).chain(up).boxed();
        let down = self.0.session(peer, up).await?;
        Ok(Response::new(down.map(|said| said.map(Into::into).map_err(Into::into)).boxed()))
    }
}

struct RelayService(Arc<dyn face::Relay>);

#[async_trait]
impl proto::relay_server::Relay for RelayService {
    type OpenStream = BoxStream<'static, Result<proto::RelayPiece, Status>>;
    type ReachStream = BoxStream<'static, Result<proto::RelayPiece, Status>>;

    async fn open(&self, request: Request<Streaming<proto::RelayPiece>>) -> Result<Response<Self::OpenStream>, Status> {
        let peer = any_node(&request)?;
        let mut pieces = request.into_inner();
        let Some(relay_piece::Of::Relay(relay)) = pieces.message().await?.and_then(|piece| piece.of) else {
            return Err(Refusal::new(Code::InvalidArgument, "a relay begins with its number").into());
        };
        let down = self.0.open(peer, relay, convert::bytes(pieces)).await?;
        Ok(Response::new(convert::pieces(None, down).map(Ok).boxed()))
    }

    async fn reach(
        &self,
        request: Request<Streaming<proto::RelayPiece>>,
    ) -> Result<Response<Self::ReachStream>, Status> {
        manager(&request)?;
        let mut pieces = request.into_inner();
        let Some(relay_piece::Of::Ask(ask)) = pieces.message().await?.and_then(|piece| piece.of) else {
            return Err(Refusal::new(Code::InvalidArgument, "a stream to a node begins with which one").into());
        };
        let node = convert::id(&ask.node)?;
        let up = self.0.reach(node, ask.request, convert::bytes(pieces)).await?;
        Ok(Response::new(convert::pieces(None, up).map(Ok).boxed()))
    }
}

struct HealthService {
    health: Arc<dyn face::Health>,
    own: NodeId,
}

#[async_trait]
impl proto::health_server::Health for HealthService {
    async fn check(&self, request: Request<proto::CheckRequest>) -> Result<Response<proto::CheckReply>, Status> {
        any_node(&request)?;
        let seen_from = caller(&request)?.from.ip().to_canonical().to_string();
        answer(async {
            Ok(proto::CheckReply { node: self.own.to_string(), serving: self.health.serving().await, seen_from })
        })
        .await
    }
}
