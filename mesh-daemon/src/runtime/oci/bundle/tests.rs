use super::process::Identity;
use super::*;
use crate::model::container::{ContainerSpec, Mount, MountKind, Seccomp, TmpfsOptions, Ulimit};
use crate::model::id::TaskId;
use crate::runtime::Exec;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn container(spec: ContainerSpec) -> Container {
    let spec = ContainerSpec { image: "web:1".to_owned(), ..spec };
    Container::new(TaskId::from_u128(7), "web.1".to_owned(), spec)
}

fn host() -> Host {
    Host {
        unified: false,
        counts_swap: true,
        filters_calls: true,
        capabilities: words(&["CAP_CHOWN", "CAP_SYS_ADMIN"]),
        cgroup_parent: "/mesh".to_owned(),
    }
}

fn accounts() -> Accounts {
    Accounts::parse(
        "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\nbad line\n",
        "root:x:0:\nteam:x:1001:\nextra:x:1002:app,other\n",
    )
}

/// The configuration for a container and an image; what the runtime specification's own types accept.
fn made(container: &Container, image: &ImageConfig) -> Result<Value, String> {
    let (accounts, host) = (accounts(), host());
    let parts =
        Parts { id: "0123456789abcdef", container, image, accounts: &accounts, binds: &[], init: None, host: &host };
    let made = configuration(&parts).map_err(|error| error.to_string())?;
    serde_json::from_value::<oci_spec::runtime::Spec>(made.clone()).map_err(|error| format!("not a spec: {error}"))?;
    Ok(made)
}

fn image() -> ImageConfig {
    ImageConfig { cmd: Some(words(&["/run"])), ..ImageConfig::default() }
}

#[test]
fn the_command_is_put_together_as_docker_does() {
    let list = |text: &str| Some(words(&text.split_whitespace().collect::<Vec<_>>())).filter(|list| !list.is_empty());
    for (entrypoint, cmd, command, args, expected) in [
        ("/entry", "a b", "", "", Some("/entry a b")),
        ("/entry", "a b", "", "c", Some("/entry c")),
        ("/entry", "a b", "/mine", "", Some("/mine")),
        ("/entry", "a b", "/mine x", "c", Some("/mine x c")),
        ("", "a b", "", "", Some("a b")),
        ("", "", "", "c", Some("c")),
        ("", "", "", "", None),
    ] {
        let image = ImageConfig { entrypoint: list(entrypoint), cmd: list(cmd), ..ImageConfig::default() };
        let spec = ContainerSpec {
            command: list(command).unwrap_or_default(),
            args: list(args).unwrap_or_default(),
            ..ContainerSpec::default()
        };
        assert_eq!(super::command(&spec, &image).ok().map(|command| command.join(" ")).as_deref(), expected);
    }
}

#[test]
fn the_environment_has_no_doubles_and_a_name_alone_removes() {
    let image =
        ImageConfig { env: Some(words(&["PATH=/image", "A=1", "B=2", "HOME=/there"])), ..ImageConfig::default() };
    let spec = ContainerSpec { env: words(&["A=3", "B", "C=x=y"]), tty: true, ..ContainerSpec::default() };
    let identity = Identity { home: "/root".to_owned(), ..Identity::default() };
    let expected = ["PATH=/image", "HOSTNAME=h", "TERM=xterm", "A=3", "HOME=/there", "C=x=y"];
    assert_eq!(super::environment(&spec, &image, &identity, "h"), expected);
    let bare = super::environment(&ContainerSpec::default(), &ImageConfig::default(), &identity, "h");
    assert_eq!(bare[1..], ["HOSTNAME=h", "HOME=/root"]);
}

#[test]
fn users_are_names_or_numbers_of_the_image() {
    let of = |wanted: &str, further: &[&str]| {
        let identity = accounts().identity(wanted, &words(further));
        identity.map(|is| (is.uid, is.gid, is.groups, is.home)).map_err(|error| error.to_string())
    };
    let home = |home: &str| home.to_owned();
    assert_eq!(of("", &[]), Ok((0, 0, vec![], home("/root"))));
    assert_eq!(of("app", &[]), Ok((1000, 1001, vec![1002], home("/home/app"))));
    assert_eq!(of("1000", &["0"]), Ok((1000, 1001, vec![0, 1002], home("/home/app"))));
    assert_eq!(of("app:extra", &[]), Ok((1000, 1002, vec![], home("/home/app"))));
    assert_eq!(of("7:8", &[]), Ok((7, 8, vec![], home("/"))));
    assert_eq!(of("nobody", &[]), Err("User: the image has no user \"nobody\"".to_owned()));
    assert_eq!(of("app:nogroup", &[]), Err("User: the image has no group \"nogroup\"".to_owned()));
}

#[test]
fn capabilities_are_dockers_with_changes() {
    let count = |add: &[&str], drop: &[&str]| {
        let host = words(&["CAP_CHOWN", "CAP_SYS_ADMIN", "CAP_KILL"]);
        capabilities::of(&words(add), &words(drop), &host).map(|list| list.join(" ")).map_err(|error| error.to_string())
    };
    assert_eq!(count(&[], &[]).unwrap().split(' ').count(), 14);
    assert!(count(&["sys_admin"], &["CAP_CHOWN"]).unwrap().contains("CAP_SYS_ADMIN"));
    assert!(!count(&["SYS_ADMIN"], &["CAP_CHOWN"]).unwrap().contains("CAP_CHOWN"));
    // All is what the node can give.
    assert_eq!(count(&["ALL"], &["KILL"]).unwrap(), "CAP_CHOWN CAP_SYS_ADMIN");
    assert_eq!(count(&["NET_ADMIN"], &["all"]).unwrap(), "CAP_NET_ADMIN");
    assert_eq!(count(&["FLY"], &[]), Err("CapabilityAdd: there is no capability \"FLY\"".to_owned()));
    assert_eq!(capabilities_of(0b1_0000_0000_0001), words(&["CAP_CHOWN", "CAP_NET_ADMIN"]));
}

#[test]
fn an_ordinary_container_is_one_that_the_specification_knows() {
    let made = made(&container(ContainerSpec::default()), &image()).unwrap();
    assert_eq!(made["process"]["args"], json!(["/run"]));
    assert_eq!(made["hostname"], "0123456789ab");
    assert_eq!(made["process"]["cwd"], "/");
    assert_eq!(made["linux"]["cgroupsPath"], "/mesh/0123456789abcdef");
    assert!(made["linux"]["maskedPaths"].as_array().unwrap().contains(&json!("/proc/kcore")));
    assert!(made["linux"]["namespaces"].as_array().unwrap().contains(&json!({ "type": "network" })));
    assert_eq!(made["linux"]["resources"]["devices"], json!([{ "allow": false, "access": "rwm" }]));
}

#[test]
fn limits_are_those_of_the_specification() {
    let mut wanted = container(ContainerSpec {
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 10, hard: -1 }],
        ..ContainerSpec::default()
    });
    wanted.resources.limits.memory_bytes = 1 << 20;
    wanted.resources.limits.nano_cpus = 1_500_000_000;
    wanted.resources.limits.pids = 9;
    wanted.resources.reservations.memory_bytes = 4096;
    let made = made(&wanted, &image()).unwrap();
    let of = &made["linux"]["resources"];
    assert_eq!(of["memory"], json!({ "limit": 1 << 20, "swap": 2 << 20, "reservation": 4096 }));
    assert_eq!((&of["cpu"]["quota"], &of["pids"]["limit"]), (&json!(150_000), &json!(9)));
    assert_eq!(made["process"]["rlimits"], json!([{ "type": "RLIMIT_NOFILE", "soft": 10, "hard": u64::MAX }]));
    wanted.spec.ulimits[0].name = "wings".to_owned();
    assert_eq!(super::tests::made(&wanted, &image()), Err("Ulimits: there is no limit \"wings\"".to_owned()));
}

#[test]
fn what_lies_deeper_is_mounted_later() {
    let mount = |target: &str, options: &[&str]| Mount {
        kind: MountKind::Tmpfs,
        target: target.to_owned(),
        tmpfs: Some(TmpfsOptions { options: vec![words(options)], ..TmpfsOptions::default() }),
        ..Mount::default()
    };
    let spec =
        ContainerSpec { mounts: vec![mount("/a/b/c", &["exec"]), mount("/a", &["uid", "7"])], ..Default::default() };
    let made = made(&container(spec), &image()).unwrap();
    let mounts = made["mounts"].as_array().unwrap();
    let targets: Vec<_> = mounts[7..].iter().map(|mount| mount["destination"].as_str().unwrap()).collect();
    assert_eq!(targets, ["/a", "/a/b/c"]);
    assert_eq!(mounts[8]["options"], json!(["nosuid", "nodev", "mode=1777", "exec"]));
}

#[test]
fn system_calls_are_filtered_unless_the_capability_is_there() {
    let refused = |spec: ContainerSpec| {
        let made = made(&container(spec), &image()).unwrap();
        made["linux"].get("seccomp").map(|filter| filter.to_string()).unwrap_or_default()
    };
    let default = refused(ContainerSpec::default());
    assert!(default.contains("\"mount\"") && default.contains("\"clone3\"") && default.contains("SCMP_ARCH_X32"));
    let admin = refused(ContainerSpec { cap_add: words(&["SYS_ADMIN"]), ..ContainerSpec::default() });
    assert!(!admin.contains("\"mount\"") && !admin.contains("\"clone3\"") && admin.contains("\"keyctl\""));
    let mut open = ContainerSpec::default();
    open.privileges.seccomp = Seccomp::Unconfined;
    assert_eq!(refused(open.clone()), "");
    open.privileges.seccomp = Seccomp::Custom("{".to_owned());
    assert!(made(&container(open), &image()).unwrap_err().starts_with("Seccomp: the profile is not one"));
}

#[test]
fn an_exec_is_the_containers_process_with_changes() {
    let made = made(&container(ContainerSpec::default()), &image()).unwrap();
    let exec = Exec {
        command: words(&["/bin/sh"]),
        env: words(&["A=1"]),
        user: "app".to_owned(),
        dir: "/etc".to_owned(),
        ..Exec::default()
    };
    let process = exec_process(&made["process"], &exec, &accounts()).unwrap();
    assert_eq!((&process["args"], &process["cwd"]), (&json!(["/bin/sh"]), &json!("/etc")));
    assert_eq!(process["user"]["uid"], 1000);
    assert_eq!(process["capabilities"]["effective"], json!([]));
    let env = process["env"].as_array().unwrap();
    assert!(env.contains(&json!("A=1")) && env.contains(&json!("HOME=/home/app")), "{env:?}");
    assert!(exec_process(&made["process"], &Exec::default(), &accounts()).is_err());
}
