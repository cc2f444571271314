//! The five layers of tests, the cheapest first, and how cargo is asked for each.

use crate::command;
use clap::ValueEnum;
use std::process::Command;

/// A layer; docs/STYLE.md says which question belongs to which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Layer {
    /// Beside the code, and the examples in its documentation.
    Unit,
    /// Kernel programs, packet in and packet out.
    Datapath,
    /// Nodes in network namespaces, with real sockets.
    Netns,
    /// Several managers in memory.
    Cluster,
    /// What a user types and reads.
    Cli,
}

/// Everything for the host. One selection for all layers, so that cargo resolves the same features
/// for each and compiles nothing twice.
const HOST: [&str; 3] = ["--workspace", "--exclude", "mesh-ebpf"];

impl Layer {
    /// In the order in which they run.
    pub(super) const ALL: &'static [Self] = &[Self::Unit, Self::Datapath, Self::Netns, Self::Cluster, Self::Cli];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Datapath => "datapath",
            Self::Netns => "netns",
            Self::Cluster => "cluster",
            Self::Cli => "cli",
        }
    }

    /// Does it load programs, make namespaces or start daemons?
    pub(super) const fn is_privileged(self) -> bool {
        match self {
            Self::Datapath | Self::Netns | Self::Cli => true,
            Self::Unit | Self::Cluster => false,
        }
    }

    /// The commands that run it, with what the user wants passed to each test program.
    pub(super) fn commands(self, passed: &[String]) -> Vec<Command> {
        let target = |args: &[&str]| {
            let mut cargo = command::cargo();
            cargo.arg("test").args(HOST).args(args).arg("--no-fail-fast").arg("--").args(passed);
            cargo
        };
        match self {
            Self::Unit => vec![target(&["--lib", "--bins"]), target(&["--doc"])],
            _ => vec![target(&["--test", self.name()])],
        }
    }
}

/// The command that builds the programs which tests start.
pub(super) fn build_programs() -> Command {
    let mut cargo = command::cargo();
    cargo.arg("build").args(HOST).args(["--bin", "meshd", "--bin", "meshctl", "--bin", "whoami"]);
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_integration_layer_is_one_test_target_of_its_name() {
        let commands = Layer::Netns.commands(&["decap".to_owned()]);
        let shown: Vec<_> = commands.iter().map(command::shown).collect();
        assert_eq!(shown, ["cargo test --workspace --exclude mesh-ebpf --test netns --no-fail-fast -- decap"]);
    }

    #[test]
    fn every_integration_layer_is_a_target_of_the_tests_package() {
        let manifest = std::fs::read_to_string(crate::workspace::root().join("tests/Cargo.toml")).unwrap();
        for layer in Layer::ALL.iter().filter(|layer| **layer != Layer::Unit) {
            assert!(manifest.contains(&format!("[[test]]\nname = \"{}\"\n", layer.name())), "{layer:?}");
        }
    }
}
