//! Tasks: what a node runs for a service.

use super::{JobIteration, Labels, Network, PortConfig, TaskSpec, Version, wire};

wire! {
    Task {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        name "Name"?: String,
        labels "Labels": Labels,
        spec "Spec": TaskSpec,
        service_id "ServiceID"?: String,
        slot "Slot"?: u64,
        node_id "NodeID"?: String,
        status "Status": TaskStatus,
        desired_state "DesiredState"?: String,
        networks_attachments "NetworksAttachments"?: Vec<NetworkAttachment>,
        generic_resources "GenericResources"?: Vec<super::GenericResource>,
        job_iteration "JobIteration"?: Option<JobIteration>,
    }
    TaskStatus {
        timestamp "Timestamp"?: String,
        state "State"?: String,
        message "Message"?: String,
        err "Err"?: String,
        container_status "ContainerStatus"?: Option<ContainerStatus>,
        port_status "PortStatus": PortStatus,
    }
    ContainerStatus {
        container_id "ContainerID": String,
        pid "PID": i64,
        exit_code "ExitCode": i64,
    }
    PortStatus {
        ports "Ports"?: Vec<PortConfig>,
    }
    NetworkAttachment {
        network "Network": AttachedNetwork,
        addresses "Addresses"?: Vec<String>,
    }
    /// A network as the swarm stores it: another shape than [`Network`], the engine's.
    AttachedNetwork {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        spec "Spec": AttachedNetworkSpec,
        driver_state "DriverState": DriverState,
        ipam_options "IPAMOptions"?: Option<IpamOptions>,
    }
    AttachedNetworkSpec {
        name "Name": String,
        labels "Labels": Labels,
        driver_configuration "DriverConfiguration"?: Option<DriverState>,
        ipv6_enabled "IPv6Enabled"?: bool,
        internal "Internal"?: bool,
        attachable "Attachable"?: bool,
        ingress "Ingress"?: bool,
        ipam_options "IPAMOptions"?: Option<IpamOptions>,
        scope "Scope"?: String,
    }
    DriverState {
        name "Name"?: String,
        options "Options"?: Labels,
    }
    IpamOptions {
        driver "Driver"?: Option<DriverState>,
        configs "Configs"?: Vec<super::IpamConfig>,
    }
}

impl From<&Network> for AttachedNetwork {
    fn from(network: &Network) -> Self {
        let driver = |name: &str| DriverState { name: name.to_owned(), ..DriverState::default() };
        Self {
            id: network.id.clone(),
            created_at: network.created.clone(),
            updated_at: network.created.clone(),
            spec: AttachedNetworkSpec {
                name: network.name.clone(),
                labels: network.labels.clone().unwrap_or_default(),
                driver_configuration: Some(DriverState::default()),
                ipv6_enabled: network.enable_ipv6,
                internal: network.internal,
                attachable: network.attachable,
                ingress: network.ingress,
                scope: network.scope.clone(),
                ipam_options: Some(IpamOptions { driver: Some(DriverState::default()), ..IpamOptions::default() }),
                ..AttachedNetworkSpec::default()
            },
            driver_state: DriverState {
                options: network.options.clone().unwrap_or_default(),
                ..driver(&network.driver)
            },
            ipam_options: Some(IpamOptions {
                driver: Some(driver("default")),
                configs: network.ipam.config.clone().unwrap_or_default(),
                ..IpamOptions::default()
            }),
            ..Self::default()
        }
    }
}
