//! An idle VXLAN device of the kernel on our port. It carries no packet: its being there makes the
//! kernel coalesce the segments inside VXLAN (GRO) before `underlay_bulk` sees them, some thirty
//! frames in one.

use rtnetlink::{Handle, LinkVxlan};
use tracing::{info, warn};

use super::facts::{Facts, FactsError, request};

/// Its name.
pub const NAME: &str = "mesh-gro";

/// Makes the device, if it is missing and no other VXLAN device is there to do the same.
///
/// Without it everything works, bulk TCP slower; so a refusal is said and no error.
pub(super) async fn ensure(handle: &Handle, facts: &Facts, port: u16) {
    if facts.interfaces.contains_key(NAME) || facts.vxlan_ports.contains(&port) {
        return;
    }
    // Not bound to one network: it takes the port and leaves the rest to programs.
    let device =
        LinkVxlan::new(NAME, 0).collect_metadata(true).learning(false).port(port).udp_zero_csum6_rx(true).up().build();
    match handle.link().add(device).execute().await {
        Ok(()) => info!(device = NAME, port, "made, so that the kernel coalesces what comes in VXLAN"),
        Err(error) => warn!("cannot make {NAME}: {error}; bulk TCP between nodes is slower without"),
    }
}

/// Removes the device.
///
/// # Errors
/// The kernel refuses.
pub(super) async fn remove(handle: &Handle, facts: &Facts) -> Result<(), FactsError> {
    let Some(device) = facts.interfaces.get(NAME) else { return Ok(()) };
    handle.link().del(device.ifindex).execute().await.map_err(request("anchor device to go"))
}
