//! Makes the kernel equal a desired state: the one place where plans become system calls.

use std::collections::{BTreeMap, BTreeSet};

use aya::Ebpf;
use mesh_common::flow::{CHOICE, Flow};
use tokio::sync::watch;
use tracing::{info, warn};

use super::attach::{self, AttachError, Target, TcMode, UplinkMode};
use super::balancing::Balancing;
use super::desired::Desired;
use super::facts::{Facts, FactsError, Interface, Observer};
use super::loader::{self, LoadError};
use super::loopback;
use super::maps::{self, Maps, MapsError};
use super::pins::Pins;
use super::preflight::{Host, KernelPorts, Unfit, sockets};
use super::render::{Waiting, render};
use super::status::{self, Drains, Status};
use super::tables::{Tables, plan};

/// The packet path could not be made as desired.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The host lacks something.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// An uplink does not exist.
    #[error("uplink {name} does not exist; the interfaces here are {}", present.join(", "))]
    NoUplink {
        /// The name given.
        name: String,
        /// The names there are.
        present: Vec<String>,
    },
    /// The kernel did not say how things are.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The programs.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// An attachment.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A map.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Old pins.
    #[error("remove pins")]
    Pins(#[source] std::io::Error),
}

/// A running packet path.
pub struct Datapath {
    pins: Pins,
    tc: TcMode,
    clock: Clock,
    ebpf: Ebpf,
    maps: Maps,
    observer: Observer,
    /// What the maps hold.
    tables: Tables,
    waiting: Vec<Waiting>,
    /// Programs on interfaces, by this daemon.
    attached: BTreeSet<(&'static str, u32)>,
    /// Has the anchor device been seen to?
    anchored: bool,
    /// The programs on interfaces that were wanted when superfluous ones were last removed.
    in_force: BTreeSet<(&'static str, u32)>,
    /// Passes until the count of connections by backend is made good again.
    recount_in: u32,
    drains: Drains,
    status: watch::Sender<Status>,
}

/// In how many passes the programs' own counts of connections, which miss some ends, are made good.
const RECOUNT: u32 = 10;

/// Tells the time, in seconds since 1970.
pub type Clock = fn() -> u64;

impl Datapath {
    /// Loads the programs and makes the kernel equal `desired`. What an earlier daemon left is
    /// adopted. If this fails on a host where none was, nothing stays behind.
    ///
    /// # Errors
    /// The host is unfit, an uplink is missing or taken, or the kernel refuses something.
    pub async fn start(pins: Pins, tc: TcMode, clock: Clock, desired: &Desired) -> Result<Self, DatapathError> {
        Host::look(pins.root()).check(pins.root())?;
        KernelPorts::look().check(desired.node.masquerade_ports)?;
        sockets::check(desired.node.masquerade_ports, &sockets::listening(), sockets::process_of)?;
        let observer = Observer::open()?;
        let facts = observer.look(desired).await?;
        check_uplinks(desired, &facts)?;
        check_foreign(desired, &facts, &pins)?;
        let fresh = !pins.root().exists();
        let result = Self::load(pins.clone(), tc, clock, observer, desired, &facts).await;
        if result.is_err() && fresh {
            remove(&pins).await?;
        }
        result
    }

    async fn load(
        pins: Pins,
        tc: TcMode,
        clock: Clock,
        observer: Observer,
        desired: &Desired,
        facts: &Facts,
    ) -> Result<Self, DatapathError> {
        let mut ebpf = loader::load(&pins)?;
        attach::load(&mut ebpf)?;
        let maps = Maps::take(&mut ebpf)?;
        let tables = maps.tables()?;
        let attached = BTreeSet::new();
        let mut datapath = Self {
            pins,
            tc,
            clock,
            ebpf,
            maps,
            observer,
            tables,
            waiting: Vec::new(),
            attached,
            anchored: false,
            in_force: BTreeSet::new(),
            recount_in: 0,
            drains: Drains::default(),
            status: watch::Sender::default(),
        };
        datapath.apply(desired, facts).await?;
        datapath.pins.remove_other_versions().map_err(DatapathError::Pins)?;
        Ok(datapath)
    }

    /// Looks at the kernel again and makes it equal `desired`.
    ///
    /// # Errors
    /// The kernel refuses something. What was done until then stays; the next call goes on from it.
    pub async fn reconcile(&mut self, desired: &Desired) -> Result<(), DatapathError> {
        let facts = self.observer.look(desired).await?;
        check_uplinks(desired, &facts)?;
        self.apply(desired, &facts).await
    }

    /// Maps before attachments: a program never runs on tables that know nothing of its interface.
    async fn apply(&mut self, desired: &Desired, facts: &Facts) -> Result<(), DatapathError> {
        let now = (self.clock)();
        let (tables, waiting) = render(&status::at(desired, now), facts, self.maps.flow_sets(), &self.tables);
        let changes = plan(&self.tables, &tables);
        if !changes.is_empty() {
            info!(changes = changes.len(), endpoints = tables.endpoints.len(), "maps change");
        }
        for change in changes {
            self.maps.apply(change.clone())?;
            self.tables.apply(change);
        }
        self.report(waiting);
        if !self.anchored {
            // Once: a refusal is not repeated twice a second.
            self.anchored = true;
            self.observer.ensure_anchor(facts, desired.node.vxlan_port).await;
            loopback::open(&self.pins.memory());
        }
        self.attach(desired, facts).await?;
        self.tell(desired, facts, now)
    }

    /// Says what is in force now, and how drains are doing.
    fn tell(&mut self, desired: &Desired, facts: &Facts, now: u64) -> Result<(), DatapathError> {
        let counts = desired.services.iter().any(|service| service.balancing == Balancing::LeastConnections);
        let recount = counts && self.recount_in == 0;
        self.recount_in = if recount { RECOUNT } else { self.recount_in.saturating_sub(1) };
        let mut flows = Vec::new();
        if recount || Drains::any(desired) {
            flows = self.maps.flows()?.into_iter().map(|(_, flow)| flow).collect();
        }
        if recount {
            self.recount(&flows)?;
        }
        let draining = self.drains.look(desired, facts, now, &flows);
        let waiting = self.waiting.iter().map(Waiting::to_string).collect();
        let new = Status { version: desired.version, waiting, draining };
        self.status.send_if_modified(|status| {
            let is_new = *status != new;
            *status = new;
            is_new
        });
        Ok(())
    }

    /// Sets the count of connections that this node sends to each backend to what it remembers.
    fn recount(&mut self, flows: &[Flow]) -> Result<(), DatapathError> {
        let mut sent: BTreeMap<u32, u64> = self.tables.backends.keys().map(|number| (*number, 0)).collect();
        for flow in flows.iter().filter(|flow| flow.ifindex & CHOICE != 0 && maps::is_live(flow)) {
            *sent.entry(flow.backend).or_default() += 1;
        }
        for (backend, sent) in sent {
            self.maps.set_live(backend, sent)?;
        }
        Ok(())
    }

    async fn attach(&mut self, desired: &Desired, facts: &Facts) -> Result<(), DatapathError> {
        let mut wanted = BTreeSet::new();
        for (name, interface) in existing(&desired.node.uplinks, facts) {
            // TC first: XDP leaves bulk traffic to it.
            for program in [attach::UNDERLAY_BULK, attach::UNDERLAY] {
                wanted.insert((program, interface.ifindex));
                self.attach_one(program, target(name, interface))?;
            }
        }
        for (name, interface) in existing(desired.endpoints.iter().filter_map(|endpoint| endpoint.link.as_ref()), facts)
        {
            // Each is put before those that are there: the last in line first.
            for program in [attach::OUTWARD, attach::CONTAINER] {
                wanted.insert((program, interface.ifindex));
                self.attach_one(program, target(name, interface))?;
            }
        }
        if let Some(interface) = facts.interfaces.get(attach::LOOPBACK) {
            for program in [attach::HOST, attach::HOST_LEND] {
                wanted.insert((program, interface.ifindex));
                self.attach_one(program, target(attach::LOOPBACK, interface))?;
            }
        }
        self.detach(facts, &wanted).await
    }

    /// Takes programs off what is not wanted any more, and off the hook that another mode used.
    async fn detach(&mut self, facts: &Facts, wanted: &BTreeSet<(&'static str, u32)>) -> Result<(), DatapathError> {
        if self.in_force == *wanted {
            return Ok(());
        }
        let (pinned, on_clsact): (BTreeSet<_>, BTreeSet<_>) =
            wanted.iter().partition(|(program, _)| *program == attach::UNDERLAY || !self.tc.uses_clsact());
        attach::clear(&self.pins, &pinned)?;
        let on_clsact = on_clsact.into_iter().map(|(_, ifindex)| ifindex).collect();
        self.observer.clear_clsact(facts, &on_clsact).await?;
        self.attached.retain(|attachment| wanted.contains(attachment));
        self.in_force = wanted.clone();
        Ok(())
    }

    fn attach_one(&mut self, program: &'static str, target: Target<'_>) -> Result<(), DatapathError> {
        if !self.attached.insert((program, target.ifindex)) {
            return Ok(());
        }
        let result = match program {
            attach::UNDERLAY => attach::uplink_xdp(&mut self.ebpf, &self.pins, target).map(|mode| match mode {
                UplinkMode::Xdp => info!(uplink = target.name, "native XDP"),
                UplinkMode::Tc => {
                    warn!(uplink = target.name, "the driver has no native XDP; TC takes all its traffic");
                }
            }),
            _ => attach::ingress(&mut self.ebpf, &self.pins, self.tc, program, target),
        };
        if result.is_err() {
            self.attached.remove(&(program, target.ifindex));
        }
        Ok(result?)
    }

    fn report(&mut self, waiting: Vec<Waiting>) {
        for news in waiting.iter().filter(|item| !self.waiting.contains(item)) {
            match news {
                Waiting::Routes { .. } => warn!("{news}; tasks take shorter ones instead"),
                _ => warn!("{news}; its traffic is dropped until then"),
            }
        }
        self.waiting = waiting;
    }

    /// What is in force, whenever it changes.
    pub fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What should be and is not yet.
    pub fn waiting(&self) -> &[Waiting] {
        &self.waiting
    }

    /// The open maps.
    pub fn maps(&self) -> &Maps {
        &self.maps
    }
}

/// Detaches everything and removes every pin of a node.
///
/// # Errors
/// Something could not be removed.
pub async fn remove(pins: &Pins) -> Result<(), DatapathError> {
    let observer = Observer::open()?;
    let facts = observer.look_at_interfaces().await?;
    observer.clear_clsact(&facts, &BTreeSet::new()).await?;
    observer.remove_anchor(&facts).await?;
    loopback::close(&pins.memory());
    pins.remove().map_err(DatapathError::Pins)
}

fn target<'a>(name: &'a str, interface: &Interface) -> Target<'a> {
    Target { name, ifindex: interface.ifindex, xdp_program: interface.xdp_program }
}

/// The interfaces of these names that there are.
fn existing<'a>(
    names: impl IntoIterator<Item = &'a String>,
    facts: &'a Facts,
) -> impl Iterator<Item = (&'a str, &'a Interface)> {
    names.into_iter().filter_map(|name| Some((name.as_str(), facts.interfaces.get(name)?)))
}

/// No uplink may run a program that is not ours. `attach` looks again; here nothing is done yet.
fn check_foreign(desired: &Desired, facts: &Facts, pins: &Pins) -> Result<(), AttachError> {
    for (name, interface) in existing(&desired.node.uplinks, facts) {
        if let (Some(id), false) = (interface.xdp_program, pins.link(attach::UNDERLAY, interface.ifindex).exists()) {
            return Err(AttachError::Foreign { interface: name.to_owned(), id });
        }
    }
    Ok(())
}

/// Every uplink must exist before anything is touched.
fn check_uplinks(desired: &Desired, facts: &Facts) -> Result<(), DatapathError> {
    match desired.node.uplinks.iter().find(|name| !facts.interfaces.contains_key(*name)) {
        None => Ok(()),
        Some(name) => {
            Err(DatapathError::NoUplink { name: name.clone(), present: facts.interfaces.keys().cloned().collect() })
        }
    }
}
