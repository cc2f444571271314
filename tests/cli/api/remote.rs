//! The Docker API over TCP: who shows a certificate of the right authority is served, by the real docker CLI;
//! everybody else is not, and holds up nobody.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use mesh_daemon::api::Remote;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tempfile::TempDir;

use super::Manager;

/// An authority, in a folder of its own.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "clients");
        let root = params.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
        Self { folder, issuer: Issuer::new(params, key) }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn issue(&self, name: &str, names: &[&str], purpose: ExtendedKeyUsagePurpose) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        params.extended_key_usages = vec![purpose];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.file(&format!("{name}-cert.pem")), leaf.pem()).unwrap();
        std::fs::write(self.file(&format!("{name}-key.pem")), key.serialize_pem()).unwrap();
    }
}

fn served() -> (Manager, Authority, SocketAddr) {
    let (manager, authority) = (Manager::new(), Authority::new());
    authority.issue("server", &["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    authority.issue("client", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let remote = Remote {
        address: "127.0.0.1:0".parse().unwrap(),
        ca: authority.file("ca.pem"),
        cert: authority.file("server-cert.pem"),
        key: authority.file("server-key.pem"),
    };
    let address = manager.served.listen(&remote).unwrap();
    (manager, authority, address)
}

/// The docker CLI, with options of TLS.
fn docker(address: SocketAddr, options: &[(&str, &Path)], command: &[&str]) -> Output {
    let mut docker = Command::new("docker");
    docker.env_remove("DOCKER_HOST").arg("--host").arg(format!("tcp://{address}"));
    for (option, path) in options {
        docker.arg(option).arg(path);
    }
    docker.args(command).output().unwrap()
}

#[test]
fn who_shows_a_certificate_is_served_and_nobody_else_is() {
    crate::docker::require_docker();
    let (manager, authority, address) = served();
    manager.service("web");
    let (ca, cert, key) =
        (authority.file("ca.pem"), authority.file("client-cert.pem"), authority.file("client-key.pem"));
    let right = [("--tlscacert", ca.as_path()), ("--tlscert", cert.as_path()), ("--tlskey", key.as_path())];
    let command = ["--tlsverify", "service", "ls", "--format", "{{.Name}}"];
    let listed = docker(address, &right, &command);
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "web\n", "{}", String::from_utf8_lossy(&listed.stderr));

    // A certificate of nobody we trust, one that is a server's, none at all, and no TLS.
    let other = Authority::new();
    other.issue("client", &[], ExtendedKeyUsagePurpose::ClientAuth);
    let (theirs, their_key) = (other.file("client-cert.pem"), other.file("client-key.pem"));
    let (servers, servers_key) = (authority.file("server-cert.pem"), authority.file("server-key.pem"));
    let empty = tempfile::tempdir().unwrap();
    for (options, command) in [
        (vec![("--tlscacert", ca.as_path()), ("--tlscert", &theirs), ("--tlskey", &their_key)], &command[..]),
        (vec![("--tlscacert", ca.as_path()), ("--tlscert", &servers), ("--tlskey", &servers_key)], &command[..]),
        (vec![("--config", empty.path()), ("--tlscacert", ca.as_path())], &command[..]),
        (vec![("--config", empty.path())], &command[1..]),
    ] {
        let refused = docker(address, &options, command);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{options:?}: {said}");
    }
    // The client checks the node as well.
    let wrong = [("--tlscacert", &*other.file("ca.pem")), ("--tlscert", cert.as_path()), ("--tlskey", key.as_path())];
    assert!(!docker(address, &wrong, &command).status.success());
}

#[test]
fn clients_that_stall_before_they_are_known_are_cut_and_hold_up_nobody() {
    let (_manager, authority, address) = served();
    let mut silent: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (number, stream) in silent.iter_mut().enumerate() {
        if number % 2 == 0 {
            // Half of a record of TLS.
            stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
        }
    }
    let begun = Instant::now();
    let (ca, cert, key) =
        (authority.file("ca.pem"), authority.file("client-cert.pem"), authority.file("client-key.pem"));
    let right = [("--tlscacert", ca.as_path()), ("--tlscert", cert.as_path()), ("--tlskey", key.as_path())];
    assert!(docker(address, &right, &["--tlsverify", "service", "ls"]).status.success());
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        // Its end, or an alert before it.
        let mut rest = Vec::new();
        assert!(!stream.read_to_end(&mut rest).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}

#[test]
fn a_port_without_what_it_needs_is_refused_in_words() {
    let meshd = harness::program("meshd").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let attempt = |options: &[&str]| {
        let mut command = Command::new("timeout");
        command.arg("10").arg(&meshd).arg("--pin-dir").arg(folder.path().join("pins")).arg("node");
        command.arg("--root").arg(folder.path().join("root")).arg("--run").arg(folder.path().join("run"));
        let output = command.args(options).output().unwrap();
        assert!(!output.status.success(), "{options:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let plain = attempt(&["--api", "tcp://127.0.0.1:0"]);
    assert!(plain.contains("--tlsverify"), "{plain}");
    let no_scheme = attempt(&["--api", "127.0.0.1:2376"]);
    assert!(no_scheme.contains("it begins with tcp://"), "{no_scheme}");
    let missing = folder.path().join("ca.pem");
    let missing = missing.to_str().unwrap();
    let files = ["--tlsverify", "--tlscacert", missing, "--tlscert", missing, "--tlskey", missing];
    let absent = attempt(&[&["--api", "tcp://127.0.0.1:0"], &files[..]].concat());
    assert!(absent.contains(missing), "{absent}");
}
