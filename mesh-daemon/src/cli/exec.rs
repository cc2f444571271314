//! `meshctl exec`: one more program in a container of the node that is asked.

use std::io::{IsTerminal as _, Read as _, Write as _};

use anyhow::{Context as _, Result};
use hyper_util::rt::TokioIo;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::client::Client;
use super::container;
use super::each::{Ended, bare};
use super::frames::Frames;
use crate::api::wire;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Give it what is typed.
    #[arg(short, long)]
    interactive: bool,
    /// Give it a terminal.
    #[arg(short, long)]
    tty: bool,
    /// Do not wait for it.
    #[arg(short, long)]
    detach: bool,
    /// NAME=VALUE in its environment.
    #[arg(short, long)]
    env: Vec<String>,
    /// `user[:group]`.
    #[arg(short, long, default_value = "")]
    user: String,
    /// Where it begins.
    #[arg(short, long, default_value = "")]
    workdir: String,
    /// The container: by name, by id, or by its task, as web.1.
    container: String,
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// A piece of input.
const PIECE: usize = 16 << 10;
/// Pieces of input that wait.
const PIECES: usize = 16;

pub(super) fn run(client: &Client, args: &Args) -> Result<()> {
    if args.tty && args.interactive && !std::io::stdin().is_terminal() {
        return Err(bare("the input device is not a TTY"));
    }
    let found = container::find(client, &args.container)?;
    let size = if args.tty { window() } else { None };
    let wanted = wire::ExecCreateRequest {
        user: args.user.clone(),
        tty: args.tty,
        attach_stdin: args.interactive,
        attach_stdout: !args.detach,
        attach_stderr: !args.detach,
        env: Some(args.env.clone()),
        working_dir: args.workdir.clone(),
        cmd: args.command.clone(),
        console_size: size,
        ..wire::ExecCreateRequest::default()
    };
    let made: wire::ExecCreated = client.post(&format!("/containers/{}/exec", found.id), &wanted)?;
    let start = wire::ExecStartRequest {
        detach: args.detach,
        tty: args.tty,
        console_size: size,
        ..wire::ExecStartRequest::default()
    };
    let path = format!("/exec/{}", made.id);
    if args.detach {
        return client.post_empty(&format!("{path}/start"), &start);
    }
    let raw = if args.tty && args.interactive { Some(Raw::begin()?) } else { None };
    let talked =
        client.converse(&format!("{path}/start"), &start, async |stream| talk(client, &path, stream, args).await);
    drop(raw);
    talked?;
    let ended: wire::ExecDetails = client.get(&format!("{path}/json"))?;
    match ended.exit_code {
        Some(0) => Ok(()),
        Some(code) => Err(Ended(u8::try_from(code).unwrap_or(1)).into()),
        None => Err(bare("the connection ended before the program did, which may still run")),
    }
}

/// Passes on what is typed and what is written, until the program has ended.
async fn talk(client: &Client, path: &str, stream: TokioIo<hyper::upgrade::Upgraded>, args: &Args) -> Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let typed = args.interactive.then(input);
    // Beside what is written: a program that waits for its output to be read may read no input until then.
    let feed = async {
        if let Some(mut typed) = typed {
            while let Some(bytes) = typed.recv().await {
                if to.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            // Who has ended reads no more; how it ended is told where its output ends.
            let _ = to.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    tokio::pin!(feed);
    let mut resized = signal(SignalKind::window_change()).context("follow the terminal's size")?;
    let mut frames = Frames::default();
    let mut piece = vec![0; PIECE];
    loop {
        tokio::select! {
            read = from.read(&mut piece) => {
                let length = read.context("read what the program writes")?;
                if length == 0 {
                    return Ok(());
                }
                if args.tty {
                    write(1, &piece[..length])?;
                } else {
                    frames.take(&piece[..length], write)?;
                }
            }
            () = &mut feed => {}
            Some(()) = resized.recv(), if args.tty => {
                if let Some([rows, columns]) = window() {
                    // A program that has ended has no terminal to size.
                    let _ = client.post_async(&format!("{path}/resize?h={rows}&w={columns}")).await;
                }
            }
        }
    }
}

/// Reads standard input on a thread of its own: such a read cannot be called off, and ends with the process.
fn input() -> mpsc::Receiver<Vec<u8>> {
    let (give, take) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut piece = vec![0; PIECE];
        while let Ok(length) = stdin.read(&mut piece)
            && length > 0
            && give.blocking_send(piece[..length].to_vec()).is_ok()
        {}
    });
    take
}

fn write(output: u8, bytes: &[u8]) -> Result<()> {
    let written = if output == 2 {
        std::io::stderr().lock().write_all(bytes)
    } else {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush())
    };
    written.context("print what the program writes")
}

/// Rows and columns of this terminal.
fn window() -> Option<[u16; 2]> {
    let size = termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_row > 0).then_some([size.ws_row, size.ws_col])
}

/// While it lives, the terminal passes every key on as it is.
struct Raw(Termios);

impl Raw {
    fn begin() -> Result<Self> {
        let before = termios::tcgetattr(std::io::stdin()).context("read the settings of the terminal")?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).context("set the terminal")?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
