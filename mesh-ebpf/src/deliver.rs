//! Hands a tunnelled frame to the local task it is for. Reads `ENDPOINTS`.

use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::Endpoint;

use crate::maps;
use crate::packet::Packet;
use crate::verdict::Verdict;
use crate::vxlan::Tunnel;

/// Takes the tunnel off and sends the inner frame into the task's link.
///
/// A frame for a task of another node is dropped, never sent on: two nodes that each believe the
/// other has the task must not play ball with it.
#[inline(always)]
pub(crate) fn to_task<P: Packet>(packet: &mut P, tunnel: &Tunnel, counter: Counter) -> Result<Verdict, DropReason> {
    let dst = tunnel.inner.eth.dst;
    if dst.is_group() {
        return Err(DropReason::GroupTraffic);
    }
    let endpoint = maps::endpoint(tunnel.vni, dst).ok_or(DropReason::UnknownEndpoint)?;
    if endpoint.node != Endpoint::HERE {
        return Err(DropReason::UnknownEndpoint);
    }
    packet.strip(tunnel.outer, &tunnel.inner.eth)?;
    maps::count(counter);
    Ok(Verdict::Redirect(endpoint.ifindex))
}
