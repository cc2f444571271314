//! The one assertion on a run.

use std::collections::BTreeMap;

use harness::run::{Action, Hook, Node};
use harness::{assert_packet_eq, describe};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;

use crate::world::BULK;

/// What a row says must come out.
#[derive(Clone, Debug)]
pub(crate) struct Expect {
    what: What,
    counters: Vec<Counter>,
    drops: Vec<DropReason>,
}

#[derive(Clone, Debug)]
enum What {
    Pass,
    Drop,
    Redirect(Vec<u8>),
    Back(Vec<u8>),
}

/// Passed on, every byte as it came.
pub(crate) fn passes() -> Expect {
    Expect { what: What::Pass, counters: Vec::new(), drops: Vec::new() }
}

/// Dropped, and counted as this.
pub(crate) fn drops(reason: DropReason) -> Expect {
    Expect { what: What::Drop, counters: Vec::new(), drops: vec![reason] }
}

/// Out of another interface with these bytes.
pub(crate) fn redirects(frame: impl Into<Vec<u8>>) -> Expect {
    Expect { what: What::Redirect(frame.into()), counters: Vec::new(), drops: Vec::new() }
}

/// Out of the interface it came in by, with these bytes.
pub(crate) fn turns_back(frame: impl Into<Vec<u8>>) -> Expect {
    Expect { what: What::Back(frame.into()), counters: Vec::new(), drops: Vec::new() }
}

/// Left to the host's stack, and counted as such: at the TC hook, where what XDP passes comes by too.
pub(crate) fn left_to_the_host(hook: Hook) -> Expect {
    let counters: &[Counter] = if hook == BULK { &[Counter::UnderlayPassed] } else { &[] };
    passes().counting(counters)
}

impl Expect {
    /// Each of these moves by one for each time it is named, and no other does.
    pub(crate) fn counting(mut self, counters: &[Counter]) -> Self {
        self.counters.extend(counters);
        self
    }

    /// The packet is answered, and counted as lost for this reason.
    pub(crate) fn refused(mut self, reason: DropReason) -> Self {
        self.drops.push(reason);
        self
    }

    fn action(&self, hook: Hook) -> Action {
        match (&self.what, hook) {
            (What::Pass, _) => Action::Pass,
            (What::Drop, _) => Action::Drop,
            (What::Back(_), Hook::Underlay(_)) => Action::Tx,
            (What::Redirect(_) | What::Back(_), _) => Action::Redirect,
        }
    }
}

/// Runs the packet and compares all that comes out; hands on the frame.
#[track_caller]
pub(crate) fn check(node: &Node, hook: Hook, row: &str, packet: impl Into<Vec<u8>>, expect: &Expect) -> Vec<u8> {
    let frame = packet.into();
    let outcome = node.run(hook, &frame).unwrap_or_else(|error| panic!("{row} at {hook:?}: {error:#}"));
    let seen = || {
        format!(
            "{row}, at {hook:?}\nin:\n{}\nout ({:?}):\n{}",
            describe(&frame),
            outcome.action,
            describe(&outcome.frame)
        )
    };
    let (drops, counters) = (times(&expect.drops), times(&expect.counters));
    assert_eq!((outcome.action, &outcome.drops), (expect.action(hook), &drops), "action and drops of {}", seen());
    assert_eq!(outcome.counters, counters, "counters of {}", seen());
    match &expect.what {
        What::Drop => {}
        What::Pass => assert_eq!(outcome.frame, frame, "a passed packet changed: {}", seen()),
        What::Redirect(want) | What::Back(want) => {
            if outcome.frame != *want {
                #[expect(clippy::print_stderr, reason = "names the row; the assertion below shows the bytes")]
                {
                    eprintln!("{}", seen());
                }
            }
            assert_packet_eq(outcome.frame.clone(), want.clone());
            let judged = describe(&outcome.frame);
            assert!(!judged.contains("BAD") || describe(&frame).contains("BAD"), "a checksum of {}", seen());
        }
    }
    outcome.frame
}

fn times<K: Copy + Ord>(named: &[K]) -> BTreeMap<K, u64> {
    let mut times = BTreeMap::new();
    for key in named {
        *times.entry(*key).or_insert(0) += 1;
    }
    times
}
