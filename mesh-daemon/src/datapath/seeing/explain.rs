//! What would become of a packet here, and why.
//!
//! The verdict is the program's: [`super::sandbox`] runs it on the packet. The steps that lead there
//! are told by the code that both sides share, over the maps as they are; where the two disagree the
//! answer says so.

use std::net::{IpAddr, SocketAddr};

use mesh_common::addr::Mac;
use mesh_common::endpoint::NeighbourKey;
use mesh_common::header::{proto, tcp_flag};
use mesh_common::node::VtepKey;
use mesh_common::service::ServiceKey;

use super::super::Pins;
use super::super::attach::{CONTAINER, OUTWARD, UNDERLAY, UNDERLAY_BULK};
use super::super::desired::addr;
use super::super::maps::{Maps, MapsError};
use super::super::tables::Tables;
use super::frame::{self, Packet};
use super::programs::{self, Attached, ProgramsError};
use super::sandbox::{Ran, Sandbox, SandboxError};
use super::story;
use mesh_common::watch::verdict;

/// A packet cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The run.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The attached programs.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// The ends do not fit each other.
    #[error("{src} and {dst} are of different families")]
    Families {
        /// One end.
        src: IpAddr,
        /// The other.
        dst: IpAddr,
    },
    /// No daemon has written who this node is.
    #[error("the map NODE is empty: meshd has not described this node yet")]
    NotConfigured,
    /// Nobody of this name sends.
    #[error(
        "--from {text:?} is neither `underlay`, an interface of this node, the address of a task of this node, nor the \
         VTEP address of a member"
    )]
    Nobody {
        /// What was given.
        text: String,
    },
    /// Tasks of several networks have the address.
    #[error("tasks of several networks have the address {ip}; name the interface of one: {}", links.join(", "))]
    Ambiguous {
        /// The address.
        ip: IpAddr,
        /// Their interfaces.
        links: Vec<String>,
    },
    /// Another node would not send such a packet here.
    #[error("node {node} would not send this here: {why}")]
    Elsewhere {
        /// Its VTEP address.
        node: IpAddr,
        /// What is in the way.
        why: String,
    },
}

/// The packet asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who sends.
    pub src: SocketAddr,
    /// What is dialled.
    pub dst: SocketAddr,
    /// TCP or UDP.
    pub proto: u8,
    /// Is it the middle of a TCP connection, and not its beginning?
    pub midflow: bool,
    /// Where it comes in: `underlay`, an interface, a task's address, a member's VTEP address. Left
    /// out: from the task of the source address, else from the underlay.
    pub from: Option<String>,
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about.
    pub about: &'static str,
    /// What there is to say.
    pub text: String,
}

/// What became of the packet.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The way there.
    pub lines: Vec<Line>,
    /// The last verdict: see [`super::watch::verdict_name`].
    pub verdict: u8,
    /// Why it was dropped or refused, if it was.
    pub reason: Option<mesh_common::drop::DropReason>,
}

/// Where a packet comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// An uplink.
    Uplink(u32),
    /// A task's link.
    Link(u32),
    /// An uplink, in a tunnel from this node.
    Node(u32, IpAddr),
}

/// All there is to know for an answer.
pub(super) struct Scene<'a> {
    pub(super) tables: &'a Tables,
    pub(super) packet: Packet,
    pub(super) entry: Entry,
    pub(super) name_of: &'a dyn Fn(u32) -> String,
}

/// Answers by the maps and programs of the daemon with these pins. `name_of` and `number_of` know the
/// interfaces of this network namespace.
///
/// # Errors
/// There is no packet path here, or the question makes no sense on this node.
pub fn explain(
    pins: &Pins,
    question: &Question,
    name_of: &dyn Fn(u32) -> String,
    number_of: &dyn Fn(&str) -> Option<u32>,
) -> Result<Answer, ExplainError> {
    let (src, dst) = (question.src.ip(), question.dst.ip());
    if src.is_ipv4() != dst.is_ipv4() {
        return Err(ExplainError::Families { src, dst });
    }
    let live = Maps::open(pins)?;
    let tables = live.tables()?;
    let config = *tables.config.get(&0).ok_or(ExplainError::NotConfigured)?;
    let opening = if question.midflow { tcp_flag::ACK } else { tcp_flag::SYN };
    let packet = Packet {
        src,
        dst,
        proto: question.proto,
        ports: Some((question.src.port(), question.dst.port())),
        tcp_flags: if question.proto == proto::TCP { opening } else { 0 },
        fragment: false,
    };
    let entry = entry(question, &tables, config.uplink, name_of, number_of)?;
    let scene = Scene { tables: &tables, packet, entry, name_of };
    let bytes = scene.frame()?;
    let mut lines = story::before(&scene);
    let mut sandbox = Sandbox::load(pins, &live, &tables)?;
    let attached = programs::attached(pins)?;
    let ifindex = match entry {
        Entry::Uplink(ifindex) | Entry::Link(ifindex) | Entry::Node(ifindex, _) => ifindex,
    };
    let programs: &[&'static str] = match entry {
        Entry::Link(_) => &[CONTAINER, OUTWARD],
        Entry::Uplink(_) | Entry::Node(..) => &[UNDERLAY, UNDERLAY_BULK],
    };
    let mut last: Option<Ran> = None;
    for program in programs {
        // TC sees what XDP passes, and the second program of a link what the first does.
        if last.as_ref().is_some_and(|ran| ran.told.event.verdict != verdict::PASSED) {
            break;
        }
        let ran = sandbox.run(program, ifindex, &bytes)?;
        let twin = twin(&attached, program, ifindex, sandbox.tag(program)?);
        lines.extend(story::program(&scene, program, twin, &ran));
        last = Some(ran);
    }
    let (verdict, reason) = last.map_or((verdict::PASSED, None), |ran| {
        // A refusal tells its reason before the program ends, and leaves as an answer.
        let refused = ran.drops.first().map(|(reason, _)| *reason);
        (ran.told.event.verdict, ran.told.reason().or(refused))
    });
    Ok(Answer { lines, verdict, reason })
}

/// What is known of the program that really hangs where a packet comes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twin {
    /// It has the same instructions.
    Same(u32),
    /// It has other ones.
    Other(u32),
    /// None is pinned there.
    None,
}

fn twin(attached: &[Attached], program: &str, ifindex: u32, tag: u64) -> Twin {
    match attached.iter().find(|one| one.program == program && one.ifindex == ifindex) {
        Some(one) if one.tag == Some(tag) => Twin::Same(one.id),
        Some(one) => Twin::Other(one.id),
        None => Twin::None,
    }
}

fn entry(
    question: &Question,
    tables: &Tables,
    uplink: u32,
    name_of: &dyn Fn(u32) -> String,
    number_of: &dyn Fn(&str) -> Option<u32>,
) -> Result<Entry, ExplainError> {
    let at = |ip: IpAddr| {
        let own = addr(ip);
        let links = tables.links.iter().filter(move |(_, link)| link.addr4 == own || link.addr6 == own);
        links.map(|(ifindex, _)| *ifindex).collect::<Vec<_>>()
    };
    let one = |ip: IpAddr, links: Vec<u32>| match links[..] {
        [] => Ok(None),
        [link] => Ok(Some(Entry::Link(link))),
        _ => Err(ExplainError::Ambiguous { ip, links: links.iter().map(|link| name_of(*link)).collect() }),
    };
    let Some(text) = &question.from else {
        let src = question.src.ip();
        return Ok(one(src, at(src))?.unwrap_or(Entry::Uplink(uplink)));
    };
    if text == "underlay" {
        return Ok(Entry::Uplink(uplink));
    }
    if let Some(ifindex) = number_of(text) {
        let is_link = tables.links.contains_key(&ifindex);
        return Ok(if is_link { Entry::Link(ifindex) } else { Entry::Uplink(ifindex) });
    }
    let nobody = || ExplainError::Nobody { text: text.clone() };
    let ip: IpAddr = text.parse().map_err(|_| nobody())?;
    if tables.vteps.contains_key(&VtepKey { addr: addr(ip) }) {
        return Ok(Entry::Node(uplink, ip));
    }
    one(ip, at(ip))?.ok_or_else(nobody)
}

impl Scene<'_> {
    /// The frame as it would come in.
    fn frame(&self) -> Result<Vec<u8>, ExplainError> {
        match self.entry {
            Entry::Uplink(_) => Ok(frame::build(&self.packet, (frame::SENDER, frame::RECEIVER))),
            Entry::Link(ifindex) => {
                let link = self.tables.links.get(&ifindex);
                let own = link.map_or(frame::SENDER, |link| link.mac);
                let vni = link.map_or(0, |link| link.vni);
                Ok(frame::build(&self.packet, (own, self.mac_of(vni, self.packet.dst))))
            }
            Entry::Node(_, vtep) => self.sent_by(vtep),
        }
    }

    /// The link-layer address that a task is told for an address; of what lies outside, the router's.
    pub(super) fn mac_of(&self, vni: u32, ip: IpAddr) -> Mac {
        let key = NeighbourKey { addr: addr(ip), vni };
        self.tables.neighbours.get(&key).map_or(Mac::ROUTER, |neighbour| neighbour.mac)
    }

    /// What is dialled: the key with which another node would reach it, and its network.
    pub(super) fn dialled_elsewhere(&self) -> Option<(u32, ServiceKey)> {
        let config = self.tables.config.get(&0)?;
        let to = addr(self.packet.dst);
        let port = self.packet.ports.unwrap_or_default().1.to_be_bytes();
        let vip = |key: &&ServiceKey| key.proto == 0 && key.addr == to && key.vni != 0;
        if let Some(key) = self.tables.services.keys().find(vip) {
            return Some((key.vni, *key));
        }
        // Which addresses other nodes have is not known here: it is one if no task has it.
        let published = ServiceKey::forwarded(config.ingress_vni, &to, self.packet.proto, port);
        let is_task = self.tables.neighbours.keys().any(|key| key.addr == to);
        (!is_task && self.tables.services.contains_key(&published)).then_some((config.ingress_vni, published))
    }

    fn sent_by(&self, vtep: IpAddr) -> Result<Vec<u8>, ExplainError> {
        let elsewhere = |why: &str| ExplainError::Elsewhere { node: vtep, why: why.to_owned() };
        let config = self.tables.config.get(&0).ok_or(ExplainError::NotConfigured)?;
        let (vni, mac) = match self.dialled_elsewhere() {
            Some((vni, key)) => {
                let choice = story::choice(self, &key).ok_or_else(|| elsewhere("the service has no backend"))?;
                if choice.backend.node != 0 {
                    return Err(elsewhere("the task that its flow belongs to does not run here"));
                }
                (vni, choice.backend.mac)
            }
            None => {
                let to = addr(self.packet.dst);
                let known = self.tables.neighbours.iter().find(|(key, _)| key.addr == to);
                let (key, neighbour) = known.ok_or_else(|| elsewhere("no task and no service has this address"))?;
                (key.vni, neighbour.mac)
            }
        };
        let inner = frame::build(&self.packet, (Mac::ROUTER, mac));
        let here = frame::ip(config.vtep);
        Ok(frame::wrap(vni, (vtep, here), u16::from_be_bytes(config.vxlan_port), &inner))
    }
}
