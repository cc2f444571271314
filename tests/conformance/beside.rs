//! One script of docker commands on a mesh node and on a real Swarm beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::dockerd::Dockerd;
use harness::image;
use harness::nodes::Nodes;
use harness::outcome::{Outcome, comparable};
use harness::process::Cmd;
use harness::{Netns, Plan};

use crate::report::Report;

/// What is typed, a line each. `!until SERVICE N` waits on both until so many tasks run; `# why` before a line
/// explains that it differs.
const SCRIPT: &str = include_str!("script.txt");

/// What tasks are made of.
const IMAGE: &str = "shell:1";

/// Time for tasks to run.
const SOON: Duration = Duration::from_secs(60);

/// One of the two.
struct Side<'a> {
    ns: &'a Netns,
    host: String,
    folder: &'a Path,
}

impl Side<'_> {
    fn command(&self, line: &str) -> Cmd {
        let (command, input) = line.split_once(" < ").map_or((line, None), |(line, input)| (line, Some(input)));
        let argv = std::iter::once("docker".to_owned()).chain(words(command));
        let mut command = self.ns.command(argv).dir(self.folder).limit(Duration::from_secs(90));
        command = command.env("DOCKER_HOST", &self.host).env("DOCKER_API_VERSION", "1.41");
        command = command.env("DOCKER_CONFIG", self.folder.join("config"));
        match input {
            Some(input) => command.input(format!("{input}\n").as_bytes()),
            None => command,
        }
    }

    fn run(&self, line: &str) -> Result<Outcome> {
        Ok(Outcome::from(&self.command(line).attempt()?))
    }

    fn until(&self, service: &str, tasks: usize) -> Result<()> {
        let begun = Instant::now();
        let line = format!("service ps {service} --filter desired-state=running --format {{{{.CurrentState}}}}");
        loop {
            let states = self.run(&line)?;
            if states.out.lines().filter(|state| state.starts_with("Running")).count() == tasks {
                return Ok(());
            }
            ensure!(begun.elapsed() < SOON, "{}: not {tasks} tasks of {service}: {}", self.host, states.out);
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Words as a shell splits them, with quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for letter in line.chars() {
        match (quote, letter) {
            (Some(end), letter) if letter == end => quote = None,
            (None, '\'' | '"') => quote = Some(letter),
            (None, ' ') => words.push(String::new()),
            (_, letter) => {
                if let Some(word) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    words
}

/// Plays the script on both.
pub(crate) fn play() -> Result<Report> {
    let image = image::shell(IMAGE)?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    image.write_tar(std::fs::File::create(&archive)?)?;
    std::fs::write(folder.path().join("stack.yml"), include_str!("stack.yml"))?;
    let nodes = Nodes::start(&Plan { nodes: 1, clients: 0, ..Plan::default() }, &image)?;
    let dockerd = Dockerd::start()?;
    dockerd.load(&archive)?;
    let ours = Side {
        ns: nodes.nodes[0].ns(),
        host: format!("unix://{}", nodes.nodes[0].socket().display()),
        folder: folder.path(),
    };
    let theirs = Side {
        ns: &dockerd.bed.nodes[0].ns,
        host: format!("unix://{}", dockerd.socket().display()),
        folder: folder.path(),
    };
    let mut report = Report::default();
    match script(&ours, &theirs, &mut report) {
        Ok(played) => println!("{played} commands, each on dockerd and on mesh"),
        Err(error) => {
            // What was compared until then says why.
            report.print();
            return Err(error);
        }
    }
    Ok(report)
}

/// The script; how many commands it had.
fn script(ours: &Side<'_>, theirs: &Side<'_>, report: &mut Report) -> Result<usize> {
    let mut reason = None;
    let mut played = 0;
    for line in SCRIPT.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(why) = line.strip_prefix("# ") {
            reason = Some(why);
        } else if let Some(wait) = line.strip_prefix("!until ") {
            let (service, tasks) = wait.split_once(' ').context("!until SERVICE N")?;
            ours.until(service, tasks.parse()?)?;
            theirs.until(service, tasks.parse()?)?;
        } else {
            played += 1;
            let (real, mesh) = (theirs.run(line)?, ours.run(line)?);
            // Names that the comparison knows: which lines have no order, and where nodes are chance.
            let name = if line.starts_with("stack") { "stack-" } else { "" };
            report.add(line, &comparable(name, &real), &comparable(name, &mesh), reason.take());
        }
    }
    Ok(played)
}
