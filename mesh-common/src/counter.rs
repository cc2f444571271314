//! What is counted on every node, by which program saw it.

reasons! {
    /// Index into the per-CPU array `COUNTERS`.
    pub enum Counter {
        /// Frames of the uplink that are not ours and went to the host's stack untouched.
        UnderlayPassed = 0,
        /// VXLAN frames whose inner frame went to a local task, by XDP.
        DecapXdp = 1,
        /// VXLAN frames whose inner frame went to a local task, by TC (after GRO).
        DecapTc = 2,
        /// Frames of a task that went to another node inside VXLAN.
        Encap = 3,
        /// Packets that went to a task on this node: of its neighbours, and of clients of its service.
        Local = 4,
        /// ARP requests and neighbour solicitations of a task answered from the endpoint table.
        NeighbourAnswered = 5,
        /// Packets of tasks to a VIP.
        Vip = 6,
        /// Packets of tasks that were given their flow's source: the address dialled, or, of flows to the outside, this node's.
        Reply = 7,
        /// Replies of other nodes' tasks that this node, which was dialled, sent to the client.
        ReplyForwarded = 8,
        /// Flows that were new.
        FlowNew = 9,
        /// Flows that lost their place to a new one before they ended.
        FlowEvicted = 10,
        /// Packets of flows that the present backend does not know, handed to the one before.
        HandedOn = 11,
        /// Packets to a service that went to a backend on another node.
        Forwarded = 12,
        /// Packets of this node's own processes to a published port.
        FromHost = 32,
        /// Flows that got a port of this node: of tasks to the outside, and of the node's own processes.
        Masqueraded = 33,
        /// Packets that came to such a port, and were given back their own address.
        Unmasqueraded = 34,
        /// ICMP errors about such a flow, given to its owner.
        ErrorReturned = 35,
    }
}
