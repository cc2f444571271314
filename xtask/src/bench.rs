//! Runs the benchmark, built in release, and has it write its figures into docs/bench/README.md.
//!
//! What is measured, and beside what, is the affair of tests/bench. Never part of continuous
//! integration: figures of a shared machine prove nothing alone.

use crate::{bpffs, command, setup, workspace};
use anyhow::Result;
use clap::{Args, ValueEnum};

/// Arguments of `cargo xtask bench`.
#[derive(Args)]
pub(crate) struct Bench {
    /// Only these parts; all of them if none is named.
    parts: Vec<Part>,
    /// Fewer rounds, one number of services; the page is left as it is.
    #[arg(long)]
    quick: bool,
}

/// A part of the benchmark.
#[derive(Clone, Copy, ValueEnum)]
enum Part {
    /// Nanoseconds a packet of each path of the kernel programs.
    Datapath,
    /// Millions of packets a second from veth to veth.
    Live,
    /// Throughput, round trips and connections a second, with real sockets.
    Net,
    /// How long the Docker API takes to answer, beside Debian's dockerd.
    Api,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Datapath => "datapath",
            Self::Live => "live",
            Self::Net => "net",
            Self::Api => "api",
        }
    }
}

impl Bench {
    pub(crate) fn run(self) -> Result<()> {
        setup::ensure()?;
        let build = ["build", "--release", "--package", "mesh-tests", "--features", "bench", "--bin", "mesh-bench"];
        command::run(command::cargo().args(build))?;
        // `net` and `api` run the daemon itself.
        command::run(command::cargo().args(["build", "--release", "--package", "mesh-daemon", "--bins"]))?;
        let programs = workspace::target().join("release");
        let _bpffs = bpffs::ensure()?;
        let mut bench = command::program(programs.join("mesh-bench"));
        bench.env("MESH_BIN_DIR", &programs);
        bench.args(self.parts.iter().map(|part| part.name()));
        if self.quick {
            bench.arg("--quick");
        } else {
            bench.arg("--page").arg("docs/bench/README.md");
        }
        command::run(&mut bench)
    }
}
