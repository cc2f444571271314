//! What a user types and reads: every mistake gets one line that says what is wrong, the exit code
//! is 1, and nothing is left attached or pinned.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(test)]
mod anywhere;
mod api;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod containers;
mod desired;
mod docker;
mod host;
mod meshctl;
mod seeing;

use std::path::PathBuf;

use harness::meshd::Meshd;
use harness::{Bed, Host, Output, Plan};
use tempfile::TempDir;

/// One node with an uplink, and nothing on it yet.
struct Node {
    bed: Bed,
    files: TempDir,
}

/// A desired state that is right.
const RIGHT: &str = r#"[node]
name = "node1"
uplinks = ["eth0"]
vtep = "192.0.2.1"
ingress_vni = 4096

[[nodes]]
name = "node2"
vtep = "192.0.2.2"

[[networks]]
name = "net"
vni = 77

[[services]]
name = "web"
network = "net"
vips = ["10.0.9.100"]
ports = [{ published = 8080, target = 80 }]

[[endpoints]]
network = "net"
node = "node1"
link = "v-one"
mac = "02:42:0a:00:09:02"
addresses = ["10.0.9.2"]
service = "web"

[[endpoints]]
network = "net"
node = "node2"
mac = "02:42:0a:00:09:03"
addresses = ["10.0.9.3"]
service = "web"
"#;

impl Node {
    #[track_caller]
    fn new() -> Self {
        let bed =
            Bed::new(&Plan { nodes: 1, clients: 0, ..Plan::default() }).unwrap_or_else(|error| panic!("{error:#}"));
        Self { bed, files: tempfile::tempdir().unwrap() }
    }

    fn host(&self) -> &Host {
        &self.bed.nodes[0]
    }

    /// A pin directory that does not exist, on a bpffs.
    fn pins(&self) -> PathBuf {
        self.bed.pin_dir("cli").unwrap().join("node")
    }

    fn file(&self) -> PathBuf {
        self.files.path().join("desired.toml")
    }

    /// A meshd that would follow this text.
    fn meshd(&self, text: &str) -> Meshd {
        let meshd = Meshd::new(&self.host().ns, self.pins(), self.file());
        meshd.write(text).unwrap();
        meshd
    }

    /// `meshd datapath` behind some other command, to its end.
    fn run_behind(&self, prefix: &[&str]) -> Output {
        let program = harness::program("meshd").unwrap();
        let (pins, file) = (self.pins(), self.file());
        let mut argv: Vec<_> = prefix.iter().map(Into::into).collect::<Vec<std::ffi::OsString>>();
        argv.extend([
            program.into(),
            "--pin-dir".into(),
            pins.into(),
            "datapath".into(),
            "--desired".into(),
            file.into(),
        ]);
        self.host().ns.command(argv).limit(std::time::Duration::from_secs(10)).attempt().unwrap()
    }

    /// Neither a pin nor a program on an interface.
    #[track_caller]
    fn assert_untouched(&self) {
        assert!(!self.pins().exists(), "{:?}", harness::meshd::files_below(&self.pins()));
        let links = self.host().ns.run(["ip", "-d", "link"]).unwrap().stdout;
        assert!(!links.contains("prog/xdp"), "{links}");
        let qdiscs = self.host().ns.run(["tc", "qdisc"]).unwrap().stdout;
        assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    }
}

/// Exit code 1, nothing on standard output, and this one line on standard error.
#[track_caller]
fn assert_says(output: &Output, line: &str) {
    assert_eq!(output.status.code(), Some(1), "{output}");
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", format!("{line}\n").as_str()));
}
