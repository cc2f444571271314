//! The embedded runtime: the suite, and what only it has.

use super::bed::{Bed, container, is_running};
use super::{lifecycle, process, run_all};

#[test]
fn the_embedded_runtime_behaves() {
    let bed = Bed::oci();
    run_all(&bed, &[lifecycle::ALL, lifecycle::CHECKED, process::ALL].concat());
}

#[test]
fn a_daemon_that_starts_adopts_what_runs_and_learns_what_ended() {
    let mut bed = Bed::oci();
    let (runs, ends) = (container("sleep 1000"), container("sleep 1; echo late; exit 9"));
    let (runs, ends) = bed.block_on(async { (bed.start(&runs).await, bed.start(&ends).await) });
    bed.restart();
    bed.block_on(async {
        assert!(is_running(&bed.status(&runs).await));
        assert_eq!(bed.runtime.wait(&ends).await.unwrap().code, 9);
        assert_eq!(bed.written(&ends).await.0, "late\n");
        assert_eq!(bed.exec(&runs, "echo here").await, (0, "here\n".to_owned()));
        assert_eq!(bed.runtime.shutdown(&runs).await.unwrap().code, 137);
    });
}
