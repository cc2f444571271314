//! A registry that asks for a user, on this machine or on one of a bed's.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::Host;

const LIMIT: Duration = Duration::from_secs(30);
/// Its user and the password.
pub(crate) const USER: (&str, &str) = ("app", "secret");

/// It ends with this value.
pub(crate) struct Registry {
    process: Child,
    /// Where it is found.
    pub(crate) address: String,
    /// What puts a command where it runs.
    inside: Vec<String>,
}

impl Registry {
    /// On this machine, for this machine.
    pub(crate) fn start(files: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let registry = Self::run(files, address, Vec::new());
        registry.wait(|| TcpStream::connect(&registry.address).is_ok());
        registry
    }

    /// On a machine of a bed, for all of them.
    pub(crate) fn start_on(host: &Host, files: &Path) -> Self {
        let inside = vec!["nsenter".to_owned(), format!("--net={}", host.ns.path().display())];
        let registry = Self::run(files, format!("{}:5000", host.ip4), inside);
        registry.wait(|| host.ns.enter(|| TcpStream::connect(&registry.address).is_ok()).unwrap_or(false));
        registry
    }

    fn run(files: &Path, address: String, inside: Vec<String>) -> Self {
        let users = files.join("users");
        // bcrypt of "secret", as `htpasswd -B` writes it.
        fs::write(&users, "app:$2y$05$QUd212ecEVqHXSKTssQW9O/f0JJ.mway5310kLm.xU3axC37uqfUm\n").unwrap();
        let config = files.join("registry.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{}",
            files.join("registry").display(),
            format_args!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", users.display()),
        );
        fs::write(&config, text).unwrap();
        let process = Self::command(&inside, "docker-registry").arg("serve").arg(&config).spawn();
        Self { process: process.expect("docker-registry is installed"), address, inside }
    }

    fn command(inside: &[String], program: &str) -> Command {
        let mut argv = inside.iter().map(String::as_str).chain([program]);
        let mut command = Command::new(argv.next().unwrap_or_default());
        command.args(argv).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn wait(&self, is_there: impl Fn() -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !is_there() {
            assert!(Instant::now() < deadline, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Puts an image there, from an OCI layout.
    pub(crate) fn push(&self, layout: &Path, name: &str) {
        let mut skopeo = Self::command(&self.inside, "skopeo");
        skopeo.args(["copy", "--dest-tls-verify=false", "--dest-creds", &format!("{}:{}", USER.0, USER.1)]);
        skopeo.arg(format!("oci:{}", layout.display())).arg(format!("docker://{}/{name}", self.address));
        let output = skopeo.stderr(Stdio::piped()).output().expect("skopeo is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
