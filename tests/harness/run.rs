//! The programs without a wire: packets run through them by `BPF_PROG_TEST_RUN`.
//!
//! A [`Lab`] puts the calling thread into an empty network namespace with numbered interfaces, since
//! the kernel wants those named by a run to exist. A [`Node`] is what the daemon makes of a desired
//! state: loaded, rendered and written by its own code, attached to nothing.
//!
//! A run does not carry the packet out, so the interface of a redirect is not seen here: the tests
//! on namespaces see it.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::RangeInclusive;

use anyhow::{Context as _, Result, bail};
use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::flow::Flow;
use mesh_common::node::LOOPBACK;
use mesh_common::watch::Watch;
use mesh_daemon::datapath::facts::Facts;
use mesh_daemon::datapath::maps::Maps;
use mesh_daemon::datapath::render::{Waiting, render};
use mesh_daemon::datapath::seeing::tallies::Counted;
use mesh_daemon::datapath::seeing::watch::Listener;
use mesh_daemon::datapath::tables::{Tables, plan};
use mesh_daemon::datapath::{Desired, Pins, attach, loader};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::Cmd;
use crate::registry::Lease;

/// The calling thread's own namespace, and the right to pins. Everything goes when it is dropped.
#[derive(Debug)]
pub struct Lab {
    lease: Lease,
    home: File,
}

impl Lab {
    /// Makes interfaces of these numbers, named `if` and the number.
    ///
    /// # Errors
    /// This process may not make namespaces, or `ip` fails.
    pub fn new(interfaces: RangeInclusive<u32>) -> Result<Self> {
        crate::require_root()?;
        let lease = Lease::take()?;
        let home = File::open("/proc/thread-self/ns/net").context("opening this thread's namespace")?;
        unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
        let lab = Self { lease, home };
        let lines: String = interfaces.map(|index| format!("link add if{index} index {index} type bridge\n")).collect();
        Cmd::new(None, ["ip", "-batch", "-"]).input(lines.as_bytes()).run()?;
        Ok(lab)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Where it fails the thread stays in a namespace that dies with it.
        let _ = setns(&self.home, CloneFlags::CLONE_NEWNET);
    }
}

/// A program, and the interface its packet comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `underlay`, at this uplink.
    Underlay(u32),
    /// `underlay_bulk`, at this uplink.
    Bulk(u32),
    /// `container`, at the host side of a task's link.
    Container(u32),
    /// `outward`, at the same place, behind it.
    Outward(u32),
    /// `host_lend`, at the loopback interface.
    HostLend,
    /// `host`, behind it.
    Host,
}

/// What a program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next in line gets it.
    Pass,
    /// Nobody gets it.
    Drop,
    /// Out of another interface; from TC, out of any.
    Redirect,
    /// Out of the interface it came in by (XDP).
    Tx,
}

/// All that can be seen of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What becomes of the packet.
    pub action: Action,
    /// The packet afterwards.
    pub frame: Vec<u8>,
    /// What was counted, by how much; what was not is absent.
    pub counters: BTreeMap<Counter, u64>,
    /// As `counters`, of what was dropped.
    pub drops: BTreeMap<DropReason, u64>,
}

/// A node's programs and maps.
pub struct Node {
    ebpf: Ebpf,
    maps: Maps,
    tables: Tables,
    pins: Pins,
}

impl Node {
    /// Loads programs whose maps are empty; `name` is unique in the lab.
    ///
    /// # Errors
    /// The kernel refuses programs or maps.
    pub fn load(lab: &Lab, name: &str) -> Result<Self> {
        let pins = Pins::new(lab.lease.pin_dir(name)?);
        let mut ebpf = loader::load(&pins).context("loading the object")?;
        attach::load(&mut ebpf).context("loading the programs")?;
        let maps = Maps::take(&mut ebpf).context("taking the maps")?;
        // The pins are new, so nothing is in force.
        Ok(Self { ebpf, maps, tables: Tables::default(), pins })
    }

    /// Makes the maps equal a desired state, as the daemon does; what is missing in it.
    ///
    /// # Errors
    /// The state contradicts itself, or the kernel refuses a write.
    pub fn apply(&mut self, desired: &Desired, facts: &Facts) -> Result<Vec<Waiting>> {
        desired.check().context("the desired state of the test")?;
        let (tables, waiting) = render(desired, facts, self.maps.flow_sets(), &self.tables);
        for change in plan(&self.tables, &tables) {
            self.maps.apply(change.clone())?;
            self.tables.apply(change);
        }
        Ok(waiting)
    }

    /// Turns a watch on, until the listener is dropped.
    ///
    /// # Errors
    /// The kernel refuses a buffer, or somebody watches already.
    pub fn listen(&self, watcher: u32, wish: Watch) -> Result<Listener> {
        Ok(Listener::start(&self.pins, watcher, wish, 16)?)
    }

    /// What the maps hold.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The flows it remembers, by place.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn flows(&self) -> Result<Vec<Flow>> {
        Ok(self.maps.flows()?.into_iter().map(|(_, flow)| flow).collect())
    }

    /// What was counted for each service and task of this node.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn tallies(&self) -> Result<Vec<Counted>> {
        Ok(self.maps.tallies()?)
    }

    /// The number of sets of flows.
    pub fn flow_sets(&self) -> u32 {
        self.maps.flow_sets()
    }

    /// Runs a frame through a program.
    ///
    /// # Errors
    /// The kernel refuses the run, or the program ends with an action it should not know.
    pub fn run(&self, hook: Hook, frame: &[u8]) -> Result<Outcome> {
        let (counters, drops) = (self.maps.counters()?, self.maps.drops()?);
        let mut out = vec![0; frame.len() + ROOM];
        let (action, len) = match hook {
            Hook::Underlay(ifindex) => {
                let ctx = words(&[(XDP_DATA_END, u32::try_from(frame.len())?), (XDP_INGRESS_IFINDEX, ifindex)]);
                let program: &Xdp = self.program(attach::UNDERLAY)?.try_into()?;
                let done = program.test_run(options(frame, &mut out, &ctx[..XDP_MD_LEN]))?;
                (xdp_action(done.return_value)?, done.data_size_out)
            }
            Hook::Bulk(ifindex) => self.run_tc(attach::UNDERLAY_BULK, ifindex, frame, &mut out)?,
            Hook::Container(ifindex) => self.run_tc(attach::CONTAINER, ifindex, frame, &mut out)?,
            Hook::Outward(ifindex) => self.run_tc(attach::OUTWARD, ifindex, frame, &mut out)?,
            Hook::HostLend => self.run_tc(attach::HOST_LEND, LOOPBACK, frame, &mut out)?,
            Hook::Host => self.run_tc(attach::HOST, LOOPBACK, frame, &mut out)?,
        };
        out.truncate(usize::try_from(len)?);
        let (counters, drops) = (moved(&counters, &self.maps.counters()?), moved(&drops, &self.maps.drops()?));
        Ok(Outcome { action, frame: out, counters, drops })
    }

    fn run_tc(&self, name: &str, ifindex: u32, frame: &[u8], out: &mut [u8]) -> Result<(Action, u32)> {
        let ctx = words(&[(SKB_IFINDEX, ifindex)]);
        let program: &SchedClassifier = self.program(name)?.try_into()?;
        let done = program.test_run(options(frame, out, &ctx))?;
        Ok((tc_action(done.return_value.cast_signed())?, done.data_size_out))
    }

    fn program(&self, name: &str) -> Result<&aya::programs::Program> {
        self.ebpf.program(name).with_context(|| format!("no program {name}"))
    }
}

/// Bytes that a program may add to a frame, at most: an outer IPv6 header and some.
const ROOM: usize = 256;
/// Fields of `struct __sk_buff` and `struct xdp_md` (linux/bpf.h), as numbers of 32-bit words.
const SKB_IFINDEX: usize = 10;
const XDP_DATA_END: usize = 1;
const XDP_INGRESS_IFINDEX: usize = 3;
const XDP_MD_LEN: usize = 24;
const CONTEXT_LEN: usize = 192;

fn words(set: &[(usize, u32)]) -> [u8; CONTEXT_LEN] {
    let mut context = [0; CONTEXT_LEN];
    for (at, word) in set {
        context[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    context
}

fn options<'a>(frame: &'a [u8], out: &'a mut [u8], ctx: &'a [u8]) -> TestRunOptions<'a> {
    TestRunOptions { data_in: Some(frame), data_out: Some(out), ctx_in: Some(ctx), ..TestRunOptions::default() }
}

fn xdp_action(code: u32) -> Result<Action> {
    match code {
        1 => Ok(Action::Drop),
        2 => Ok(Action::Pass),
        3 => Ok(Action::Tx),
        4 => Ok(Action::Redirect),
        other => bail!("the XDP program ended with {other}"),
    }
}

fn tc_action(code: i32) -> Result<Action> {
    match code {
        -1 => Ok(Action::Pass),
        2 => Ok(Action::Drop),
        7 => Ok(Action::Redirect),
        other => bail!("the TC program ended with {other}"),
    }
}

fn moved<K: Copy + Ord>(before: &[(K, u64)], after: &[(K, u64)]) -> BTreeMap<K, u64> {
    let steps = before.iter().zip(after).map(|((key, old), (_, new))| (*key, new - old));
    steps.filter(|(_, step)| *step != 0).collect()
}
