//! Hosts that the packet path cannot run on: the message names the cause and the fix.

use harness::meshd::{attach, pass_all};

use super::{Node, RIGHT, assert_says};

/// What stands in front of meshd, and what it says then. `PINS` is the pin directory.
const UNFIT: &[(&[&str], &str)] = &[
    (
        &["setpriv", "--reuid", "65534", "--clear-groups"],
        "meshd: missing CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF: run meshd as root, or give it these capabilities",
    ),
    (
        &["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"],
        "meshd: missing CAP_NET_ADMIN: run meshd as root, or give it these capabilities",
    ),
    (
        &["setarch", "--uname-2.6"],
        "meshd: kernel RELEASE is older than 5.15: mesh needs at least that for its programs",
    ),
    (
        &["unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"", "sh"],
        "meshd: no BTF at /sys/kernel/btf/vmlinux: run a kernel built with CONFIG_DEBUG_INFO_BTF=y, as the distributions' are",
    ),
    (
        &["unshare", "-m", "sh", "-c", "umount -l /sys/fs/bpf && exec \"$@\"", "sh"],
        "meshd: PINS is not on a bpffs: mount one with `mount -t bpf bpf /sys/fs/bpf`",
    ),
    (
        &["unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys/fs/bpf && exec \"$@\"", "sh"],
        "meshd: PINS is not on a bpffs: mount one with `mount -t bpf bpf /sys/fs/bpf`",
    ),
];

#[test]
fn a_host_that_lacks_something_is_told_what() {
    let node = Node::new();
    node.meshd(RIGHT);
    // Everyone may read it, so that who is not root gets as far as the check.
    node.host().ns.run(["chmod", "-R", "a+rX", &node.files.path().to_string_lossy()]).unwrap();
    let old = node.host().ns.run(["setarch", "--uname-2.6", "uname", "-r"]).unwrap();
    for (prefix, says) in UNFIT {
        let says = says.replace("PINS", &node.pins().to_string_lossy()).replace("RELEASE", old.stdout.trim());
        assert_says(&node.run_behind(prefix), &says);
        node.assert_untouched();
    }
}

#[test]
fn an_uplink_that_is_not_there_is_named_with_those_that_are() {
    let node = Node::new();
    node.meshd(&RIGHT.replace("\"eth0\"", "\"eth7\""));
    let says = "meshd: uplink eth7 does not exist; the interfaces here are eth0, lo";
    assert_says(&node.run_behind(&[]), says);
    node.assert_untouched();
}

/// The program of somebody else stays, and nothing of ours does.
#[test]
fn a_foreign_program_on_the_uplink_is_named_and_left_alone() {
    let node = Node::new();
    let mut foreign = pass_all().unwrap();
    attach(&mut foreign, &node.host().ns, "eth0").unwrap();
    let id = || {
        let shown = node.host().ns.run(["ip", "-j", "-d", "link", "show", "dev", "eth0"]).unwrap().stdout;
        let links: serde_json::Value = serde_json::from_str(&shown).unwrap();
        links[0]["xdp"]["prog"]["id"].as_u64().unwrap()
    };
    let before = id();
    node.meshd(RIGHT);
    for _ in 0..2 {
        let output = node.run_behind(&[]);
        let says = format!(
            "meshd: eth0 already runs another XDP program (id {before}): detach it with `ip link set dev eth0 xdp off`, \
             or name another uplink"
        );
        assert_says(&output, &says);
        assert_eq!(id(), before);
        assert!(!node.pins().exists());
    }
    drop(foreign);
    let mut meshd = node.meshd(RIGHT);
    meshd.start().unwrap();
    assert_ne!(id(), before);
}
