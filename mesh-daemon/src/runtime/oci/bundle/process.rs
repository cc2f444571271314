//! The process of a container: its command, environment and user.

use serde_json::{Value, json};

use crate::model::container::ContainerSpec;
use crate::runtime::images::ImageConfig;
use crate::runtime::{Exec, RuntimeError};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The program and its arguments: what the spec says replaces what the image says, as in Docker.
pub(in crate::runtime::oci) fn command(spec: &ContainerSpec, image: &ImageConfig) -> Result<Vec<String>, RuntimeError> {
    let entrypoint = image.entrypoint.as_deref().unwrap_or_default();
    let default = image.cmd.as_deref().unwrap_or_default();
    let (program, arguments) = match (spec.command.is_empty(), spec.args.is_empty()) {
        // Arguments of the image belong to its own entrypoint.
        (false, _) => (spec.command.as_slice(), spec.args.as_slice()),
        (true, false) => (entrypoint, spec.args.as_slice()),
        (true, true) => (entrypoint, default),
    };
    let command: Vec<String> = program.iter().chain(arguments).cloned().collect();
    match command.first() {
        Some(first) if !first.is_empty() => Ok(command),
        _ => Err(RuntimeError::spec("Command", format!("no command specified, and image \"{}\" has none", spec.image))),
    }
}

/// The environment, without doubles; `NAME` alone removes one of the image.
pub(in crate::runtime::oci) fn environment(
    spec: &ContainerSpec,
    image: &ImageConfig,
    identity: &Identity,
    hostname: &str,
) -> Vec<String> {
    let mut list = vec![format!("PATH={PATH}"), format!("HOSTNAME={hostname}")];
    if spec.tty {
        list.push("TERM=xterm".to_owned());
    }
    for entry in image.env.iter().flatten() {
        set(&mut list, entry);
    }
    for entry in &spec.env {
        set(&mut list, entry);
    }
    if !list.iter().any(|entry| entry.starts_with("HOME=")) {
        list.push(format!("HOME={}", identity.home));
    }
    list
}

fn set(list: &mut Vec<String>, entry: &str) {
    let (name, value) = match entry.split_once('=') {
        Some((name, _)) => (name, Some(entry)),
        None => (entry, None),
    };
    let same = |other: &String| other.split_once('=').map(|(name, _)| name) == Some(name);
    match (list.iter().position(same), value) {
        (Some(at), Some(value)) => value.clone_into(&mut list[at]),
        (Some(at), None) => drop(list.remove(at)),
        (None, Some(value)) => list.push(value.to_owned()),
        (None, None) => {}
    }
}

/// Who a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::runtime::oci) struct Identity {
    pub(in crate::runtime::oci) uid: u32,
    pub(in crate::runtime::oci) gid: u32,
    pub(in crate::runtime::oci) groups: Vec<u32>,
    pub(in crate::runtime::oci) home: String,
}

impl Identity {
    pub(super) fn json(&self) -> Value {
        json!({ "uid": self.uid, "gid": self.gid, "additionalGids": self.groups })
    }
}

/// Users and groups of an image: its /etc/passwd and /etc/group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    name: String,
    gid: u32,
    members: Vec<String>,
}

impl Accounts {
    /// From the text of the two files; lines that are none are skipped.
    pub(in crate::runtime) fn parse(passwd: &str, group: &str) -> Self {
        let user = |line: &str| {
            let mut fields = line.split(':');
            let (name, _, uid, gid) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
            let home = fields.nth(1).unwrap_or_default().to_owned();
            Some(User { name: name.to_owned(), uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
        };
        let group_of = |line: &str| {
            let mut fields = line.split(':');
            let (name, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
            let members = fields.next().unwrap_or_default().split(',').map(|name| name.trim().to_owned());
            Some(Group { name: name.to_owned(), gid: gid.parse().ok()?, members: members.collect() })
        };
        Self { users: passwd.lines().filter_map(user).collect(), groups: group.lines().filter_map(group_of).collect() }
    }

    /// The identity that `user[:group]` means, in further groups by name or number.
    pub(in crate::runtime::oci) fn identity(&self, wanted: &str, further: &[String]) -> Result<Identity, RuntimeError> {
        let (name, group) = match wanted.split_once(':') {
            Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
            None => (wanted, None),
        };
        let name = if name.is_empty() { "0" } else { name };
        let user = self.user(name);
        let uid = user.map(|user| user.uid).or_else(|| name.parse().ok());
        let uid = uid.ok_or_else(|| RuntimeError::spec("User", format!("the image has no user \"{name}\"")))?;
        let gid = match group {
            Some(group) => self.group(group)?,
            None => user.map_or(0, |user| user.gid),
        };
        // Of a group that was named, the user is a member alone, as in Docker.
        let is_member =
            |group: &&Group| user.is_some_and(|user| group.members.contains(&user.name)) && group.gid != gid;
        let mut groups: Vec<u32> = match group {
            Some(_) => Vec::new(),
            None => self.groups.iter().filter(is_member).map(|group| group.gid).collect(),
        };
        for group in further {
            groups.push(self.group(group)?);
        }
        groups.sort_unstable();
        groups.dedup();
        let home = user.map(|user| user.home.clone()).filter(|home| !home.is_empty());
        Ok(Identity { uid, gid, groups, home: home.unwrap_or_else(|| "/".to_owned()) })
    }

    /// The owner of a file that a secret or config becomes.
    pub(in crate::runtime::oci) fn owner(&self, uid: &str, gid: &str) -> Result<(u32, u32), RuntimeError> {
        let or_root = |text: &str| if text.is_empty() { "0".to_owned() } else { text.to_owned() };
        let uid = self.identity(&or_root(uid), &[])?.uid;
        Ok((uid, self.group(&or_root(gid))?))
    }

    fn user(&self, name: &str) -> Option<&User> {
        let number = name.parse().ok();
        self.users.iter().find(|user| user.name == name || Some(user.uid) == number)
    }

    fn group(&self, name: &str) -> Result<u32, RuntimeError> {
        let known = self.groups.iter().find(|group| group.name == name).map(|group| group.gid);
        let missing = || RuntimeError::spec("User", format!("the image has no group \"{name}\""));
        known.or_else(|| name.parse().ok()).ok_or_else(missing)
    }
}

/// The process of an exec: the container's own (`process` of its configuration), with what the user changes.
pub(in crate::runtime::oci) fn exec_process(
    process: &Value,
    exec: &Exec,
    accounts: &Accounts,
) -> Result<Value, RuntimeError> {
    if exec.command.first().is_none_or(String::is_empty) {
        return Err(RuntimeError::spec("Cmd", "no command specified"));
    }
    let mut process = process.clone();
    process["args"] = json!(exec.command);
    process["terminal"] = json!(exec.tty.is_some());
    let mut env: Vec<String> = serde_json::from_value(process["env"].take()).unwrap_or_default();
    if exec.tty.is_some() {
        set(&mut env, "TERM=xterm");
    }
    if !exec.user.is_empty() {
        let identity = accounts.identity(&exec.user, &[])?;
        set(&mut env, &format!("HOME={}", identity.home));
        process["user"] = identity.json();
        let bounding: Vec<String> =
            serde_json::from_value(process["capabilities"]["bounding"].clone()).unwrap_or_default();
        process["capabilities"] = super::capabilities::json(&bounding, identity.uid);
    }
    for entry in &exec.env {
        set(&mut env, entry);
    }
    process["env"] = json!(env);
    if !exec.dir.is_empty() {
        process["cwd"] = json!(exec.dir);
    }
    Ok(process)
}
