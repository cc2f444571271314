//! `/swarm`: make, join, set, lock and leave a swarm.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;

use super::convert::{self, Tokens};
use super::error::Error;
use super::query::Params;
use super::{Init, Join, Shared, Standing, body, wire};
use crate::cluster::ca::{self, TrustError};
use crate::model::cidr::Cidr;
use crate::model::cluster::{DATA_PATH_PORT, SUBNET_SIZE};
use crate::model::id::SecretId;
use crate::model::node::{Availability, Role};
use crate::model::payload::Payload;

/// The ports that tunnels may have.
const DATA_PATH_PORTS: std::ops::RangeInclusive<u32> = 1024..=49151;

type Api = State<Arc<Shared>>;

pub(super) async fn inspect(State(api): Api) -> Result<Json<wire::Swarm>, Error> {
    let view = api.view().await?;
    let cluster = view.cluster().ok_or(Error::NotInSwarm)?;
    Ok(Json(convert::cluster(cluster, Tokens::Shown)))
}

pub(super) async fn init(State(api): Api, body: Body) -> Result<Json<String>, Error> {
    let request: wire::InitRequest = body::parse(&body::read(body).await?)?;
    let local = api.cluster.local();
    match local.standing {
        Standing::Outside => {}
        Standing::Manager if request.force_new_cluster => {}
        Standing::Worker if request.force_new_cluster => return Err(Error::Worker),
        Standing::Locked if request.force_new_cluster => return Err(Error::Locked),
        Standing::Pending | Standing::Locked | Standing::Failed(_) | Standing::Worker | Standing::Manager => {
            return Err(already_member());
        }
    }
    check_address("advertise", &request.advertise_addr)?;
    check_address("data path", &request.data_path_addr)?;
    let mut spec = convert::cluster_spec(&request.spec)?;
    if !spec.ca.external_cas.is_empty() {
        return Err(root_refused(&ca::Unwanted::External.into()));
    }
    if !spec.ca.signing_ca_cert.is_empty() || !spec.ca.signing_ca_key.0.is_empty() {
        return Err(Error::bad("a swarm begins with a root of its own: give another by `swarm ca --rotate`"));
    }
    spec.encryption.auto_lock_managers |= request.auto_lock_managers;
    let pools = request.default_addr_pool.iter().map(|pool| pool.parse::<Cidr>());
    let subnet_size = match request.subnet_size {
        0 => SUBNET_SIZE,
        size => u8::try_from(size).map_err(|_| Error::bad(format!("invalid subnet size {size}")))?,
    };
    let node = api.cluster.init(Init {
        listen_addr: listen_addr(request.listen_addr),
        advertise_addr: request.advertise_addr,
        data_path_addr: request.data_path_addr,
        data_path_port: data_path_port(request.data_path_port)?,
        force_new_cluster: request.force_new_cluster,
        spec,
        availability: availability(&request.availability)?,
        default_address_pools: pools.collect::<Result<_, _>>().map_err(|error| Error::bad(error.to_string()))?,
        subnet_size,
    });
    let node = node.await?;
    if request.auto_lock_managers || request.spec.encryption_config.auto_lock_managers {
        set_unlock_key(&api).await?;
    }
    Ok(Json(node.to_string()))
}

pub(super) fn already_member() -> Error {
    Error::unavailable(
        "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.",
    )
}

pub(super) fn listen_addr(given: String) -> String {
    if given.is_empty() { "0.0.0.0:2377".to_owned() } else { given }
}

fn data_path_port(port: u32) -> Result<u16, Error> {
    match u16::try_from(port) {
        Ok(0) => Ok(DATA_PATH_PORT),
        Ok(number) if DATA_PATH_PORTS.contains(&port) => Ok(number),
        _ => Err(Error::bad(format!(
            "Data path port must be in range 1024 - 49151, provided port number {port} is not valid"
        ))),
    }
}

fn availability(word: &str) -> Result<Availability, Error> {
    if word.is_empty() { Ok(Availability::Active) } else { convert::availability(word) }
}

/// An address, an interface of this node, or nothing.
pub(super) fn check_address(what: &str, given: &str) -> Result<(), Error> {
    if given.is_empty() {
        return Ok(());
    }
    let host = given.parse::<std::net::SocketAddr>().map(|socket| socket.ip());
    let host = host.or_else(|_| given.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>());
    let good = match host {
        Ok(address) => !address.is_unspecified(),
        Err(_) => {
            let interface = given.split_once(':').map_or(given, |(name, _)| name);
            nix::net::if_::if_nametoindex(interface).is_ok()
        }
    };
    if good {
        return Ok(());
    }
    Err(Error::bad(format!(
        "{what} address must be a non-zero IP address or network interface (with optional port number)"
    )))
}

pub(super) async fn join(State(api): Api, body: Body) -> Result<StatusCode, Error> {
    let request: wire::JoinRequest = body::parse(&body::read(body).await?)?;
    if api.cluster.local().standing != Standing::Outside {
        return Err(already_member());
    }
    if request.remote_addrs.is_empty() {
        return Err(Error::bad("at least 1 RemoteAddr is required to join"));
    }
    if !is_token(&request.join_token) {
        return Err(Error::internal("invalid join token"));
    }
    check_address("advertise", &request.advertise_addr)?;
    check_address("data path", &request.data_path_addr)?;
    let join = Join {
        listen_addr: listen_addr(request.listen_addr),
        advertise_addr: request.advertise_addr,
        data_path_addr: request.data_path_addr,
        remotes: request.remote_addrs,
        token: request.join_token,
        availability: availability(&request.availability)?,
    };
    api.cluster.join(join).await?;
    Ok(StatusCode::OK)
}

/// `SWMTKN-1-<50 digits of base 36>-<25 of them>`.
fn is_token(token: &str) -> bool {
    let is_base36 = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase());
    let parts: Vec<_> = token.split('-').collect();
    match parts.as_slice() {
        ["SWMTKN", "1", digest, secret] => {
            digest.len() == 50 && secret.len() == 25 && is_base36(digest) && is_base36(secret)
        }
        _ => false,
    }
}

pub(super) async fn leave(State(api): Api, params: Params) -> Result<StatusCode, Error> {
    let force = params.flag("force");
    match api.cluster.local().standing {
        Standing::Outside => return Err(Error::unavailable("This node is not part of a swarm")),
        Standing::Manager if !force => return Err(manager_leaves(&api).await),
        Standing::Locked if !force => return Err(Error::Locked),
        Standing::Manager | Standing::Locked | Standing::Pending | Standing::Failed(_) | Standing::Worker => {}
    }
    api.cluster.leave().await?;
    Ok(StatusCode::OK)
}

/// Why a manager does not leave unasked.
async fn manager_leaves(api: &Shared) -> Error {
    let intro = "You are attempting to leave the swarm on a node that is participating as a manager. ";
    let managers =
        api.view().await.map_or(1, |view| view.nodes().iter().filter(|node| node.role == Role::Manager).count());
    let why = match managers {
        0 | 1 => "Removing the last manager erases all current state of the swarm. Use `--force` to ignore this message. ".to_owned(),
        2 => "Leaving the swarm will leave you with 1 manager out of 2: the state of the swarm can no longer be changed then. Demote this node first, or use `--force` to ignore this message. ".to_owned(),
        more => format!(
            "Removing this node leaves {} managers out of {more}. Without a Raft quorum your swarm will be inaccessible. The only way to restore a swarm that has lost consensus is to reinitialize it with `--force-new-cluster`. Use `--force` to suppress this message. ",
            more - 1
        ),
    };
    Error::unavailable(format!("{intro}{why}"))
}

pub(super) async fn update(State(api): Api, params: Params, body: Body) -> Result<StatusCode, Error> {
    let spec: wire::SwarmSpec = body::parse(&body::read(body).await?)?;
    let version = params.version("swarm")?;
    let spec = convert::cluster_spec(&spec)?;
    let (worker, manager) = (params.flag("rotateWorkerToken"), params.flag("rotateManagerToken"));
    let rotate_key = params.flag("rotateManagerUnlockKey");
    let chance = [(); 4].map(|()| api.cluster.random());
    let now = std::time::SystemTime::try_from(api.cluster.now());
    let now = now.map_err(|error| Error::internal(format!("the clock of this node: {error}")))?;
    api.update(|tx| {
        let mut cluster = crate::model::cluster::Cluster::clone(tx.cluster().ok_or(Error::NotInSwarm)?);
        tx.expect_version::<crate::model::cluster::Cluster>(cluster.id, version)?;
        let tokens = &mut cluster.root_ca.join_tokens;
        if worker {
            tokens.worker = with_new_secret(&tokens.worker, chance[0]);
        }
        if manager {
            tokens.manager = with_new_secret(&tokens.manager, chance[1]);
        }
        let mut spec = spec.clone();
        ca::follow(&mut cluster.root_ca, &mut spec.ca, now).map_err(|error| root_refused(&error))?;
        let (before, after) = (&cluster.spec.encryption, &spec.encryption);
        if !after.auto_lock_managers {
            cluster.unlock_key = Payload::default();
        } else if rotate_key || !before.auto_lock_managers {
            cluster.unlock_key = new_key([chance[2], chance[3]]);
        }
        cluster.spec = spec;
        Ok(tx.update(cluster)?)
    })
    .await?;
    Ok(StatusCode::OK)
}

/// Why the root does not become what was asked for.
fn root_refused(error: &TrustError) -> Error {
    let sources = std::iter::successors(std::error::Error::source(error), |error| error.source());
    let text = sources.fold(error.to_string(), |text, source| format!("{text}: {source}"));
    match error {
        TrustError::Wanted(_) => Error::invalid(text),
        TrustError::NoKey | TrustError::NoRotation => Error::precondition(text),
        TrustError::Root(_) | TrustError::NewRoot(_) | TrustError::Token(_) | TrustError::Time => Error::internal(text),
    }
}

/// A token for the same root, that nobody has yet.
fn with_new_secret(token: &str, chance: u128) -> String {
    let root = token.rsplit_once('-').map_or(token, |(root, _)| root);
    // 128 bits in 25 digits of base 36: the form of ids too.
    format!("{root}-{}", SecretId::from_u128(chance))
}

fn new_key(chance: [u128; 2]) -> Payload {
    Payload(chance.iter().flat_map(|half| half.to_be_bytes()).collect())
}

async fn set_unlock_key(api: &Shared) -> Result<(), Error> {
    let chance = [api.cluster.random(), api.cluster.random()];
    api.update(|tx| {
        let cluster = tx.cluster().ok_or(Error::NotInSwarm)?;
        let (id, locked) = (cluster.id, !cluster.unlock_key.0.is_empty());
        if locked {
            return Ok(());
        }
        Ok(tx.modify::<crate::model::cluster::Cluster>(id, |cluster| cluster.unlock_key = new_key(chance))?)
    })
    .await
}

pub(super) async fn unlock_key(State(api): Api) -> Result<Json<wire::UnlockRequest>, Error> {
    let view = api.view().await?;
    let key = &view.cluster().ok_or(Error::NotInSwarm)?.unlock_key.0;
    let unlock_key = match key.as_slice() {
        [] => String::new(),
        key => format!("SWMKEY-1-{}", wire::base64::encode(key).trim_end_matches('=')),
    };
    Ok(Json(wire::UnlockRequest { unlock_key, ..wire::UnlockRequest::default() }))
}

pub(super) async fn unlock(State(api): Api, body: Body) -> Result<StatusCode, Error> {
    let request: wire::UnlockRequest = body::parse(&body::read(body).await?)?;
    match api.cluster.local().standing {
        Standing::Locked => {}
        Standing::Outside => return Err(Error::NotInSwarm),
        Standing::Pending | Standing::Failed(_) | Standing::Worker | Standing::Manager => {
            return Err(Error::Refused { status: StatusCode::CONFLICT, message: "swarm is not locked".to_owned() });
        }
    }
    let key = request.unlock_key.strip_prefix("SWMKEY-1-").and_then(wire::base64::decode);
    if key.is_none_or(|key| key.is_empty()) {
        return Err(Error::internal("invalid unlock key"));
    }
    api.cluster.unlock(request.unlock_key).await?;
    Ok(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_root_of_fifty_digits_and_a_secret_of_twenty_five() {
        let token = format!("SWMTKN-1-{}-{}", "a".repeat(50), "0".repeat(25));
        assert!(is_token(&token));
        for wrong in ["", "SWMTKN-1-abc", "SWMTKN-1-x-y", &token[1..], &token.to_uppercase(), &format!("{token}-a")] {
            assert!(!is_token(wrong), "{wrong}");
        }
        let rotated = with_new_secret(&token, 7);
        assert!(is_token(&rotated) && rotated != token && rotated[..59] == token[..59]);
    }

    #[test]
    fn an_advertised_address_is_one_or_an_interface() {
        for good in ["", "10.0.0.1", "10.0.0.1:2377", "fd00::1", "[fd00::1]:2377", "lo", "lo:2377", "1.2.3.4"] {
            assert_eq!(check_address("advertise", good), Ok(()), "{good}");
        }
        for bad in ["not-an-ip", "0.0.0.0", "::", "0.0.0.0:2377"] {
            let error = check_address("advertise", bad).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
            assert!(error.to_string().starts_with("advertise address must be a non-zero IP address"), "{bad}");
        }
    }
}
