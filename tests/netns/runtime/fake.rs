//! The fake of simulations must behave as the others do, as far as nothing runs in it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mesh_daemon::runtime::fake::{FakeRuntime, Script};

use super::bed::{Bed, threads};
use super::{lifecycle, run_all};

#[test]
fn the_fake_behaves_as_far_as_nothing_runs() {
    // The scripts do what the lines of the suite would.
    let scripts = |container: &mesh_daemon::runtime::Container| {
        let line = container.spec.command.last().cloned().unwrap_or_default();
        let ends = line.strip_prefix("exit ").map(|code| (Duration::from_millis(10), code.parse().unwrap()));
        let stops = match () {
            () if line.starts_with("trap 'exit 5'") => Some((Duration::from_millis(10), 5)),
            () if line.starts_with("trap ''") => None,
            () => Some((Duration::ZERO, 143)),
        };
        Script { ends, stops, ..Script::default() }
    };
    let tokio = threads();
    let runtime = {
        let _inside = tokio.enter();
        FakeRuntime::new(Timestamp::now(), Box::new(scripts))
    };
    let bed = Bed::over(tempfile::tempdir().unwrap(), tokio, Arc::new(runtime));
    run_all(&bed, lifecycle::ALL);
}
