//! Networks, from and to the client.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{recall, remember, time};
use crate::api::error::Error;
use crate::api::wire;
use crate::model::cidr::Cidr;
use crate::model::meta::Annotations;
use crate::model::network::{IpamConfig, Network, NetworkSpec};

/// How the engine calls the option that shows a network's VNI.
const VNI_OPTION: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// Reads what a network is to be.
pub(in crate::api) fn network_spec(request: &wire::NetworkCreateRequest) -> Result<NetworkSpec, Error> {
    let ipam = request.ipam.clone().unwrap_or_default();
    Ok(NetworkSpec {
        annotations: Annotations { name: request.name.clone(), labels: request.labels.clone().unwrap_or_default() },
        driver: request.driver.clone(),
        options: request.options.clone().unwrap_or_default(),
        ipv4: request.enable_ipv4.unwrap_or(true),
        ipv6: request.enable_ipv6.unwrap_or(false),
        internal: request.internal,
        attachable: request.attachable,
        ingress: request.ingress,
        ipam_driver: if ipam.driver == "default" { String::new() } else { ipam.driver },
        ipam_options: ipam.options.unwrap_or_default(),
        ipam: ipam.config.unwrap_or_default().iter().map(ipam_config).collect::<Result<_, _>>()?,
        docker: remember(request)?,
    })
}

fn ipam_config(config: &wire::IpamConfig) -> Result<IpamConfig, Error> {
    let subnet = cidr("subnet", &config.subnet)?;
    if let Some(subnet) = subnet
        && subnet.network() != subnet
    {
        return Err(Error::bad(format!("invalid subnet {subnet}: it should be {}", subnet.network())));
    }
    let inside = |what: &str, text: &str, address: IpAddr| match subnet {
        Some(subnet) if !subnet.contains(address) => {
            Err(Error::bad(format!("invalid {what} {text}: it is not in the subnet {subnet}")))
        }
        _ => Ok(address),
    };
    let address = |what: &str, text: &str| {
        let address = text.parse().map_err(|_| Error::bad(format!("invalid {what} \"{text}\": it is no address")))?;
        inside(what, text, address)
    };
    let range = cidr("ip-range", &config.ip_range)?;
    if let Some(range) = range {
        inside("ip-range", &config.ip_range, range.address)?;
    }
    Ok(IpamConfig {
        subnet,
        range,
        gateway: (!config.gateway.is_empty()).then(|| address("gateway", &config.gateway)).transpose()?,
        reserved: config
            .auxiliary_addresses
            .iter()
            .map(|(name, text)| Ok((name.clone(), address("auxiliary address", text)?)))
            .collect::<Result<BTreeMap<_, _>, Error>>()?,
    })
}

fn cidr(what: &str, text: &str) -> Result<Option<Cidr>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| Error::bad(format!("invalid {what}: {error}")))
}

/// A network, without what is in it.
pub(in crate::api) fn network(network: &Network) -> wire::Network {
    let spec = &network.spec;
    let sent: wire::NetworkCreateRequest = recall(spec.docker.as_ref()).unwrap_or_default();
    let mut options =
        if network.driver_options.is_empty() { spec.options.clone() } else { network.driver_options.clone() };
    if let Some(vni) = network.vni {
        options.insert(VNI_OPTION.to_owned(), vni.0.to_string());
    }
    let some = |labels: &wire::Labels| (!labels.is_empty()).then(|| labels.clone());
    wire::Network {
        name: spec.annotations.name.clone(),
        id: network.id.to_string(),
        created: time(network.meta.created_at),
        scope: "swarm".to_owned(),
        driver: spec.driver.clone(),
        enable_ipv4: spec.ipv4,
        enable_ipv6: spec.ipv6,
        ipam: wire::Ipam {
            driver: if spec.ipam_driver.is_empty() { "default".to_owned() } else { spec.ipam_driver.clone() },
            options: some(&spec.ipam_options),
            config: Some(subnets(network)),
            ..wire::Ipam::default()
        },
        internal: spec.internal,
        attachable: spec.attachable,
        ingress: spec.ingress,
        options: some(&options),
        labels: some(&spec.annotations.labels),
        rest: sent.rest,
        ..wire::Network::default()
    }
}

/// What was given; what was asked for, until something is.
fn subnets(network: &Network) -> Vec<wire::IpamConfig> {
    let words = |addresses: &BTreeMap<String, IpAddr>| {
        addresses.iter().map(|(name, address)| (name.clone(), address.to_string())).collect()
    };
    let text = |cidr: Option<Cidr>| cidr.map(|cidr| cidr.to_string()).unwrap_or_default();
    if network.subnets.is_empty() {
        let asked = network.spec.ipam.iter().map(|config| wire::IpamConfig {
            subnet: text(config.subnet),
            ip_range: text(config.range),
            gateway: config.gateway.map(|address| address.to_string()).unwrap_or_default(),
            auxiliary_addresses: words(&config.reserved),
            ..wire::IpamConfig::default()
        });
        return asked.collect();
    }
    let given = network.subnets.iter().map(|subnet| wire::IpamConfig {
        subnet: subnet.subnet.to_string(),
        ip_range: text(subnet.range),
        gateway: subnet.gateway.to_string(),
        auxiliary_addresses: words(&subnet.reserved),
        ..wire::IpamConfig::default()
    });
    given.collect()
}
