//! Containers and images of a node, as the docker CLI sees them: a real node with the embedded runtime, a service
//! of real containers.

use harness::image::{Image, ImagePlan};
use harness::nodes::{Node, Nodes};
use harness::{Output, Plan, image};

/// It says who it is on both outputs, and ends when told.
const TALKS: &str = "trap 'exit 0' TERM; echo start >&2; sleep 0.5; for i in 0 1 2; do echo line $i; done; while true; do sleep 0.1; done";

/// An image with busybox as its shell.
pub(super) fn shell() -> Image {
    let busybox = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    let file = |name: &str| (name.to_owned(), busybox.clone(), 0o755);
    Image::pack(&ImagePlan {
        reference: "shell:1".to_owned(),
        files: ["bin/sh", "bin/sleep", "bin/cat", "bin/tty", "bin/stty"].map(file).to_vec(),
        exposed_ports: vec!["80/tcp".to_owned()],
        ..ImagePlan::default()
    })
    .unwrap()
}

pub(super) fn attempt(node: &Node, arguments: &[&str]) -> Output {
    node.command(arguments).attempt().unwrap()
}

#[track_caller]
pub(super) fn docker(node: &Node, line: &str) -> String {
    node.docker(&line.split(' ').collect::<Vec<_>>()).unwrap_or_else(|error| panic!("{error:#}"))
}

fn meshctl(node: &Node, arguments: &[&str]) -> Output {
    let meshctl = harness::program("meshctl").unwrap();
    let argv = std::iter::once(meshctl.as_os_str()).chain(arguments.iter().map(AsRef::as_ref));
    let host = format!("unix://{}", node.socket().display());
    node.ns().command(argv).env("DOCKER_HOST", host).attempt().unwrap()
}

#[track_caller]
fn assert_refused(node: &Node, arguments: &[&str], needle: &str) {
    let said = node.refused(arguments).unwrap();
    assert!(said.contains(needle), "docker {}: {said}", arguments.join(" "));
}

/// The id of the one container that runs.
fn the_one(nodes: &Nodes) -> String {
    nodes.until_running(0, "chat", 1).unwrap();
    let ids = docker(&nodes.nodes[0], "ps -q --no-trunc --filter label=com.docker.swarm.service.name=chat");
    assert_eq!(ids.lines().count(), 1, "{ids}");
    ids
}

#[test]
fn containers_and_images_of_a_node_are_seen_and_driven_by_docker() {
    super::docker::require_docker();
    let plan = Plan { nodes: 1, clients: 0, ..Plan::default() };
    let nodes = image::whoami("whoami:1").and_then(|image| Nodes::start(&plan, &image));
    let nodes = nodes.unwrap_or_else(|error| panic!("{error:#}"));
    let node = &nodes.nodes[0];
    nodes.form(1).unwrap();
    check_images(node);
    let used = docker(node, "system df --format {{.Type}}|{{.TotalCount}}|{{.Active}}");
    assert!(used.lines().any(|row| row == "Images|2|0"), "{used}");

    let create = ["service", "create", "-d", "--no-resolve-image", "--restart-delay", "0s", "--name", "chat"];
    node.docker(&[&create[..], &["shell:1", "/bin/sh", "-c", TALKS]].concat()).unwrap();
    let id = the_one(&nodes);
    check_list(node, &id);
    check_logs(&nodes, node, &id);
    check_exec(node, &id);
    check_refusals(node, &id);
    check_stop(&nodes, node, &id);
    check_removal(&nodes, node);
}

/// An archive comes in, is listed under its name, and by nobody's name if it is none.
#[track_caller]
fn check_images(node: &Node) {
    let files = tempfile::tempdir().unwrap();
    let (archive, garbage) = (files.path().join("shell.tar"), files.path().join("garbage"));
    shell().write_tar(std::fs::File::create(&archive).unwrap()).unwrap();
    std::fs::write(&garbage, [7; 4096]).unwrap();
    let (archive, garbage) = (archive.to_str().unwrap(), garbage.to_str().unwrap());

    assert_eq!(docker(node, &format!("load -i {archive}")), "Loaded image: shell:1");
    let listed = docker(node, "images --format {{.Repository}}:{{.Tag}}");
    assert_eq!(listed, "shell:1\nwhoami:1");
    assert_refused(node, &["load", "-i", garbage], "the archive is not an image");
    assert_eq!(docker(node, "images --format {{.Repository}}:{{.Tag}}"), listed, "nothing stays of what was refused");
    assert_eq!(docker(node, "image inspect shell:1 --format {{.Id}}"), shell().id());
    assert_eq!(docker(node, "images -q --no-trunc shell"), shell().id());
    assert_refused(node, &["image", "inspect", "nosuch"], "No such image: nosuch:latest");
    assert_refused(node, &["rmi", "nosuch"], "No such image: nosuch:latest");
    assert_refused(node, &["pull", "127.0.0.1:1/web:1"], "127.0.0.1:1");

    let listed = meshctl(node, &["image", "ls"]).stdout;
    assert!(listed.contains("REPOSITORY") && listed.contains("shell"), "{listed}");
    assert_eq!(meshctl(node, &["image", "rm", "shell:1"]).stdout, "shell:1\n");
    assert_eq!(docker(node, "images --format {{.Repository}}"), "whoami");
    assert_eq!(meshctl(node, &["image", "load", "-i", archive]).stdout, "Loaded image: shell:1\n");
    let refused = meshctl(node, &["image", "load", "-i", garbage]);
    assert!(refused.stderr.contains("the archive is not an image"), "{refused}");
}

#[track_caller]
fn check_list(node: &Node, id: &str) {
    let row = docker(node, "ps --no-trunc --format {{.ID}}|{{.Image}}|{{.Names}}|{{.State}}|{{.Ports}}|{{.Status}}");
    let cells: Vec<_> = row.split('|').collect();
    assert!(matches!(cells[..], [of, "shell:1", _, "running", "80/tcp", _] if of == id), "{row}");
    let task = docker(node, "service ps chat -q --no-trunc --filter desired-state=running");
    assert_eq!(cells[2], format!("chat.1.{task}"));
    assert!(cells[5].starts_with("Up "), "{row}");
    assert_eq!(docker(node, "ps -q --filter name=nosuch"), "");
    assert_refused(node, &["ps", "--filter", "foo=bar"], "foo");
    let short = &id[..12];
    let format = "{{.State.Running}} {{.Config.Tty}} {{.Name}} {{index .Config.Labels \"com.docker.swarm.task.id\"}}";
    let inspected = node.docker(&["inspect", short, "--format", format]).unwrap();
    assert_eq!(inspected, format!("true false /chat.1.{task} {task}"));
    let top = docker(node, &format!("top {short}"));
    assert!(top.lines().any(|line| line.contains("/bin/sh -c trap")), "{top}");
    let stats = docker(
        node,
        &format!("stats --no-stream --no-trunc --format {{{{.ID}}}}|{{{{.MemUsage}}}}|{{{{.PIDs}}}} {short}"),
    );
    let used: Vec<_> = stats.split('|').collect();
    assert!(used[0] == id && !used[1].starts_with("0B") && used[2] != "0", "{stats}");
}

#[track_caller]
fn check_logs(nodes: &Nodes, node: &Node, id: &str) {
    let logs = |options: &[&str]| attempt(node, &[&["logs"], options, &[id]].concat());
    nodes.until("it has spoken", |_| Ok(logs(&[]).stdout.lines().count() == 3)).unwrap();
    let both = logs(&[]);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("line 0\nline 1\nline 2\n", "start\n"));
    assert_eq!(logs(&["--tail", "1"]).stdout, "line 2\n");
    let stamped = logs(&["--tail", "1", "-t"]).stdout;
    let (at, line) = stamped.split_once(' ').unwrap();
    assert!(line == "line 2\n" && at.len() == "2026-11-24T04:07:05.100000000Z".len(), "{stamped}");
    let past = logs(&["--until", "2020-01-01T00:00:00Z"]);
    assert_eq!((past.stdout.as_str(), past.stderr.as_str()), ("", ""));
}

#[track_caller]
fn check_exec(node: &Node, id: &str) {
    let code = |output: &Output| output.status.code();
    let ran = attempt(node, &["exec", id, "sh", "-c", "echo out; echo err >&2; exit 3"]);
    assert_eq!((code(&ran), ran.stdout.as_str(), ran.stderr.as_str()), (Some(3), "out\n", "err\n"));
    let fed =
        node.command(&["exec", "-i", "-e", "A=1", id, "sh", "-c", "cat; echo $A"]).input(b"hello\n").run().unwrap();
    assert_eq!(fed.stdout, "hello\n1\n");
    let terminal = attempt(node, &["exec", "-t", id, "tty"]);
    assert!(terminal.stdout.starts_with("/dev/pts/"), "{terminal}");
    let unknown = attempt(node, &["exec", id, "nosuchcmd"]);
    assert!(matches!(code(&unknown), Some(126 | 127)), "{unknown}");
    assert_eq!(attempt(node, &["exec", "-d", id, "sh", "-c", "echo left > /file"]).stdout, "");
    // More than any pipe holds, both ways.
    let much = vec![b'x'; 3 << 20];
    let echoed = node.command(&["exec", "-i", id, "cat"]).input(&much).run().unwrap();
    assert_eq!(echoed.stdout.len(), much.len());
    assert_eq!(attempt(node, &["exec", id, "cat", "/file"]).stdout, "left\n");
}

#[track_caller]
fn check_refusals(node: &Node, id: &str) {
    assert_refused(node, &["rm", id], "container is running: stop the container before removing or force remove");
    assert_refused(node, &["rmi", "shell:1"], "is used by container");
    assert_refused(node, &["run", "--pull", "never", "shell:1"], "use a service");
    assert_refused(node, &["restart", id], "is a service's");
    for act in ["stop", "kill", "logs", "rm", "top"] {
        assert_refused(node, &[act, "nosuch"], "No such container: nosuch");
    }
    assert_refused(node, &["exec", "nosuch", "sh"], "No such container: nosuch");
}

/// A container that a user stops has ended well, and its service runs another; so has one that is killed.
#[track_caller]
fn check_stop(nodes: &Nodes, node: &Node, id: &str) {
    let mut waiting = node.command(&["wait", id]).spawn().unwrap();
    assert!(waiting.is_running().unwrap());
    let mut following = node.command(&["logs", "-f", id]).spawn().unwrap();
    following.wait_line("start", std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(docker(node, &format!("stop {id}")), id);
    assert_eq!(waiting.wait(std::time::Duration::from_secs(10)).unwrap().stdout, "0\n");
    let followed = following.wait(std::time::Duration::from_secs(10)).unwrap();
    assert_eq!(followed.stdout, "line 0\nline 1\nline 2\n");
    nodes.until("another runs", |nodes| Ok(!nodes.running(0, "chat")?.is_empty() && the_one(nodes) != id)).unwrap();
    let ended = docker(node, "ps -a --no-trunc --filter status=exited --format {{.ID}}|{{.Status}}");
    assert!(ended.starts_with(&format!("{id}|Exited (0) ")), "{ended}");
    // What has stopped is stopped.
    assert_eq!(docker(node, &format!("stop {id}")), id);
    let second = the_one(nodes);
    assert_eq!(docker(node, &format!("kill {second}")), second);
    nodes.until("a third runs", |nodes| Ok(!nodes.running(0, "chat")?.is_empty() && the_one(nodes) != second)).unwrap();
    let code = docker(node, &format!("inspect {second} --format {{{{.State.ExitCode}}}}"));
    assert_eq!(code, "137");
    assert_refused(node, &["kill", &second], "is not running");
    assert_eq!(docker(node, &format!("rm {second}")), second);
    assert_refused(node, &["logs", &second], "No such container");
}

#[track_caller]
fn check_removal(nodes: &Nodes, node: &Node) {
    docker(node, "service rm chat");
    nodes.until("no container is left", |_| Ok(node.docker(&["ps", "-aq"])?.is_empty())).unwrap();
    let removed = docker(node, "rmi shell:1");
    assert!(removed.contains("Untagged: shell:1") && removed.contains("Deleted: sha256:"), "{removed}");
    assert_eq!(docker(node, "images --format {{.Repository}}"), "whoami");
}
