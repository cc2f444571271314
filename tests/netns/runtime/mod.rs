//! Runtimes: one suite of behaviours, and who must behave so. What only one of them can show is beside it.

mod bed;
mod images;
mod lifecycle;
mod oci;
mod process;

use bed::Bed;

/// What a behaviour is: a sentence, and the code that holds it true.
type Behaviour = (&'static str, for<'a> fn(&'a Bed) -> std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>);

/// Runs every behaviour on a runtime, and names the one that fails.
fn run_all(bed: &Bed, behaviours: &[Behaviour]) {
    for (sentence, holds) in behaviours {
        let begun = std::time::Instant::now();
        let run = std::panic::AssertUnwindSafe(|| bed.block_on(holds(bed)));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("does not hold: {sentence}");
            std::panic::resume_unwind(panic);
        }
        println!("holds after {:>5} ms: {sentence}", begun.elapsed().as_millis());
    }
}
