//! The one list of what mesh needs from Debian, with a reason each.

/// A package of Debian 12.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Package {
    /// Its name for apt.
    pub(super) name: &'static str,
    /// A path that it brings, for systems that have it from elsewhere than a Debian package.
    pub(super) file: &'static str,
    /// What mesh does with it.
    pub(super) why: &'static str,
    /// The service that its installation would start and enable.
    pub(super) service: Option<&'static str>,
}

const fn package(name: &'static str, file: &'static str, why: &'static str) -> Package {
    Package { name, file, why, service: None }
}

const fn with_service(package: Package, service: &'static str) -> Package {
    Package { service: Some(service), ..package }
}

/// Every package, the build first.
pub(super) const PACKAGES: &[Package] = &[
    package("build-essential", "/usr/bin/cc", "rustc links with cc; some crates build C"),
    package("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "cargo and rustup fetch over TLS"),
    package(
        "llvm-22-dev",
        "/usr/lib/llvm-22/bin/llvm-config",
        "bpf-linker links the LLVM that rustc 1.95 was built with",
    ),
    package("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a", "that LLVM's static libraries refer to it"),
    package("libzstd-dev", "/usr/include/zstd.h", "that LLVM's static libraries refer to it"),
    package("git", "/usr/bin/git", "tidy asks it which files are part of the repository, gen what was committed"),
    package("bpftool", "/usr/sbin/bpftool", "tests look for programs and links left behind; people look into maps"),
    package("iproute2", "/usr/bin/ip", "tests make namespaces and links; the demo attaches to them"),
    package("procps", "/usr/bin/pgrep", "people and scripts look for daemons"),
    package("iputils-ping", "/usr/bin/ping", "tests and the demo send ICMP through the overlay"),
    package("ethtool", "/usr/sbin/ethtool", "tests and benchmarks switch offloads of links"),
    package("nftables", "/usr/sbin/nft", "the baseline that benchmarks compare with"),
    package("tcpdump", "/usr/bin/tcpdump", "tests look at the frames on the wire"),
    package("netcat-openbsd", "/usr/bin/nc", "tests and the demo open plain connections"),
    package("curl", "/usr/bin/curl", "tests and the demo speak HTTP through the overlay"),
    package("iperf3", "/usr/bin/iperf3", "benchmarks measure throughput"),
    package("wrk", "/usr/bin/wrk", "benchmarks measure requests and their latency"),
    package("runc", "/usr/sbin/runc", "the embedded runtime starts containers by it"),
    package("busybox-static", "/bin/busybox", "tests make images with a shell of it, and need no registry"),
    package("skopeo", "/usr/bin/skopeo", "tests push images to a registry of their own"),
    package("tini", "/usr/bin/tini-static", "the first process of containers that ask for one"),
    with_service(package("docker.io", "/usr/sbin/dockerd", "tests start an engine for the docker runtime"), "docker"),
    with_service(
        package("docker-registry", "/usr/bin/docker-registry", "tests pull images from a registry of their own"),
        "docker-registry",
    ),
    with_service(package("nginx-light", "/usr/sbin/nginx", "benchmarks and tests need a real server"), "nginx"),
    package("python3-venv", "/usr/bin/python3", "tests drive a manager by docker-py, in an environment of its own"),
    with_service(
        package("prometheus", "/usr/bin/prometheus", "tests have it discover the services of a swarm"),
        "prometheus",
    ),
    with_service(package("haproxy", "/usr/sbin/haproxy", "the baseline that benchmarks compare with"), "haproxy"),
];

/// Of the packages, those that dpkg's answer (status, tab, name a line) does not call installed.
pub(super) fn missing(packages: &[Package], dpkg: &str) -> Vec<Package> {
    let installed: Vec<&str> = dpkg
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .filter(|(status, _)| status.trim_end() == "ii")
        .map(|(_, name)| name)
        .collect();
    packages.iter().filter(|package| !installed.contains(&package.name)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn names(packages: &[Package]) -> Vec<&str> {
        packages.iter().map(|package| package.name).collect()
    }

    #[test]
    fn a_package_is_missing_unless_dpkg_calls_it_installed() {
        let list =
            [package("curl", "", ""), package("wrk", "", ""), package("nftables", "", ""), package("bpftool", "", "")];
        let dpkg = "ii \tcurl\nrc \twrk\nun \tnftables\n";
        assert_eq!(names(&missing(&list, dpkg)), ["wrk", "nftables", "bpftool"]);
    }

    #[test]
    fn a_name_that_starts_like_another_is_not_taken_for_it() {
        assert_eq!(names(&missing(&[package("llvm-22", "", "")], "ii \tllvm-22-dev\n")), ["llvm-22"]);
    }

    #[test]
    fn every_package_is_named_once_with_a_path_and_a_reason() {
        let unique: BTreeSet<&str> = names(PACKAGES).into_iter().collect();
        assert_eq!(unique.len(), PACKAGES.len());
        for package in PACKAGES {
            assert!(package.file.starts_with('/') && !package.why.is_empty(), "{}", package.name);
        }
    }
}
