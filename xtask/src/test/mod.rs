//! Runs the tests, layer by layer, and checks that they leave the machine as they found it.
//!
//! The test runner is `cargo test` (docs/decisions/0002-test-runner.md). Its own summary lines are
//! the last thing printed.

mod layers;
mod leftovers;
mod runner;

use crate::{bpffs, command, setup, workspace};
use anyhow::{Result, bail};
use clap::Args;
use layers::Layer;
use leftovers::Snapshot;
use nix::unistd::Uid;
use runner::Summary;
use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// A layer that takes longer than this hangs.
const LAYER_LIMIT: Duration = Duration::from_secs(25 * 60);

/// Arguments of `cargo xtask test`.
#[derive(Args)]
pub(crate) struct Test {
    /// The layers to run; all, if none is named.
    layers: Vec<Layer>,
    /// Someone else uses this machine too: show what changed on it, but do not fail for it.
    #[arg(long)]
    shared_machine: bool,
    /// Passed to each test program: a filter, `--nocapture`, ...
    #[arg(last = true)]
    passed: Vec<String>,
}

/// What came of one layer.
struct Outcome {
    layer: Layer,
    took: Duration,
    summary: Summary,
    /// Why it counts as failed, if it does.
    failures: Vec<String>,
}

/// All layers, as continuous integration runs them.
pub(crate) fn all() -> Result<()> {
    Test { layers: Vec::new(), shared_machine: false, passed: Vec::new() }.run()
}

impl Test {
    pub(crate) fn run(self) -> Result<()> {
        let layers = if self.layers.is_empty() { Layer::ALL } else { &self.layers };
        if !Uid::effective().is_root()
            && let Some(layer) = layers.iter().find(|layer| layer.is_privileged())
        {
            bail!("layer {} needs root: `sudo -E env PATH=\"$PATH\" cargo xtask test`", layer.name());
        }
        setup::ensure()?;
        leftovers::become_reaper()?;
        let privileged = layers.iter().any(|layer| layer.is_privileged());
        let _bpffs = if privileged { Some(bpffs::ensure()?) } else { None };
        println!("programs for the tests");
        command::run(&mut layers::build_programs())?;
        let outcomes = layers.iter().map(|layer| self.run_layer(*layer)).collect::<Result<Vec<_>>>()?;
        report(&outcomes);
        let failed: Vec<_> = outcomes
            .iter()
            .filter(|outcome| !outcome.failures.is_empty())
            .map(|outcome| outcome.layer.name())
            .collect();
        if !failed.is_empty() {
            bail!("failed: {}", failed.join(", "));
        }
        Ok(())
    }

    fn run_layer(&self, layer: Layer) -> Result<Outcome> {
        println!("\nlayer {}", layer.name());
        let before = if layer.is_privileged() { Some(Snapshot::take()?) } else { None };
        let start = Instant::now();
        let mut outcome = Outcome { layer, took: Duration::ZERO, summary: Summary::default(), failures: Vec::new() };
        for mut command in layer.commands(&self.passed) {
            command.env("MESH_BIN_DIR", workspace::target().join("debug"));
            if env::var_os("CI").is_some_and(|value| value == OsStr::new("true")) {
                // A test that cannot run on this machine must fail there instead of passing by.
                command.env("MESH_CI", "1");
            }
            let mut summary = Summary::default();
            if let Err(error) = runner::run(command, LAYER_LIMIT, &mut summary) {
                outcome.failures.push(format!("{error:#}"));
            }
            outcome.summary.add(summary);
        }
        outcome.took = start.elapsed();
        if let Some(before) = before {
            let found = before.differences()?;
            let shown = format!("the machine is not as it was, + left behind, - removed:\n  {}", found.join("\n  "));
            match (found.is_empty(), self.shared_machine) {
                (true, _) => {}
                (false, true) => println!("note: {shown}"),
                (false, false) => outcome.failures.push(shown),
            }
        }
        if self.passed.is_empty() && outcome.summary.passed + outcome.summary.failed == 0 && holds_tests(layer) {
            outcome.failures.push(format!("tests/{} has tests, but none ran", layer.name()));
        }
        Ok(outcome)
    }
}

/// Is a test written in the layer's folder?
fn holds_tests(layer: Layer) -> bool {
    fn any(folder: &Path) -> bool {
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).any(|path| {
            path.is_dir() && any(&path) || fs::read_to_string(&path).is_ok_and(|text| text.contains("#[test]"))
        })
    }
    // The unit layer is never empty: this file stands in it.
    layer == Layer::Unit || any(&workspace::root().join("tests").join(layer.name()))
}

fn report(outcomes: &[Outcome]) {
    for outcome in outcomes {
        for failure in &outcome.failures {
            println!("\nFAILED {}: {failure}", outcome.layer.name());
        }
    }
    println!("\n{:<10} {:>8} {:>8} {:>8} {:>8}", "layer", "seconds", "passed", "failed", "ignored");
    for Outcome { layer, took, summary, failures } in outcomes {
        let note = match (failures.is_empty(), summary.passed == 0) {
            (false, _) => "  FAILED",
            (true, true) => "  ran no test",
            (true, false) => "",
        };
        let counts = format!("{:>8} {:>8} {:>8}", summary.passed, summary.failed, summary.ignored);
        println!("{:<10} {:>8.1} {counts}{note}", layer.name(), took.as_secs_f64());
    }
    println!();
    // The runner's words, less those of programs that hold no test.
    let ran = |line: &&String| !line.starts_with("test result: ok. 0 passed; 0 failed; 0 ignored;");
    for line in outcomes.iter().flat_map(|outcome| &outcome.summary.lines).filter(ran) {
        println!("{line}");
    }
}
