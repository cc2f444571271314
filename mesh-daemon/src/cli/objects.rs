//! `meshctl network`, `meshctl secret`, `meshctl config`.

use std::io::Read as _;

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;
use jiff::Timestamp;

use super::client::{self, Client, escape, filters};
use super::each::{self, Each};
use super::listing::{Listing, Style, line};
use super::pairs;
use super::words::{ago, short};
use crate::api::wire;

/// The largest file that is worth sending: a config has fewer bytes.
const MAX_BYTES: u64 = 1024 * 1024;

#[derive(Subcommand)]
pub(super) enum NetworkCommand {
    /// Make a network.
    Create {
        /// Its name.
        name: String,
        /// Who carries it.
        #[arg(short, long, default_value = "overlay")]
        driver: String,
        /// Containers that are no service's may join it.
        #[arg(long)]
        attachable: bool,
        /// There is no way out of it.
        #[arg(long)]
        internal: bool,
        /// Packets to published ports travel on it.
        #[arg(long)]
        ingress: bool,
        /// It has IPv6 too.
        #[arg(long)]
        ipv6: bool,
        /// Its subnet, as 10.0.9.0/24.
        #[arg(long)]
        subnet: Vec<String>,
        /// Its router, of each subnet.
        #[arg(long)]
        gateway: Vec<String>,
        /// Give addresses from this part of each subnet only.
        #[arg(long)]
        ip_range: Vec<String>,
        /// KEY=VALUE.
        #[arg(long)]
        label: Vec<String>,
        /// KEY=VALUE for the driver.
        #[arg(short, long)]
        opt: Vec<String>,
    },
    /// List networks.
    Ls {
        #[command(flatten)]
        style: Style,
    },
    /// Print networks as JSON.
    Inspect {
        /// By id or name.
        #[arg(required = true)]
        networks: Vec<String>,
        /// With the services in them.
        #[arg(short, long)]
        verbose: bool,
    },
    /// Remove networks.
    Rm {
        /// By id or name.
        #[arg(required = true)]
        networks: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(super) enum PayloadCommand {
    /// Make one of a file, or of standard input.
    Create {
        /// Its name.
        name: String,
        /// The file, or -.
        file: String,
        /// KEY=VALUE.
        #[arg(short, long)]
        label: Vec<String>,
    },
    /// List them.
    Ls {
        #[command(flatten)]
        style: Style,
    },
    /// Print them as JSON.
    Inspect {
        /// By id or name.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Remove them.
    Rm {
        /// By id or name.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

pub(super) fn network(client: &Client, command: NetworkCommand) -> Result<()> {
    match command {
        NetworkCommand::Create {
            name,
            driver,
            attachable,
            internal,
            ingress,
            ipv6,
            subnet,
            gateway,
            ip_range,
            label,
            opt,
        } => {
            let request = wire::NetworkCreateRequest {
                name,
                driver,
                attachable,
                internal,
                ingress,
                enable_ipv6: Some(ipv6),
                ipam: Some(ipam(&subnet, &gateway, &ip_range)?),
                labels: Some(pairs::labels(&label)),
                options: Some(pairs::labels(&opt)),
                ..wire::NetworkCreateRequest::default()
            };
            let created: wire::NetworkCreated = client.post("/networks/create", &request)?;
            line(created.id)
        }
        NetworkCommand::Ls { style } => {
            let query = filters(&client::filter_pairs(&style.filter)?);
            let mut networks: Vec<wire::Network> = client.get(&format!("/networks{query}"))?;
            networks.sort_by(|a, b| a.name.cmp(&b.name));
            style.print(
                &networks,
                |network| short(&network.id),
                |networks| {
                    let mut list = Listing::new(["NETWORK ID", "NAME", "DRIVER", "SCOPE"]);
                    for network in networks {
                        list.push([
                            short(&network.id),
                            network.name.clone(),
                            network.driver.clone(),
                            network.scope.clone(),
                        ]);
                    }
                    list
                },
            )
        }
        NetworkCommand::Inspect { networks, verbose } => {
            let query = if verbose { "?verbose=true" } else { "" };
            each::inspect(client, &networks, |name| format!("/networks/{}{query}", escape(name)))
        }
        NetworkCommand::Rm { networks } => {
            Each::new(&networks).remove(|name| client.delete(&format!("/networks/{}", escape(name))))
        }
    }
}

fn ipam(subnets: &[String], gateways: &[String], ranges: &[String]) -> Result<wire::Ipam> {
    if gateways.len() > subnets.len() || ranges.len() > subnets.len() {
        bail!("every ip-range or gateway must have a corresponding subnet");
    }
    let at = |list: &[String], at: usize| list.get(at).cloned().unwrap_or_default();
    let config = |(index, subnet): (usize, &String)| wire::IpamConfig {
        subnet: subnet.clone(),
        gateway: at(gateways, index),
        ip_range: at(ranges, index),
        ..wire::IpamConfig::default()
    };
    let config: Vec<_> = subnets.iter().enumerate().map(config).collect();
    Ok(wire::Ipam { driver: "default".to_owned(), config: Some(config), ..wire::Ipam::default() })
}

/// Reads a file, or standard input for `-`.
pub(super) fn read(file: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if file == "-" {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes).context("error reading from STDIN")?;
        if bytes.is_empty() {
            return Err(each::bare("error reading from STDIN: data is empty"));
        }
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("open {file}"))?;
        opened.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("read {file}"))?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{file} has more than {MAX_BYTES} bytes");
    }
    Ok(bytes)
}

pub(super) fn secret(client: &Client, command: PayloadCommand) -> Result<()> {
    match command {
        PayloadCommand::Create { name, file, label } => {
            let data = wire::base64::encode(&read(&file)?);
            let spec = wire::SecretSpec { name, labels: pairs::labels(&label), data, ..wire::SecretSpec::default() };
            line(client.post::<wire::Created>("/secrets/create", &spec)?.id)
        }
        PayloadCommand::Ls { style } => {
            let query = filters(&client::filter_pairs(&style.filter)?);
            let secrets: Vec<wire::Secret> = client.get(&format!("/secrets{query}"))?;
            let now = Timestamp::now();
            style.print(
                &secrets,
                |secret| secret.id.clone(),
                |secrets| {
                    let mut list = Listing::new(["ID", "NAME", "DRIVER", "CREATED", "UPDATED"]);
                    for secret in secrets {
                        let driver = secret.spec.driver.as_ref().map(|driver| driver.name.clone()).unwrap_or_default();
                        let (created, updated) = (ago(&secret.created_at, now), ago(&secret.updated_at, now));
                        list.push([secret.id.clone(), secret.spec.name.clone(), driver, created, updated]);
                    }
                    list
                },
            )
        }
        PayloadCommand::Inspect { names } => each::inspect(client, &names, |name| format!("/secrets/{}", escape(name))),
        PayloadCommand::Rm { names } => {
            Each::new(&names).remove(|name| client.delete(&format!("/secrets/{}", escape(name))))
        }
    }
}

pub(super) fn config(client: &Client, command: PayloadCommand) -> Result<()> {
    match command {
        PayloadCommand::Create { name, file, label } => {
            let data = wire::base64::encode(&read(&file)?);
            let spec = wire::ConfigSpec { name, labels: pairs::labels(&label), data, ..wire::ConfigSpec::default() };
            line(client.post::<wire::Created>("/configs/create", &spec)?.id)
        }
        PayloadCommand::Ls { style } => {
            let query = filters(&client::filter_pairs(&style.filter)?);
            let configs: Vec<wire::Config> = client.get(&format!("/configs{query}"))?;
            let now = Timestamp::now();
            style.print(
                &configs,
                |config| config.id.clone(),
                |configs| {
                    let mut list = Listing::new(["ID", "NAME", "CREATED", "UPDATED"]);
                    for config in configs {
                        let (created, updated) = (ago(&config.created_at, now), ago(&config.updated_at, now));
                        list.push([config.id.clone(), config.spec.name.clone(), created, updated]);
                    }
                    list
                },
            )
        }
        PayloadCommand::Inspect { names } => each::inspect(client, &names, |name| format!("/configs/{}", escape(name))),
        PayloadCommand::Rm { names } => {
            Each::new(&names).remove(|name| client.delete(&format!("/configs/{}", escape(name))))
        }
    }
}
