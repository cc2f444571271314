//! What becomes of a packet: the one place where a verdict or a drop reason turns into an action.
//!
//! The kernel gives a program 512 bytes of stack, those of the functions it calls included. So a
//! program is cut in steps: a function that reads headers into a room of this CPU
//! (`maps::dial_room`) and says what comes next, then one that does it. Such functions are
//! `inline(never)`, call each other at most two deep, and answer in one register ([`Packed`]).

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use mesh_common::addr::Mac;
use mesh_common::drop::DropReason;
use mesh_common::header::EthHeader;
use mesh_common::node::LOOPBACK;
use mesh_common::parse::Bytes as _;

use crate::packet::{Packet as _, TcPacket};
use crate::{maps, packet};

/// What to do with a packet that is not dropped.
pub(crate) enum Verdict {
    /// Not ours, or not yet: the next in line sees it unchanged.
    Pass,
    /// Out of this interface, as it is.
    Redirect(u32),
    /// Out of this interface to the next hop of its destination. At a TC hook only.
    Route(u32),
    /// To a process of this node, with this mark ([`packet::MARK`]: a variant without a number would
    /// leave bits undefined that the compiler reads all the same). At a TC hook only.
    Home(u32),
}

/// What a program does next with a packet it has looked at.
pub(crate) enum Step {
    /// Nothing: see [`Verdict::Pass`].
    Pass,
    /// See [`Verdict::Redirect`].
    Redirect(u32),
    /// See [`Verdict::Route`].
    Route(u32),
    /// See [`Verdict::Home`].
    Home(u32),
    /// Balance it: it dials a service.
    Balance,
    /// Give it to the task that another node chose.
    Accept,
    /// Translate it: it answers a client of the task's service.
    Reply,
    /// Send it to the endpoint of its link-layer address.
    Endpoint,
    /// Open a flow to the outside for it.
    Outside,
    /// Give it back the address behind the node's: it answers a flow that this node lent a port.
    Return,
    /// It is an ICMP message that may quote a packet of such a flow.
    Quoted,
}

/// An outcome or a step in one register, for functions that the kernel sees as functions. As an enum,
/// some of its bits would be undefined, and the verifier refuses to read those.
#[repr(transparent)]
pub(crate) struct Packed(u64);

impl Packed {
    const PASS: u64 = 0;
    const REDIRECT: u64 = 1;
    const ROUTE: u64 = 2;
    const DROP: u64 = 3;
    const BALANCE: u64 = 4;
    const ACCEPT: u64 = 5;
    const REPLY: u64 = 6;
    const ENDPOINT: u64 = 7;
    const OUTSIDE: u64 = 8;
    const RETURN: u64 = 9;
    const HOME: u64 = 10;
    const QUOTED: u64 = 11;

    #[inline(always)]
    pub(crate) fn new(outcome: Result<Verdict, DropReason>) -> Self {
        Self::of_step(outcome.map(|verdict| match verdict {
            Verdict::Pass => Step::Pass,
            Verdict::Redirect(ifindex) => Step::Redirect(ifindex),
            Verdict::Route(ifindex) => Step::Route(ifindex),
            Verdict::Home(mark) => Step::Home(mark),
        }))
    }

    #[inline(always)]
    pub(crate) fn of_step(step: Result<Step, DropReason>) -> Self {
        let (kind, number) = match step {
            Ok(Step::Pass) => (Self::PASS, 0),
            Ok(Step::Redirect(ifindex)) => (Self::REDIRECT, ifindex),
            Ok(Step::Route(ifindex)) => (Self::ROUTE, ifindex),
            Ok(Step::Home(mark)) => (Self::HOME, mark),
            Ok(Step::Balance) => (Self::BALANCE, 0),
            Ok(Step::Accept) => (Self::ACCEPT, 0),
            Ok(Step::Reply) => (Self::REPLY, 0),
            Ok(Step::Endpoint) => (Self::ENDPOINT, 0),
            Ok(Step::Outside) => (Self::OUTSIDE, 0),
            Ok(Step::Return) => (Self::RETURN, 0),
            Ok(Step::Quoted) => (Self::QUOTED, 0),
            Err(reason) => (Self::DROP, reason as u32),
        };
        Self(u64::from(number) << 8 | kind)
    }

    #[inline(always)]
    pub(crate) fn step(self) -> Result<Step, DropReason> {
        let number = (self.0 >> 8) as u32;
        match self.0 & 0xff {
            Self::REDIRECT => Ok(Step::Redirect(number)),
            Self::ROUTE => Ok(Step::Route(number)),
            Self::HOME => Ok(Step::Home(number)),
            Self::BALANCE => Ok(Step::Balance),
            Self::ACCEPT => Ok(Step::Accept),
            Self::REPLY => Ok(Step::Reply),
            Self::ENDPOINT => Ok(Step::Endpoint),
            Self::OUTSIDE => Ok(Step::Outside),
            Self::RETURN => Ok(Step::Return),
            Self::QUOTED => Ok(Step::Quoted),
            Self::DROP => Err(DropReason::from_number(number).unwrap_or(DropReason::Malformed)),
            _ => Ok(Step::Pass),
        }
    }

    #[inline(always)]
    pub(crate) fn outcome(self) -> Result<Verdict, DropReason> {
        match self.step()? {
            Step::Redirect(ifindex) => Ok(Verdict::Redirect(ifindex)),
            Step::Route(ifindex) => Ok(Verdict::Route(ifindex)),
            Step::Home(mark) => Ok(Verdict::Home(mark)),
            _ => Ok(Verdict::Pass),
        }
    }
}

/// Ends an XDP program for a frame of the interface `ingress`.
#[inline(always)]
pub(crate) fn finish_xdp(outcome: Result<Verdict, DropReason>, ingress: u32) -> u32 {
    match outcome {
        Ok(Verdict::Pass) => xdp_action::XDP_PASS,
        Ok(Verdict::Redirect(ifindex)) if ifindex == ingress => xdp_action::XDP_TX,
        Ok(Verdict::Redirect(ifindex)) => packet::redirect(ifindex) as u32,
        // XDP has no routed redirect: pipelines leave these to TC before they change anything.
        Ok(Verdict::Route(_) | Verdict::Home(_)) => xdp_action::XDP_ABORTED,
        Err(reason) => {
            maps::count_drop(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// Ends a TC program. Its codes are the same for clsact and TCX.
#[inline(always)]
pub(crate) fn finish_tc(outcome: Result<Verdict, DropReason>, packet: &mut TcPacket<'_>) -> i32 {
    match outcome {
        Ok(Verdict::Pass) => NEXT,
        Ok(Verdict::Redirect(ifindex)) => packet::redirect(ifindex) as i32,
        Ok(Verdict::Route(ifindex)) => packet::redirect_routed(ifindex) as i32,
        Ok(Verdict::Home(mark)) => {
            packet.mark(mark);
            // Not by a route: with the interface given, the kernel finds none that is local. Without one
            // it looks again on the other side, where the daemon lets own addresses come in.
            let eth = |ether_type| EthHeader { dst: Mac::ZERO, src: Mac::ZERO, ether_type };
            if let Some(old) = packet.read::<EthHeader>(0) {
                let _ = packet.write(0, &eth(old.ether_type));
            }
            packet::redirect(LOOPBACK) as i32
        }
        Err(reason) => {
            maps::count_drop(reason);
            TC_ACT_SHOT
        }
    }
}

/// `TCX_NEXT`, and what clsact calls `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;
