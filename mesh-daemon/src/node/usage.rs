//! How much services are used at each node, from the nodes that count it to the manager that was asked: what
//! the packet path counted since its maps were made, by service.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream;
use mesh_common::addr::Mac;
use serde::{Deserialize, Serialize};

use super::relay::{Wanted, Ways};
use crate::api::wire;
use crate::cluster::rpc::{Code, Refusal, Stream};
use crate::datapath::Pins;
use crate::datapath::maps::Maps;
use crate::model::id::NodeId;

/// A node has so long to answer: the others' counts are shown without it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Nodes that are asked at a time.
const AT_ONCE: usize = 64;
/// An answer that is longer is none.
const MAX_ANSWER: usize = 4 << 20;

/// What a node counted, by service id.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Usage(BTreeMap<String, Counts>);

#[derive(Debug, Default, Serialize, Deserialize)]
struct Counts {
    flows: u64,
    packets: u64,
    bytes: u64,
}

/// What a node that is asked sends: one piece.
pub(super) fn counted(pins: Pins) -> Stream<Bytes> {
    let piece = async move {
        match tokio::task::spawn_blocking(move || count(&pins)).await {
            Ok(Ok(usage)) => serde_json::to_vec(&usage).map(Bytes::from).map_err(|error| failed(&error)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(error) => Err(failed(&error)),
        }
    };
    stream::once(piece).boxed()
}

fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::Internal, format!("the counts of the packet path: {error}"))
}

/// Of a service what was dialled is counted here, and of its tasks here new flows.
fn count(pins: &Pins) -> Result<Usage, crate::datapath::maps::MapsError> {
    let mut usage = Usage::default();
    for row in Maps::open(pins)?.tallies()?.into_iter().filter(|row| row.number != 0) {
        // The packet path knows a service once in each of its networks.
        let service = row.label.service.as_str().split('@').next().unwrap_or_default();
        let counts = usage.0.entry(service.to_owned()).or_default();
        if row.label.task == Mac::ZERO {
            counts.packets += row.tally.packets;
            counts.bytes += row.tally.bytes;
        } else {
            counts.flows += row.tally.flows;
        }
    }
    Ok(usage)
}

/// Asks nodes; those that do not answer in time are left out.
pub(super) async fn ask(ways: &Ways, nodes: Vec<NodeId>) -> Vec<wire::NodeUsage> {
    let asked = stream::iter(nodes).map(|node| async move {
        let answered = tokio::time::timeout(PATIENCE, one(ways, node)).await;
        match answered {
            Ok(Some(usage)) => Some(of(node, usage)),
            Ok(None) | Err(_) => None,
        }
    });
    asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn one(ways: &Ways, node: NodeId) -> Option<Usage> {
    let nothing = Box::pin(stream::pending());
    let mut pieces = ways.stream(node, &Wanted::Usage, nothing).await.ok()?;
    let mut json = Vec::new();
    while let Some(Ok(piece)) = pieces.next().await {
        json.extend_from_slice(&piece);
        if json.len() > MAX_ANSWER {
            return None;
        }
    }
    serde_json::from_slice(&json).ok()
}

fn of(node: NodeId, usage: Usage) -> wire::NodeUsage {
    let counts = |(service_id, counts): (String, Counts)| wire::ServiceUsage {
        service_id,
        flows: counts.flows,
        packets: counts.packets,
        bytes: counts.bytes,
        ..wire::ServiceUsage::default()
    };
    wire::NodeUsage {
        node_id: node.to_string(),
        services: usage.0.into_iter().map(counts).collect(),
        ..wire::NodeUsage::default()
    }
}
