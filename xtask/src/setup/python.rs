//! docker-py, a client that tests drive a manager with: in an environment of its own below `target`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{command, workspace};

/// What is installed, each at one exact version.
const REQUIREMENTS: &str = "tests/cli/clients/requirements.txt";

/// Debian's: others may lack venv.
const PYTHON: &str = "/usr/bin/python3";

fn folder() -> PathBuf {
    workspace::target().join("clients")
}

fn wanted() -> Result<String> {
    let path = workspace::root().join(REQUIREMENTS);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Is it there, at the versions that are asked for?
pub(super) fn is_installed() -> Result<bool> {
    // The list is put beside what was installed from it, last.
    let installed = fs::read_to_string(folder().join("requirements.txt")).unwrap_or_default();
    Ok(installed == wanted()?)
}

pub(super) fn install() -> Result<()> {
    let folder = folder();
    command::run(command::program(PYTHON).args(["-m", "venv", "--clear"]).arg(&folder))
        .with_context(|| format!("make a Python environment in {}", folder.display()))?;
    let mut pip = command::program(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    command::run(pip.arg(workspace::root().join(REQUIREMENTS))).context(
        "pip could not install docker-py (its words stand above): is there a network, and does PyPI answer?",
    )?;
    fs::write(folder.join("requirements.txt"), wanted()?).context("note what was installed")
}
