//! What is measured: one row a path of the packet path, with its budget.

use harness::Packet;
use harness::packet::{tcp, udp, vxlan};
use mesh_common::counter::Counter;

use super::driver::{FRAME, Hook, Script};
use super::world::{A, B, FAR, OTHER_VTEP, PORT_A, PORT_B, PORT_FAR, TARGET, VIP_B, VNI, VTEP};

/// Actions of the kernel.
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;
const TC_REDIRECT: u32 = 7;

/// The way to every VIP.
const ROUTER: [u8; 6] = mesh_common::addr::Mac::ROUTER.bytes;
const CLIENT: &str = "203.0.113.9:40000";

/// How packets are run: see `driver`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By a driver.
    Driven,
    /// One by one.
    Single,
}

/// What flows there are before.
#[derive(Clone, Debug)]
pub(crate) enum Before {
    /// It does not matter.
    Any,
    /// None.
    NoFlows,
    /// As many new ones as the table holds and more.
    Full,
    /// Those that these packets make, by the program named.
    Made(&'static str, Script),
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) hook: Hook,
    pub(crate) program: &'static str,
    pub(crate) way: Way,
    pub(crate) before: Before,
    pub(crate) script: Script,
    /// What every packet must be answered with, and counted as.
    pub(crate) action: u32,
    pub(crate) counter: Counter,
    /// Nanoseconds, of docs/design/packet-path.md at 4 ns an array lookup.
    pub(crate) budget: Option<f64>,
}

impl Case {
    /// Is it measured with every number of services and backends? Where many flows are remembered, the
    /// size of the flow table is the point, which is the same everywhere.
    pub(crate) fn everywhere(&self) -> bool {
        self.script.flows == ONE || matches!(self.before, Before::Any)
    }
}

/// All rows.
pub(crate) fn all() -> Vec<Case> {
    [from_outside(), from_nodes(), from_tasks()].concat()
}

/// A packet of the benchmark's length, and where in it the client is.
fn script(packet: Packet, flows: u32, ip_at: usize, addr_at: usize, port_at: usize) -> Script {
    let mut frame: Vec<u8> = packet.into();
    frame.resize(FRAME, 0);
    Script { frame, flows, first: 0, port_at: ip_at + port_at, addr_at: ip_at + addr_at }
}

/// IPv4 from the client.
fn to(packet: Packet, flows: u32) -> Script {
    script(packet, flows, 14, 12, 20)
}

/// IPv4 to the client.
fn back(packet: Packet, flows: u32) -> Script {
    script(packet, flows, 14, 16, 22)
}

fn here(port: u16) -> String {
    format!("{VTEP}:{port}")
}

const ONE: u32 = 0;
const MANY: u32 = (1 << 16) - 1;
const CAPACITY: u32 = (1 << 18) - 1;
const ENDLESS: u32 = u32::MAX;

fn xdp(name: &'static str, budget: f64, script: Script, action: u32, counter: Counter) -> Case {
    let budget = (budget != 0.0).then_some(budget);
    let (hook, program, way, before) = (Hook::Xdp, "underlay", Way::Driven, Before::Any);
    Case { name, hook, program, way, before, script, action, counter, budget }
}

fn after(before: Before, case: Case) -> Case {
    Case { before, ..case }
}

fn from_outside() -> Vec<Case> {
    let known = |name, flows| {
        let script = to(udp(CLIENT, here(PORT_B).as_str()), flows);
        after(Before::Made("underlay", script.clone()), xdp(name, 100.0, script, XDP_REDIRECT, Counter::Local))
    };
    let new = |name, before, budget| {
        let script = to(tcp(CLIENT, here(PORT_B).as_str()).syn(), ENDLESS);
        after(before, xdp(name, budget, script, XDP_REDIRECT, Counter::Local))
    };
    let acks = to(tcp(CLIENT, here(PORT_B).as_str()).ack(1), ONE);
    let opening = to(tcp(CLIENT, here(PORT_B).as_str()).syn(), ONE);
    let six = || script(udp("[2001:db8:9::9]:40000", format!("[2001:db8::1]:{PORT_B}").as_str()), ONE, 14, 8, 40);
    vec![
        xdp("not ours: passed on", 0.0, to(tcp(CLIENT, "198.51.100.1:443"), ONE), XDP_PASS, Counter::UnderlayPassed),
        xdp(
            "published port, task on another node: tunnel on",
            200.0,
            to(tcp(CLIENT, here(PORT_FAR).as_str()), ONE),
            XDP_TX,
            Counter::Forwarded,
        ),
        xdp(
            "the same, 65,536 flows",
            200.0,
            to(tcp(CLIENT, here(PORT_FAR).as_str()), MANY),
            XDP_TX,
            Counter::Forwarded,
        ),
        known("published port, task here: known flow (UDP)", ONE),
        known("the same, 65,536 flows walked", MANY),
        known("the same, 262,144 flows walked", CAPACITY),
        after(
            Before::Made("underlay", opening),
            xdp("published port, task here: known flow (TCP)", 100.0, acks, XDP_REDIRECT, Counter::Local),
        ),
        after(
            Before::Made("underlay", six()),
            xdp("published port, task here: known flow (UDP, IPv6)", 100.0, six(), XDP_REDIRECT, Counter::Local),
        ),
        new("published port, task here: new flow (SYN), table empty at first", Before::NoFlows, 150.0),
        new("the same, table full: each displaces one", Before::Full, 150.0),
    ]
}

fn from_nodes() -> Vec<Case> {
    let inner = |packet: Packet, task: &super::world::Task| packet.macs(FAR.mac, task.mac);
    let tunnelled = |packet| script(vxlan(VNI, OTHER_VTEP, VTEP, packet), ONE, 50 + 14, 12, 20);
    let to_b = format!("{}:{TARGET}", B.ip4);
    let datagram = tunnelled(inner(udp("10.1.0.0:40000", to_b.as_str()), &B));
    let six =
        vxlan(VNI, OTHER_VTEP, VTEP, inner(udp("[fd00:b::]:40000", format!("[{}]:{TARGET}", B.ip6).as_str()), &B));
    let six = script(six, ONE, 50 + 14, 8, 40);
    let segment = tunnelled(inner(tcp("10.1.0.0:40000", to_b.as_str()).ack(1), &B));
    let bulk = xdp("tunnel off and delivery (TCP)", 100.0, segment, TC_REDIRECT, Counter::DecapTc);
    vec![
        xdp("tunnel off and delivery (UDP)", 100.0, datagram, XDP_REDIRECT, Counter::DecapXdp),
        xdp("tunnel off and delivery (UDP, IPv6)", 100.0, six, XDP_REDIRECT, Counter::DecapXdp),
        Case { hook: Hook::Tc, program: "underlay_bulk", way: Way::Single, ..bulk },
    ]
}

fn from_tasks() -> Vec<Case> {
    let tc = |name, budget, script, counter| {
        let case = xdp(name, budget, script, TC_REDIRECT, counter);
        Case { hook: Hook::Tc, program: "container", ..case }
    };
    let from_a = format!("{}:40000", A.ip4);
    let sent = |packet: Packet, dst| packet.macs(A.mac, dst);
    let vip = format!("{VIP_B}:80");
    let datagram = |flows| {
        // The sender's address is checked, so only its port varies; the address field is left alone
        // by letting it fall on the payload.
        script(sent(udp(from_a.as_str(), vip.as_str()), ROUTER), flows, 14, 60, 20)
    };
    let opening = script(sent(tcp(from_a.as_str(), vip.as_str()).syn(), ROUTER), MANY, 14, 60, 20);
    let dialled = to(udp(CLIENT, here(PORT_A).as_str()), MANY);
    let answer = |flows| back(sent(udp(format!("{}:{TARGET}", A.ip4).as_str(), CLIENT), ROUTER), flows);
    let reply = |name, flows| {
        let first = Script { flows, ..dialled.clone() };
        after(Before::Made("underlay", first), tc(name, 100.0, answer(flows), Counter::Reply))
    };
    let away = script(sent(udp(from_a.as_str(), format!("{}:{TARGET}", FAR.ip4).as_str()), FAR.mac), ONE, 14, 60, 20);
    let near = script(sent(udp(from_a.as_str(), format!("{}:{TARGET}", B.ip4).as_str()), B.mac), ONE, 14, 60, 20);
    let made = |flows| Before::Made("container", datagram(flows));
    vec![
        tc("task to task here", 0.0, near, Counter::Local),
        Case { way: Way::Single, ..tc("task to task on another node: tunnel on", 200.0, away, Counter::Encap) },
        after(made(ONE), tc("task to VIP, task here: known flow (UDP)", 100.0, datagram(ONE), Counter::Vip)),
        after(made(MANY), tc("the same, 65,536 flows walked", 100.0, datagram(MANY), Counter::Vip)),
        after(Before::NoFlows, tc("task to VIP, task here: new flow (SYN)", 150.0, opening, Counter::Vip)),
        reply("reply to a client outside, one flow", ONE),
        reply("the same, 65,536 flows walked", MANY),
    ]
}
