//! Runs one test command: shows its output as it comes, keeps the lines in which the test programs
//! sum up, and ends the whole process group when its time is over.

use crate::command;
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// How many tests did what, and the runner's own lines that say so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) passed: u64,
    pub(super) failed: u64,
    pub(super) ignored: u64,
    pub(super) lines: Vec<String>,
}

impl Summary {
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.ignored += other.ignored;
        self.lines.extend(other.lines);
    }

    /// Takes in a line of output if it is one that sums up.
    fn read(&mut self, line: &str) {
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let part = counts.split([';', '.']).map(str::trim).find_map(|part| part.strip_suffix(what));
            part.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        self.passed += count(" passed");
        self.failed += count(" failed");
        self.ignored += count(" ignored");
        self.lines.push(line.to_owned());
    }
}

/// Runs the command to its end or for `limit`; an error if it failed or ran out of time.
pub(super) fn run(mut command: Command, limit: Duration, summary: &mut Summary) -> Result<()> {
    println!("  $ {}", command::shown(&command));
    // A group of its own: a test that hangs is ended together with the daemons it started.
    let mut child = command
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start `{}`", command::shown(&command)))?;
    let lines = child.stdout.take().map(lines_of).context("the test command has no output")?;
    let status = follow(&mut child, &lines, limit, summary)?;
    match status {
        Some(status) => command::expect_success(&command, status),
        None => bail!("`{}` did not end within {} s and was killed", command::shown(&command), limit.as_secs()),
    }
}

/// Shows lines until the child ends; kills it at the limit and then returns no status.
fn follow(
    child: &mut Child,
    lines: &Receiver<String>,
    limit: Duration,
    summary: &mut Summary,
) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    let mut show = |line: String| {
        summary.read(&line);
        println!("{line}");
    };
    loop {
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => show(line),
            // Not the end of the pipe: a daemon that outlives its test keeps it open.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                if let Some(status) = child.try_wait().context("wait for the test command")? {
                    while let Ok(line) = lines.recv_timeout(Duration::from_millis(50)) {
                        show(line);
                    }
                    std::io::stdout().flush().context("write to standard output")?;
                    return Ok(Some(status));
                }
            }
        }
        if Instant::now() > deadline {
            kill_group(child).context("end a test command that hangs")?;
            return Ok(None);
        }
    }
}

fn kill_group(child: &mut Child) -> Result<()> {
    let group = i32::try_from(child.id()).context("a process number that is none")?;
    killpg(Pid::from_raw(group), Signal::SIGKILL)?;
    child.wait()?;
    Ok(())
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_lines_that_sum_up_are_counted_and_kept() {
        let line = "test result: FAILED. 12 passed; 2 failed; 3 ignored; 0 measured; 4 filtered out; finished in 0.31s";
        let mut summary = Summary::default();
        run(shell(&format!("echo running 17 tests; echo '{line}'")), Duration::from_secs(20), &mut summary).unwrap();
        assert_eq!(summary, Summary { passed: 12, failed: 2, ignored: 3, lines: vec![line.to_owned()] });
    }

    #[test]
    fn a_command_that_fails_is_an_error_and_its_lines_count() {
        let mut summary = Summary::default();
        let script = "echo 'test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured'; exit 101";
        let error = run(shell(script), Duration::from_secs(20), &mut summary).unwrap_err();
        assert!(error.to_string().contains("101"), "{error}");
        assert_eq!(summary.failed, 1);
    }

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let error =
            run(shell("sleep 600 & sleep 600"), Duration::from_millis(200), &mut Summary::default()).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }

    #[test]
    fn a_process_left_behind_does_not_hold_the_runner() {
        let start = Instant::now();
        run(shell("sleep 15 &"), Duration::from_secs(20), &mut Summary::default()).unwrap();
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
