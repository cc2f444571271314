//! The links of a task: one end in its network namespace, the other on the node.
//!
//! The node's end has no address and is in no bridge: the packet path's programs take what comes out of
//! it. Receive offload (GRO) is switched on at the task's end when both are up, for without it the kernel
//! drops what a program delivers there, uncounted.

use std::net::IpAddr;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, RouteMessageBuilder};
use tokio::task::JoinSet;

use super::gro;
use crate::model::cidr::Cidr;
use crate::model::id::TaskId;
use crate::runtime::{RuntimeError, netns};

/// A link to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cable {
    /// Link-layer address of the task's end.
    pub(super) mac: [u8; 6],
    pub(super) addresses: Vec<Cidr>,
    /// Routers to everywhere else, one a family; of the first link that has some they count.
    pub(super) gateways: Vec<IpAddr>,
    pub(super) mtu: u32,
    /// What the node's end says of itself.
    pub(super) alias: Option<String>,
}

/// Why a link was not made.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The kernel cannot be asked.
    #[error("open a netlink socket")]
    Socket(#[source] std::io::Error),
    /// The kernel refused.
    #[error("{what}")]
    Netlink {
        /// What was asked.
        what: String,
        /// Its answer.
        #[source]
        source: rtnetlink::Error,
    },
    /// The task's namespace.
    #[error(transparent)]
    Namespace(#[from] RuntimeError),
    /// The task's namespace cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// Where it is pinned.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A link that would drop what is delivered into it.
    #[error("switch on receive offload of {link}")]
    Gro {
        /// Which.
        link: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Makes links.
pub(super) struct Wires {
    handle: Handle,
    _driver: JoinSet<()>,
}

/// The name of a link's end on the node: of the task's id as much as fits, and the number of the link.
pub(super) fn host_name(task: TaskId, number: usize) -> String {
    let id = task.to_string();
    // IFNAMSIZ leaves 15 characters. 11 digits of base 36 are 56 of the id's 128 random bits.
    format!("m{}-{number}", id.get(..11).unwrap_or(&id))
}

impl Wires {
    pub(super) fn open() -> Result<Self, WireError> {
        let (handle, driver) = connect()?;
        Ok(Self { handle, _driver: driver })
    }

    /// The links of this node that say something of themselves, with what they say.
    pub(super) async fn aliases(&self) -> Result<Vec<(String, String)>, WireError> {
        use futures_util::TryStreamExt as _;
        let links: Result<Vec<_>, _> = self.handle.link().get().execute().try_collect().await;
        let links = links.map_err(|source| WireError::Netlink { what: "list the links".to_owned(), source })?;
        let said = links.iter().filter_map(|link| {
            let (mut name, mut alias) = (None, None);
            for attribute in &link.attributes {
                match attribute {
                    LinkAttribute::IfName(text) => name = Some(text.clone()),
                    LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
                    _ => {}
                }
            }
            Some((name?, alias?))
        });
        Ok(said.collect())
    }

    /// Makes the links of a task, or finds them made. Returns the names of the node's ends.
    pub(super) async fn connect(&self, task: TaskId, netns: &Path, cables: &[Cable]) -> Result<Vec<String>, WireError> {
        let runtime = tokio::runtime::Handle::current();
        let (inside, _driver) = netns::enter(netns, || {
            let _reactor = runtime.enter();
            connect()
        })??;
        let lo = index(&inside, "lo").await?;
        if let Some(lo) = lo {
            set(&inside, LinkUnspec::new_with_index(lo).up().build(), "bring up lo").await?;
        }
        let mut names = Vec::new();
        let mut routed = Vec::new();
        for (number, cable) in cables.iter().enumerate() {
            let name = host_name(task, number);
            if index(&inside, &task_name(number)).await?.is_none() {
                self.make(&inside, netns, &name, number, cable).await?;
                for gateway in &cable.gateways {
                    if !routed.contains(&gateway.is_ipv4()) {
                        routed.push(gateway.is_ipv4());
                        route(&inside, *gateway, number).await?;
                    }
                }
            }
            names.push(name);
        }
        Ok(names)
    }

    async fn make(
        &self,
        inside: &Handle,
        netns: &Path,
        name: &str,
        number: usize,
        cable: &Cable,
    ) -> Result<(), WireError> {
        // One that an earlier attempt left half made.
        self.remove(name).await?;
        let peer = format!("{name}p");
        let netlink = |what: String| move |source| WireError::Netlink { what, source };
        let pair = LinkVeth::new(name, &peer).mtu(cable.mtu).build();
        self.handle.link().add(pair).execute().await.map_err(netlink(format!("make link {name}")))?;
        let target = std::fs::File::open(netns).map_err(|source| WireError::Open { path: netns.to_owned(), source })?;
        let moved = LinkUnspec::new_with_name(&peer).setns_by_fd(target.as_raw_fd()).build();
        set(&self.handle, moved, "move the task's end into its namespace").await?;
        let Some(at) = index(inside, &peer).await? else {
            return Err(netlink(format!("find {peer} in the namespace"))(rtnetlink::Error::RequestFailed));
        };
        let own = task_name(number);
        let end = LinkUnspec::new_with_index(at).name(&own).address(cable.mac.to_vec()).mtu(cable.mtu).up().build();
        set(inside, end, "bring up the task's end").await?;
        let mut end = LinkUnspec::new_with_name(name).up().build();
        end.attributes.extend(cable.alias.clone().map(LinkAttribute::IfAlias));
        set(&self.handle, end, "bring up the node's end").await?;
        for cidr in &cable.addresses {
            let mut add = inside.address().add(at, cidr.address, cidr.prefix);
            // Nobody else has it: the cluster gives each address once. RFC 4862 would have it wait a second.
            add.message_mut().attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
            add.execute().await.map_err(netlink(format!("add address {cidr}")))?;
        }
        netns::enter(netns, || gro::switch_on(&own))?.map_err(|source| WireError::Gro { link: own.clone(), source })
    }

    /// Removes the links of a task. Those that are gone already are no error.
    pub(super) async fn disconnect(&self, task: TaskId, links: usize) -> Result<(), WireError> {
        for number in 0..links {
            self.remove(&host_name(task, number)).await?;
        }
        Ok(())
    }

    /// Removes whatever links a task has.
    async fn disconnect_all(&self, task: TaskId) -> Result<(), WireError> {
        let mut number = 0;
        while index(&self.handle, &host_name(task, number)).await?.is_some() {
            self.remove(&host_name(task, number)).await?;
            number += 1;
        }
        Ok(())
    }

    async fn remove(&self, name: &str) -> Result<(), WireError> {
        let Some(at) = index(&self.handle, name).await? else { return Ok(()) };
        let gone = self.handle.link().del(at).execute().await;
        gone.map_err(|source| WireError::Netlink { what: format!("remove link {name}"), source })
    }
}

/// Removes the links of these tasks, when no agent runs: the kernel would take its time after their
/// namespaces are gone.
///
/// # Errors
///
/// If a link stays.
pub async fn remove_links(tasks: &[TaskId]) -> Result<(), WireError> {
    let wires = Wires::open()?;
    for task in tasks {
        wires.disconnect_all(*task).await?;
    }
    Ok(())
}

/// The name of a link's end in the task.
fn task_name(number: usize) -> String {
    format!("eth{number}")
}

fn connect() -> Result<(Handle, JoinSet<()>), WireError> {
    // On the thread of the namespace, which is none of the daemon's: the reactor must be named.
    let (connection, handle, _) = rtnetlink::new_connection().map_err(WireError::Socket)?;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    Ok((handle, driver))
}

async fn set(handle: &Handle, message: LinkMessage, what: &str) -> Result<(), WireError> {
    let done = handle.link().set(message).execute().await;
    done.map_err(|source| WireError::Netlink { what: what.to_owned(), source })
}

async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, WireError> {
    use futures_util::TryStreamExt as _;
    let mut links = handle.link().get().match_name(name.to_owned()).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(rtnetlink::Error::NetlinkError(error)) if error.raw_code() == -nix::libc::ENODEV => Ok(None),
        Err(source) => Err(WireError::Netlink { what: format!("look for link {name}"), source }),
    }
}

async fn route(inside: &Handle, gateway: IpAddr, number: usize) -> Result<(), WireError> {
    let Some(link) = index(inside, &task_name(number)).await? else { return Ok(()) };
    let message = match gateway {
        IpAddr::V4(v4) => {
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().gateway(v4).output_interface(link).onlink().build()
        }
        IpAddr::V6(v6) => {
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().gateway(v6).output_interface(link).onlink().build()
        }
    };
    let done = inside.route().add(message).execute().await;
    done.map_err(|source| WireError::Netlink { what: format!("route everything else to {gateway}"), source })
}
