//! Runtimes: one suite of behaviours, and who must behave so. What only one of them can show is beside it.

mod bed;
mod docker;
mod fake;
mod images;
mod lifecycle;
mod oci;
mod process;

use bed::Bed;

/// What a behaviour is: a sentence, and the code that holds it true.
type Behaviour = (&'static str, for<'a> fn(&'a Bed) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>);

/// Looks at every behaviour of a runtime, and names those that fail.
#[track_caller]
#[expect(clippy::print_stdout, reason = "one test looks at many: its output says how far it came, and how fast")]
fn run_all(bed: &Bed, behaviours: &[Behaviour]) {
    let mut failed = Vec::new();
    for (sentence, holds) in behaviours {
        let begun = std::time::Instant::now();
        let run = std::panic::AssertUnwindSafe(|| bed.block_on(holds(bed)));
        let held = std::panic::catch_unwind(run).is_ok();
        println!("{} {:>5} ms: {sentence}", if held { "holds" } else { "FAILS" }, begun.elapsed().as_millis());
        if !held {
            failed.push(*sentence);
        }
    }
    assert!(failed.is_empty(), "these do not hold: {failed:#?}");
}
