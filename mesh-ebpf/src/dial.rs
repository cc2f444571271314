//! A packet dials a service: it goes to a backend, wherever that is.
//!
//! To a backend on another node it travels unchanged, the dialled address still in it, inside VXLAN;
//! the inner destination MAC says which task it is for. Only the backend's node remembers the flow.

use mesh_common::addr::{Addr, Mac};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::endpoint::Endpoint;
use mesh_common::flow::state;
use mesh_common::header::{EthHeader, proto};
use mesh_common::maglev;
use mesh_common::parse::{Ip, Transport};
use mesh_common::service::{Backend, Run, Service, ServiceKey, Slot, service_flag};

use crate::local::{self, Origin, Task};
use crate::maps::Found;
use crate::packet::Packet;
use crate::refuse::{self, Back};
use crate::verdict::{Packed, Verdict};
use crate::{maps, policy, vxlan, watch};

/// A packet to a service, and all that is known of it.
pub(crate) struct Dial {
    /// The link layer.
    pub(crate) eth: EthHeader,
    /// The network layer; its destination is what was dialled.
    pub(crate) ip: Ip,
    /// The transport.
    pub(crate) transport: Transport,
    /// What was dialled.
    pub(crate) service: Service,
    /// The network that the packet travels on between nodes.
    pub(crate) vni: u32,
    /// Where it comes from, for the flow.
    pub(crate) origin: Origin,
    /// Where a refusal goes.
    pub(crate) back: Back,
    /// The flow it answers, if it is an answer.
    pub(crate) flow: Found,
    /// The node it does not fit into a tunnel to.
    pub(crate) far: u32,
    /// The task of this node that was chosen.
    pub(crate) task: Task,
    /// Where the packet came in, one of [`mesh_common::watch::hook`].
    pub(crate) hook: u8,
}

/// The published port that a packet from outside dials, if it is one.
#[inline(always)]
pub(crate) fn published(ip: &Ip, transport: &Transport) -> Option<Service> {
    if ip.proto != proto::TCP && ip.proto != proto::UDP {
        return None;
    }
    maps::service(&ServiceKey::published(ip.dst, ip.proto, transport.ports.dst))
}

impl Dial {
    #[inline(always)]
    fn flow(&self) -> maglev::Tuple {
        let Transport { ports, .. } = self.transport;
        maglev::Tuple { client: self.ip.src, client_port: ports.src, port: ports.dst, proto: self.ip.proto }
    }

    /// The slot that the flow falls into: the same on every node, for every packet of the flow.
    #[inline(always)]
    fn slot(&self, run: Run) -> Result<Slot, DropReason> {
        if run.len == 0 {
            return Err(DropReason::NoBackend);
        }
        maps::slot(run.at + maglev::slot(self.hash(), run.len)).ok_or(DropReason::NoBackend)
    }

    /// What the flow, or the client, has as its number.
    #[inline(always)]
    pub(crate) fn hash(&self) -> u32 {
        let affinity = self.service.flags & service_flag::CLIENT_AFFINITY != 0;
        if affinity { self.flow().client_hash() } else { self.flow().hash() }
    }

    /// Sends the packet to the backend that its flow belongs to, or refuses it.
    #[inline(always)]
    pub(crate) fn balance<P: Packet>(&mut self, packet: &mut P) -> Result<Verdict, DropReason> {
        maps::tally_packet(self.service.tally, packet.len());
        let outcome = self.choose(packet);
        self.or_refuse(packet, outcome)
    }

    #[inline(always)]
    fn choose<P: Packet>(&mut self, packet: &mut P) -> Result<Verdict, DropReason> {
        let slot = self.slot(self.service.entry())?;
        let remembered = self.service.flags & service_flag::REMEMBERED != 0;
        let picked = if remembered { policy::pick(self, slot.current) } else { slot.current };
        let (first, second) = match picked == slot.current {
            false => (picked, 0),
            true if self.looks_back(slot) => (slot.previous, slot.current),
            true => (slot.current, slot.previous),
        };
        match self.send_to(packet, first).outcome() {
            Err(DropReason::UnknownFlow) if second != 0 => self.hand_on(packet, second),
            other => other,
        }
    }

    /// Is the backend before the present one to be tried first? Where a node prefers its own tasks, other
    /// nodes do not know what it chose, and could not hand back to it.
    #[inline(always)]
    fn looks_back(&self, slot: Slot) -> bool {
        let opens = self.ip.proto != proto::TCP || local::opens(self.transport.tcp_flags);
        let is_here = |number| maps::backend(number).is_some_and(|backend| backend.node == Endpoint::HERE);
        self.service.near != 0 && !opens && is_here(slot.previous)
    }

    /// Gives a packet that another node chose a task for to that task, or refuses it.
    #[inline(always)]
    pub(crate) fn accept<P: Packet>(&mut self, packet: &mut P) -> Result<Verdict, DropReason> {
        let outcome = match self.hand_over(packet) {
            Err(DropReason::UnknownFlow) => self.disown(packet),
            other => other,
        };
        self.or_refuse(packet, outcome)
    }

    /// The task chosen does not know the flow. Only the present backend hands on, and only to the
    /// one before: never a loop.
    #[inline(always)]
    fn disown<P: Packet>(&mut self, packet: &mut P) -> Result<Verdict, DropReason> {
        let slot = self.slot(self.service.all())?;
        if slot.current != self.task.backend || slot.previous == 0 {
            return Err(DropReason::UnknownFlow);
        }
        self.hand_on(packet, slot.previous)
    }

    /// The present backend does not know the flow: the one before may.
    #[inline(always)]
    fn hand_on<P: Packet>(&mut self, packet: &mut P, previous: u32) -> Result<Verdict, DropReason> {
        maps::count(Counter::HandedOn);
        self.send_to(packet, previous).outcome()
    }

    /// Tells the sender what it can do about an error, if anything.
    #[inline(always)]
    pub(crate) fn or_refuse<P: Packet>(
        &self,
        packet: &mut P,
        outcome: Result<Verdict, DropReason>,
    ) -> Result<Verdict, DropReason> {
        match outcome {
            Err(
                reason @ (DropReason::NoBackend
                | DropReason::UnknownFlow
                | DropReason::PortTaken
                | DropReason::TooBig
                | DropReason::NoRoute
                | DropReason::Internal
                | DropReason::OtherNetwork
                | DropReason::PortsExhausted),
            ) => {
                let answer = match refuse::answer(packet, self, reason) {
                    // A short frame has no room behind it to become an error. Behind TC's hook it has.
                    Err(DropReason::NoRoom) if P::LEAVES_BULK_TO_GRO && self.is_whole() => return Ok(Verdict::Pass),
                    other => other?,
                };
                maps::count_drop(reason);
                watch::refusal(packet, self, reason);
                Ok(answer)
            }
            other => other,
        }
    }

    /// Is the packet still as it came in, without a tunnel taken off?
    #[inline(always)]
    fn is_whole(&self) -> bool {
        matches!(self.back, Back::Interface(_) | Back::Home)
    }

    #[inline(never)]
    fn send_to<P: Packet>(&mut self, packet: &mut P, number: u32) -> Packed {
        let Some(backend) = maps::backend(number) else { return Packed::new(Err(DropReason::NoBackend)) };
        if backend.node != Endpoint::HERE {
            return self.forward(packet, backend);
        }
        let addr = backend.addr_like(&self.ip.dst);
        self.task = Task {
            ifindex: backend.ifindex,
            mac: backend.mac,
            addr,
            backend: number,
            tally: backend.tally,
            port: self.service.target_port,
        };
        Packed::new(self.hand_over(packet))
    }

    #[inline(always)]
    fn forward<P: Packet>(&mut self, packet: &mut P, backend: &Backend) -> Packed {
        if let Err(reason) = vxlan::check_fit(packet, backend.node) {
            self.far = backend.node;
            return Packed::new(Err(reason));
        }
        // A task that dials a VIP stays the sender, so that a refusal finds back to it.
        let published = self.origin.bits & state::PUBLISHED != 0;
        let src = if published { Mac::ROUTER } else { self.eth.src };
        let inner = EthHeader { dst: backend.mac, src, ether_type: self.eth.ether_type };
        if let Err(reason) = packet.write(0, &inner) {
            return Packed::new(Err(reason));
        }
        maps::count(Counter::Forwarded);
        vxlan::wrap(packet, backend.node, self.vni, self.flow().hash())
    }

    /// Gives the packet to the task of this node that was chosen.
    #[inline(always)]
    fn hand_over<P: Packet>(&self, packet: &mut P) -> Result<Verdict, DropReason> {
        if self.task.addr == Addr::ZERO {
            return Err(DropReason::NoBackend);
        }
        local::track(self)?;
        local::hand_over(packet, self).outcome()
    }
}
