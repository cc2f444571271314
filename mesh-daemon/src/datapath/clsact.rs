//! Takes our filters off clsact qdiscs, and the qdisc away where nothing else hangs on it.

use std::collections::BTreeSet;

use aya::programs::TcAttachType;
use aya::programs::tc::SchedClassifierLink;
use futures_util::TryStreamExt as _;
use netlink_packet_route::tc::{TcHandle, TcMessage};
use rtnetlink::Handle;

use super::attach::{HANDLE, PRIORITY, SECOND};
use super::facts::{Facts, FactsError, request};

/// The qdisc, and where it hangs (`TC_H_CLSACT`, linux/pkt_sched.h).
const CLSACT: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// See [`CLSACT`].
const CLSACT_PARENT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };

/// Removes what `attach` put on clsact qdiscs of interfaces that are not in `wanted`.
///
/// # Errors
/// The kernel did not answer.
pub(super) async fn remove(handle: &Handle, facts: &Facts, wanted: &BTreeSet<u32>) -> Result<(), FactsError> {
    for (name, interface) in facts.interfaces.iter().filter(|(_, interface)| !wanted.contains(&interface.ifindex)) {
        let filters = filters(handle, interface.ifindex).await?;
        if !filters.iter().any(is_ours) {
            continue;
        }
        for priority in [PRIORITY, SECOND] {
            if let Ok(link) = SchedClassifierLink::attached(name, TcAttachType::Ingress, priority, HANDLE, None) {
                drop(link); // dropping it detaches the filter
            }
        }
        if filters.iter().all(is_ours) {
            let mut removal = handle.qdisc().del(interface.ifindex as i32);
            removal.message_mut().header.handle = CLSACT;
            removal.message_mut().header.parent = CLSACT_PARENT;
            removal.execute().await.map_err(request("qdiscs to let go of clsact"))?;
        }
    }
    Ok(())
}

async fn filters(handle: &Handle, ifindex: u32) -> Result<Vec<TcMessage>, FactsError> {
    let mut filters = Vec::new();
    let ask = || handle.traffic_filter(ifindex as i32).get();
    for side in [ask().ingress(), ask().egress()] {
        let found: Result<Vec<_>, _> = side.execute().try_collect().await;
        // An interface without the qdisc answers with an error: it has no filters.
        filters.extend(found.unwrap_or_default());
    }
    Ok(filters)
}

/// The upper half of `info` is the priority (`TC_H_MAJ`).
fn is_ours(filter: &TcMessage) -> bool {
    [PRIORITY, SECOND].iter().any(|priority| filter.header.info >> 16 == u32::from(*priority))
}
