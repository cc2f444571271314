//! Networks, in the engine's shape.

use super::{Labels, wire};

wire! {
    Network {
        name "Name": String,
        id "Id": String,
        created "Created": String,
        scope "Scope": String,
        driver "Driver": String,
        enable_ipv4 "EnableIPv4"?: bool,
        enable_ipv6 "EnableIPv6": bool,
        ipam "IPAM": Ipam,
        internal "Internal": bool,
        attachable "Attachable": bool,
        ingress "Ingress": bool,
        config_from "ConfigFrom": ConfigFrom,
        config_only "ConfigOnly": bool,
        containers "Containers": Option<serde_json::Map<String, serde_json::Value>>,
        options "Options": Option<Labels>,
        labels "Labels": Option<Labels>,
        peers "Peers"?: Vec<NetworkPeer>,
        services "Services"?: serde_json::Map<String, serde_json::Value>,
    }
    ConfigFrom {
        network "Network": String,
    }
    Ipam {
        driver "Driver": String,
        options "Options": Option<Labels>,
        config "Config": Option<Vec<IpamConfig>>,
    }
    IpamConfig {
        subnet "Subnet"?: String,
        ip_range "IPRange"?: String,
        gateway "Gateway"?: String,
        auxiliary_addresses "AuxiliaryAddresses"?: Labels,
    }
    NetworkPeer {
        name "Name": String,
        ip "IP": String,
    }
    NetworkCreateRequest {
        name "Name": String,
        check_duplicate "CheckDuplicate"?: bool,
        driver "Driver": String,
        scope "Scope": String,
        enable_ipv4 "EnableIPv4"?: Option<bool>,
        enable_ipv6 "EnableIPv6"?: Option<bool>,
        ipam "IPAM": Option<Ipam>,
        internal "Internal": bool,
        attachable "Attachable": bool,
        ingress "Ingress": bool,
        config_only "ConfigOnly": bool,
        config_from "ConfigFrom": Option<ConfigFrom>,
        options "Options": Option<Labels>,
        labels "Labels": Option<Labels>,
    }
    NetworkCreated {
        id "Id": String,
        warning "Warning": String,
    }
}
