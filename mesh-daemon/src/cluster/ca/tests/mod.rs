//! Trust, asked in sentences.

mod cipher;
mod keep;
mod root;
mod token;
mod trusted;
mod wanted;

use std::time::{Duration, SystemTime};

use crate::cluster::ca::{Root, Subject};
use crate::model::id::{ClusterId, NodeId};
use crate::model::node::Role;

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn root() -> Root {
    Root::create(now()).unwrap()
}

fn subject(node: u128, role: Role) -> Subject {
    Subject { node: NodeId::from_u128(node), role, cluster: ClusterId::from_u128(42) }
}
