//! Where our answers differ on purpose, and why.

/// Why a recording's outcome is another here; None: it is the same.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    EXPLAINED.iter().find(|(of, _)| *of == name).map(|(_, reason)| *reason)
}

/// In the order of the page.
pub(super) const EXPLAINED: &[(&str, &str)] = &[
    ("info-no-swarm", "names this product, this machine and its runtime"),
    ("info-swarm-manager", "names this product, this machine and its runtime"),
    ("info-swarm-worker", "names this product, this machine and its runtime"),
    ("network-create-overlay-opts", "an encrypted network is refused, for its packets would travel in the clear"),
    ("network-inspect-ingress", "there is no sandbox on a bridge, so it is not among the network's containers"),
    ("network-ls", "without an engine a node has no `bridge`, `host` and `none`, and `docker_gwbridge` is not needed"),
    ("network-ls-no-swarm", "without an engine a node has no `bridge`, `host` and `none`"),
    ("network-rm", "it removes the encrypted network too, which was refused"),
    ("node-ls-format-json", "the nodes of the test have certificates of no root"),
    ("service-logs-no-task-ids", "the tasks of the test wrote other lines"),
    ("service-logs-raw-ts", "the tasks of the test wrote other lines"),
    ("service-ps", "a port of a node is named once, not once a family"),
    ("service-ps-filter", "which replica is on node2 is chance; a port of a node is named once, not once a family"),
];
