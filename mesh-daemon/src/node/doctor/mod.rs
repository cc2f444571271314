//! `meshctl doctor` on a node, and on all of them.
//!
//! The leader asks every node in its session. All listen at the same time for what the others send to the port of
//! tunnels, so that each pair is seen from both ends. A node that is not asked by the leader looks at itself, and at
//! its ways to managers and members.

mod probe;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::relay::{Wanted, Ways};
use super::wire::Book;
use super::{Clocks, place};
use crate::agent;
use crate::cluster::gossip::{Liveness, Members};
use crate::cluster::rpc::{Peers, Reach, Stream};
use crate::cluster::trust::Keeper;
use crate::datapath::Pins;
use crate::datapath::facts::Observer;
use crate::doctor::{self, Finding};
use crate::model::cluster::DATA_PATH_PORT;
use crate::model::id::NodeId;
use crate::model::node::{Node, NodeState};
use crate::store::Tables;

/// A node is waited for so long: it listens for a while.
const PATIENCE: Duration = Duration::from_secs(8);
/// A manager or a member is given so long to answer.
const CALL: Duration = Duration::from_secs(2);
/// Members that are spoken with; beyond, a fleet has other means.
const MAX_MEMBERS: usize = 64;
/// A report is not longer.
const MAX_REPORT: usize = 1 << 20;
/// Clocks may differ by so much before somebody should know. Certificates bear an hour.
const SKEW: Duration = Duration::from_secs(2);

/// Examines this node.
pub(super) struct Examiner {
    pub(super) pins: Pins,
    pub(super) keeper: Arc<Keeper>,
    pub(super) book: Arc<Book>,
    pub(super) peers: Arc<Peers>,
    pub(super) members: watch::Receiver<Arc<Members>>,
    pub(super) clocks: Clocks,
    /// What managers said last, on disk.
    pub(super) picture: std::path::PathBuf,
    pub(super) hostname: String,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Report {
    hostname: String,
    findings: Vec<Finding>,
    vtep: IpAddr,
    /// The size of packets on the uplink.
    mtu: u32,
    /// To which ends of tunnels it sent: in a large swarm not to all.
    #[serde(default)]
    sent_to: Vec<IpAddr>,
    /// From whom something came to the port of tunnels, and how long the longest was; None: nobody could listen.
    heard: Option<BTreeMap<IpAddr, u32>>,
    /// What its clock said at the end.
    now: Timestamp,
}

/// What a node that is asked sends: its report, once it has it.
pub(super) fn reported(examiner: Arc<Examiner>) -> Stream<Bytes> {
    let report = async move {
        let report = examiner.examine(true).await;
        Ok(Bytes::from(serde_json::to_vec(&report).unwrap_or_default()))
    };
    futures_util::stream::once(report).boxed()
}

/// The machine, and nothing of a swarm.
pub(super) async fn alone(pins: Pins) -> Vec<Finding> {
    tokio::task::spawn_blocking(move || doctor::machine(&pins)).await.unwrap_or_else(|error| {
        vec![Finding::broken("machine", format!("it could not be looked at: {error}"), "tell the makers of mesh")]
    })
}

impl Examiner {
    /// This node, and its ways to managers and members.
    pub(super) async fn alone(&self) -> Vec<Finding> {
        let mut findings = named(self.examine(false).await.findings, &self.hostname);
        findings.push(Finding::warning(
            "scope",
            "only this node was looked at",
            "run this on a manager to look at all nodes, and at tunnels between them",
        ));
        findings
    }

    /// All nodes, by their sessions with the leader.
    pub(super) async fn all(&self, view: &Tables, ways: &Ways) -> Vec<Finding> {
        let asked = view.nodes().iter().map(|node| async {
            let asked = ask(node.id, ways).await;
            (Arc::clone(node), asked, (self.clocks.store)())
        });
        let answers = futures_util::future::join_all(asked).await;
        let (mut findings, mut reports, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        for (node, answer, now) in answers {
            match answer {
                Ok(report) => {
                    let own = node.id == self.keeper.credentials().own().node;
                    findings.extend(named(report.findings.clone(), &report.hostname));
                    if !own {
                        findings.extend(named(vec![clock(now, report.now)], &report.hostname));
                    }
                    reports.push(report);
                }
                Err(why) => {
                    findings.push(away(&node, &why));
                    // Its report may be lost for the very reason that is looked for.
                    let is_there = node.status.state == NodeState::Ready;
                    silent.extend(node.vteps.iter().filter(|_| is_there).map(|vtep| (node.name().to_owned(), *vtep)));
                }
            }
        }
        findings.extend(tunnels(&reports, &silent));
        findings
    }

    async fn examine(&self, listens: bool) -> Report {
        let settings = self.book.settings();
        let port = settings.data_path_port.unwrap_or(DATA_PATH_PORT);
        let pins = self.pins.clone();
        let machine = alone(pins.clone());
        let uplink = place::interface_of(settings.data_path).unwrap_or_default();
        let mtu = place::mtu(&uplink).await.unwrap_or(0);
        let sent_to = self.others();
        let others = sent_to.clone();
        let heard =
            async { if listens { probe::exchange(pins, settings.data_path, port, mtu, others).await } else { None } };
        let (machine, heard, links, managers, members) =
            tokio::join!(machine, heard, self.uplink(&uplink, mtu), self.managers(), self.members());
        let findings = [machine, links, managers, members, vec![self.certificate()]].concat();
        let now = (self.clocks.store)();
        Report { hostname: self.hostname.clone(), findings, vtep: settings.data_path, mtu, sent_to, heard, now }
    }

    /// Where the tunnels of the other nodes end, as managers said last.
    fn others(&self) -> Vec<IpAddr> {
        let own = self.keeper.credentials().own().node;
        let family = self.book.settings().data_path.is_ipv4();
        let members = agent::picture_at(&self.picture).map(|picture| picture.members).unwrap_or_default();
        let others = members.into_values().filter(|member| member.id != own);
        others.filter_map(|it| it.vteps.into_iter().find(|vtep| vtep.is_ipv4() == family)).take(MAX_MEMBERS).collect()
    }

    /// What carries tunnels to the others.
    async fn uplink(&self, uplink: &str, mtu: u32) -> Vec<Finding> {
        if uplink.is_empty() {
            let fix = "give the node its address back, or let it leave and join with another `--data-path-addr`";
            return vec![Finding::broken("uplink", "no interface has the address of this node's tunnels", fix)];
        }
        let mut findings = Vec::new();
        let facts = async { Observer::open().ok()?.look_at_interfaces().await.ok() }.await;
        findings.push(match facts.and_then(|facts| facts.interfaces.get(uplink).copied()) {
            Some(interface) if interface.xdp_program.is_some() => {
                Finding::ok("xdp", format!("native on {uplink} (MTU {mtu})"))
            }
            Some(_) => Finding::warning(
                "xdp",
                format!("{uplink} runs no XDP program: TC takes its traffic, which costs more"),
                "if its driver has native XDP, the daemon's log says why it was not used; a larger MTU than a page is one reason",
            ),
            None => Finding::broken("xdp", format!("{uplink} cannot be looked at"), "is it up?"),
        });
        findings.push(match agent::gro_is_on(uplink) {
            Ok(true) => Finding::ok("gro", format!("on at {uplink}")),
            Ok(false) => Finding::warning(
                "gro",
                format!("off at {uplink}: every segment of a tunnelled stream is handled alone"),
                format!("run `ethtool -K {uplink} gro on`"),
            ),
            Err(error) => Finding::warning("gro", format!("{uplink} does not say: {error}"), ""),
        });
        findings
    }

    /// Whether managers are reached and serve, and what they think of this node's certificate.
    async fn managers(&self) -> Vec<Finding> {
        let own = self.keeper.credentials().own().node;
        let advertised = self.book.settings().advertise.ip();
        let checks = self.book.reaches().into_iter().filter(|reach| reach.node != own).map(|reach| {
            let Reach { node, address, .. } = reach;
            async move {
                let link = match self.peers.to(&address, Some(node)) {
                    Ok(link) => link,
                    Err(refusal) => return vec![Finding::broken("2377/tcp", format!("{address}: {}", refusal.text), "")],
                };
                let checked = match link.check(CALL).await {
                    Ok(checked) => checked,
                    Err(refusal) => {
                        let fix = "is its daemon running, and is the port open between the nodes?";
                        return vec![Finding::broken("2377/tcp", format!("manager at {address}: {}", refusal.text), fix)];
                    }
                };
                let mut findings = vec![match checked.seen_from {
                    _ if !checked.serving => Finding::broken(
                        "2377/tcp",
                        format!("manager at {address} is reached and knows no leader"),
                        "start the managers that are missing; if they are lost: `docker swarm init --force-new-cluster`",
                    ),
                    Some(seen) if seen != advertised => Finding::warning(
                        "2377/tcp",
                        format!("manager at {address} sees this node at {seen}, not at {advertised}"),
                        "addresses are translated between them: others cannot answer this node's tunnels",
                    ),
                    Some(_) | None => Finding::ok("2377/tcp", format!("manager at {address}")),
                }];
                if let Ok(standing) = link.status(CALL).await
                    && standing.renew
                {
                    let found = format!("manager at {address} wants this node's certificate renewed");
                    let fix = "it is done by itself; if this stays, the daemon's log says why it fails";
                    findings.push(Finding::warning("certificate", found, fix));
                }
                findings
            }
        });
        futures_util::future::join_all(checks).await.concat()
    }

    /// Whether the other nodes are heard by membership, and take connections for it.
    async fn members(&self) -> Vec<Finding> {
        let members: Vec<_> = self
            .members
            .borrow()
            .iter()
            .take(MAX_MEMBERS)
            .map(|(_, member)| (member.address, member.liveness))
            .collect();
        let checks = members.into_iter().map(|(address, liveness)| async move {
            let udp = match liveness {
                Liveness::Alive => Finding::ok("7946/udp", address.to_string()),
                Liveness::Suspect => Finding::warning("7946/udp", format!("{address} did not answer lately"), ""),
                Liveness::Away => Finding::warning(
                    "7946/udp",
                    format!("the daemon of {address} is away: its tasks run, and its place is held"),
                    "start its daemon again",
                ),
                Liveness::Down => Finding::broken(
                    "7946/udp",
                    format!("{address} does not answer"),
                    "is its daemon running, and is the port open between the nodes, in both directions?",
                ),
            };
            [udp, tcp(address).await]
        });
        futures_util::future::join_all(checks).await.concat()
    }

    /// Whether this node's certificate is good for a while.
    fn certificate(&self) -> Finding {
        let own = self.keeper.credentials().own();
        let left = own.not_after.duration_since(self.clocks.wall.now()).unwrap_or_default();
        let life = own.not_after.duration_since(own.not_before).unwrap_or_default();
        let until = Timestamp::try_from(own.not_after).map_or_else(|_| String::new(), |time| format!("{time:.0}"));
        // It should have been renewed at four fifths of its life.
        if left < life / 5 {
            let fix = "the daemon's log says why it is not renewed; is a manager reached?";
            return Finding::broken("certificate", format!("ends {until}"), fix);
        }
        Finding::ok("certificate", format!("good until {until}"))
    }
}

async fn tcp(address: SocketAddr) -> Finding {
    let connected = tokio::time::timeout(CALL, tokio::net::TcpStream::connect(address)).await;
    let why = match connected {
        Ok(Ok(_)) => return Finding::ok("7946/tcp", address.to_string()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {CALL:?}"),
    };
    let fix = "is its daemon running, and is the port open between the nodes?";
    Finding::broken("7946/tcp", format!("{address}: {why}"), fix)
}

async fn ask(node: NodeId, ways: &Ways) -> Result<Report, String> {
    let asked = async {
        let nothing = futures_util::stream::pending().boxed();
        let mut pieces = ways.stream(node, &Wanted::Doctor, nothing).await.map_err(|refusal| refusal.text)?;
        let mut body = Vec::new();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(|refusal| refusal.text)?);
            if body.len() > MAX_REPORT {
                return Err(format!("its report is longer than {MAX_REPORT} bytes"));
            }
        }
        Ok(body)
    };
    let body = tokio::time::timeout(PATIENCE, asked).await.map_err(|_| format!("no report within {PATIENCE:?}"))??;
    serde_json::from_slice(&body).map_err(|error| format!("its report is not understood: {error}"))
}

fn named(mut findings: Vec<Finding>, node: &str) -> Vec<Finding> {
    findings.iter_mut().for_each(|finding| node.clone_into(&mut finding.node));
    findings
}

fn away(node: &Node, why: &str) -> Finding {
    let finding = match node.status.state {
        NodeState::Down => Finding::broken(
            "node",
            format!("down: {}", node.status.message),
            "start its daemon, or remove it: `docker node rm`",
        ),
        NodeState::Ready | NodeState::Unknown | NodeState::Disconnected => {
            Finding::broken("node", why, "see its daemon's log")
        }
    };
    let name = if node.name().is_empty() { node.id.to_string() } else { node.name().to_owned() };
    Finding { node: name, ..finding }
}

fn clock(leader: Timestamp, theirs: Timestamp) -> Finding {
    let skew = leader.duration_since(theirs).unsigned_abs();
    if skew <= SKEW {
        return Finding::ok("clock", "as the leader's");
    }
    let found = format!("{:.1} s off the leader's", skew.as_secs_f64());
    Finding::warning("clock", found, "keep time by NTP on all nodes (chrony, systemd-timesyncd)")
}

/// What went from each node to each other by the port of tunnels; of those that are there and silent (name, where their
/// tunnels end), what they sent.
fn tunnels(reports: &[Report], silent: &[(String, IpAddr)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for to in reports {
        let finding = |finding: Finding| Finding { node: to.hostname.clone(), ..finding };
        let Some(heard) = &to.heard else {
            let fix = "another `meshctl datapath trace` may run there; or no packet path is in force yet";
            findings.push(finding(Finding::warning("tunnels", "nobody could listen for them", fix)));
            continue;
        };
        let known = reports.iter().filter(|from| from.sent_to.contains(&to.vtep));
        let known = known.map(|from| (&from.hostname, from.vtep, from.mtu));
        // Nobody knows what they would send: as much as this one, most likely, and to all if those are few enough.
        let silent = silent
            .iter()
            .filter(|(_, vtep)| reports.len() + silent.len() <= MAX_MEMBERS && vtep.is_ipv4() == to.vtep.is_ipv4());
        let all = known.chain(silent.map(|(name, vtep)| (name, *vtep, to.mtu)));
        let others: Vec<_> = all.filter(|(_, vtep, _)| *vtep != to.vtep).collect();
        let mut good = 0;
        for (name, vtep, mtu) in &others {
            // An Ethernet header before the packet.
            let full = mtu + 14;
            findings.extend(match heard.get(vtep) {
                None => Some(finding(Finding::broken(
                    "tunnels",
                    format!("nothing comes from {name} ({vtep})"),
                    "open the UDP port of tunnels (4789, or as the swarm was made) between the nodes",
                ))),
                Some(longest) if *longest < full => Some(finding(Finding::broken(
                    "path mtu",
                    format!("packets of {mtu} bytes do not come from {name} ({vtep})"),
                    format!("set the MTU of its uplink to what the path carries, or have the path carry {mtu}"),
                ))),
                Some(_) => {
                    good += 1;
                    None
                }
            });
        }
        if good == others.len() && good > 0 {
            let found = format!("come from all {good} other nodes, in full size");
            findings.push(finding(Finding::ok("tunnels", found)));
        }
    }
    findings
}

#[cfg(test)]
mod tests;
