//! What becomes of a packet: the one place where a verdict or a drop reason turns into an action.

use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action};
use mesh_common::drop::DropReason;

use crate::{maps, packet};

/// What to do with a packet that is not dropped.
pub(crate) enum Verdict {
    /// Not ours, or not yet: the next in line sees it unchanged.
    Pass,
    /// Out of this interface.
    Redirect(u32),
}

/// Ends an XDP program.
#[inline(always)]
pub(crate) fn finish_xdp(outcome: Result<Verdict, DropReason>) -> u32 {
    match outcome {
        Ok(Verdict::Pass) => xdp_action::XDP_PASS,
        Ok(Verdict::Redirect(ifindex)) => packet::redirect(ifindex) as u32,
        Err(reason) => {
            maps::count_drop(reason);
            xdp_action::XDP_DROP
        }
    }
}

/// Ends a TC program. Its codes are the same for clsact and TCX but for "next": TCX_NEXT is -1,
/// and `TC_ACT_UNSPEC`, -1, is what clsact calls it.
#[inline(always)]
pub(crate) fn finish_tc(outcome: Result<Verdict, DropReason>) -> i32 {
    match outcome {
        Ok(Verdict::Pass) => NEXT,
        Ok(Verdict::Redirect(ifindex)) => packet::redirect(ifindex) as i32,
        Err(reason) => {
            maps::count_drop(reason);
            TC_ACT_SHOT as i32
        }
    }
}

/// `TCX_NEXT` and `TC_ACT_UNSPEC`.
const NEXT: i32 = -1;
