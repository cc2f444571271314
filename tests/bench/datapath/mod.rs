//! Nanoseconds a packet of the kernel programs, beside references, as docs/bench/README.md shows them.

mod cases;
pub(crate) mod driver;
mod reference;
mod table;
pub(crate) mod world;

use anyhow::{Context as _, Result, ensure};
use harness::{Bed, Plan};
use mesh_common::counter::Counter;

use crate::Effort;
use cases::{Before, Case, Way};
use driver::{Driver, Hook, Run, Script};
use world::{Links, Size, World};

/// Rounds: in each, every row is measured once in every world, one after the other.
const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 3;
/// Packets a driven row has in a round, unless it walks through more flows.
const PACKETS: u32 = 1 << 16;
/// Packets a single row has in a round.
const SINGLE_PACKETS: u32 = 1_000;
/// New flows that leave no place of the table empty.
const FILL: u32 = 1 << 19;

/// One packet of this many may be treated otherwise than its row says: where 65,536 flows are remembered,
/// some sets of the table get a ninth one.
const STRAYS: u64 = 2_000;

/// What is measured in: services and backends.
const WORLDS: [Size; 4] = [
    Size { services: 1, backends: 2 },
    Size { services: 100, backends: 2 },
    Size { services: 10_000, backends: 2 },
    Size { services: 1, backends: 60_000 },
];

/// The rounds of one row, in each world.
struct Row {
    case: Case,
    /// Nanoseconds, by world, by round.
    ns: Vec<Vec<f64>>,
    /// Of the last round in the first world: packets that were the first of their flow.
    new: f64,
}

/// The table, in Markdown.
pub(crate) fn run(effort: Effort) -> Result<String> {
    let bed = Bed::new(&Plan { nodes: 1, clients: 0, ..Plan::default() })?;
    // In a namespace of its own the loopback is interface 1, and nothing else of the machine is there.
    bed.nodes[0].ns.enter(|| measure(&bed, effort))?
}

fn measure(bed: &Bed, effort: Effort) -> Result<String> {
    let mut driver = Driver::load()?;
    reference::configure(driver.object())?;
    let mut worlds = Vec::new();
    for size in &WORLDS[..effort.of(WORLDS.len(), 1)] {
        let pins = bed.pin_dir(&format!("s{}b{}", size.services, size.backends))?;
        worlds.push(World::new(pins, *size, Links::NOWHERE).with_context(|| format!("{size:?}"))?);
    }
    let empty = |case| Row { case, ns: vec![Vec::new(); WORLDS.len()], new: 0.0 };
    let mut rows: Vec<_> = cases::all().into_iter().map(empty).collect();
    let mut references = reference::all()?;
    for _ in 0..effort.of(ROUNDS, QUICK_ROUNDS) {
        for reference in &mut references {
            reference.measure(&mut driver)?;
        }
        for row in &mut rows {
            let worlds = if row.case.everywhere() { &mut worlds[..] } else { &mut worlds[..1] };
            for (world, ns) in worlds.iter_mut().zip(&mut row.ns) {
                let measured = measure_case(&mut driver, world, &row.case).with_context(|| row.case.name)?;
                ns.push(measured.0);
                row.new = measured.1;
            }
        }
    }
    Ok(table::markdown(&rows, &references, effort.of(ROUNDS, QUICK_ROUNDS)))
}

/// Nanoseconds a packet, net; and the share of packets that made a flow.
fn measure_case(driver: &mut Driver, world: &mut World, case: &Case) -> Result<(f64, f64)> {
    prepare(driver, world, case)?;
    let packets = packets(case);
    let idle = idle(driver, case, packets)?;
    let (counted, made) = (world.count(case.counter)?, world.count(Counter::FlowNew)?);
    let run = run_case(driver, world, case, packets)?;
    let counted = world.count(case.counter)? - counted;
    ensure!(
        run.action == case.action && counted.abs_diff(u64::from(packets)) <= u64::from(packets) / STRAYS,
        "{counted} of {packets} packets were counted as {:?}, and the last was answered with {} instead of {}; drops: {}",
        case.counter,
        run.action,
        case.action,
        world.drops()?
    );
    let made = world.count(Counter::FlowNew)? - made;
    Ok((run.ns - idle.ns, made as f64 / f64::from(packets)))
}

fn packets(case: &Case) -> u32 {
    match case.way {
        Way::Single => SINGLE_PACKETS,
        Way::Driven if case.script.flows == u32::MAX => PACKETS,
        Way::Driven => PACKETS.max(case.script.flows + 1),
    }
}

fn idle(driver: &mut Driver, case: &Case, packets: u32) -> Result<Run> {
    match case.way {
        Way::Driven => driver.drive_empty(case.hook, &case.script, packets),
        Way::Single => driver.single_empty(case.hook, &case.script, packets),
    }
}

fn run_case(driver: &mut Driver, world: &World, case: &Case, packets: u32) -> Result<Run> {
    match case.way {
        Way::Driven => driver.drive(case.hook, &world.program_fd(case.program)?, &case.script, packets),
        Way::Single => driver::single(world.program(case.program)?, &case.script, packets),
    }
}

/// Puts the flow table into the state that the row asks for.
fn prepare(driver: &mut Driver, world: &mut World, case: &Case) -> Result<()> {
    match &case.before {
        Before::Any => {}
        Before::NoFlows => world.forget_flows()?,
        Before::Full => {
            world.forget_flows()?;
            let script = Script { first: 1 << 30, ..case.script.clone() };
            driver.drive(case.hook, &world.program_fd(case.program)?, &script, FILL)?;
        }
        Before::Made(program, script) => {
            if script.flows != 0 {
                world.forget_flows()?;
            }
            let hook = if *program == "underlay" { Hook::Xdp } else { Hook::Tc };
            let packets = script.flows.saturating_add(1);
            driver.drive(hook, &world.program_fd(program)?, script, packets)?;
        }
    }
    Ok(())
}
