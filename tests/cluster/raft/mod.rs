//! Managers in one process, on a clock that jumps, on disks and wires that fail as a seed says.
//!
//! A run that fails prints its seed; `MESH_SEED=N cargo test -p mesh-tests --test cluster raft` plays
//! it again (as far as tokio wakes tasks in the same order). `MESH_SEEDS=N` plays so many.

mod disk;
mod history;
mod life;
mod net;
mod world;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// Chance of a simulation.
#[derive(Clone)]
struct Chance(Arc<Mutex<StdRng>>);

impl Chance {
    fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// One of these numbers.
    fn of(&self, range: std::ops::Range<u64>) -> u64 {
        self.0.lock().unwrap().random_range(range)
    }

    /// Whether it happens, of a hundred times so often.
    fn percent(&self, often: u64) -> bool {
        self.of(0..100) < often
    }

    /// One of these things.
    fn pick<T: Copy>(&self, things: &[T]) -> Option<T> {
        things.choose(&mut *self.0.lock().unwrap()).copied()
    }

    fn shuffle<T>(&self, things: &mut [T]) {
        things.shuffle(&mut *self.0.lock().unwrap());
    }
}

/// Runs a simulation on one thread, on a clock that jumps to the next thing that happens.
fn simulate<F: Future<Output = ()>>(seed: u64, run: impl FnOnce(Chance) -> F) {
    println!("MESH_SEED={seed}");
    mesh_daemon::cluster::raft::seed_this_thread(seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(Chance::new(seed)));
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
