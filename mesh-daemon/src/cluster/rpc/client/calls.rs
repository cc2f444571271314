//! What can be asked of a manager.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use tonic::Status;

use super::Link;
use crate::cluster::rpc::convert;
use crate::cluster::rpc::face::{Downward, Granted, Standing, Stream, Upward};
use crate::cluster::rpc::limits::{MAX_MESSAGE, MAX_RAFT_MESSAGE};
use crate::cluster::rpc::proto::{self, relay_piece};
use crate::cluster::rpc::refusal::{Code, Refusal};
use crate::model::id::NodeId;

/// A manager that was reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Which.
    pub node: NodeId,
    /// Whether it serves.
    pub serving: bool,
    /// Where it saw this node come from.
    pub seen_from: Option<IpAddr>,
}

/// Waits for an answer, but not for ever.
async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Refusal> {
    match timeout(deadline, call).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Refusal::new(Code::DeadlineExceeded, format!("no answer within {deadline:?}"))),
    }
}

impl Link {
    /// The roots of the cluster, PEM. Whom it is asked without trust tells anything: see
    /// [`crate::cluster::trust`].
    ///
    /// # Errors
    /// If there is no answer in time.
    pub async fn root(&self, deadline: Duration) -> Result<Bytes, Refusal> {
        let mut client = proto::trust_client::TrustClient::new(self.channel.clone());
        Ok(within(deadline, client.get_root(proto::RootRequest {})).await?.roots)
    }

    /// A certificate for a request (PEM), with a join token.
    ///
    /// # Errors
    /// As the manager says, or if there is no answer in time.
    pub async fn join(
        &self,
        csr: &str,
        token: &str,
        availability: &str,
        deadline: Duration,
    ) -> Result<Granted, Refusal> {
        let (token, availability) = (token.to_owned(), availability.to_owned());
        self.issue(proto::IssueRequest { csr: Bytes::copy_from_slice(csr.as_bytes()), token, availability }, deadline)
            .await
    }

    /// A certificate for a request (PEM), in place of the one that this link shows.
    ///
    /// # Errors
    /// As the manager says, or if there is no answer in time.
    pub async fn renew(&self, csr: &str, deadline: Duration) -> Result<Granted, Refusal> {
        let csr = Bytes::copy_from_slice(csr.as_bytes());
        self.issue(proto::IssueRequest { csr, token: String::new(), availability: String::new() }, deadline).await
    }

    async fn issue(&self, request: proto::IssueRequest, deadline: Duration) -> Result<Granted, Refusal> {
        let mut client = proto::trust_client::TrustClient::new(self.channel.clone());
        let proto::IssueReply { node, chain, roots } = within(deadline, client.issue(request)).await?;
        Ok(Granted { node: convert::id(&node)?, chain, roots })
    }

    /// What the managers think of this node's certificate.
    ///
    /// # Errors
    /// As the manager says, or if there is no answer in time.
    pub async fn status(&self, deadline: Duration) -> Result<Standing, Refusal> {
        let mut client = proto::trust_client::TrustClient::new(self.channel.clone());
        let proto::StatusReply { role, renew, roots } =
            within(deadline, client.status(proto::StatusRequest {})).await?;
        Ok(Standing { role: convert::role(&role)?, renew, roots })
    }

    /// A request of consensus and its reply.
    ///
    /// # Errors
    /// As the manager says, or if there is no answer in time.
    pub async fn raft(&self, kind: u32, body: Bytes, deadline: Duration) -> Result<Bytes, Refusal> {
        let mut client = proto::raft_client::RaftClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_RAFT_MESSAGE)
            .max_encoding_message_size(MAX_RAFT_MESSAGE);
        Ok(within(deadline, client.call(proto::RaftRequest { kind, body })).await?.body)
    }

    /// A session: what this node says goes up, what the manager says comes down. It lasts as long as both.
    ///
    /// # Errors
    /// As the manager says, or if it has not taken the session in time.
    pub async fn session(
        &self,
        up: impl futures_util::Stream<Item = Upward> + Send + 'static,
        deadline: Duration,
    ) -> Result<Stream<Downward>, Refusal> {
        let mut client = proto::dispatcher_client::DispatcherClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE);
        let down = within(deadline, client.session(up.map(proto::Upward::from))).await?;
        Ok(convert::said(down))
    }

    /// Comes to an invitation: `up` goes to the manager, its side comes back.
    ///
    /// # Errors
    /// As the manager says, or if it has not taken the stream in time.
    pub async fn relay(&self, relay: u64, up: Stream<Bytes>, deadline: Duration) -> Result<Stream<Bytes>, Refusal> {
        let mut client =
            proto::relay_client::RelayClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let head = proto::RelayPiece { of: Some(relay_piece::Of::Relay(relay)) };
        let down = within(deadline, client.open(convert::pieces(Some(head), up))).await?;
        Ok(convert::bytes(down))
    }

    /// Has a manager join this one to a node that has its session there: `down` is for the node, what the node sends
    /// comes back. Only for managers.
    ///
    /// # Errors
    /// As the manager says, or if the node has not come in time.
    pub async fn reach(
        &self,
        node: NodeId,
        request: Bytes,
        down: Stream<Bytes>,
        deadline: Duration,
    ) -> Result<Stream<Bytes>, Refusal> {
        let mut client =
            proto::relay_client::RelayClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let ask = proto::Ask { node: node.to_string(), request };
        let head = proto::RelayPiece { of: Some(relay_piece::Of::Ask(ask)) };
        let up = within(deadline, client.reach(convert::pieces(Some(head), down))).await?;
        Ok(convert::bytes(up))
    }

    /// Whether the manager is there and serves.
    ///
    /// # Errors
    /// If there is no answer in time.
    pub async fn check(&self, deadline: Duration) -> Result<Checked, Refusal> {
        let mut client = proto::health_client::HealthClient::new(self.channel.clone());
        let proto::CheckReply { node, serving, seen_from } =
            within(deadline, client.check(proto::CheckRequest {})).await?;
        Ok(Checked { node: convert::id(&node)?, serving, seen_from: seen_from.parse().ok() })
    }
}
