//! What continuous integration runs, in the order of what fails cheapest. Every static check runs
//! even if one before it failed, so that one run shows all there is to mend.

use crate::build_ebpf::{self, cargo_for_bpf};
use crate::reference::Gen;
use crate::tidy::Tidy;
use crate::{command, setup, test};
use anyhow::{Result, bail};
use clap::Args;
use std::process::Command;
use std::time::Instant;

/// Arguments of `cargo xtask ci`.
#[derive(Args)]
pub(crate) struct Ci {
    /// Only the checks that run nothing: format, lints, rules, licences, documentation, kernel programs.
    #[arg(long = "static")]
    static_only: bool,
}

/// A check, by the word that names it in the summary.
type Check = (&'static str, fn() -> Result<()>);

const STATIC: &[Check] = &[
    ("format", format),
    ("tidy", || Tidy {}.run()),
    ("clippy (bpf)", clippy_bpf),
    ("kernel programs", || build_ebpf::build().map(drop)),
    ("clippy (host)", clippy_host),
    ("clippy (bench)", clippy_bench),
    ("reference pages", || Gen { check: true }.run()),
    ("rustdoc", rustdoc),
    ("dependencies", dependencies),
];

/// Every crate that is built for the host.
const HOST: [&str; 3] = ["--workspace", "--exclude", "mesh-ebpf"];

/// Lints that the style guide has and the compiler leaves at warning or below.
const DENIED: [&str; 4] = ["-D", "warnings", "-D", "clippy::too_many_lines"];

impl Ci {
    pub(crate) fn run(self) -> Result<()> {
        setup::ensure()?;
        let failed: Vec<&str> = STATIC.iter().filter(|check| !passes(check)).map(|(name, _)| *name).collect();
        // The tests run all the same: their summary is the last thing a reader wants to see.
        let tested = if self.static_only { Ok(()) } else { test::all() };
        if !failed.is_empty() {
            bail!("static checks failed: {}", failed.join(", "));
        }
        tested
    }
}

fn passes((name, check): &Check) -> bool {
    println!("\ncheck {name}");
    let start = Instant::now();
    let result = check();
    let seconds = start.elapsed().as_secs_f64();
    match &result {
        Ok(()) => println!("check {name}: ok, {seconds:.1} s"),
        Err(error) => println!("check {name}: FAILED, {seconds:.1} s: {error:#}"),
    }
    result.is_ok()
}

fn format() -> Result<()> {
    command::run(command::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy_host() -> Result<()> {
    command::run(
        command::cargo().arg("clippy").args(HOST).args(["--all-targets", "--keep-going", "--quiet", "--"]).args(DENIED),
    )
}

/// The benchmark stands behind a feature, since nothing but it needs the reference programs.
fn clippy_bench() -> Result<()> {
    let bench = ["--package", "mesh-tests", "--features", "bench", "--bin", "mesh-bench", "--quiet", "--"];
    command::run(command::cargo().arg("clippy").args(bench).args(DENIED))
}

fn clippy_bpf() -> Result<()> {
    let mut cargo = cargo_for_bpf("clippy", &["--bins", "--quiet"]);
    command::run(cargo.arg("--").args(DENIED))
}

fn rustdoc() -> Result<()> {
    let mut cargo = command::cargo();
    cargo.arg("doc").args(HOST).args(["--no-deps", "--document-private-items", "--keep-going", "--quiet"]);
    command::run(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, bans and sources need only Cargo.lock; known defects need a database that a closed
/// network does not reach. Then this says so, and is no pass for that part.
fn dependencies() -> Result<()> {
    let deny = |args: &[&str]| {
        let mut deny: Command = command::cargo();
        deny.args(["deny", "--workspace"]).args(args);
        deny
    };
    command::run(
        deny(&["--log-level", "error", "check", "licenses", "bans", "sources"]).arg("--hide-inclusion-graph"),
    )?;
    if deny(&["--log-level", "off", "fetch", "db"]).output().is_ok_and(|output| output.status.success()) {
        return command::run(&mut deny(&["check", "advisories"]));
    }
    println!(
        "NOT CHECKED: advisories. Their database cannot be fetched here; run `cargo deny check advisories` where it can."
    );
    Ok(())
}
