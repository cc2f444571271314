//! The swarm, from and to the client.

use x509_parser::pem::parse_x509_pem;

use super::{duration, nanos, recall, remember, time, version};
use crate::api::error::Error;
use crate::api::wire;
use crate::model::cluster::{
    CaSpec, Cluster, ClusterSpec, DispatcherSpec, EncryptionSpec, ExternalCa, OrchestrationSpec, RaftSpec, RootCa,
    TaskDefaults,
};
use crate::model::meta::Annotations;
use crate::model::payload::Payload;
use crate::model::task::LogDriver;

/// The shortest life of a certificate that Swarm takes.
const MIN_CERT_EXPIRY_S: u64 = 3600;

/// Reads the settings of a swarm; what is left zero gets the default.
pub(in crate::api) fn cluster_spec(spec: &wire::SwarmSpec) -> Result<ClusterSpec, Error> {
    let defaults = ClusterSpec::default();
    let or = |number: u64, default: u64| if number == 0 { default } else { number };
    let ticks = |ticks: i64, default: u32| match u32::try_from(ticks) {
        Ok(0) => Ok(default),
        Ok(ticks) => Ok(ticks),
        Err(_) => Err(Error::invalid("ticks cannot be negative")),
    };
    let raft = RaftSpec {
        snapshot_interval: or(spec.raft.snapshot_interval, defaults.raft.snapshot_interval),
        keep_old_snapshots: spec.raft.keep_old_snapshots.unwrap_or(defaults.raft.keep_old_snapshots),
        log_entries_for_slow_followers: or(
            spec.raft.log_entries_for_slow_followers,
            defaults.raft.log_entries_for_slow_followers,
        ),
        election_tick: ticks(spec.raft.election_tick, defaults.raft.election_tick)?,
        heartbeat_tick: ticks(spec.raft.heartbeat_tick, defaults.raft.heartbeat_tick)?,
    };
    let heartbeat_period = match spec.dispatcher.heartbeat_period {
        0 => defaults.dispatcher.heartbeat_period,
        nanos => duration("heartbeat time period", nanos)?,
    };
    let log_driver = spec.task_defaults.log_driver.as_ref();
    Ok(ClusterSpec {
        annotations: Annotations {
            name: if spec.name.is_empty() { defaults.annotations.name } else { spec.name.clone() },
            labels: spec.labels.clone(),
        },
        orchestration: OrchestrationSpec {
            task_history_retention_limit: spec
                .orchestration
                .task_history_retention_limit
                .unwrap_or(defaults.orchestration.task_history_retention_limit),
        },
        raft,
        dispatcher: DispatcherSpec { heartbeat_period },
        ca: ca_spec(&spec.ca_config, &defaults.ca)?,
        encryption: EncryptionSpec { auto_lock_managers: spec.encryption_config.auto_lock_managers },
        task_defaults: TaskDefaults {
            log_driver: log_driver
                .map(|driver| LogDriver { name: driver.name.clone(), options: driver.options.clone() }),
        },
        docker: remember(&without_root(spec))?,
    })
}

/// A given root is taken by the model, which keeps its key secret; it is not remembered as words.
fn without_root(spec: &wire::SwarmSpec) -> wire::SwarmSpec {
    let mut spec = spec.clone();
    spec.ca_config.signing_ca_cert.clear();
    spec.ca_config.signing_ca_key.clear();
    spec
}

fn ca_spec(spec: &wire::CaConfig, defaults: &CaSpec) -> Result<CaSpec, Error> {
    let node_cert_expiry = match spec.node_cert_expiry {
        0 => defaults.node_cert_expiry,
        nanos => duration("certificate expiry", nanos)?,
    };
    if node_cert_expiry.as_secs() < MIN_CERT_EXPIRY_S {
        return Err(Error::invalid("minimum certificate expiry time must be: 1h0m0s"));
    }
    let external = |ca: &serde_json::Value| {
        let text = |name: &str| ca.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let protocol = if text("Protocol").is_empty() { "cfssl".to_owned() } else { text("Protocol") };
        if !protocol.eq_ignore_ascii_case("cfssl") {
            return Err(Error::bad(format!("invalid CAProtocol: \"{protocol}\"")));
        }
        let options = ca.get("Options").cloned().unwrap_or_default();
        Ok(ExternalCa {
            protocol,
            url: text("URL"),
            options: serde_json::from_value::<Option<_>>(options)
                .map_err(|_| Error::bad("the options of an external CA are texts by name"))?
                .unwrap_or_default(),
            ca_cert: text("CACert"),
        })
    };
    Ok(CaSpec {
        node_cert_expiry,
        external_cas: spec.external_cas.iter().map(external).collect::<Result<_, _>>()?,
        signing_ca_cert: spec.signing_ca_cert.clone(),
        signing_ca_key: Payload(spec.signing_ca_key.clone().into_bytes()),
        force_rotate: spec.force_rotate,
    })
}

/// The settings of a swarm.
fn swarm_spec(spec: &ClusterSpec) -> wire::SwarmSpec {
    let sent: wire::SwarmSpec = recall(spec.docker.as_ref()).unwrap_or_default();
    wire::SwarmSpec {
        name: spec.annotations.name.clone(),
        labels: spec.annotations.labels.clone(),
        orchestration: wire::Orchestration {
            task_history_retention_limit: Some(spec.orchestration.task_history_retention_limit),
            rest: sent.orchestration.rest,
        },
        raft: wire::Raft {
            snapshot_interval: spec.raft.snapshot_interval,
            keep_old_snapshots: Some(spec.raft.keep_old_snapshots),
            log_entries_for_slow_followers: spec.raft.log_entries_for_slow_followers,
            election_tick: spec.raft.election_tick.into(),
            heartbeat_tick: spec.raft.heartbeat_tick.into(),
            rest: sent.raft.rest,
        },
        dispatcher: wire::Dispatcher {
            heartbeat_period: nanos(spec.dispatcher.heartbeat_period),
            rest: sent.dispatcher.rest,
        },
        ca_config: wire::CaConfig {
            node_cert_expiry: nanos(spec.ca.node_cert_expiry),
            external_cas: sent.ca_config.external_cas,
            // Swarm's way too: who reads the settings and writes them back would ask for a root without its key.
            signing_ca_cert: String::new(),
            signing_ca_key: String::new(),
            force_rotate: spec.ca.force_rotate,
            rest: sent.ca_config.rest,
        },
        task_defaults: sent.task_defaults,
        encryption_config: wire::EncryptionConfig {
            auto_lock_managers: spec.encryption.auto_lock_managers,
            rest: sent.encryption_config.rest,
        },
        rest: sent.rest,
    }
}

/// The swarm; with what lets machines join only if asked for.
pub(in crate::api) fn cluster(cluster: &Cluster, tokens: Tokens) -> wire::Swarm {
    let root = &cluster.root_ca;
    let pools: Vec<_> = cluster.default_address_pools.iter().map(ToString::to_string).collect();
    wire::Swarm {
        id: cluster.id.to_string(),
        version: version(cluster.meta.version),
        created_at: time(cluster.meta.created_at),
        updated_at: time(cluster.meta.updated_at),
        spec: swarm_spec(&cluster.spec),
        tls_info: tls_info(root),
        root_rotation_in_progress: root.rotation.is_some(),
        default_addr_pool: (pools != ["10.0.0.0/8"]).then_some(pools),
        subnet_size: cluster.subnet_size.into(),
        data_path_port: cluster.data_path_port.into(),
        join_tokens: match tokens {
            Tokens::Hidden => None,
            Tokens::Shown => Some(wire::JoinTokens {
                worker: root.join_tokens.worker.clone(),
                manager: root.join_tokens.manager.clone(),
                ..wire::JoinTokens::default()
            }),
        },
        ..wire::Swarm::default()
    }
}

/// Whether a swarm is shown with what lets machines join.
#[derive(Clone, Copy)]
pub(in crate::api) enum Tokens {
    Shown,
    Hidden,
}

/// The root in force, and who should have issued the nodes' certificates: while the root is rotated, the one that
/// takes its place. The CLI's progress is told by these.
fn tls_info(root: &RootCa) -> wire::TlsInfo {
    let mut info = wire::TlsInfo { trust_root: root.certificate.clone(), ..wire::TlsInfo::default() };
    let issuer = root.rotation.as_ref().map_or(&root.certificate, |rotation| &rotation.certificate);
    let Ok((_, pem)) = parse_x509_pem(issuer.as_bytes()) else { return info };
    if let Ok(parsed) = pem.parse_x509() {
        info.cert_issuer_subject = wire::base64::encode(parsed.subject().as_raw());
        info.cert_issuer_public_key = wire::base64::encode(parsed.public_key().raw);
    }
    info
}
