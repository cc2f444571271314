//! What befalls managers, one thing at a time.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mesh_daemon::cluster::raft::{Disk, MemberError, Refusal, Remains, backup};
use mesh_daemon::store::{Error, ProposeError, Rejection};
use tokio::time::{Instant, timeout};

use super::disk::SimDisk;
use super::simulate;
use super::world::{EPOCH, World, cipher, config, member, name, write};

#[test]
fn raft_one_manager_is_a_cluster_and_finds_its_state_again() {
    simulate(1, |chance| async {
        let mut world = World::with_voters(chance, 1).await;
        for number in 0..200 {
            write(&world.up[&1].store, number).await.unwrap();
        }
        world.crash(1);
        world.start(1).await;
        world.wait_for_leader().await;
        let view = world.up[&1].store.fresh_view().await.unwrap();
        assert_eq!(view.configs().len(), 200);
    });
}

/// Power fails at an arbitrary moment of a stream of writes: sectors that were not synced are lost or kept in
/// any mixture.
#[test]
fn raft_a_crash_at_any_write_loses_nothing_acknowledged() {
    for seed in 0..30 {
        simulate(seed, |chance| async move {
            let mut world = World::with_voters(chance.clone(), 1).await;
            let mut acknowledged = 0;
            for _ in 0..8 {
                let store = world.up[&1].store.clone();
                let writing = async {
                    while write(&store, acknowledged).await.is_ok() {
                        acknowledged += 1;
                    }
                };
                let moment = Duration::from_micros(chance.of(0..20_000));
                let _ = timeout(moment, writing).await; // it ends when the power does
                world.crash(1);
                world.start(1).await;
                world.wait_for_leader().await;
                let view = world.up[&1].store.fresh_view().await.unwrap();
                let there = view.configs().len() as u128;
                // The write that was under way may have come to the disk.
                assert!(there == acknowledged || there == acknowledged + 1, "{there} of {acknowledged} are there");
                acknowledged = there;
            }
            assert!(acknowledged > 8, "the crashes left no time to write: {acknowledged}");
        });
    }
}

#[test]
fn raft_writes_go_on_within_2_s_of_the_leaders_crash() {
    for seed in 0..20 {
        simulate(seed, |chance| async {
            let mut world = World::with_voters(chance, 3).await;
            let leader = world.wait_for_leader().await;
            world.crash(leader);
            let began = Instant::now();
            let store = world.up.values().next().unwrap().store.clone();
            let mut number = 0;
            while let Err(error) = write(&store, number).await {
                number += 1;
                assert!(number < 10, "{error}");
            }
            assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        });
    }
}

#[test]
fn raft_without_a_quorum_the_error_names_who_is_missing_within_2_s_and_reads_go_on() {
    simulate(3, |chance| async {
        let mut world = World::with_voters(chance, 3).await;
        write(&world.up[&1].store, 1).await.unwrap();
        world.converge().await;
        world.crash(2);
        world.crash(3);
        let began = Instant::now();
        let error = write(&world.up[&1].store, 2).await.unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let Error::Propose(ProposeError::NoQuorum { needed: 2, total: 3, missing }) = &error else {
            panic!("{error}");
        };
        assert!(missing.iter().all(|it| it.starts_with("10.0.0.2:2377") || it.starts_with("10.0.0.3:2377")), "{error}");
        assert_eq!(missing.len(), 2);
        assert!(matches!(world.up[&1].store.fresh_view().await, Err(Error::Propose(ProposeError::NoQuorum { .. }))));
        assert_eq!(world.up[&1].store.view().configs().len(), 1, "what is known is still read");
    });
}

#[test]
fn raft_a_manager_joins_gets_a_vote_and_leaves_asked_of_any_manager() {
    simulate(4, |chance| async {
        let mut world = World::with_voters(chance, 3).await;
        let follower = *world.up.keys().find(|id| world.leader() != Some(**id)).unwrap();
        world.start(4).await;
        let asked = world.up[&follower].raft.clone();
        asked.add(4, member(4)).await.unwrap();
        assert_eq!(world.up[&1].raft.status().voters.len(), 3);
        asked.promote(4).await.unwrap();
        asked.demote(4).await.unwrap();
        assert!(asked.status().learners.contains_key(&4));
        asked.remove(4).await.unwrap();
        let taken = asked.add(2, member(9)).await.unwrap_err();
        assert!(matches!(taken, MemberError::Refused(Refusal::NumberTaken(2))), "{taken}");
        world.crash(4);
        let view = world.converge().await;
        assert_eq!(view.configs().len(), 0);
    });
}

#[test]
fn raft_the_leader_that_loses_its_vote_gives_the_lead_away_first() {
    simulate(5, |chance| async {
        let world = World::with_voters(chance, 3).await;
        let leader = world.wait_for_leader().await;
        let began = Instant::now();
        world.up[&leader].raft.demote(leader).await.unwrap();
        let next = world.wait_for_leader().await;
        assert_ne!(next, leader);
        write(&world.up[&leader].store, 1).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        world.up[&next].raft.remove(leader).await.unwrap();
        assert_eq!(world.up[&next].raft.status().voters.len(), 2);
    });
}

#[test]
fn raft_the_last_manager_is_not_demoted() {
    simulate(6, |chance| async {
        let world = World::with_voters(chance, 1).await;
        let error = world.up[&1].raft.demote(1).await.unwrap_err();
        assert_eq!(error.to_string(), "attempting to demote the last manager of the swarm");
    });
}

#[test]
fn raft_the_lead_is_handed_over_without_an_election() {
    simulate(7, |chance| async {
        let world = World::with_voters(chance, 3).await;
        let leader = world.wait_for_leader().await;
        let next = *world.up.keys().find(|id| **id != leader).unwrap();
        let began = Instant::now();
        world.up[&leader].raft.lead_by(next).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(300), "{:?}", began.elapsed());
        assert_eq!(world.wait_for_leader().await, next);
    });
}

#[test]
fn raft_who_lags_behind_the_log_catches_up_by_a_snapshot() {
    simulate(8, |chance| async {
        let mut world = World::with_voters(chance, 3).await;
        world.crash(3);
        let leader = world.wait_for_leader().await;
        for number in 0..400 {
            write(&world.up[&leader].store, number).await.unwrap();
        }
        assert!(world.up[&leader].raft.status().snapshot > 300, "the log was never compacted");
        world.start(3).await;
        let view = world.converge().await;
        assert_eq!(view.configs().len(), 400);
    });
}

#[test]
fn raft_who_has_lost_the_lead_writes_nothing_more_in_its_term() {
    simulate(9, |chance| async {
        let world = World::with_voters(chance, 3).await;
        let leader = world.wait_for_leader().await;
        let term = world.up[&leader].raft.status().leads();
        let store = &world.up[&leader].store;
        store.update_fenced(term, |tx| tx.create(config(1))).await.unwrap();
        let next = *world.up.keys().find(|id| **id != leader).unwrap();
        world.up[&leader].raft.lead_by(next).await.unwrap();
        let error = store.update_fenced(term, |tx| tx.create(config(2))).await.unwrap_err();
        assert!(matches!(error, Error::Rejected(Rejection::TermEnded { .. })), "{error}");
        store.update(|tx| tx.create(config(3))).await.unwrap();
        assert_eq!(world.converge().await.configs().len(), 2);
    });
}

#[test]
fn raft_a_cluster_forced_anew_has_all_its_writes_and_the_others_cannot_disturb_it() {
    simulate(10, |chance| async {
        let mut world = World::with_voters(chance, 3).await;
        for number in 0..100 {
            write(&world.up[&1].store, number).await.unwrap();
        }
        world.converge().await;
        (1..=3).for_each(|id| world.crash(id));
        let handle = world.disks[&1].open();
        let disk = Disk::simulated(handle.clone(), &name(1), cipher(), Arc::new(handle)).unwrap();
        Remains::of_log(&disk).unwrap().begin(&disk, 1, member(1), EPOCH + 1).unwrap();
        drop(disk);
        for id in 1..=3 {
            world.start(id).await;
        }
        // The others elect a leader of their own, in the old life.
        world.wait("two leaders", |world| world.statuses().filter(|it| it.leads().is_some()).count() == 2).await;
        write(&world.up[&1].store, 100).await.unwrap();
        write(&world.up[&2].store, 200).await.unwrap();
        assert_eq!(world.up[&1].store.view().configs().len(), 101);
        assert_eq!(world.up[&1].raft.status().voters.len(), 1);
        let last = world.up[&1].store.view();
        assert!(last.configs().named("op200").is_none(), "the old cluster writes into the new one");
        // Without their old disks they come back as new managers.
        world.crash(2);
        world.disks.remove(&2);
        world.start(4).await;
        world.up[&1].raft.add(4, member(4)).await.unwrap();
        world.up[&1].raft.promote(4).await.unwrap();
        write(&world.up[&4].store, 300).await.unwrap();
    });
}

#[test]
fn raft_a_backup_becomes_a_cluster_elsewhere() {
    simulate(11, |chance| async {
        let world = World::with_voters(chance.clone(), 1).await;
        write(&world.up[&1].store, 1).await.unwrap();
        let mut bytes = Vec::new();
        backup(&world.up[&1].store.view(), &mut bytes).unwrap();
        let mut elsewhere = World::new(chance.clone());
        let platter = SimDisk::new(chance);
        let handle = platter.open();
        let disk = Disk::simulated(handle.clone(), Path::new("new"), cipher(), Arc::new(handle)).unwrap();
        Remains::of_backup(&bytes[..]).unwrap().begin(&disk, 1, member(1), EPOCH + 5).unwrap();
        drop(disk);
        elsewhere.disks.insert(1, platter);
        elsewhere.start(1).await;
        elsewhere.wait_for_leader().await;
        write(&elsewhere.up[&1].store, 2).await.unwrap();
        assert_eq!(elsewhere.up[&1].store.view().configs().len(), 2);
    });
}
