//! Beds beside each other, and what is left when one is gone: nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use harness::clients::Ping;
use harness::{Bed, Capture, Plan, TaskPlan, sweep};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{assert_reaches, bed};

const LIMIT: Duration = Duration::from_secs(20);

/// Every name of a bed: namespaces, lock, pins.
fn names_of(id: &str) -> Vec<PathBuf> {
    let entries = |dir: &str| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let belongs = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name == id || name.starts_with(&format!("{id}-"))
    };
    ["/run/netns", "/run/mesh-test", "/sys/fs/bpf"].into_iter().flat_map(entries).filter(belongs).collect()
}

fn is_alive(pid: u32) -> bool {
    // A zombie is dead; its parent has not looked yet.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "not in {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that nothing but its namespace ties to the bed: its parent is gone.
fn orphan_in(bed: &Bed) -> u32 {
    let script = "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!";
    let started = bed.nodes[0].ns.run(["setsid", "--wait", "sh", "-c", script]).unwrap();
    started.stdout.trim().parse().unwrap()
}

#[test]
fn nothing_is_left_of_a_dropped_bed() {
    let bed = bed(&Plan::default());
    let id = bed.id().to_owned();
    bed.nodes[0].task(&TaskPlan::new("web").ip4("10.0.9.2/24")).unwrap();
    let pins = bed.pin_dir("maps").unwrap();
    fs::create_dir(pins.join("v1")).unwrap();
    let orphan = orphan_in(&bed);
    assert!(is_alive(orphan));
    // A bridge, two nodes, a client, a task; the lock; the pins.
    assert_eq!(names_of(&id).len(), 7, "{:?}", names_of(&id));
    drop(bed);
    assert_eq!(names_of(&id), Vec::<PathBuf>::new());
    assert!(!is_alive(orphan));
}

#[test]
fn a_host_kept_keeps_its_bed() {
    let bed = bed(&Plan::default());
    let (id, node) = (bed.id().to_owned(), bed.nodes[0].clone());
    let other = bed.nodes[1].ip4;
    drop(bed);
    assert_reaches(&node, other, &Ping::default());
    drop(node);
    assert_eq!(names_of(&id), Vec::<PathBuf>::new());
}

#[test]
fn two_beds_do_not_disturb_each_other() {
    let (first, second) = (bed(&Plan::default()), bed(&Plan::default()));
    assert_reaches(&first.nodes[0], first.nodes[1].ip4, &Ping::default());
    drop(first);
    assert_eq!(sweep().unwrap().iter().filter(|id| *id == second.id()).count(), 0);
    assert_reaches(&second.nodes[0], second.nodes[1].ip6, &Ping::default());
}

/// Nothing of a bed shows up where the machine's own links are.
#[test]
fn the_root_namespace_stays_as_it_was() {
    let links = || {
        let mut names: Vec<_> = fs::read_dir("/sys/class/net").unwrap().map(|link| link.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = links();
    let bed = bed(&Plan::default());
    bed.nodes[0].task(&TaskPlan::new("web").ip4("10.0.9.2/24")).unwrap();
    assert_eq!(links(), before);
    drop(bed);
    assert_eq!(links(), before);
}

/// Set in the process that is to be killed: where it tells what it owns.
const TELL: &str = "MESH_TEST_BED_TELL";

#[test]
fn a_bed_whose_owner_was_killed_is_swept() {
    if let Some(tell) = std::env::var_os(TELL) {
        own_a_bed_until_killed(Path::new(&tell));
    }
    let dir = tempfile::tempdir().unwrap();
    let tell = dir.path().join("tell");
    let (_crate, module) = module_path!().split_once("::").unwrap();
    let name = format!("{module}::a_bed_whose_owner_was_killed_is_swept");
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name])
        .env(TELL, &tell)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the owner has its bed", || tell.exists());
    let told = fs::read_to_string(&tell).unwrap();
    let (id, orphan) = told.split_once(' ').unwrap();
    let orphan: u32 = orphan.parse().unwrap();
    // While its owner lives, nobody sweeps it.
    sweep().unwrap();
    assert_eq!(names_of(id).len(), 6, "{:?}", names_of(id));
    assert!(is_alive(orphan));

    kill(Pid::from_raw(owner.id().cast_signed()), Signal::SIGKILL).unwrap();
    owner.wait().unwrap();
    assert_eq!(names_of(id).len(), 6, "a killed process cleans nothing up: the proof would prove nothing");
    let next = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    assert_eq!(names_of(id), Vec::<PathBuf>::new());
    assert!(!is_alive(orphan));
    drop(next);
}

fn own_a_bed_until_killed(tell: &Path) -> ! {
    let bed = bed(&Plan::default());
    bed.pin_dir("maps").unwrap();
    let orphan = orphan_in(&bed);
    let draft = tell.with_extension("draft");
    fs::write(&draft, format!("{} {orphan}", bed.id())).unwrap();
    fs::rename(draft, tell).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn a_capture_is_kept_only_when_its_test_fails() {
    let bed = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    let captured = |fails: bool| {
        let (tell, told) = std::sync::mpsc::channel();
        let ns = bed.nodes[0].ns.clone();
        let test = std::thread::spawn(move || {
            let capture = Capture::start(&ns, "eth0", "").unwrap();
            tell.send(capture.path().unwrap().to_owned()).unwrap();
            assert!(!fails, "as planned");
        });
        assert_eq!(test.join().is_err(), fails);
        told.recv().unwrap()
    };
    assert!(!captured(false).exists());
    let kept = captured(true);
    assert!(kept.exists());
    fs::remove_file(kept).unwrap();
}

#[test]
fn a_program_dropped_takes_its_children_along() {
    let bed = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    let mut shell = bed.nodes[0].ns.spawn(["sh", "-c", "sleep 1000 & echo child $!; wait"]).unwrap();
    let line = shell.wait_line("child ", LIMIT).unwrap();
    let child: u32 = line.trim_start_matches("child ").parse().unwrap();
    assert!(is_alive(child));
    drop(shell);
    wait_until("the child is gone", || !is_alive(child));
}

#[test]
fn a_failed_command_says_all_it_knows() {
    let bed = bed(&Plan { nodes: 1, clients: 0, ..Plan::default() });
    let ns = &bed.nodes[0].ns;
    let failed = ns.run(["sh", "-c", "echo out; echo err >&2; exit 3"]).unwrap_err().to_string();
    for part in ["sh -c", ns.name(), "exit status: 3", "out", "err"] {
        assert!(failed.contains(part), "no {part:?} in {failed}");
    }
    let slow = ns.command(["sleep", "1000"]).limit(Duration::from_millis(50)).run().unwrap_err().to_string();
    assert!(slow.contains("did not end in 50ms"), "{slow}");
    let batch = format!("{:#}", ns.ip(&["link set lo up".into(), "link set nowhere up".into()]).unwrap_err());
    assert!(batch.contains("nowhere") && batch.contains(":2"), "{batch}");
    let early = ns.spawn(["sh", "-c", "echo sorry >&2"]).unwrap().wait_line("ready", LIMIT).unwrap_err().to_string();
    assert!(early.contains("sorry"), "{early}");
}
