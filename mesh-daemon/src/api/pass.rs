//! Passes a request on over a connection, and its answer back; if it upgrades, bytes go both ways from then on.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::error::Error;
use super::{Connection, Shared};

/// Sends a request over `connection`; `failed` words what goes wrong there.
///
/// # Errors
/// The other side does not answer, or there are too many streams for one more.
pub(super) async fn on(
    api: &Shared,
    connection: impl Connection,
    mut request: Request<Body>,
    failed: impl Fn(hyper::Error) -> Error,
) -> Result<Response<Body>, Error> {
    let upgrades = request.headers().contains_key(header::UPGRADE);
    let place = upgrades.then(|| api.attach()).transpose()?;
    let client = hyper::upgrade::on(&mut request);
    let mut answer = ask(&api.tasks, connection, request).await.map_err(failed)?;
    if let Some(place) = place.filter(|_| answer.status() == StatusCode::SWITCHING_PROTOCOLS) {
        let other = hyper::upgrade::on(&mut answer);
        api.tasks.spawn(async move {
            join(client, other).await;
            drop(place);
        });
    }
    Ok(answer)
}

/// As [`on`], of a request that does not upgrade.
pub(super) async fn ask(
    tasks: &TaskTracker,
    connection: impl Connection,
    request: Request<Body>,
) -> Result<Response<Body>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await?;
    tasks.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            debug!(%error, "a connection that requests are passed on by ended early");
        }
    });
    let answer = sender.send_request(request).await?;
    Ok(answer.map(Body::new))
}

/// Copies both ways until both have ended; each may end first, as `docker exec -i` does with its input.
async fn join(client: OnUpgrade, other: OnUpgrade) {
    let (client, other) = match futures_util::future::try_join(client, other).await {
        Ok(both) => both,
        Err(error) => return debug!(%error, "an upgrade that did not happen"),
    };
    let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(other)).await;
    if let Err(error) = copied {
        debug!(%error, "an attached stream broke off");
    }
}
