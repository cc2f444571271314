//! Between what crosses the wire and what the traits speak of.

use futures_util::{StreamExt as _, stream};

use super::face::{Downward, Hello, Reach, Stream, Upward};
use super::proto::{self, downward, relay_piece, upward};
use super::refusal::{Code, Refusal};
use bytes::Bytes;

use crate::model::node::Role;

fn incomplete(what: &str) -> Refusal {
    Refusal::new(Code::InvalidArgument, format!("{what} without a content that this version knows"))
}

impl From<Upward> for proto::Upward {
    fn from(said: Upward) -> Self {
        use upward::Of;
        let of = match said {
            Upward::Hello(Hello { description, session, version }) => {
                Of::Hello(proto::Hello { description, session, version })
            }
            Upward::Statuses { batch, body } => Of::Statuses(proto::Statuses { batch, body }),
            Upward::Applied(version) => Of::Applied(proto::Applied { version }),
            Upward::Heartbeat => Of::Heartbeat(proto::Heartbeat {}),
            Upward::Description(body) => Of::Description(proto::Description { body }),
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<proto::Upward> for Upward {
    type Error = Refusal;

    fn try_from(said: proto::Upward) -> Result<Self, Refusal> {
        use upward::Of;
        Ok(match said.of.ok_or_else(|| incomplete("message of a node"))? {
            Of::Hello(proto::Hello { description, session, version }) => {
                Self::Hello(Hello { description, session, version })
            }
            Of::Statuses(proto::Statuses { batch, body }) => Self::Statuses { batch, body },
            Of::Applied(proto::Applied { version }) => Self::Applied(version),
            Of::Heartbeat(proto::Heartbeat {}) => Self::Heartbeat,
            Of::Description(proto::Description { body }) => Self::Description(body),
        })
    }
}

impl From<Downward> for proto::Downward {
    fn from(said: Downward) -> Self {
        use downward::Of;
        let of = match said {
            Downward::Welcome { session, heartbeat_ms } => Of::Welcome(proto::Welcome { session, heartbeat_ms }),
            Downward::Assignments { version, since, body } => {
                Of::Assignments(proto::Assignments { version, since, body })
            }
            Downward::Managers(managers) => {
                Of::Managers(proto::Managers { managers: managers.into_iter().map(Into::into).collect() })
            }
            Downward::NetworkKeys(body) => Of::NetworkKeys(proto::NetworkKeys { body }),
            Downward::Renew { roots, now } => Of::Renew(proto::Renew { roots, now }),
            Downward::StatusesTaken(batch) => Of::StatusesTaken(proto::StatusesTaken { batch }),
            Downward::Invitation { relay, request } => Of::Invitation(proto::Invitation { relay, request }),
            Downward::Node(body) => Of::Node(proto::NodeState { body }),
        };
        Self { of: Some(of) }
    }
}

impl TryFrom<proto::Downward> for Downward {
    type Error = Refusal;

    fn try_from(said: proto::Downward) -> Result<Self, Refusal> {
        use downward::Of;
        Ok(match said.of.ok_or_else(|| incomplete("message of a manager"))? {
            Of::Welcome(proto::Welcome { session, heartbeat_ms }) => Self::Welcome { session, heartbeat_ms },
            Of::Assignments(proto::Assignments { version, since, body }) => Self::Assignments { version, since, body },
            Of::Managers(proto::Managers { managers }) => {
                Self::Managers(managers.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?)
            }
            Of::NetworkKeys(proto::NetworkKeys { body }) => Self::NetworkKeys(body),
            Of::Renew(proto::Renew { roots, now }) => Self::Renew { roots, now },
            Of::StatusesTaken(proto::StatusesTaken { batch }) => Self::StatusesTaken(batch),
            Of::Invitation(proto::Invitation { relay, request }) => Self::Invitation { relay, request },
            Of::Node(proto::NodeState { body }) => Self::Node(body),
        })
    }
}

impl From<Reach> for proto::Manager {
    fn from(Reach { node, address, leader }: Reach) -> Self {
        Self { node: node.to_string(), address, leader }
    }
}

impl TryFrom<proto::Manager> for Reach {
    type Error = Refusal;

    fn try_from(proto::Manager { node, address, leader }: proto::Manager) -> Result<Self, Refusal> {
        Ok(Self { node: id(&node)?, address, leader })
    }
}

/// An id that the other side sent.
pub(super) fn id<Id: std::str::FromStr>(text: &str) -> Result<Id, Refusal>
where
    Id::Err: std::fmt::Display,
{
    text.parse().map_err(|error: Id::Err| Refusal::new(Code::InvalidArgument, error.to_string()))
}

impl proto::RelayPiece {
    fn data(data: Bytes) -> Self {
        Self { of: Some(relay_piece::Of::Data(data)) }
    }

    /// For the reason that ends an incomplete stream.
    fn failed(why: String) -> Self {
        Self { of: Some(relay_piece::Of::Failed(why)) }
    }

    /// What is in it. A message that has no place in the middle of a stream is a refusal.
    fn read(self) -> Result<Bytes, Refusal> {
        match self.of {
            Some(relay_piece::Of::Data(data)) => Ok(data),
            Some(relay_piece::Of::Failed(why)) => Err(Refusal::new(Code::Aborted, why)),
            Some(relay_piece::Of::Relay(_) | relay_piece::Of::Ask(_)) => {
                Err(Refusal::new(Code::InvalidArgument, "head of a stream in its middle"))
            }
            None => Err(incomplete("piece of a stream")),
        }
    }
}

/// Bytes as messages: the first is given, a failure becomes the last.
pub(super) fn pieces(
    head: Option<proto::RelayPiece>,
    data: Stream<Bytes>,
) -> impl futures_util::Stream<Item = proto::RelayPiece> + Send {
    let whole = data.scan(false, |ended, piece| {
        let over = *ended;
        *ended = piece.is_err();
        std::future::ready((!over).then_some(piece))
    });
    stream::iter(head).chain(whole.map(|piece| match piece {
        Ok(data) => proto::RelayPiece::data(data),
        Err(refusal) => proto::RelayPiece::failed(refusal.text),
    }))
}

/// Messages as bytes; ends after the first failure.
pub(super) fn bytes(messages: tonic::Streaming<proto::RelayPiece>) -> Stream<Bytes> {
    until_error(messages.map(|message| message.map_err(Refusal::from).and_then(proto::RelayPiece::read)))
}

/// Messages as what they say; ends after the first failure.
pub(super) fn said<M, T>(messages: tonic::Streaming<M>) -> Stream<T>
where
    M: Send + 'static,
    T: TryFrom<M, Error = Refusal> + Send + 'static,
{
    until_error(messages.map(|message| message.map_err(Refusal::from).and_then(T::try_from)))
}

fn until_error<T: Send + 'static>(
    items: impl futures_util::Stream<Item = Result<T, Refusal>> + Send + 'static,
) -> Stream<T> {
    items
        .scan(false, |ended, item| {
            let over = *ended;
            *ended = item.is_err();
            std::future::ready((!over).then_some(item))
        })
        .boxed()
}

/// The role's name on the wire.
pub(super) fn role_name(role: Role) -> &'static str {
    match role {
        Role::Worker => "worker",
        Role::Manager => "manager",
    }
}

/// The role of this name.
pub(super) fn role(name: &str) -> Result<Role, Refusal> {
    let all = [Role::Worker, Role::Manager];
    let found = all.into_iter().find(|role| role_name(*role) == name);
    found
        .ok_or_else(|| Refusal::new(Code::InvalidArgument, format!("\"{name}\" is not a role: worker and manager are")))
}
