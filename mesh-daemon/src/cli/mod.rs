//! What a user types: `meshctl`, one file per noun.
//!
//! Words, columns and exit codes are the docker CLI's. The cluster is asked by HTTP, over the socket that
//! `DOCKER_HOST` names; the kernel of this node through the maps' one owner.

mod client;
mod container;
mod datapath;
mod doctor;
mod each;
mod exec;
mod frames;
mod image;
mod info;
mod listing;
mod maps;
mod node;
mod objects;
mod pairs;
mod registry;
mod service;
mod stack;
mod swarm;
mod table;
mod task;
mod top;
mod units;
mod words;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use client::Client;

/// The command line of mesh.
#[derive(Parser)]
#[command(name = "meshctl", version)]
struct Args {
    /// The node to ask: unix://PATH or tcp://ADDRESS:PORT.
    #[arg(short = 'H', long, env = "DOCKER_HOST", default_value = client::DEFAULT_HOST, global = true)]
    host: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make, join, set and leave a swarm.
    #[command(subcommand)]
    Swarm(swarm::Command),
    /// The machines of a swarm.
    #[command(subcommand)]
    Node(node::Command),
    /// What should run.
    #[command(subcommand)]
    Service(service::Command),
    /// What a compose file says.
    #[command(subcommand)]
    Stack(stack::Command),
    /// Overlay networks.
    #[command(subcommand)]
    Network(objects::NetworkCommand),
    /// Files of tasks that nobody else sees.
    #[command(subcommand)]
    Secret(objects::PayloadCommand),
    /// Files of tasks.
    #[command(subcommand)]
    Config(objects::PayloadCommand),
    /// The images of this node.
    #[command(subcommand)]
    Image(image::Command),
    /// The containers of this node.
    Ps(container::Args),
    /// Print what a service, a task or a container wrote.
    Logs(service::logs::Args),
    /// Run one more program in a container of this node.
    Exec(exec::Args),
    /// Services, their tasks and how fast they are used, live.
    Top(top::Args),
    /// What this node is.
    Info(info::Args),
    /// What is wrong with this node, or with all of them, and what to do about it.
    Doctor(doctor::Args),
    /// Look into the kernel's maps.
    Maps(maps::Args),
    /// See what the packet path does.
    Datapath(datapath::Args),
}

/// Ends a program: an error is one line that says what was tried and why it failed.
#[expect(clippy::print_stderr, reason = "the one place where a program speaks its last words")]
pub fn exit(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<each::Ended>() => {
            error.downcast_ref::<each::Ended>().map_or(ExitCode::FAILURE, |ended| ended.0.into())
        }
        // In the docker CLI's words, which scripts match on.
        Err(error) if each::is_bare(&error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs meshctl.
///
/// # Errors
/// What the command could not do.
pub fn main() -> Result<()> {
    let args = Args::parse();
    let client = || Client::new(&args.host);
    match args.command {
        Command::Swarm(command) => swarm::run(&client()?, command),
        Command::Node(command) => node::run(&client()?, command),
        Command::Service(command) => service::run(&client()?, command),
        Command::Stack(command) => stack::run(client, command),
        Command::Network(command) => objects::network(&client()?, command),
        Command::Secret(command) => objects::secret(&client()?, command),
        Command::Config(command) => objects::config(&client()?, command),
        Command::Image(command) => image::run(&client()?, command),
        Command::Ps(args) => container::run(&client()?, &args),
        Command::Logs(args) => service::logs::any(&client()?, &args),
        Command::Exec(args) => exec::run(&client()?, &args),
        Command::Top(args) => top::run(&client()?, &args),
        Command::Info(args) => info::run(&client()?, &args),
        Command::Doctor(args) => doctor::run(&client()?, &args),
        Command::Maps(args) => maps::run(args),
        Command::Datapath(args) => datapath::run(args),
    }
}
