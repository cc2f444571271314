//! The checks as a table: a host with one thing wrong, and what is said about it.

use std::path::Path;

use super::{Host, KernelPorts, Unfit};
use crate::datapath::desired::PortRange;

fn fit() -> Host {
    Host { capabilities: u64::MAX, release: "6.1.0-13-amd64".to_owned(), btf: true, bpffs: true }
}

fn check(host: &Host) -> Result<(), Unfit> {
    host.check(Path::new("/sys/fs/bpf/mesh"))
}

#[test]
fn a_fit_host_passes() {
    assert_eq!(check(&fit()), Ok(()));
    // CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF alone; then CAP_NET_ADMIN and CAP_SYS_ADMIN alone.
    assert_eq!(check(&Host { capabilities: 1 << 12 | 1 << 38 | 1 << 39, ..fit() }), Ok(()));
    assert_eq!(check(&Host { capabilities: 1 << 12 | 1 << 21, ..fit() }), Ok(()));
}

#[test]
fn missing_capabilities_are_named() {
    let error = check(&Host { capabilities: 1 << 12, ..fit() });
    assert_eq!(error, Err(Unfit::Capabilities { missing: "CAP_PERFMON, CAP_BPF".to_owned() }));
    let error = check(&Host { capabilities: 1 << 21, ..fit() });
    assert_eq!(error, Err(Unfit::Capabilities { missing: "CAP_NET_ADMIN".to_owned() }));
}

#[test]
fn kernels_are_compared_by_number_not_by_text() {
    for release in ["5.14.0-427.el9", "4.19.0", "5.4.0", "garbage", ""] {
        let error = check(&Host { release: release.to_owned(), ..fit() });
        assert_eq!(error, Err(Unfit::Kernel { release: release.to_owned() }), "{release}");
    }
    for release in ["5.15.0", "5.100.0", "6.0.0-rc1", "10.0.1"] {
        assert_eq!(check(&Host { release: release.to_owned(), ..fit() }), Ok(()), "{release}");
    }
}

#[test]
fn what_the_kernel_lacks_is_named_with_the_fix() {
    assert_eq!(check(&Host { btf: false, ..fit() }), Err(Unfit::Btf));
    let error = check(&Host { bpffs: false, ..fit() }).expect_err("no bpffs");
    assert!(error.to_string().contains("mount -t bpf"), "{error}");
}

#[test]
fn ports_that_the_kernel_gives_to_sockets_are_not_lent() {
    let wanted = PortRange { first: 61_000, last: 65_535 };
    let check = |local: &str, reserved: &str| {
        KernelPorts { local: local.to_owned(), reserved: reserved.to_owned() }.check(wanted)
    };
    let taken = |first, last, port| Err(Unfit::Ports { wanted, local: PortRange { first, last }, port });
    let rows = [
        ("32768\t60999\n", "\n", Ok(())),
        ("", "", Ok(())),
        ("1024\t65535\n", "61000-65535\n", Ok(())),
        ("1024\t65535\n", "8080,61000-62000,62001-65535\n", Ok(())),
        ("1024\t61000\n", "\n", taken(1024, 61_000, 61_000)),
        ("1024\t65535\n", "61000-65534\n", taken(1024, 65_535, 65_535)),
        ("1024\t65535\n", "8080\n", taken(1024, 65_535, 61_000)),
    ];
    for (local, reserved, expect) in rows {
        assert_eq!(check(local, reserved), expect, "{local:?} {reserved:?}");
    }
    let message = check("1024\t65535\n", "").expect_err("taken").to_string();
    assert!(message.contains("sysctl -w net.ipv4.ip_local_reserved_ports=61000-65535"), "{message}");
}
