use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::Resumption;
use rustls::server::ServerSessionMemoryCache;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{Code, Credentials, Refusal};
use crate::cluster::ca::Keys;
use crate::cluster::clock::Clock;
use crate::cluster::trust::found;
use crate::model::id::{ClusterId, NodeId};

fn credentials() -> Credentials {
    let clock = Clock::new(|| SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let life = Duration::from_secs(24 * 3600);
    let (_, joined) = found(ClusterId::from_u128(1), NodeId::from_u128(2), life, &clock).unwrap();
    Credentials::new(&joined.keys, &joined.roots, clock).unwrap()
}

/// What kind of handshake it was, after a byte has gone each way, and with it any ticket.
async fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> HandshakeKind {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(server.clone());
    let name = ServerName::try_from("swarm-manager").unwrap();
    let connector = TlsConnector::from(client.clone());
    let server = async {
        let mut tls = acceptor.accept(far).await.unwrap();
        tls.write_all(b"x").await.unwrap();
        assert_eq!(tls.read_u8().await.unwrap(), b'y');
    };
    let client = async {
        let mut tls = connector.connect(name, near).await.unwrap();
        assert_eq!(tls.read_u8().await.unwrap(), b'x');
        tls.write_all(b"y").await.unwrap();
        tls.get_ref().1.handshake_kind().unwrap()
    };
    tokio::join!(server, client).1
}

#[tokio::test]
async fn no_session_is_resumed_even_if_the_other_side_would_like_to() {
    let live = credentials().live();
    let mut eager = (*live.client).clone();
    eager.resumption = Resumption::in_memory_sessions(8);
    let mut generous = (*live.server).clone();
    generous.send_tls13_tickets = 4;
    generous.session_storage = ServerSessionMemoryCache::new(8);
    let (eager, generous) = (Arc::new(eager), Arc::new(generous));
    for (server, client) in [(&live.server, &eager), (&generous, &live.client)] {
        for _ in 0..3 {
            assert_eq!(handshake(server, client).await, HandshakeKind::Full);
        }
    }
    // Two that would both like to do it: so the test can see it.
    handshake(&generous, &eager).await;
    assert_eq!(handshake(&generous, &eager).await, HandshakeKind::Resumed);
}

#[test]
fn what_is_wrong_with_credentials_is_said_and_the_old_ones_stay() {
    let credentials = credentials();
    let before = credentials.own();
    let (key, _) = Keys::request().unwrap();
    let roots = credentials.roots();
    let bad = Keys { chain: roots.clone(), key, data_keys: Vec::new() };
    assert!(credentials.install(&bad, &roots).is_err());
    assert!(Credentials::new(&bad, "nothing", Clock::new(|| SystemTime::UNIX_EPOCH)).is_err());
    assert_eq!((credentials.own(), credentials.generation()), (before, 0));
}

#[test]
fn a_refusal_crosses_the_wire_unchanged() {
    let codes = [Code::InvalidArgument, Code::PermissionDenied, Code::ResourceExhausted, Code::Unavailable];
    for code in codes.into_iter().chain([Code::NotFound, Code::Cancelled, Code::Unknown, Code::DataLoss]) {
        let refusal = Refusal::new(code, "why");
        assert_eq!(Refusal::from(tonic::Status::from(refusal.clone())), refusal);
    }
    assert_eq!(Refusal::new(Code::Cancelled, "x").to_string(), "rpc error: code = Canceled desc = x");
}
