//! Tells watchers of single packets: what comes, what becomes of it, and why. Owns `WATCH` and the
//! buffers behind it. Decides nothing, and changes no packet.
//!
//! A buffer belongs to the process that opened it and goes with it. The first event that finds none
//! turns the watch off, so a watcher that was killed costs nothing either.

use mesh_common::drop::DropReason;
use mesh_common::node::LOOPBACK;
use mesh_common::watch::{Event, WINDOW, Watch, verdict, wants, watcher};

use crate::dial::Dial;
use crate::maps;
use crate::packet::{self, Packet};
use crate::verdict::Verdict;

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Watcher {
    /// Follows drops and verdicts.
    Trace = watcher::TRACE,
    /// Keeps whole frames.
    Capture = watcher::CAPTURE,
}

/// Where an event is written, and how many went out lately.
pub(crate) struct Desk {
    event: Event,
    /// The window that `sent` counts.
    window: u32,
    sent: u32,
    kept_back: u32,
    /// Is the packet of the moment one that is captured?
    captured: u32,
}

/// A frame has come to the program of this hook.
///
/// A function of its own in the kernel too, that answers nothing: the verifier would follow the whole
/// program once for frames that are captured and once for those that are not.
#[inline(never)]
pub(crate) fn arrival<P: Packet>(packet: &P, hook: u32) {
    let Some(watch) = maps::watch(Watcher::Capture).filter(|watch| watch.on != 0) else { return };
    let Some(desk) = maps::desk(Watcher::Capture) else { return };
    desk.captured = u32::from(is_chosen(watch));
    if desk.captured != 0 {
        report(packet, Watcher::Capture, hook, Outcome::ARRIVED);
    }
}

/// The program of this hook has decided.
#[inline(always)]
pub(crate) fn departure<P: Packet>(packet: &P, hook: u32, outcome: &Result<Verdict, DropReason>) {
    leave(packet, hook, Outcome::of(outcome));
}

/// See [`departure`].
#[inline(never)]
fn leave<P: Packet>(packet: &P, hook: u32, outcome: Outcome) {
    if let Some(watch) = maps::watch(Watcher::Capture)
        && watch.on != 0
        && let Some(desk) = maps::desk(Watcher::Capture)
        && desk.captured != 0
    {
        desk.captured = 0;
        report(packet, Watcher::Capture, hook, outcome);
    }
    let Some(watch) = maps::watch(Watcher::Trace).filter(|watch| watch.on != 0) else { return };
    let wanted = if outcome.is_drop() {
        watch.on & wants::DROPS != 0
    } else {
        watch.on & wants::VERDICTS != 0 && is_chosen(watch)
    };
    if wanted {
        report(packet, Watcher::Trace, hook, outcome);
    }
}

/// The packet of `dial` was refused, and its refusal is in its place.
#[inline(always)]
pub(crate) fn refusal<P: Packet>(packet: &P, dial: &Dial, reason: DropReason) {
    if let Some(watch) = maps::watch(Watcher::Trace)
        && watch.on & wants::DROPS != 0
    {
        report_refusal(packet, dial, reason as u32);
    }
}

/// One in [`Watch::every`].
#[inline(always)]
fn is_chosen(watch: &Watch) -> bool {
    // The product's upper half is below `every`, each number as likely as the next.
    (u64::from(packet::random()) * u64::from(watch.every)) >> 32 == 0
}

/// What became of a packet, in one register.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Outcome(u64);

impl Outcome {
    const ARRIVED: Self = Self(verdict::ARRIVED as u64);

    #[inline(always)]
    fn is_drop(self) -> bool {
        self.0 as u8 == verdict::DROPPED
    }

    #[inline(always)]
    fn of(outcome: &Result<Verdict, DropReason>) -> Self {
        let (kind, number) = match outcome {
            Ok(Verdict::Pass) => (verdict::PASSED, 0),
            Ok(Verdict::Redirect(to)) => (verdict::REDIRECTED, *to),
            Ok(Verdict::Route(to)) => (verdict::ROUTED, *to),
            Ok(Verdict::Home(_)) => (verdict::TAKEN_HOME, LOOPBACK),
            Err(reason) => (verdict::DROPPED, *reason as u32),
        };
        Self(u64::from(number) << 8 | u64::from(kind))
    }
}

/// A function of its own in the kernel too: see `verdict`.
#[inline(never)]
fn report<P: Packet>(packet: &P, watcher: Watcher, hook: u32, outcome: Outcome) {
    let Some(watch) = maps::watch(watcher) else { return };
    let Some(desk) = maps::desk(watcher) else { return };
    if !desk.may_send(watch) {
        return;
    }
    let (kind, number) = (outcome.0 as u8, (outcome.0 >> 8) as u32);
    let dropped = kind == verdict::DROPPED;
    let (reason, to) = if dropped { (number, 0) } else { (0, number) };
    desk.event = Event { hook: hook as u8, verdict: kind, reason, to, ..Event::ZERO };
    if let Ok(dial) = maps::dial_room()
        && kind != verdict::ARRIVED
    {
        desk.event.vni = dial.vni;
    }
    desk.send(packet, watcher, watch);
}

/// See [`report`].
#[inline(never)]
fn report_refusal<P: Packet>(packet: &P, dial: &Dial, reason: u32) {
    let Some(watch) = maps::watch(Watcher::Trace) else { return };
    let Some(desk) = maps::desk(Watcher::Trace) else { return };
    if !desk.may_send(watch) {
        return;
    }
    desk.event = Event {
        src: dial.ip.src,
        dst: dial.ip.dst,
        src_port: dial.transport.ports.src,
        dst_port: dial.transport.ports.dst,
        proto: dial.ip.proto,
        verdict: verdict::REFUSED,
        hook: dial.hook,
        reason,
        vni: dial.vni,
        ..Event::ZERO
    };
    desk.send(packet, Watcher::Trace, watch);
}

impl Desk {
    /// Is there room for one more in this window?
    #[inline(always)]
    fn may_send(&mut self, watch: &Watch) -> bool {
        let window = (packet::jiffies() >> WINDOW) as u32;
        if window != self.window {
            (self.window, self.sent) = (window, 0);
        }
        if self.sent >= watch.limit {
            self.kept_back += 1;
            return false;
        }
        self.sent += 1;
        true
    }

    #[inline(always)]
    fn send<P: Packet>(&mut self, packet: &P, watcher: Watcher, watch: &Watch) {
        let len = packet.len();
        let taken = if len < watch.bytes { len } else { watch.bytes };
        self.event.time = packet::nanoseconds();
        self.event.ifindex = packet.ifindex();
        (self.event.len, self.event.taken, self.event.kept_back) = (len, taken, self.kept_back);
        self.kept_back = 0;
        if !packet.tell(watcher, &self.event, taken) {
            maps::unwatch(watcher);
        }
    }
}
