//! The daemon itself.

use std::collections::BTreeMap;

use super::{ContainerSummary, ImageSummary, Swarm, wire};

wire! {
    /// The body of every error.
    ErrorBody {
        message "message": String,
    }
    VersionAnswer {
        platform "Platform": PlatformName,
        components "Components": Vec<Component>,
        version "Version": String,
        api_version "ApiVersion": String,
        min_api_version "MinAPIVersion": String,
        git_commit "GitCommit": String,
        go_version "GoVersion": String,
        os "Os": String,
        arch "Arch": String,
        kernel_version "KernelVersion": String,
        build_time "BuildTime": String,
    }
    PlatformName {
        name "Name": String,
    }
    Component {
        name "Name": String,
        version "Version": String,
        details "Details": BTreeMap<String, String>,
    }
    SystemInfo {
        id "ID": String,
        containers "Containers": u64,
        containers_running "ContainersRunning": u64,
        containers_paused "ContainersPaused": u64,
        containers_stopped "ContainersStopped": u64,
        images "Images": u64,
        driver "Driver": String,
        driver_status "DriverStatus": Vec<[String; 2]>,
        plugins "Plugins": PluginNames,
        memory_limit "MemoryLimit": bool,
        swap_limit "SwapLimit": bool,
        cpu_cfs_period "CpuCfsPeriod": bool,
        cpu_cfs_quota "CpuCfsQuota": bool,
        cpu_shares "CPUShares": bool,
        cpu_set "CPUSet": bool,
        pids_limit "PidsLimit": bool,
        ipv4_forwarding "IPv4Forwarding": bool,
        bridge_nf_iptables "BridgeNfIptables": bool,
        bridge_nf_ip6tables "BridgeNfIp6tables": bool,
        debug "Debug": bool,
        oom_kill_disable "OomKillDisable": bool,
        system_time "SystemTime": String,
        logging_driver "LoggingDriver": String,
        cgroup_driver "CgroupDriver": String,
        cgroup_version "CgroupVersion": String,
        kernel_version "KernelVersion": String,
        operating_system "OperatingSystem": String,
        os_version "OSVersion": String,
        os_type "OSType": String,
        architecture "Architecture": String,
        index_server_address "IndexServerAddress": String,
        registry_config "RegistryConfig": RegistryConfig,
        ncpu "NCPU": u64,
        mem_total "MemTotal": u64,
        docker_root_dir "DockerRootDir": String,
        http_proxy "HttpProxy": String,
        https_proxy "HttpsProxy": String,
        no_proxy "NoProxy": String,
        name "Name": String,
        labels "Labels": Vec<String>,
        experimental_build "ExperimentalBuild": bool,
        server_version "ServerVersion": String,
        runtimes "Runtimes": BTreeMap<String, RuntimePath>,
        default_runtime "DefaultRuntime": String,
        swarm "Swarm": SwarmInfo,
        live_restore_enabled "LiveRestoreEnabled": bool,
        isolation "Isolation": String,
        init_binary "InitBinary": String,
        containerd_commit "ContainerdCommit": Commit,
        runc_commit "RuncCommit": Commit,
        init_commit "InitCommit": Commit,
        security_options "SecurityOptions": Vec<String>,
        warnings "Warnings": Option<Vec<String>>,
    }
    PluginNames {
        volume "Volume": Vec<String>,
        network "Network": Vec<String>,
        authorization "Authorization": Option<Vec<String>>,
        log "Log": Vec<String>,
    }
    RegistryConfig {
        insecure_registry_cidrs "InsecureRegistryCIDRs": Vec<String>,
        index_configs "IndexConfigs": BTreeMap<String, serde_json::Value>,
        mirrors "Mirrors": Vec<String>,
    }
    RuntimePath {
        path "path": String,
    }
    Commit {
        id "ID": String,
        expected "Expected": String,
    }
    SwarmInfo {
        node_id "NodeID": String,
        node_addr "NodeAddr": String,
        local_node_state "LocalNodeState": String,
        control_available "ControlAvailable": bool,
        error "Error": String,
        remote_managers "RemoteManagers": Option<Vec<RemoteManager>>,
        nodes "Nodes"?: u64,
        managers "Managers"?: u64,
        cluster "Cluster"?: Option<Swarm>,
        warnings "Warnings"?: Vec<String>,
    }
    RemoteManager {
        node_id "NodeID": String,
        addr "Addr": String,
    }
    DiskUsage {
        layers_size "LayersSize": i64,
        images "Images": Vec<ImageSummary>,
        containers "Containers": Vec<ContainerSummary>,
        volumes "Volumes": Vec<serde_json::Value>,
        build_cache "BuildCache": Vec<serde_json::Value>,
    }
    Distribution {
        descriptor "Descriptor": ImageDescriptor,
        platforms "Platforms": Vec<ImagePlatform>,
    }
    ImageDescriptor {
        media_type "mediaType": String,
        digest "digest": String,
        size "size": i64,
    }
    ImagePlatform {
        architecture "architecture": String,
        os "os": String,
    }
}
