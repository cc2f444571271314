//! Why a packet died. The enum, its text, its name in JSON and the page in docs/reference come
//! from this one list.

reasons! {
    /// Index into the per-CPU array `DROPS`.
    pub enum DropReason {
        /// The frame ends inside a header.
        Truncated = 0,
        /// A header contradicts itself: impossible length, version or flags.
        Malformed = 1,
        /// VXLAN of one of our networks from an address that is not a member node.
        UnknownVtep = 2,
        /// VXLAN for a network this node has no part in.
        UnknownVni = 3,
        /// No endpoint of the network has this link-layer address.
        UnknownEndpoint = 4,
        /// The frame came in on an interface that belongs to no task.
        UnknownLink = 5,
        /// A task sent from a link-layer address that is not its own.
        SpoofedMac = 6,
        /// A task sent from an IP address that is not its own.
        SpoofedAddress = 7,
        /// Broadcast or multicast: an overlay network carries neither.
        GroupTraffic = 8,
        /// Neither IPv4, IPv6 nor ARP.
        UnknownProtocol = 9,
        /// The target node has no usable route: its neighbour entry is not resolved yet.
        NoNeighbour = 10,
        /// The kernel refused to make or take room in the frame.
        NoRoom = 11,
        /// VXLAN inside VXLAN: a task's own tunnel aimed at the overlay's port.
        Nested = 12,
        /// The network gives no answer for the address asked for by ARP or neighbour discovery.
        UnknownNeighbour = 13,
        /// The map that describes this node is empty: the daemon has not written it yet.
        NotConfigured = 14,
        /// The service has no backend that is fit; the client got a reset or "unreachable".
        NoBackend = 15,
        /// Another node sent a packet for a service that this node knows nothing of.
        UnknownService = 16,
        /// The middle of a TCP connection that nobody here knows; the sender got a reset.
        UnknownFlow = 17,
        /// A fragment that would need its ports to find the way.
        Fragment = 18,
        /// A reply to a client outside claims a source that is not a published port of this node.
        SpoofedReply = 19,
        /// A protocol that services do not carry: neither TCP, UDP nor an ICMP echo.
        UnsupportedTransport = 20,
        /// No uplink of this node leads to this address, or the node has no address of its family there. The
        /// sender was refused.
        NoRoute = 21,
        /// Does not fit into a tunnel to the backend's node; the sender got an ICMP error with the size
        /// that does, unless it allowed fragments.
        TooBig = 22,
        /// A new connection from a port from which its client has a living one to the same task, through
        /// another address: the task could not tell them apart. The client got a reset.
        PortTaken = 23,
        /// A new flow beyond what the service may have in a second on this node. The sender hears nothing: a
        /// TCP client tries again.
        OverBudget = 24,
        /// The network is internal: its tasks have no way out. The sender was refused.
        Internal = 32,
        /// No port of this node was found free for a flow to that address and port. The sender was refused.
        PortsExhausted = 33,
        /// A task's packet for an address of an overlay network that is not reached from its own; the sender
        /// was refused.
        OtherNetwork = 34,
    }
}
