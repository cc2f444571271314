//! `meshctl info`.

use anyhow::Result;

use super::client::Client;
use super::listing::{json, lines};
use super::table::Output;
use super::words::bytes;
use crate::api::wire;

#[derive(clap::Args)]
pub(super) struct Args {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    let info: wire::SystemInfo = client.get("/info")?;
    if args.output == Output::Json {
        return json(&info);
    }
    let swarm = &info.swarm;
    let mut text = vec![
        format!("Version: {}", info.server_version),
        format!("Runtime: {}", info.default_runtime),
        format!("Containers: {} ({} running)", info.containers, info.containers_running),
        format!("Swarm: {}", swarm.local_node_state),
    ];
    if !swarm.error.is_empty() {
        text.push(format!(" Error: {}", swarm.error));
    }
    if !swarm.node_id.is_empty() {
        text.push(format!(" NodeID: {}", swarm.node_id));
        text.push(format!(" Is Manager: {}", swarm.control_available));
    }
    if let Some(cluster) = &swarm.cluster {
        text.push(format!(" ClusterID: {}", cluster.id));
        text.push(format!(" Managers: {}", swarm.managers));
        text.push(format!(" Nodes: {}", swarm.nodes));
        text.push(format!(" Data Path Port: {}", cluster.data_path_port));
    }
    if !swarm.node_addr.is_empty() {
        text.push(format!(" Node Address: {}", swarm.node_addr));
    }
    let managers = swarm.remote_managers.iter().flatten();
    text.extend(managers.map(|manager| format!(" Manager Address: {}", manager.addr)));
    text.push(format!("Kernel Version: {}", info.kernel_version));
    text.push(format!("Operating System: {}", info.operating_system));
    text.push(format!("Architecture: {}", info.architecture));
    text.push(format!("CPUs: {}", info.ncpu));
    text.push(format!("Total Memory: {}", bytes(i64::try_from(info.mem_total).unwrap_or(i64::MAX))));
    text.push(format!("Name: {}", info.name));
    text.extend(info.warnings.into_iter().flatten());
    lines(text)
}
