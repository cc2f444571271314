//! Behaviours of runtimes that run real programs: what a program finds in its container.

use std::time::Duration;

use futures_util::StreamExt as _;
use mesh_daemon::model::container::{FileTarget, Mount, MountKind, TmpfsOptions, Ulimit};
use mesh_daemon::model::payload::Payload;
use mesh_daemon::runtime::{Exec, FileContent, LogQuery, Size, Stream};
use tokio::io::AsyncWriteExt as _;

use super::bed::{container, text, words};
use super::{Bed, Behaviour};

pub(super) const ALL: &[Behaviour] = &[
    ("output comes back by stream, with times", |bed| Box::pin(output_comes_back(bed))),
    ("logs can be followed to the end, and cut to the last lines", |bed| Box::pin(logs_are_followed(bed))),
    ("environment, directory, user and hostname are as asked", |bed| Box::pin(process_is_as_asked(bed))),
    ("hosts and resolv.conf are the cluster's", |bed| Box::pin(names_are_the_clusters(bed))),
    ("secrets and configs are files with their owner and mode", |bed| Box::pin(files_are_there(bed))),
    ("a read-only root, memory, paths of the node and volumes", |bed| Box::pin(mounts_are_there(bed))),
    ("a volume begins with what the image has there, and outlives its containers", |bed| Box::pin(volumes_last(bed))),
    ("capabilities are Docker's, with those added and those dropped", |bed| Box::pin(capabilities_are_as_asked(bed))),
    ("limits hold: processes, files, and memory, whose want is told", |bed| Box::pin(limits_hold(bed))),
    ("an exec has its own input, output, user and exit code", |bed| Box::pin(exec_runs(bed))),
    ("an exec may have a terminal of a size", |bed| Box::pin(exec_on_a_terminal(bed))),
    ("a container may have a terminal", |bed| Box::pin(container_on_a_terminal(bed))),
    ("an init program reaps orphans", |bed| Box::pin(init_reaps(bed))),
    ("stats are of the container", |bed| Box::pin(stats_are_of_the_container(bed))),
    ("what cannot run says why, and leaves nothing", |bed| Box::pin(what_cannot_run_says_why(bed))),
];

async fn output_comes_back(bed: &Bed) {
    let before = jiff::Timestamp::now();
    let id = bed.start(&container("echo out; echo err >&2; printf half")).await;
    bed.runtime.wait(&id).await.unwrap();
    let lines: Vec<_> = bed.runtime.logs(&id, LogQuery::default()).await.unwrap().collect().await;
    let mut seen: Vec<(Stream, String)> = Vec::new();
    for line in lines {
        let line = line.unwrap();
        assert!(line.at >= before && line.at <= jiff::Timestamp::now(), "{line:?}");
        seen.push((line.stream, String::from_utf8(line.text.to_vec()).unwrap()));
    }
    // Between the two outputs there is no order.
    seen.sort_by_key(|(stream, _)| *stream == Stream::Stderr);
    let expected = [(Stream::Stdout, "out\n"), (Stream::Stdout, "half"), (Stream::Stderr, "err\n")];
    assert_eq!(seen, expected.map(|(stream, text)| (stream, text.to_owned())));
    bed.runtime.remove(&id).await.unwrap();
}

async fn logs_are_followed(bed: &Bed) {
    let id = bed.start(&container("for i in 1 2 3; do echo $i; sleep 0.2; done")).await;
    let followed = bed.runtime.logs(&id, LogQuery { follow: true, ..LogQuery::default() }).await.unwrap();
    let lines: Vec<_> = followed.map(|line| line.unwrap().text).collect().await;
    assert_eq!(lines, ["1\n", "2\n", "3\n"]);
    bed.runtime.wait(&id).await.unwrap();
    let last = LogQuery { tail: Some(2), ..LogQuery::default() };
    let lines: Vec<_> = bed.runtime.logs(&id, last).await.unwrap().map(|line| line.unwrap().text).collect().await;
    assert_eq!(lines, ["2\n", "3\n"]);
    bed.runtime.remove(&id).await.unwrap();
}

async fn process_is_as_asked(bed: &Bed) {
    let mut wanted = container("echo $A $FROM_IMAGE $HOME; pwd; id -u; id -g; id -G; hostname");
    wanted.spec.env = words(&["A=1", "FROM_IMAGE=2"]);
    wanted.spec.dir = "/etc".to_owned();
    wanted.spec.user = "app".to_owned();
    wanted.spec.hostname = "web-1".to_owned();
    let (exit, out, err) = bed.run(&wanted).await;
    assert_eq!((exit.code, out.as_str(), err.as_str()), (0, "1 2 /home/app\n/etc\n1000\n1001\n1001 1002\nweb-1\n", ""));
}

async fn names_are_the_clusters(bed: &Bed) {
    let mut wanted = container("cat /etc/resolv.conf; grep peer /etc/hosts");
    wanted.spec.dns.search = words(&["a.example"]);
    wanted.spec.hosts = words(&["192.0.2.7 peer"]);
    let (_, out, err) = bed.run(&wanted).await;
    let lines: Vec<String> = out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in ["nameserver 127.0.0.11", "search a.example", "192.0.2.7 peer"] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {out}{err}");
    }
}

async fn files_are_there(bed: &Bed) {
    let file = |name: &str, uid: &str, mode, data: &str| FileContent {
        target: FileTarget { name: name.to_owned(), uid: uid.to_owned(), gid: "1001".to_owned(), mode },
        data: Payload(data.as_bytes().to_vec()),
    };
    let mut wanted = container(
        "cat /run/secrets/key /etc/app/conf /plain; stat -c '%a %u %g' /run/secrets/key /etc/app/conf /plain; \
         grep -c ' /run/secrets/key .*tmpfs' /proc/mounts /proc/self/mountinfo | head -1; echo x 2>/dev/null >/run/secrets/key || echo kept",
    );
    wanted.secrets = vec![file("key", "1000", 0o400, "secret\n")];
    wanted.configs = vec![file("/etc/app/conf", "0", 0o644, "conf\n"), file("plain", "0", 0o444, "plain\n")];
    let (exit, out, err) = bed.run(&wanted).await;
    let lines: Vec<&str> = out.lines().collect();
    let files = ["secret", "conf", "plain", "400 1000 1001", "644 0 1001", "444 0 1001"];
    assert_eq!((exit.code, &lines[..6]), (0, &files[..]), "{out}{err}");
    assert_eq!(lines.last(), Some(&"kept"), "{out}{err}");
    assert!(lines[6].ends_with('1'), "the secret lies in memory: {out}");
}

async fn mounts_are_there(bed: &Bed) {
    let host = bed.files.path().join("host");
    std::fs::create_dir_all(&host).unwrap();
    std::fs::write(host.join("from-host"), "host\n").unwrap();
    let mount = |kind, source: &str, target: &str| Mount {
        kind,
        source: source.to_owned(),
        target: target.to_owned(),
        ..Mount::default()
    };
    let mut wanted = container(
        "touch /x 2>/dev/null || echo root is read-only; cat /host/from-host; echo back >/host/from-container; \
         touch /ro/x 2>/dev/null || echo path is read-only; touch /memory/x && stat -f -c %T /memory; \
         stat -c %a /memory",
    );
    wanted.spec.read_only = true;
    let read_only = Mount { read_only: true, ..mount(MountKind::Bind, host.to_str().unwrap(), "/ro") };
    let memory = TmpfsOptions { size_bytes: 1 << 20, mode: 0o750, ..TmpfsOptions::default() };
    wanted.spec.mounts = vec![
        mount(MountKind::Bind, host.to_str().unwrap(), "/host"),
        read_only,
        Mount { tmpfs: Some(memory), ..mount(MountKind::Tmpfs, "", "/memory") },
    ];
    let (exit, out, err) = bed.run(&wanted).await;
    let expected = "root is read-only\nhost\npath is read-only\ntmpfs\n750\n";
    assert_eq!((exit.code, out.as_str(), err.as_str()), (0, expected, ""));
    assert_eq!(std::fs::read_to_string(host.join("from-container")).unwrap(), "back\n");
}

async fn volumes_last(bed: &Bed) {
    let name = format!("mesh-test-{}", std::process::id());
    let mut first = container("cat /data/seed; stat -c %a /data/seed; echo kept >/data/mine");
    first.spec.mounts = vec![Mount { source: name.clone(), target: "/data".to_owned(), ..Mount::default() }];
    let (_, out, err) = bed.run(&first).await;
    assert_eq!((out.as_str(), err.as_str()), ("seed\n640\n", ""));
    let mut second = container("cat /elsewhere/mine");
    second.spec.mounts = vec![Mount { source: name, target: "/elsewhere".to_owned(), ..Mount::default() }];
    assert_eq!(bed.run(&second).await.1, "kept\n");
}

async fn capabilities_are_as_asked(bed: &Bed) {
    // linux/capability.h: the bits of Docker's fourteen.
    const DEFAULT: u64 = 0x0000_0000_a804_25fb;
    const NET_ADMIN: u64 = 1 << 12;
    const CHOWN: u64 = 1;
    let line = "grep -E 'Cap(Eff|Bnd)' /proc/self/status | while read name bits; do echo $bits; done";
    let mut changed = container(line);
    changed.spec.cap_add = words(&["NET_ADMIN"]);
    changed.spec.cap_drop = words(&["CAP_CHOWN"]);
    let mut none = container(line);
    none.spec.cap_drop = words(&["ALL"]);
    let mut ordinary = container(line);
    ordinary.spec.user = "1000".to_owned();
    for (wanted, effective, bounding) in [
        (container(line), DEFAULT, DEFAULT),
        (changed, DEFAULT & !CHOWN | NET_ADMIN, DEFAULT & !CHOWN | NET_ADMIN),
        (none, 0, 0),
        (ordinary, 0, DEFAULT),
    ] {
        let (_, out, _) = bed.run(&wanted).await;
        let bits: Vec<u64> = out.lines().map(|line| u64::from_str_radix(line, 16).unwrap()).collect();
        assert_eq!(bits, [effective, bounding], "{out}");
    }
}

async fn limits_hold(bed: &Bed) {
    let mut files = container("ulimit -n; ulimit -Hn");
    files.spec.ulimits = vec![Ulimit { name: "nofile".to_owned(), soft: 100, hard: 200 }];
    assert_eq!(bed.run(&files).await.1, "100\n200\n");
    let mut processes = container("for i in 1 2 3 4 5 6 7 8; do sleep 5 & done; wait");
    processes.resources.limits.pids = 4;
    let (exit, _, err) = bed.run(&processes).await;
    assert!(exit.code != 0 && err.contains("fork"), "{exit:?} {err}");
    let mut memory = container("tail /dev/zero");
    memory.resources.limits.memory_bytes = 24 << 20;
    memory.resources.swap_bytes = Some(0);
    let (exit, _, err) = bed.run(&memory).await;
    assert!(exit.oom_killed && exit.code != 0, "{exit:?} {err}");
}

async fn exec_runs(bed: &Bed) {
    let id = bed.start(&container("sleep 1000")).await;
    assert_eq!(bed.exec(&id, "echo out; echo $FROM_IMAGE; exit 7").await, (7, "out\n1\n".to_owned()));
    let exec = Exec {
        command: words(&["/bin/sh", "-c", "id -u; pwd; echo $B; cat; echo end >&2"]),
        env: words(&["B=2"]),
        user: "app".to_owned(),
        dir: "/etc".to_owned(),
        stdin: true,
        ..Exec::default()
    };
    let mut session = bed.runtime.exec(&id, exec).await.unwrap();
    let mut input = session.input.take().unwrap();
    input.write_all(b"typed\n").await.unwrap();
    input.shutdown().await.unwrap();
    drop(input);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    while let Some(piece) = session.output.next().await {
        let piece = piece.unwrap();
        let to = if piece.stream == Stream::Stdout { &mut out } else { &mut err };
        to.extend_from_slice(&piece.bytes);
    }
    assert_eq!(String::from_utf8(out).unwrap(), "1000\n/etc\n2\ntyped\n");
    assert_eq!((String::from_utf8(err).unwrap().as_str(), session.exit.await.unwrap()), ("end\n", 0));
    let missing = Exec { command: words(&["/no/such"]), ..Exec::default() };
    let mut session = bed.runtime.exec(&id, missing).await.unwrap();
    while session.output.next().await.is_some() {}
    let code = session.exit.await.unwrap();
    assert!(code == 126 || code == 127, "{code}");
    bed.runtime.remove(&id).await.unwrap();
}

async fn exec_on_a_terminal(bed: &Bed) {
    // An engine may set the size a moment after the start, and a moment after it was told.
    let until = |size: &str| format!("while test \"$(stty size)\" != '{size}'; do sleep 0.05; done; stty size; ");
    let line = format!("test -t 0; {}read line; {}echo got $line", until("33 77"), until("44 88"));
    let id = bed.start(&container("sleep 1000")).await;
    let exec = Exec {
        command: words(&["/bin/sh", "-c", &line]),
        tty: Some(Size { rows: 33, columns: 77 }),
        stdin: true,
        ..Exec::default()
    };
    let mut session = bed.runtime.exec(&id, exec).await.unwrap();
    let mut input = session.input.take().unwrap();
    let mut seen = String::new();
    while let Some(piece) = session.output.next().await {
        seen.push_str(&String::from_utf8_lossy(&piece.unwrap().bytes));
        if seen.ends_with("33 77\r\n") && !seen.contains("typed") {
            session.resize.send(Size { rows: 44, columns: 88 }).await.unwrap();
            // The size is set by whoever awaits the end.
            let settled = tokio::time::timeout(Duration::from_millis(500), &mut session.exit).await;
            assert!(settled.is_err(), "{seen}");
            input.write_all(b"typed\n").await.unwrap();
        }
    }
    assert_eq!(session.exit.await.unwrap(), 0);
    assert!(seen.contains("44 88") && seen.contains("got typed"), "{seen}");
    bed.runtime.remove(&id).await.unwrap();
}

async fn container_on_a_terminal(bed: &Bed) {
    let mut wanted = container("test -t 1 && echo $TERM; exit 4");
    wanted.spec.tty = true;
    let (exit, out, err) = bed.run(&wanted).await;
    assert_eq!((exit.code, out.trim_end(), err.as_str()), (4, "xterm", ""));
}

async fn init_reaps(bed: &Bed) {
    let mut wanted = container("cat /proc/1/cmdline | tr '\\0' ' '");
    wanted.spec.init = Some(true);
    let (exit, out, err) = bed.run(&wanted).await;
    assert!(exit.code == 0 && out.contains("init -- /bin/sh"), "{out}{err}");
}

async fn stats_are_of_the_container(bed: &Bed) {
    let mut wanted = container("while :; do :; done");
    wanted.resources.limits.memory_bytes = 64 << 20;
    let id = bed.start(&wanted).await;
    let mut last = Default::default();
    bed.until("processor time is counted", async || {
        last = bed.runtime.stats(&id).await.unwrap();
        last.cpu_ns > 10_000_000
    })
    .await;
    assert_eq!((last.pids, last.memory_limit), (1, Some(64 << 20)));
    assert!(last.memory_bytes < 64 << 20);
    bed.runtime.remove(&id).await.unwrap();
}

async fn what_cannot_run_says_why(bed: &Bed) {
    let mut missing = container("");
    missing.spec.command = words(&["/no/such/program"]);
    let id = bed.runtime.prepare(&missing).await.unwrap();
    let error = bed.runtime.start(&id).await.unwrap_err();
    assert!(text(&error).contains("no such file or directory"), "{}", text(&error));
    bed.runtime.remove(&id).await.unwrap();
    let mut nobody = container("exit 0");
    nobody.spec.user = "nobody-here".to_owned();
    let refused = match bed.runtime.prepare(&nobody).await {
        Ok(id) => {
            let error = bed.runtime.start(&id).await.unwrap_err();
            bed.runtime.remove(&id).await.unwrap();
            error
        }
        Err(error) => error,
    };
    assert!(text(&refused).contains("nobody-here"), "{}", text(&refused));
    assert!(bed.runtime.list().await.unwrap().iter().all(|status| status.task != Some(nobody.task)));
    let mut log = container("exit 0");
    log.log = Some(mesh_daemon::model::task::LogDriver { name: "no-such-driver".to_owned(), ..Default::default() });
    let refused = text(&bed.runtime.prepare(&log).await.unwrap_err());
    assert!(refused.contains("no-such-driver"), "{refused}");
}
