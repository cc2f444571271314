//! Nodes of the swarm.

use super::{Labels, Platform, Version, wire};

wire! {
    Node {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        spec "Spec": NodeSpec,
        description "Description": NodeDescription,
        status "Status": NodeStatus,
        manager_status "ManagerStatus"?: Option<ManagerStatus>,
    }
    NodeSpec {
        name "Name"?: String,
        labels "Labels": Labels,
        role "Role"?: String,
        availability "Availability"?: String,
    }
    NodeDescription {
        hostname "Hostname"?: String,
        platform "Platform"?: Platform,
        resources "Resources"?: super::Resources,
        engine "Engine"?: EngineDescription,
        tls_info "TLSInfo"?: TlsInfo,
    }
    EngineDescription {
        engine_version "EngineVersion"?: String,
        labels "Labels"?: Labels,
        plugins "Plugins"?: Vec<EnginePlugin>,
    }
    EnginePlugin {
        kind "Type"?: String,
        name "Name"?: String,
    }
    TlsInfo {
        trust_root "TrustRoot"?: String,
        cert_issuer_subject "CertIssuerSubject"?: String,
        cert_issuer_public_key "CertIssuerPublicKey"?: String,
    }
    NodeStatus {
        state "State"?: String,
        message "Message"?: String,
        addr "Addr"?: String,
    }
    ManagerStatus {
        leader "Leader"?: bool,
        reachability "Reachability"?: String,
        addr "Addr"?: String,
    }
}
