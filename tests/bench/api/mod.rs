//! How long the Docker API takes to answer with a hundred tasks, beside Debian's dockerd with the same tasks. Both
//! are one manager that runs everything, on a machine of its own, and take turns request by request.

mod asking;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use harness::dockerd::Dockerd;
use harness::nodes::Nodes;
use harness::{Netns, Plan, image};

use crate::{Effort, stats};

const IMAGE: &str = "shell:1";
const SERVICES: usize = 10;
const REPLICAS: usize = 10;
/// Clients that ask at once.
const CROWD: usize = 500;
/// Time for a hundred tasks to run.
const SOON: Duration = Duration::from_secs(180);

/// What clients ask most.
const PATHS: [&str; 8] = [
    "/_ping",
    "/v1.41/tasks",
    "/v1.41/services?status=true",
    "/v1.41/services/s3",
    "/v1.41/nodes",
    "/v1.41/networks",
    "/v1.41/info",
    "/v1.41/containers/json",
];

/// What people type most.
const COMMANDS: [&[&str]; 2] = [&["service", "ls"], &["service", "ps", "s3"]];

/// One of the two.
struct Side {
    ns: Netns,
    socket: PathBuf,
}

impl Side {
    fn docker(&self, arguments: &[&str]) -> Result<String> {
        let argv = [&["docker"], arguments].concat();
        let host = format!("unix://{}", self.socket.display());
        let command = self.ns.command(argv).env("DOCKER_HOST", host).env("DOCKER_API_VERSION", "1.41");
        Ok(command.limit(SOON).run()?.stdout)
    }

    /// A hundred tasks, all of them in a network, each with a line of output.
    fn fill(&self) -> Result<()> {
        self.docker(&["network", "create", "--driver", "overlay", "back"])?;
        let said = String::from_utf8_lossy(asking::OUTPUT);
        let script = format!("echo {said}; exec sleep 100000");
        let replicas = REPLICAS.to_string();
        for number in 0..SERVICES {
            let name = format!("s{number}");
            let create = ["service", "create", "--detach", "--quiet", "--no-resolve-image", "--network", "back"];
            let what = ["--name", &name, "--replicas", &replicas, IMAGE, "sh", "-c", &script];
            self.docker(&[&create[..], &what].concat())?;
        }
        Ok(())
    }

    fn until_filled(&self) -> Result<()> {
        let begun = Instant::now();
        let full = format!("{REPLICAS}/{REPLICAS}");
        loop {
            let replicas = self.docker(&["service", "ls", "--format", "{{.Replicas}}"])?;
            if replicas.lines().filter(|line| *line == full).count() == SERVICES {
                return Ok(());
            }
            ensure!(begun.elapsed() < SOON, "not all tasks run at {}:\n{replicas}", self.socket.display());
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn tasks(&self) -> Result<Vec<String>> {
        let tasks: serde_json::Value = serde_json::from_str(&asking::body(&self.socket, "/v1.41/tasks")?)?;
        let ids = tasks.as_array().context("no list of tasks")?.iter().filter_map(|task| task["ID"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }
}

/// A row: what was asked, and how long both took.
struct Row {
    what: String,
    theirs: Vec<Duration>,
    ours: Vec<Duration>,
}

impl Row {
    /// So many times, in turns.
    fn of(
        what: impl Into<String>,
        rounds: usize,
        both: [&Side; 2],
        act: impl Fn(&Side) -> Result<Duration>,
    ) -> Result<Self> {
        let what = what.into();
        let [theirs, ours] = both;
        let mut row = Self { what, theirs: Vec::new(), ours: Vec::new() };
        for _ in 0..rounds {
            row.theirs.push(act(theirs).with_context(|| format!("dockerd: {}", row.what))?);
            row.ours.push(act(ours).with_context(|| format!("mesh: {}", row.what))?);
        }
        Ok(row)
    }

    fn markdown(self) -> String {
        let figures = |all: &[Duration]| {
            let ms: Vec<_> = all.iter().map(|took| took.as_secs_f64() * 1e3).collect();
            [stats::median(&ms), stats::percentile(&ms, 99)]
        };
        let ([their_median, their_last], [median, last]) = (figures(&self.theirs), figures(&self.ours));
        format!(
            "| {} | {} | {their_median:.2} | {their_last:.2} | {median:.2} | {last:.2} | {:.2} | {:.2} |\n",
            self.what,
            self.ours.len(),
            median / their_median,
            last / their_last
        )
    }
}

/// The table, in Markdown.
pub(crate) fn run(effort: Effort) -> Result<String> {
    let image = image::shell(IMAGE)?;
    let folder = tempfile::tempdir()?;
    let archive = folder.path().join("image.tar");
    image.write_tar(std::fs::File::create(&archive)?)?;
    let nodes = Nodes::start(&Plan { nodes: 1, clients: 0, ..Plan::default() }, &image)?;
    let dockerd = Dockerd::start()?;
    dockerd.load(&archive)?;
    let theirs = Side { ns: dockerd.bed.nodes[0].ns.clone(), socket: dockerd.socket() };
    let ours = Side { ns: nodes.nodes[0].ns().clone(), socket: nodes.nodes[0].socket() };
    theirs.docker(&["swarm", "init", "--advertise-addr", &dockerd.bed.nodes[0].ip4.to_string()])?;
    nodes.form(1)?;
    for side in [&theirs, &ours] {
        side.fill()?;
        side.until_filled()?;
    }
    let rows = measure(effort, [&theirs, &ours])?;
    let head = "| asked | times | dockerd p50, ms | p99 | mesh p50, ms | p99 | ratio p50 | ratio p99 |\n|---|---|---|---|---|---|---|---|\n";
    let rows = rows.into_iter().map(Row::markdown).collect::<String>();
    Ok(format!("{head}{rows}"))
}

fn measure(effort: Effort, both: [&Side; 2]) -> Result<Vec<Row>> {
    let rounds = effort.of(300, 50);
    let mut rows = Vec::new();
    for path in PATHS {
        rows.push(Row::of(format!("`GET {path}`"), rounds, both, |side| asking::get(&side.socket, path))?);
    }
    for command in COMMANDS {
        let what = format!("`docker {}`, the program and all", command.join(" "));
        rows.push(Row::of(what, effort.of(30, 5), both, |side| {
            let begun = Instant::now();
            side.docker(command).map(|_| begun.elapsed())
        })?);
    }
    let mut crowds = Row { what: format!("{CROWD} `service ls` at once, each"), theirs: Vec::new(), ours: Vec::new() };
    for _ in 0..effort.of(5, 1) {
        crowds.theirs.extend(asking::crowd(&both[0].socket, CROWD).context("dockerd: a crowd")?);
        crowds.ours.extend(asking::crowd(&both[1].socket, CROWD).context("mesh: a crowd")?);
    }
    rows.push(crowds);
    let follow = |side: &Side| asking::follow(&side.socket, &side.tasks()?);
    let (theirs, their_streams) = follow(both[0]).context("dockerd: followed output")?;
    let (ours, our_streams) = follow(both[1]).context("mesh: followed output")?;
    rows.push(Row { what: "output of 100 tasks followed at once, first line of each".to_owned(), theirs, ours });
    let what = "`GET /v1.41/tasks`, while they are followed";
    rows.push(Row::of(what, rounds, both, |side| asking::get(&side.socket, "/v1.41/tasks"))?);
    drop((their_streams, our_streams));
    Ok(rows)
}
