//! How much services are used at each node: mesh's own, not Docker's.

use super::wire;

wire! {
    /// What a node counted since its packet path began.
    NodeUsage {
        node_id "NodeID": String,
        services "Services": Vec<ServiceUsage>,
    }
    /// Of one service.
    ServiceUsage {
        service_id "ServiceID": String,
        flows "Flows": u64,
        packets "Packets": u64,
        bytes "Bytes": u64,
    }
}
