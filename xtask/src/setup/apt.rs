//! Asks dpkg what is installed and has apt-get install what is missing.

use super::packages::{self, PACKAGES, Package};
use super::services::StartsNothing;
use crate::command;
use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;
use std::path::Path;

/// What of the list this machine does not have.
pub(super) fn missing() -> Vec<Package> {
    if command::find("dpkg-query").is_none() {
        // Not a Debian: what counts is whether the files are there.
        return PACKAGES.iter().filter(|package| !Path::new(package.file).exists()).copied().collect();
    }
    let mut query = command::program("dpkg-query");
    query.args(["--show", "--showformat=${db:Status-Abbrev}\t${Package}\n"]);
    query.args(PACKAGES.iter().map(|package| package.name));
    // dpkg-query fails when it does not know one of the names, but answers for the others.
    let answer = query.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    packages::missing(PACKAGES, &answer)
}

/// Installs packages; starts none of their services.
pub(super) fn install(missing: &[Package]) -> Result<()> {
    let names: Vec<&str> = missing.iter().map(|package| package.name).collect();
    if command::find("apt-get").is_none() {
        bail!(
            "this is not a Debian (no apt-get): install by hand what these Debian 12 packages hold: {}",
            names.join(" ")
        );
    }
    if !Uid::effective().is_root() {
        bail!("packages are missing and only root can install them; run as root: apt-get install {}", names.join(" "));
    }
    update()?;
    check_candidates(&names)?;
    let services = StartsNothing::begin()?;
    let installed = command::run(apt_get().args(["install", "--yes", "--no-install-recommends"]).args(&names)).context(
        "apt-get could not install the packages (its words stand above; with no network it cannot fetch them)",
    );
    services.end(missing)?;
    installed
}

fn apt_get() -> std::process::Command {
    let mut apt = command::program("apt-get");
    apt.arg("--quiet=2").env("DEBIAN_FRONTEND", "noninteractive");
    apt
}

fn update() -> Result<()> {
    // A source of others that does not answer is a warning; what counts is whether the packages are found.
    command::run(apt_get().arg("update")).context(
        "apt-get update failed: is there a network, and does /etc/apt/sources.list* name a mirror that answers?",
    )
}

/// Fails with the fix when apt does not know a package.
fn check_candidates(names: &[&str]) -> Result<()> {
    let policy = command::read(command::program("apt-cache").arg("policy").args(names).env("LC_ALL", "C"))?;
    let unknown = without_candidate(names, &policy);
    if !unknown.is_empty() {
        bail!(
            "apt finds no package for: {}. They are in Debian 12 and its security suite: /etc/apt/sources.list* must \
             name both `bookworm main` and `bookworm-security main`, and apt-get update must have reached them",
            unknown.join(" ")
        );
    }
    Ok(())
}

/// The names for which `apt-cache policy` shows nothing to install.
fn without_candidate<'a>(names: &[&'a str], policy: &str) -> Vec<&'a str> {
    let mut known: Vec<&str> = Vec::new();
    let mut current = "";
    for line in policy.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            current = name;
        } else if line.trim_start().starts_with("Candidate:") && !line.ends_with("(none)") {
            known.push(current);
        }
    }
    names.iter().filter(|name| !known.contains(name)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::without_candidate;

    #[test]
    fn a_package_that_apt_cannot_offer_is_named() {
        let policy = "curl:\n  Installed: (none)\n  Candidate: 7.88.1\n  Version table:\n     7.88.1 500\n\
            wrk:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert_eq!(without_candidate(&["curl", "wrk", "llvm-22-dev"], policy), ["wrk", "llvm-22-dev"]);
    }
}
