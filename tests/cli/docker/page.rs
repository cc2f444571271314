//! docs/reference/docker-api.md: which endpoints are served, and how near the docker CLI's output is to what
//! it is before the real Swarm. Compared with the committed page; `MESH_WRITE_PAGE=1` writes it.

use std::fmt::Write as _;

use super::explained::EXPLAINED;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference/docker-api.md");

/// Endpoints and who answers them. `engine`: passed on where an engine runs the tasks, else as said.
const ENDPOINTS: &[(&str, &str)] = &[
    ("GET, HEAD /_ping", "served"),
    ("GET /version, /info", "served"),
    (
        "GET /events",
        "served: services, nodes, networks, secrets, configs; containers and images of this node, or the engine's",
    ),
    ("GET /system/df", "engine; else images and containers of this node; volumes are not counted"),
    ("GET /distribution/{name}/json", "served"),
    ("GET /swarm, /swarm/unlockkey; POST /swarm/init, join, leave, update, unlock", "served"),
    ("GET /nodes, /nodes/{id}; POST /nodes/{id}/update; DELETE /nodes/{id}", "served"),
    ("GET /services, /services/{id}, /services/{id}/logs; POST create, update; DELETE", "served"),
    ("GET /tasks, /tasks/{id}, /tasks/{id}/logs", "served"),
    ("GET /networks, /networks/{id}; POST /networks/create; DELETE", "served: overlay; the engine's own are listed"),
    ("POST /networks/prune", "answers that nothing was removed"),
    ("POST /networks/{id}/connect, disconnect", "engine; else 404"),
    ("GET /secrets, /secrets/{id}; POST create, update; DELETE", "served; secret drivers are refused"),
    ("GET /configs, /configs/{id}; POST create, update; DELETE", "served"),
    (
        "GET /containers/json, /containers/{id}/json, logs, top, stats; POST stop, kill, wait, attach; DELETE",
        "engine; else served, of this node's tasks; all but the list, at managers, of every node's",
    ),
    ("POST /containers/create and other acts on containers", "engine; else 501: services make containers"),
    (
        "POST /containers/{id}/exec, /exec/{id}/start, resize; GET /exec/{id}/json",
        "engine; else served, with terminals and upgrades; at managers, of every node's tasks",
    ),
    ("GET /images/json, /images/{name}/json; POST /images/load, create (pull); DELETE", "engine; else served"),
    ("POST /images/{name}/tag, push", "engine; else 501"),
    ("/volumes, /plugins", "engine; else none"),
    ("GET /mesh/usage", "served: packets and flows by service and node, for meshctl top"),
    ("GET /doctor, /swarm/backup; POST /swarm/restore", "served: mesh's own, for meshctl"),
    ("/auth, /build, /commit, /session, /grpc", "engine; else 404"),
];

/// Compares the page with what it should be.
pub(super) fn check(compared: &[String]) {
    let wanted = write(compared);
    if std::env::var_os("MESH_WRITE_PAGE").is_some() {
        std::fs::write(PAGE, &wanted).unwrap();
        return;
    }
    let there = std::fs::read_to_string(PAGE).unwrap_or_default();
    assert!(
        there == wanted,
        "docs/reference/docker-api.md is not what the comparison says: MESH_WRITE_PAGE=1 writes it"
    );
}

fn write(compared: &[String]) -> String {
    let explained: Vec<_> = EXPLAINED.iter().filter(|(name, _)| compared.iter().any(|other| other == name)).collect();
    let same = compared.len() - explained.len();
    let mut page = String::from(
        "# The Docker API\n\nWritten by the test `docker` of the layer cli; not edited by hand.\n\n\
         Versions 1.24 to 1.47, with the version in the path or without it.\n\n## Endpoints\n\n| endpoint | answer |\n|---|---|\n",
    );
    for (endpoint, answer) in ENDPOINTS {
        let _ = writeln!(page, "| `{endpoint}` | {answer} |");
    }
    let _ = write!(
        page,
        "\n## The docker CLI's output\n\ndocker 28.2.2 against the router and the store of a manager, with tasks that only are said to run; \
         compared with recordings of the same commands before dockerd 20.10.24: output, errors and exit code, after ids, times and \
         addresses are named. **{same} of {} commands are the same**; the others differ on purpose.\n\n| command | why it differs |\n|---|---|\n",
        compared.len()
    );
    for (name, reason) in explained {
        let _ = writeln!(page, "| {name} | {reason} |");
    }
    page.push_str("\nThe same:\n\n");
    let names = compared.iter().filter(|name| !EXPLAINED.iter().any(|(other, _)| other == name));
    for name in names {
        let _ = writeln!(page, "- {name}");
    }
    page + &super::fields::page()
}
