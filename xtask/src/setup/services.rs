//! Keeps package installation from starting servers. Debian asks /usr/sbin/policy-rc.d before it
//! starts a service; for the time of an installation there is one that answers no.

use super::packages::Package;
use crate::command;
use anyhow::{Context as _, Result};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const POLICY: &str = "/usr/sbin/policy-rc.d";
const MARK: &str = "# written by `cargo xtask setup` of mesh, for the time of one installation";

/// While it lives, no service starts. Undone on drop, and by the next set-up after a kill.
pub(super) struct StartsNothing {
    policy: PathBuf,
}

impl StartsNothing {
    pub(super) fn begin() -> Result<Self> {
        Self::begin_at(Path::new(POLICY))
    }

    fn begin_at(policy: &Path) -> Result<Self> {
        let guard = Self { policy: policy.to_owned() };
        guard.restore().context("remove what an interrupted set-up left")?;
        if policy.exists() {
            fs::rename(policy, guard.saved()).with_context(|| format!("move {} aside", policy.display()))?;
        }
        let write = || -> std::io::Result<()> {
            fs::write(policy, format!("#!/bin/sh\n{MARK}\nexit 101\n"))?;
            fs::set_permissions(policy, Permissions::from_mode(0o755))
        };
        write().with_context(|| format!("write {}", policy.display()))?;
        Ok(guard)
    }

    /// Lets services start again, but not those of the packages just installed: they would start
    /// at the next boot.
    pub(super) fn end(self, installed: &[Package]) -> Result<()> {
        let systemd = Path::new("/run/systemd/system").exists();
        for service in installed.iter().filter_map(|package| package.service).filter(|_| systemd) {
            command::run(command::program("systemctl").args(["disable", "--quiet", "--now", service]))?;
        }
        self.restore()
    }

    fn saved(&self) -> PathBuf {
        self.policy.with_extension("d.before-mesh")
    }

    /// Removes our policy and puts back the one that was there. Leaves a policy of others alone.
    fn restore(&self) -> Result<()> {
        let ours = fs::read_to_string(&self.policy).is_ok_and(|text| text.contains(MARK));
        if ours {
            fs::remove_file(&self.policy).with_context(|| format!("remove {}", self.policy.display()))?;
        }
        match fs::rename(self.saved(), &self.policy) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("put back {}", self.policy.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for StartsNothing {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            eprintln!("warning: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mesh-xtask-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn a_policy_that_was_there_comes_back() {
        let dir = empty_dir("policy-kept");
        let policy = dir.join("policy-rc.d");
        fs::write(&policy, "theirs").unwrap();
        let guard = StartsNothing::begin_at(&policy).unwrap();
        assert!(fs::read_to_string(&policy).unwrap().contains("exit 101"));
        drop(guard);
        assert_eq!(fs::read_to_string(&policy).unwrap(), "theirs");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_a_killed_set_up_left_is_undone_by_the_next() {
        let dir = empty_dir("policy-killed");
        let policy = dir.join("policy-rc.d");
        fs::write(&policy, "theirs").unwrap();
        std::mem::forget(StartsNothing::begin_at(&policy).unwrap());
        drop(StartsNothing::begin_at(&policy).unwrap());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "theirs");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn without_a_policy_before_there_is_none_after() {
        let dir = empty_dir("policy-none");
        let policy = dir.join("policy-rc.d");
        drop(StartsNothing::begin_at(&policy).unwrap());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(dir).unwrap();
    }
}
