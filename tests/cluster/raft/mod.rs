//! Managers in one process, on a clock that jumps, on disks and wires that fail as a seed says.
//!
//! A run that fails prints its seed; `MESH_SEED=N cargo test -p mesh-tests --test cluster raft` plays
//! it again. `MESH_SEEDS=N` plays so many.

mod disk;
mod history;
mod life;
mod net;
mod world;

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Chance of a simulation.
type Chance = std::sync::Arc<std::sync::Mutex<StdRng>>;

/// Runs a simulation on one thread, on a clock that jumps to the next thing that happens.
fn simulate<F: Future<Output = ()>>(seed: u64, run: impl FnOnce(Chance) -> F) {
    println!("MESH_SEED={seed}");
    mesh_daemon::cluster::raft::seed_this_thread(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let chance = Chance::new(StdRng::seed_from_u64(seed).into());
    runtime.block_on(run(chance));
}

/// Which seeds to play: the one that is asked for, or as many as fit the time that is given.
fn seeds(within: Duration) -> impl Iterator<Item = u64> {
    let asked = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let one = asked("MESH_SEED");
    let many = asked("MESH_SEEDS");
    let first = one.unwrap_or_else(|| rand::rng().random_range(0..1 << 32));
    let started = Instant::now();
    let more = move |number: &u64| match (one, many) {
        (Some(_), _) => *number == 0,
        (None, Some(many)) => *number < many,
        (None, None) => *number == 0 || started.elapsed() < within,
    };
    (0..).take_while(more).map(move |number| first + number)
}
