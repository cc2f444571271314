//! The contract of the two sides, read out of the embedded ELF: no root, no kernel.

use std::collections::BTreeMap;

use aya_obj::Object;
use mesh_common::flow::FlowSet;
use mesh_common::limits;
use mesh_common::service::Pace;
use mesh_common::tally::Tally;
use mesh_common::watch::{Watch, watcher};

use super::OBJECT;
use crate::datapath::maps::{CAPTURED, COUNTERS, DROPS, EVENTS, FLOWS, LIVE, PACE, TALLIES, WATCH};
use crate::datapath::tables::{CONTRACT, Shape};

/// Maps that only the programs use: never pinned, never opened by the daemon.
const PRIVATE: [&str; 3] = ["DESK", "DIAL", "FLOW"];

fn of_the_daemon() -> BTreeMap<&'static str, Shape> {
    let counted = Shape { key: 4, value: 8, capacity: limits::COUNTED };
    let flows = Shape { key: 4, value: size_of::<FlowSet>() as u32, capacity: limits::FLOW_SETS };
    let mut shapes: BTreeMap<_, _> = CONTRACT.iter().copied().collect();
    let live = Shape { key: 4, value: 8, capacity: limits::BACKENDS };
    let pace = Shape { key: 4, value: size_of::<Pace>() as u32, capacity: limits::PACES };
    shapes.extend([(FLOWS, flows), (LIVE, live), (PACE, pace), (COUNTERS, counted), (DROPS, counted)]);
    let tallies = Shape { key: 4, value: size_of::<Tally>() as u32, capacity: limits::TALLIES };
    let watch = Shape { key: 4, value: size_of::<Watch>() as u32, capacity: watcher::COUNT };
    // The kernel makes them as long as it has CPUs.
    let buffers = Shape { key: 4, value: 4, capacity: 0 };
    shapes.extend([(TALLIES, tallies), (WATCH, watch), (EVENTS, buffers), (CAPTURED, buffers)]);
    shapes
}

#[test]
fn the_maps_of_the_programs_are_those_the_daemon_knows() {
    let object = Object::parse(OBJECT).expect("the embedded object is an eBPF ELF");
    let of_the_programs: BTreeMap<_, _> = object
        .maps
        .iter()
        // A dot marks what the compiler makes of constants.
        .filter(|(name, _)| !name.starts_with('.') && !PRIVATE.contains(&name.as_str()))
        .map(|(name, map)| {
            let shape = Shape { key: map.key_size(), value: map.value_size(), capacity: map.max_entries() };
            (name.as_str(), shape)
        })
        .collect();
    assert_eq!(of_the_programs, of_the_daemon());
}

#[test]
fn the_programs_declare_a_licence_that_opens_all_helpers() {
    let object = Object::parse(OBJECT).expect("the embedded object is an eBPF ELF");
    assert_eq!(object.license.to_str(), Ok("Dual MIT/GPL"));
}
