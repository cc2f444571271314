//! A rolling update under requests that never cease.

use std::sync::atomic::{AtomicBool, Ordering};

use harness::Transport;
use harness::clients::ask;

use super::{IMAGE, NAMED, TARGET, is_served, names, swarm, turn};

const PORT: u16 = 8080;

#[test]
fn an_update_that_starts_the_new_first_fails_no_request() {
    let _turn = turn();
    let nodes = swarm(3, 1);
    let publish = format!("{PORT}:{TARGET}");
    let fixed = ["service", "create", "-d", "-q", "--name", "web", "--replicas", "3", "-p", &publish];
    let order = ["--update-order", "start-first", "--update-parallelism", "1", "--update-delay", "0s"];
    // Without a check a task counts as ready before its program listens, in Swarm as here.
    let check = ["--health-cmd", "echo | nc 127.0.0.1 7000", "--health-interval", "1s", "--health-retries", "30"];
    nodes.docker(0, &[&fixed[..], &order, &check, &NAMED, &[IMAGE]].concat()).unwrap();
    nodes.until_running(0, "web", 3).unwrap();
    nodes.until("all are reached", |nodes| Ok(is_served(nodes, &[0, 1, 2], PORT, &names(3)))).unwrap();

    let done = AtomicBool::new(false);
    let (client, entries) = (&nodes.bed.clients[0].ns, nodes.nodes.iter().map(|node| node.host.ip4));
    let entries: Vec<_> = entries.collect();
    let (asked, failed) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let (mut asked, mut failed) = (0, Vec::new());
            while !done.load(Ordering::Relaxed) {
                let asking = ask(client, Transport::Tcp, entries[asked % entries.len()], PORT);
                asked += 1;
                if let Err(error) = asking {
                    failed.push(format!("request {asked}: {error:#}"));
                }
            }
            (asked, failed)
        });
        let updated = nodes.docker(0, &["service", "update", "-d", "-q", "--env-add", "VERSION=2", "web"]);
        let ended = updated.and_then(|_| {
            nodes.until("the update ends", |nodes| {
                let state = "{{if .UpdateStatus}}{{.UpdateStatus.State}}{{end}}";
                Ok(nodes.docker(0, &["service", "inspect", "web", "--format", state])? == "completed")
            })
        });
        done.store(true, Ordering::Relaxed);
        let seen = asking.join().unwrap();
        ended.unwrap();
        seen
    });
    assert_eq!(failed, Vec::<String>::new(), "of {asked} requests");
    println!("{asked} requests were answered during the update");
    assert!(asked > 100, "only {asked} requests were made");
    // Each place was changed; one whose node was taken for dead meanwhile may have been filled twice.
    let format = "{{.Name}} {{.DesiredState}}";
    let tasks = nodes.docker(0, &["service", "ps", "web", "--format", format]).unwrap();
    for place in 1..=3 {
        let of_place = tasks.lines().filter(|row| row.contains(&format!("web.{place} ")));
        let (running, past): (Vec<_>, Vec<_>) = of_place.partition(|row| row.ends_with(" Running"));
        assert!(running.len() == 1 && !past.is_empty(), "{tasks}");
    }
}
