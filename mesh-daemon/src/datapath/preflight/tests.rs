//! The checks as a table: a host with one thing wrong, and what is said about it.

use std::path::Path;

use super::{Host, Unfit};

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
