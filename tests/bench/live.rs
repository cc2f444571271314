//! Millions of packets a second by the kernel's frame generator (`BPF_F_TEST_XDP_LIVE_FRAMES`), from a
//! veth's XDP hook to a sink at the other end of a veth, all on one CPU.
//!
//! The generator gives a program its frame back with the head where it was; what was written stays.
//! The rows are paths that leave the frame such that the next run does the same.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use harness::packet::{tcp, udp, vxlan};
use harness::{Bed, Host, Plan};

use crate::Effort;
use crate::datapath::driver::{self, Driver};
use crate::datapath::world::{self, Links, Size, World};
use crate::stats::{median, spread};

const ROUNDS: usize = 7;
const PACKETS: u32 = 1 << 19;
/// As many as a driver takes at a time.
const BATCH: u32 = 64;

/// The uplink and what is at its other end; task B's link and what is at its other end.
const UPLINK: [&str; 2] = ["live0", "live1"];
const LINK: [&str; 2] = ["task0", "task1"];

struct Row {
    name: &'static str,
    program: Program,
    frame: Vec<u8>,
    mpps: Vec<f64>,
    arrived: f64,
}

#[derive(Clone, Copy)]
enum Program {
    Reference(&'static str),
    Mesh(&'static str),
}

/// The table, in Markdown.
pub(crate) fn run(effort: Effort) -> Result<String> {
    let bed = Bed::new(&Plan { nodes: 1, clients: 0, ..Plan::default() })?;
    let node = &bed.nodes[0];
    for [near, far] in [UPLINK, LINK] {
        let made = [
            format!("link add {near} type veth peer name {far}"),
            format!("link set {near} up"),
            format!("link set {far} up"),
        ];
        node.ns.ip(&made)?;
    }
    node.ns.enter(|| measure(&bed, node, effort))?
}

fn measure(bed: &Bed, node: &Host, effort: Effort) -> Result<String> {
    let links = Links { uplink: node.ns.link(UPLINK[0])?.ifindex, b: node.ns.link(LINK[0])?.ifindex };
    let mut driver = Driver::load()?;
    let sink: &mut Xdp = driver.object().program_mut("sink").context("sink")?.try_into()?;
    // The first is only there because a veth has an XDP queue of its own as long as it has a program.
    for name in [UPLINK[0], UPLINK[1], LINK[1]] {
        sink.attach(name, XdpMode::Driver).with_context(|| format!("attach the sink to {name}"))?;
    }
    let world = World::new(bed.pin_dir("live")?, Size { services: 1, backends: 2 }, links)?;
    let mut rows = rows();
    for _ in 0..effort.of(ROUNDS, 3) {
        for row in &mut rows {
            let before = driver.sunk()?;
            let seconds = generate(&driver, &world, row, links.uplink).context(row.name)?;
            row.mpps.push(f64::from(PACKETS) / seconds / 1e6);
            row.arrived = (driver.sunk()? - before) as f64 / f64::from(PACKETS);
            ensure!(row.arrived > 0.99, "{}: only {:.1} % arrived", row.name, row.arrived * 100.0);
        }
    }
    Ok(markdown(&rows))
}

fn rows() -> Vec<Row> {
    let row = |name, program, packet: harness::Packet| Row {
        name,
        program,
        frame: padded(packet),
        mpps: Vec::new(),
        arrived: 0.0,
    };
    let dialled = format!("{}:{}", world::VTEP, world::PORT_FAR);
    let inner = udp("10.1.0.0:40000", format!("{}:{}", world::B.ip4, world::TARGET).as_str())
        .macs(world::FAR.mac, world::B.mac);
    let out = tcp("203.0.113.9:40000", dialled.as_str());
    vec![
        row("addresses swapped, sent back (XDP_TX)", Program::Reference("mac_swap"), out.clone()),
        row("published port, task on another node: tunnel on", Program::Mesh("underlay"), out),
        row(
            "tunnel off and delivery (UDP)",
            Program::Mesh("underlay"),
            vxlan(world::VNI, world::OTHER_VTEP, world::VTEP, inner),
        ),
    ]
}

fn padded(packet: harness::Packet) -> Vec<u8> {
    let mut frame: Vec<u8> = packet.into();
    frame.resize(driver::FRAME, 0);
    frame
}

/// Seconds that all packets of a round took.
fn generate(driver: &Driver, world: &World, row: &Row, uplink: u32) -> Result<f64> {
    let program = match row.program {
        Program::Reference(name) => driver.loaded(name)?,
        Program::Mesh(name) => world.program(name)?,
    };
    let aya::programs::Program::Xdp(xdp) = program else { anyhow::bail!("not XDP") };
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, u32::try_from(row.frame.len())?, 0, uplink, 0, 0].map(u32::to_ne_bytes).concat();
    let mut options = TestRunOptions::new();
    options.data_in = Some(&row.frame);
    options.ctx_in = Some(&context);
    options.repeat = PACKETS;
    options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
    let start = Instant::now();
    xdp.test_run(options)?;
    Ok(start.elapsed().as_secs_f64())
}

fn markdown(rows: &[Row]) -> String {
    let bare = rows.first().map_or(1.0, |row| median(&row.mpps));
    let mut text = String::from("| path | Mpps | spread | of XDP_TX |\n|---|---|---|---|\n");
    for row in rows {
        let mpps = median(&row.mpps);
        text += &format!("| {} | {mpps:.2} | {:.0} % | {:.2} |\n", row.name, spread(&row.mpps) * 100.0, mpps / bare);
    }
    text + &format!(
        "\nMedians of {} rounds of {PACKETS} frames of {} bytes.\n",
        rows.first().map_or(0, |row| row.mpps.len()),
        driver::FRAME
    )
}
