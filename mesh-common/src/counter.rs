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
        /// Frames of a task that went to a task on the same node.
        Local = 4,
        /// ARP requests and neighbour solicitations of a task answered from the endpoint table.
        NeighbourAnswered = 5,
    }
}
