//! What is wrong with a request is said, and nothing is half made of it.

use std::fmt::Write as _;

use super::session::three_nodes;
use super::{Outcome, require_docker, run};
use harness::swarm::Served;

struct Swarm {
    folder: tempfile::TempDir,
    served: Served,
}

impl Swarm {
    fn new() -> Self {
        require_docker();
        let folder = tempfile::tempdir().unwrap();
        let served = Served::new(folder.path()).unwrap();
        three_nodes(&served);
        Self { folder, served }
    }

    fn run(&self, program: &str, line: &str) -> Outcome {
        let program = if program == "meshctl" { harness::program(program).unwrap() } else { program.into() };
        let argv: Vec<_> = line.split(' ').map(str::to_owned).collect();
        run(&program, &self.served, self.folder.path(), &argv, None)
    }

    fn must(&self, line: &str) -> String {
        let outcome = self.run("docker", line);
        assert_eq!(outcome.code, 0, "{line}: {}", outcome.err);
        outcome.out
    }

    /// How many objects there are, of all kinds, and in which version the store is.
    /// What users made, as they asked for it: what the swarm makes of it by itself meanwhile is left out.
    fn objects(&self) -> Vec<String> {
        let view = self.served.cluster.store().unwrap().view();
        let services = view.services().iter().map(|service| format!("{:?}", service.spec));
        let networks = view.networks().iter().map(|network| format!("{:?}", network.spec));
        let secrets = view.secrets().iter().map(|secret| format!("{:?}", secret.spec));
        let configs = view.configs().iter().map(|config| format!("{:?}", config.spec));
        services.chain(networks).chain(secrets).chain(configs).collect()
    }
}

#[test]
fn what_is_refused_is_named_and_leaves_nothing() {
    let swarm = Swarm::new();
    let file = |name: &str, bytes: &[u8]| std::fs::write(swarm.folder.path().join(name), bytes).unwrap();
    file("huge", &vec![b'x'; 1_100_000]);
    file("secret", &vec![b'x'; 500 * 1024]);
    file("binary", &(0..=255).cycle().take(70_000).collect::<Vec<u8>>());
    swarm.must("config create binary binary");
    swarm.must("network create -d overlay --subnet 10.60.0.0/24 net");
    swarm.must("service create -d --no-resolve-image --name web -p 8080:80 web");
    let before = swarm.objects();
    for (line, said) in [
        ("config create huge huge", "config data must be larger than 0 and less than 1024000 bytes"),
        ("secret create secret secret", "secret data must be larger than 0 and less than 512000 bytes"),
        ("config create binary binary", "config binary already exists"),
        ("network create -d overlay net", "network with name net already exists"),
        ("service create -d --no-resolve-image --name web web", "name conflicts with an existing object"),
        (
            "service create -d --no-resolve-image --name other -p 8080:90 web",
            "port '8080' is already in use by service 'web'",
        ),
        (
            "service create -d --no-resolve-image --name other --constraint node.role=worker web",
            "constraint expected one operator",
        ),
        ("service create -d --no-resolve-image --name other --network nosuch web", "network nosuch not found"),
        ("service create -d --no-resolve-image --name other --limit-memory 1m web", "Must be at least 4MiB"),
        ("service update -d --image UPPER:: web", "is not a valid repository/tag"),
        ("service rollback -d web", "does not have a previous spec"),
        ("config rm nosuch", "nosuch"),
    ] {
        let outcome = swarm.run("docker", line);
        assert!(outcome.code != 0 && outcome.err.contains(said), "{line}: {} {}", outcome.code, outcome.err);
        assert_eq!(swarm.objects(), before, "{line}");
    }
    // Bytes come back as they were, whatever they are.
    let shown: Vec<mesh_daemon::api::wire::Config> =
        serde_json::from_str(&swarm.run("meshctl", "config inspect binary").out).unwrap();
    let bytes = mesh_daemon::api::wire::base64::decode(&shown[0].spec.data).unwrap();
    assert_eq!(bytes, std::fs::read(swarm.folder.path().join("binary")).unwrap());
}

#[test]
fn an_update_that_another_overtook_is_refused_whole() {
    let swarm = Swarm::new();
    swarm.must("service create -d --no-resolve-image --name web web");
    let id = swarm.must("service ls -q");
    let service = swarm.served.cluster.store().unwrap().view().services().iter().next().unwrap().clone();
    assert!(service.id.to_string().starts_with(id.trim()));
    let stale = service.meta.version.0 - 1;
    let body = r#"{"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"other"}}}"#;
    let argv = [
        "-s",
        "--unix-socket",
        &swarm.served.socket.display().to_string(),
        "-X",
        "POST",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
        &format!("http://mesh/services/{}/update?version={stale}", service.id),
    ]
    .map(str::to_owned);
    let said = run("curl".as_ref(), &swarm.served, swarm.folder.path(), &argv, None);
    assert!(said.out.contains("update out of sequence"), "{}", said.out);
    let now = swarm.served.cluster.store().unwrap().view().services().iter().next().unwrap().clone();
    assert_eq!(now.spec, service.spec);
}

#[test]
fn a_file_of_ten_thousand_services_with_one_mistake_says_which_line_at_once() {
    let swarm = Swarm::new();
    let before = swarm.objects();
    let mut text = String::from("services:\n");
    for number in 0..10_000 {
        let image = if number == 9_000 { "imagee" } else { "image" };
        let _ = writeln!(text, "  s{number}:\n    {image}: web");
    }
    std::fs::write(swarm.folder.path().join("large.yml"), text).unwrap();
    let begun = std::time::Instant::now();
    let outcome = swarm.run("meshctl", "stack deploy -c large.yml large");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
    let said = "large.yml:18003:5: services.s9000 Additional property imagee is not allowed: is \"image\" meant?\n";
    assert_eq!((outcome.code, outcome.err.as_str()), (1, said));
    assert_eq!(swarm.objects(), before);
}
