//! Where this node is: the addresses of its interfaces, and which of them others should use.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// Why no address was chosen. Docker's words, where it has some.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error("list the interfaces of this node")]
    List(#[source] nix::Error),
    #[error("could not find the system's IP address - specify one with --advertise-addr")]
    None,
    #[error(
        "could not choose an IP address to advertise since this system has multiple addresses on {} - specify one with --advertise-addr",
        listed(.0)
    )]
    Several(Vec<(String, IpAddr)>),
    #[error("interface {0} has no address")]
    Interface(String),
    #[error("{0} is no address of this node")]
    Foreign(IpAddr),
    #[error("{0} is neither an address nor an interface of this node, with or without a port")]
    Unreadable(String),
}

fn listed(addresses: &[(String, IpAddr)]) -> String {
    let same = addresses.windows(2).all(|pair| pair[0].0 == pair[1].0);
    match addresses.first() {
        Some((name, _)) if same => {
            let all: Vec<_> = addresses.iter().map(|(_, address)| address.to_string()).collect();
            format!("interface {name} ({})", all.join(" and "))
        }
        _ => {
            let all: Vec<_> = addresses.iter().map(|(name, address)| format!("{address} on {name}")).collect();
            format!("different interfaces ({})", all.join(" and "))
        }
    }
}

/// An interface's address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) interface: String,
    pub(super) address: IpAddr,
}

/// The addresses that others can reach: of interfaces that are up, none of loopback or of one link only.
pub(super) fn addresses() -> Result<Vec<Own>, PlaceError> {
    let all = getifaddrs().map_err(PlaceError::List)?;
    let reachable = all.filter_map(|interface| {
        if interface.flags.contains(InterfaceFlags::IFF_LOOPBACK) || !interface.flags.contains(InterfaceFlags::IFF_UP) {
            return None;
        }
        let storage = interface.address?;
        let v4 = storage.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        let address = v4.or_else(|| storage.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
        let one_link = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
            || matches!(address, IpAddr::V4(v4) if v4.is_link_local());
        (!one_link).then(|| Own { interface: interface.interface_name.clone(), address })
    });
    Ok(reachable.collect())
}

/// What a user gave (address or interface, with or without a port; or nothing), as one address.
pub(super) fn choose(given: &str, port: u16) -> Result<SocketAddr, PlaceError> {
    let own = addresses()?;
    if given.is_empty() {
        let v4: Vec<_> = own.iter().filter(|own| own.address.is_ipv4()).collect();
        let candidates = if v4.is_empty() { own.iter().collect() } else { v4 };
        return match candidates.as_slice() {
            [] => Err(PlaceError::None),
            [one] => Ok(SocketAddr::new(one.address, port)),
            several => {
                let listed = several.iter().map(|own| (own.interface.clone(), own.address)).collect();
                Err(PlaceError::Several(listed))
            }
        };
    }
    if let Ok(address) = given.parse::<SocketAddr>() {
        return Ok(address);
    }
    if let Ok(address) = given.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, port));
    }
    let (name, port) = match given.split_once(':') {
        Some((name, text)) => (name, text.parse().map_err(|_| PlaceError::Unreadable(given.to_owned()))?),
        None => (given, port),
    };
    let of_interface: Vec<_> = own.iter().filter(|own| own.interface == name).collect();
    let chosen = of_interface.iter().find(|own| own.address.is_ipv4()).or_else(|| of_interface.first());
    match chosen {
        Some(own) => Ok(SocketAddr::new(own.address, port)),
        None if nix::net::if_::if_nametoindex(name).is_ok() => Err(PlaceError::Interface(name.to_owned())),
        None => Err(PlaceError::Unreadable(given.to_owned())),
    }
}

/// Where to listen: as given, or all addresses. All of IPv4, which clients say where their user says nothing, are all
/// of both families where others use IPv6.
pub(super) fn listen(given: &str, advertise: SocketAddr) -> Result<SocketAddr, PlaceError> {
    let all = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), advertise.port());
    let chosen = if given.is_empty() { all } else { choose(given, advertise.port())? };
    if chosen.ip() == Ipv4Addr::UNSPECIFIED && advertise.is_ipv6() {
        return Ok(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), chosen.port()));
    }
    Ok(chosen)
}

/// Where tunnels end: as given, or where others find this node.
pub(super) fn data_path(given: &str, advertise: SocketAddr) -> Result<IpAddr, PlaceError> {
    if given.is_empty() { Ok(advertise.ip()) } else { Ok(choose(given, 0)?.ip()) }
}

/// The interface that has this address.
pub(super) fn interface_of(address: IpAddr) -> Result<String, PlaceError> {
    let own = addresses()?.into_iter().find(|own| own.address == address);
    own.map(|own| own.interface).ok_or(PlaceError::Foreign(address))
}

/// The addresses of these interfaces.
pub(super) fn of_interfaces(interfaces: &[String]) -> Result<Vec<IpAddr>, PlaceError> {
    let own = addresses()?.into_iter().filter(|own| interfaces.contains(&own.interface));
    Ok(own.map(|own| own.address).collect())
}

/// The size of packets on an interface.
pub(super) async fn mtu(interface: &str) -> Option<u32> {
    use futures_util::TryStreamExt as _;
    use rtnetlink::packet_route::link::LinkAttribute;
    let (connection, handle, _) = rtnetlink::new_connection().ok()?;
    let mut driver = tokio::task::JoinSet::new();
    driver.spawn(connection);
    let link = handle.link().get().match_name(interface.to_owned()).execute().try_next().await.ok()??;
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

/// The host's name.
pub(super) fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}
