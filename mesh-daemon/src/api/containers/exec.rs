//! One more program in a container: made, then started with the client's connection as its input and output.
//!
//! What was made is remembered, with its exit code, until there are too many: then those that ended longest ago
//! are forgotten.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Request, State as AxumState};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tracing::debug;

use super::output::output_of;
use super::{Api, find_running, hijack};
use crate::api::error::Error;
use crate::api::query::Params;
use crate::api::stream as framing;
use crate::api::version::Version;
use crate::api::{Shared, body, events, refusal, wire};
use crate::runtime::{ContainerId, Exec, ExecSession, Size, Status};

/// How many are remembered.
const MAX_EXECS: usize = 1024;

/// Of a terminal whose size nobody said.
const SIZE: Size = Size { rows: 24, columns: 80 };

/// Input is read in pieces of this size.
const PIECE: usize = 16 << 10;

/// What was made, by id.
#[derive(Default)]
pub(in crate::api) struct Execs(Mutex<BTreeMap<String, Made>>);

/// One exec.
struct Made {
    /// Which was made when.
    number: u64,
    container: Status,
    wanted: Exec,
    phase: Phase,
}

enum Phase {
    Made,
    Runs(Option<mpsc::Sender<Size>>),
    Ended(i32),
}

impl Execs {
    fn all(&self) -> MutexGuard<'_, BTreeMap<String, Made>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of a container.
    pub(super) fn of(&self, container: &ContainerId) -> Vec<String> {
        let all = self.all();
        all.iter().filter(|(_, made)| made.container.id == *container).map(|(id, _)| id.clone()).collect()
    }

    fn add(&self, id: String, container: Status, wanted: Exec) -> Result<(), Error> {
        let mut all = self.all();
        if all.len() >= MAX_EXECS {
            let idle = all.iter().filter(|(_, made)| !matches!(made.phase, Phase::Runs(_)));
            let oldest = idle.min_by_key(|(_, made)| made.number).map(|(id, _)| id.clone());
            let oldest =
                oldest.ok_or_else(|| Error::unavailable(format!("{MAX_EXECS} programs run by exec already")))?;
            all.remove(&oldest);
        }
        let number = all.values().map(|made| made.number + 1).max().unwrap_or(0);
        all.insert(id, Made { number, container, wanted, phase: Phase::Made });
        Ok(())
    }

    /// Takes the right to start one.
    fn begin(&self, id: &str) -> Result<(Status, Exec), Error> {
        let mut all = self.all();
        let made = all.get_mut(id).ok_or_else(|| absent(id))?;
        if !matches!(made.phase, Phase::Made) {
            let message = format!("exec {id} was started already");
            return Err(Error::Refused { status: StatusCode::CONFLICT, message });
        }
        made.phase = Phase::Runs(None);
        Ok((made.container.clone(), made.wanted.clone()))
    }

    fn set(&self, id: &str, phase: Phase) {
        if let Some(made) = self.all().get_mut(id) {
            made.phase = phase;
        }
    }

    /// Sets its exit code; whose program it was.
    fn end(&self, id: &str, code: i32) -> Option<Status> {
        let mut all = self.all();
        let made = all.get_mut(id)?;
        made.phase = Phase::Ended(code);
        Some(made.container.clone())
    }
}

fn absent(id: &str) -> Error {
    Error::Refused { status: StatusCode::NOT_FOUND, message: format!("No such exec instance: {id}") }
}

pub(in crate::api) async fn create(
    AxumState(api): Api,
    Path(name): Path<String>,
    request: Body,
) -> Result<(StatusCode, Json<wire::ExecCreated>), Error> {
    let wanted: wire::ExecCreateRequest = body::parse(&body::read(request).await?)?;
    if wanted.cmd.is_empty() {
        return Err(Error::bad("No exec command specified"));
    }
    if wanted.privileged {
        return Err(Error::bad(
            "a program in a container has no more rights than the container: --privileged is not served",
        ));
    }
    let one = find_running(&api, &name).await?;
    let size = wanted.console_size.map(|[rows, columns]| Size { rows, columns }).filter(|size| size.rows > 0);
    let exec = Exec {
        command: wanted.cmd,
        env: wanted.env.unwrap_or_default(),
        user: wanted.user,
        dir: wanted.working_dir,
        tty: wanted.tty.then(|| size.unwrap_or(SIZE)),
        stdin: wanted.attach_stdin,
    };
    let id = format!("{:032x}{:032x}", api.cluster.random(), api.cluster.random());
    let event = format!("exec_create: {} ", exec.command.join(" "));
    api.execs.add(id.clone(), one.clone(), exec)?;
    tell(&api, &one, &event, &[("execID", id.clone())]);
    Ok((StatusCode::CREATED, Json(wire::ExecCreated { id, ..wire::ExecCreated::default() })))
}

/// Starts what was made. With an upgrade the connection becomes its input and output; without one, its output
/// is the answer.
pub(in crate::api) async fn start(
    AxumState(api): Api,
    Path(id): Path<String>,
    Extension(version): Extension<Version>,
    mut request: Request,
) -> Result<Response, Error> {
    let upgrade = if request.headers().contains_key(header::UPGRADE) {
        let place = api.attach()?;
        Some((hyper::upgrade::on(&mut request), place))
    } else {
        None
    };
    let how: wire::ExecStartRequest = body::parse(&body::read(request.into_body()).await?)?;
    let (container, wanted) = api.execs.begin(&id)?;
    let tty = wanted.tty.is_some();
    tell(&api, &container, &format!("exec_start: {} ", wanted.command.join(" ")), &[("execID", id.clone())]);
    let session = api.runtime().exec(&container.id, wanted).await.map_err(|error| {
        api.execs.set(&id, Phase::Ended(NOT_STARTED));
        refusal(&error)
    })?;
    api.execs.set(&id, Phase::Runs(Some(session.resize.clone())));
    if how.detach {
        let shared = Arc::clone(&api);
        api.tasks.spawn(async move { run(&shared, &id, session, tty, tokio::io::empty(), tokio::io::sink()).await });
        return Ok(StatusCode::OK.into_response());
    }
    match upgrade {
        Some((upgrade, place)) => {
            let shared = Arc::clone(&api);
            api.tasks.spawn(async move {
                attached(&shared, &id, session, tty, upgrade).await;
                drop(place);
            });
            Ok(hijack())
        }
        None => Ok(told(api, id, session, version, tty)),
    }
}

/// The exit code of what could not be started.
const NOT_STARTED: i32 = 126;

async fn attached(api: &Shared, id: &str, session: ExecSession, tty: bool, upgrade: OnUpgrade) {
    match upgrade.await {
        Ok(client) => {
            let (from, to) = tokio::io::split(TokioIo::new(client));
            run(api, id, session, tty, from, to).await;
        }
        Err(error) => {
            debug!(%error, "an exec whose client went away");
            run(api, id, session, tty, tokio::io::empty(), tokio::io::sink()).await;
        }
    }
}

/// Carries input and output until the program has ended. Its exit code is known before the client sees the
/// end of its output, for then it asks.
async fn run(
    api: &Shared,
    id: &str,
    session: ExecSession,
    tty: bool,
    from: impl AsyncRead + Send + Unpin,
    mut to: impl AsyncWrite + Send + Unpin,
) {
    let ExecSession { input, mut output, resize: _, exit } = session;
    let program = async {
        let mut client_listens = true;
        while let Some(piece) = output.next().await {
            let Ok(piece) = piece else { break };
            let bytes = if tty { piece.bytes } else { framing::frame(output_of(piece.stream), &piece.bytes) };
            // A client that has gone does not end the program.
            client_listens = client_listens && to.write_all(&bytes).await.is_ok() && to.flush().await.is_ok();
        }
        end(api, id, exit.await);
        let _ = to.shutdown().await;
    };
    tokio::pin!(program);
    tokio::select! {
        () = &mut program => return,
        () = feed(input, from) => {}
    }
    program.await;
}

/// Copies a client's input; its end is the program's end of input.
async fn feed<I: AsyncWrite + Send + ?Sized>(
    input: Option<std::pin::Pin<Box<I>>>,
    mut from: impl AsyncRead + Send + Unpin,
) {
    let Some(mut input) = input else { return };
    let mut piece = vec![0; PIECE];
    loop {
        match from.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if input.write_all(&piece[..length]).await.is_err() || input.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

fn end(api: &Shared, id: &str, exit: Result<i32, crate::runtime::RuntimeError>) {
    let code = exit.unwrap_or_else(|error| {
        debug!(%error, "an exec did not start");
        NOT_STARTED
    });
    if let Some(one) = api.execs.end(id, code) {
        tell(api, &one, "exec_die", &[("execID", id.to_owned()), ("exitCode", code.to_string())]);
    }
}

/// For `docker events`.
fn tell(api: &Shared, one: &Status, action: &str, more: &[(&str, String)]) {
    api.events.add(events::container(one, action, more, api.cluster.now()));
}

/// The output alone, as an answer.
fn told(api: Arc<Shared>, id: String, session: ExecSession, version: Version, tty: bool) -> Response {
    let ExecSession { input, output, resize, exit } = session;
    drop((input, resize));
    let pieces = output.map(|piece| piece.map(|piece| (output_of(piece.stream), piece.bytes)));
    let last = stream::once(async move { end(&api, &id, exit.await) });
    let last = last.filter_map(|()| async { None::<Result<(framing::Output, Bytes), io::Error>> });
    framing::answer(pieces.chain(last), version, tty)
}

pub(in crate::api) async fn resize(
    AxumState(api): Api,
    Path(id): Path<String>,
    params: Params,
) -> Result<StatusCode, Error> {
    let number = |name: &str| {
        let number = params.get(name).and_then(|text| text.parse::<u16>().ok());
        number.ok_or_else(|| Error::bad(format!("the size of a terminal is missing, or no number: {name}")))
    };
    let size = Size { rows: number("h")?, columns: number("w")? };
    let sender = match api.execs.all().get(&id).ok_or_else(|| absent(&id))?.phase {
        Phase::Runs(Some(ref sender)) => sender.clone(),
        Phase::Made | Phase::Runs(None) | Phase::Ended(_) => {
            return Err(Error::Refused { status: StatusCode::CONFLICT, message: format!("exec {id} does not run") });
        }
    };
    // One that is full gets a newer size soon, one that is closed has no terminal.
    let _ = sender.try_send(size);
    Ok(StatusCode::OK)
}

pub(in crate::api) async fn inspect(
    AxumState(api): Api,
    Path(id): Path<String>,
) -> Result<Json<wire::ExecDetails>, Error> {
    let all = api.execs.all();
    let made = all.get(&id).ok_or_else(|| absent(&id))?;
    let mut words = made.wanted.command.iter().cloned();
    Ok(Json(wire::ExecDetails {
        id,
        running: matches!(made.phase, Phase::Runs(_)),
        exit_code: match made.phase {
            Phase::Ended(code) => Some(code),
            Phase::Made | Phase::Runs(_) => None,
        },
        process_config: wire::ExecProcess {
            tty: made.wanted.tty.is_some(),
            entrypoint: words.next().unwrap_or_default(),
            arguments: words.collect(),
            ..wire::ExecProcess::default()
        },
        open_stdin: made.wanted.stdin,
        open_stderr: true,
        open_stdout: true,
        container_id: made.container.id.to_string(),
        ..wire::ExecDetails::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_ended_are_forgotten_first_and_those_that_run_never() {
        let execs = Execs::default();
        let one = Status {
            id: ContainerId("c".to_owned()),
            task: None,
            name: String::new(),
            labels: Default::default(),
            image: String::new(),
            image_id: String::new(),
            command: vec![],
            ports: vec![],
            tty: false,
            created: jiff::Timestamp::UNIX_EPOCH,
            state: crate::runtime::State::Created,
            health: crate::runtime::Health::None,
        };
        let add = |id: &str| execs.add(id.to_owned(), one.clone(), Exec::default());
        for number in 0..MAX_EXECS {
            add(&format!("{number}")).unwrap();
            execs.begin(&format!("{number}")).unwrap();
        }
        assert_eq!(add("more").unwrap_err().status().as_u16(), 503);
        execs.set("7", Phase::Ended(0));
        add("more").unwrap();
        assert!(execs.begin("7").is_err(), "it is forgotten");
        assert_eq!(execs.begin("8").unwrap_err().status().as_u16(), 409, "it runs");
        assert!(execs.begin("more").is_ok());
        assert_eq!(execs.of(&ContainerId("c".to_owned())).len(), MAX_EXECS);
    }
}
