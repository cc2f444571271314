//! The programs that mesh is compared with, in the same run.

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::maps::HashMap;
use harness::packet::udp;

use super::driver::{Driver, Hook, Script};
use super::{FILL, PACKETS};

/// One row.
pub(crate) struct Reference {
    pub(crate) name: &'static str,
    program: &'static str,
    /// Does it start without the connections of the rounds before?
    fill: bool,
    script: Script,
    /// What one packet stands for.
    pub(crate) units: f64,
    action: u32,
    /// Nanoseconds, by round.
    pub(crate) ns: Vec<f64>,
}

/// Names of the rows that others are compared with.
pub(crate) const LOOKUP: &str = "one array lookup";
/// See above.
pub(crate) const KNOWN: &str = "reference balancer: known flow (UDP)";
/// See above.
pub(crate) const NEW: &str = "reference balancer: new flow, LRU full";

/// The service of the reference balancer, and its backend.
const SERVICE: &str = "192.0.2.1:82";
const BACKEND: u32 = 1;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

/// All rows.
pub(crate) fn all() -> Result<Vec<Reference>> {
    let mut frame: Vec<u8> = udp("203.0.113.9:40000", SERVICE).into();
    frame.resize(super::driver::FRAME, 0);
    let row = |name, program, flows, units, action| {
        let script = Script { frame: frame.clone(), flows, first: 0, port_at: 34, addr_at: 26 };
        Reference { name, program, fill: false, script, units, action, ns: Vec::new() }
    };
    let new = row(NEW, "reference_balancer", u32::MAX, 1.0, XDP_TX);
    Ok(vec![
        row("addresses swapped, sent back (XDP_TX)", "mac_swap", 0, 1.0, XDP_TX),
        row(LOOKUP, "array_lookups", 0, 16.0, XDP_PASS),
        row(KNOWN, "reference_balancer", 0, 1.0, XDP_TX),
        row("the same, 65,536 flows walked", "reference_balancer", (1 << 16) - 1, 1.0, XDP_TX),
        row("the same, 262,144 flows walked", "reference_balancer", (1 << 18) - 1, 1.0, XDP_TX),
        Reference { fill: true, ..new },
    ])
}

impl Reference {
    /// One round.
    pub(crate) fn measure(&mut self, driver: &mut Driver) -> Result<()> {
        let program = driver.program(self.program)?;
        let packets = if self.script.flows == u32::MAX { PACKETS } else { PACKETS.max(self.script.flows + 1) };
        if self.fill {
            self.script.first = self.script.first.wrapping_add(FILL);
            driver.drive(Hook::Xdp, &program, &self.script, FILL)?;
            self.script.first = self.script.first.wrapping_add(FILL);
        } else if self.script.flows != 0 {
            driver.drive(Hook::Xdp, &program, &self.script, packets)?;
        }
        let idle = driver.drive_empty(Hook::Xdp, &self.script, packets)?;
        let run = driver.drive(Hook::Xdp, &program, &self.script, packets)?;
        ensure!(run.action == self.action, "{} answered with {} instead of {}", self.name, run.action, self.action);
        self.ns.push((run.ns - idle.ns) / self.units);
        Ok(())
    }
}

/// Gives the reference balancer its service: keys and values as balancer.rs of bench-ebpf has them.
pub(crate) fn configure(ebpf: &mut Ebpf) -> Result<()> {
    let mut services: HashMap<_, [u8; 8], [u32; 2]> =
        ebpf.map_mut("REF_SERVICES").context("REF_SERVICES")?.try_into()?;
    let (addr, port) = ([192, 0, 2, 1], 82_u16.to_be_bytes());
    let proto = 17_u16.to_ne_bytes();
    let key = [addr[0], addr[1], addr[2], addr[3], port[0], port[1], proto[0], proto[1]];
    services.insert(key, [BACKEND, 1], 0)?;
    let mut backends: HashMap<_, u32, [u8; 12]> = ebpf.map_mut("REF_BACKENDS").context("REF_BACKENDS")?.try_into()?;
    backends.insert(BACKEND, [10, 0, 0, 3, 0x1f, 0x90, 2, 0x42, 10, 0, 0, 3], 0)?;
    Ok(())
}
