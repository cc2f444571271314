//! What the programs tell of single packets while somebody watches: events, each with the frame
//! behind it. Nobody watching costs a look at [`Watch::on`].

use crate::addr::Addr;

shared! {
    /// Element of `WATCH`: what a watcher wants to be told. Its number is the watcher's kind, see
    /// [`watcher`].
    pub struct Watch {
        /// Bits of [`wants`]; 0 while nobody watches.
        pub on: u32,
        /// Of what is not dropped, one packet in so many is told of.
        pub every: u32,
        /// Events that each CPU sends in a window of [`WINDOW`] at most.
        pub limit: u32,
        /// Bytes of each frame that are sent at most.
        pub bytes: u32,
    }

    /// What is told of a packet at one moment; the first bytes of the frame follow.
    pub struct Event {
        /// Nanoseconds since the system started.
        pub time: u64,
        /// Source of the packet that was refused; else zero, and the frame says it.
        pub src: Addr,
        /// Destination of the packet that was refused; else zero.
        pub dst: Addr,
        /// Source port of the packet that was refused.
        pub src_port: [u8; 2],
        /// Destination port of the packet that was refused.
        pub dst_port: [u8; 2],
        /// Protocol of the packet that was refused; else 0.
        pub proto: u8,
        /// One of [`hook`].
        pub hook: u8,
        /// One of [`verdict`].
        pub verdict: u8,
        /// Zero.
        pub pad: u8,
        /// Number of the drop reason, if it was dropped or refused.
        pub reason: u32,
        /// Interface the frame came in by.
        pub ifindex: u32,
        /// Interface it goes out by, if it is redirected.
        pub to: u32,
        /// Network, as far as the program knew it; else 0.
        pub vni: u32,
        /// Length of the frame.
        pub len: u32,
        /// How much of it follows.
        pub taken: u32,
        /// Events that this CPU kept back since the last one, for they were too many.
        pub kept_back: u32,
        /// Zero.
        pub pad2: [u8; 4],
    }
}

/// Jiffies of a window for [`Watch::limit`], as a shift: as long as a unit of time of a flow.
pub const WINDOW: u32 = crate::flow::TICK;

/// Numbers of the elements of `WATCH`.
pub mod watcher {
    /// `meshctl datapath trace`, by `EVENTS`.
    pub const TRACE: u32 = 0;
    /// `meshctl datapath capture`, by `CAPTURED`.
    pub const CAPTURE: u32 = 1;
    /// How many there are.
    pub const COUNT: u32 = 2;
}

/// Bits of [`Watch::on`].
pub mod wants {
    /// Packets that are dropped or refused.
    pub const DROPS: u32 = 1;
    /// What becomes of the others.
    pub const VERDICTS: u32 = 2;
    /// Frames as they come.
    pub const ARRIVALS: u32 = 4;
}

/// Values of [`Event::hook`].
pub mod hook {
    /// XDP, uplink.
    pub const UNDERLAY: u8 = 0;
    /// TC, uplink.
    pub const UNDERLAY_BULK: u8 = 1;
    /// TC, a task's link.
    pub const CONTAINER: u8 = 2;
    /// TC, a task's link, behind it.
    pub const OUTWARD: u8 = 3;
    /// TC, the loopback interface.
    pub const HOST_LEND: u8 = 4;
    /// TC, the loopback interface, behind it.
    pub const HOST: u8 = 5;
}

/// Values of [`Event::verdict`].
pub mod verdict {
    /// It has just come.
    pub const ARRIVED: u8 = 0;
    /// Passed on.
    pub const PASSED: u8 = 1;
    /// Out of an interface.
    pub const REDIRECTED: u8 = 2;
    /// Out of an interface, to the next hop of its destination.
    pub const ROUTED: u8 = 3;
    /// Dropped.
    pub const DROPPED: u8 = 4;
    /// Turned into a refusal.
    pub const REFUSED: u8 = 5;
    /// To a process of this node.
    pub const TAKEN_HOME: u8 = 6;
}
