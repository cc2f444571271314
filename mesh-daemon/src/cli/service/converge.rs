//! Waits until a service is as it should be, and says how far it is.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::super::client::{Client, filters, is_not_found};
use super::super::each;
use super::super::table::to_stdout;
use crate::api::wire;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(200);

/// How long tasks must go on running, unless the service says otherwise.
const MONITOR: Duration = Duration::from_secs(5);

/// Slots that get a bar of their own.
const MAX_BARS: usize = 20;

/// Steps of a task, in order: a bar is as long as this list.
const STEPS: [&str; 9] =
    ["new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running"];

/// Waits for a service; Ok when it has converged.
pub(in crate::cli) fn wait(client: &Client, id: &str, quiet: bool) -> Result<()> {
    let mut screen = Screen::new(quiet);
    let mut stable_since: Option<Instant> = None;
    loop {
        let service: wire::Service = match client.get(&format!("/services/{id}")) {
            Err(error) if is_not_found(&error) => return Err(each::bare(format!("service {id} was removed"))),
            other => other?,
        };
        let tasks: Vec<wire::Task> =
            client.get(&format!("/tasks{}", filters(&[("service", id), ("_up-to-date", "true")])))?;
        if is_job_done(&service, &tasks) {
            return screen.end("job complete");
        }
        let update = service.update_status.clone().unwrap_or_default();
        match update.state.as_str() {
            "paused" => return Err(each::bare(format!("service update paused: {}", update.message))),
            "rollback_paused" => return Err(each::bare(format!("service rollback paused: {}", update.message))),
            _ => {}
        }
        let (running, wanted) = count(client, &service, &tasks)?;
        let verb = if update.state.starts_with("rollback") { "rolling back update: " } else { "" };
        screen.show(&format!("overall progress: {verb}{running} out of {wanted} tasks"), &tasks, wanted)?;
        if running < wanted {
            stable_since = None;
        } else {
            let since = *stable_since.get_or_insert_with(Instant::now);
            let monitor = monitor(&service);
            let done =
                since.elapsed() >= monitor || update.state == "completed" || update.state == "rollback_completed";
            if done {
                return screen.end(&format!("verify: Service {} converged", service.spec.name));
            }
            let left = (monitor - since.elapsed()).as_secs() + 1;
            screen.say(&format!("verify: Waiting {left} seconds to verify that tasks are stable..."))?;
        }
        std::thread::sleep(PERIOD);
    }
}

fn monitor(service: &wire::Service) -> Duration {
    let nanos = service.spec.update_config.as_ref().map_or(0, |update| update.monitor);
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map_or(MONITOR, Duration::from_nanos)
}

fn is_job_done(service: &wire::Service, tasks: &[wire::Task]) -> bool {
    let Some(job) = &service.spec.mode.replicated_job else { return false };
    let iteration = service.job_status.as_ref().map(|status| &status.job_iteration);
    let done = tasks.iter().filter(|task| task.status.state == "complete" && task.job_iteration.as_ref() == iteration);
    done.count() as u64 >= job.total_completions.unwrap_or(1)
}

/// How many run, and how many should.
fn count(client: &Client, service: &wire::Service, tasks: &[wire::Task]) -> Result<(u64, u64)> {
    let running = tasks.iter().filter(|task| task.status.state == "running" && task.desired_state == "running");
    let running = running.count() as u64;
    let wanted = match &service.spec.mode.replicated {
        Some(replicated) => replicated.replicas.unwrap_or(1),
        None => {
            let nodes: Vec<wire::Node> = client.get("/nodes")?;
            let there = |node: &&wire::Node| node.status.state != "down";
            let there: Vec<_> = nodes.iter().filter(there).map(|node| &node.id).collect();
            tasks.iter().filter(|task| there.contains(&&task.node_id)).count() as u64
        }
    };
    Ok((running, wanted))
}

/// Bars on a terminal, lines elsewhere, nothing if asked to be quiet.
enum Screen {
    Quiet,
    Lines { last: String },
    Bars { all: MultiProgress, head: ProgressBar, slots: Vec<ProgressBar> },
}

impl Screen {
    fn new(quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !std::io::stdout().is_terminal() {
            return Self::Lines { last: String::new() };
        }
        let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
        let head = all.add(ProgressBar::no_length().with_style(text_only()));
        Self::Bars { all, head, slots: Vec::new() }
    }

    fn show(&mut self, overall: &str, tasks: &[wire::Task], wanted: u64) -> Result<()> {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if let Self::Bars { all, slots, .. } = self {
            while slots.len() < wanted.min(MAX_BARS) {
                let bar = all.add(ProgressBar::new(STEPS.len() as u64).with_style(bar()));
                bar.set_prefix(format!("{}/{wanted}: ", slots.len() + 1));
                slots.push(bar);
            }
            for (bar, task) in slots.iter().zip(tasks) {
                let step = STEPS.iter().position(|step| *step == task.status.state).map_or(0, |at| at + 1);
                bar.set_position(step as u64);
                bar.set_message(if task.status.err.is_empty() {
                    task.status.state.clone()
                } else {
                    cut(&task.status.err)
                });
            }
        }
        self.say(overall)
    }

    /// One line; the same twice is said once.
    fn say(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Quiet => Ok(()),
            Self::Bars { head, .. } => {
                head.set_message(text.to_owned());
                Ok(())
            }
            Self::Lines { last } if last == text => Ok(()),
            Self::Lines { last } => {
                text.clone_into(last);
                to_stdout(|out| Ok(writeln!(out, "{text}")?))
            }
        }
    }

    fn end(&mut self, text: &str) -> Result<()> {
        self.say(text)?;
        if let Self::Bars { head, slots, .. } = self {
            slots.iter().for_each(ProgressBar::abandon);
            head.abandon();
        }
        Ok(())
    }
}

/// An error beside a bar is cut to this.
const MAX_ERROR: usize = 75;

fn cut(error: &str) -> String {
    error.chars().take(MAX_ERROR).collect()
}

fn text_only() -> ProgressStyle {
    ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn bar() -> ProgressStyle {
    let style = ProgressStyle::with_template("{prefix}{msg:<12} [{bar:50}]");
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}
