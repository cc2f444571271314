//! Containers of one node, as far as the swarm's commands read them.

use super::{Labels, wire};

wire! {
    ContainerSummary {
        id "Id": String,
        names "Names": Vec<String>,
        image "Image": String,
        image_id "ImageID": String,
        command "Command": String,
        created "Created": i64,
        ports "Ports": Vec<ContainerPort>,
        size_rw "SizeRw"?: i64,
        size_root_fs "SizeRootFs"?: i64,
        labels "Labels": Labels,
        state "State": String,
        status "Status": String,
        host_config "HostConfig": SummaryHostConfig,
        network_settings "NetworkSettings": SummaryNetworks,
        mounts "Mounts": Vec<serde_json::Value>,
    }
    SummaryHostConfig {
        network_mode "NetworkMode"?: String,
    }
    SummaryNetworks {
        networks "Networks": serde_json::Map<String, serde_json::Value>,
    }
    ContainerPort {
        ip "IP"?: String,
        private_port "PrivatePort": u16,
        public_port "PublicPort"?: u16,
        kind "Type": String,
    }
    ExecCreateRequest {
        user "User": String,
        privileged "Privileged": bool,
        tty "Tty": bool,
        attach_stdin "AttachStdin": bool,
        attach_stderr "AttachStderr": bool,
        attach_stdout "AttachStdout": bool,
        detach "Detach"?: bool,
        detach_keys "DetachKeys": String,
        env "Env": Option<Vec<String>>,
        working_dir "WorkingDir": String,
        cmd "Cmd": Vec<String>,
        console_size "ConsoleSize"?: Option<[u16; 2]>,
    }
    ExecStartRequest {
        detach "Detach": bool,
        tty "Tty": bool,
        console_size "ConsoleSize"?: Option<[u16; 2]>,
    }
    ContainerDetails {
        id "Id": String,
        created "Created": String,
        path "Path": String,
        args "Args": Vec<String>,
        state "State": ContainerState,
        image "Image": String,
        name "Name": String,
        restart_count "RestartCount": u64,
        driver "Driver": String,
        platform "Platform": String,
        exec_ids "ExecIDs": Option<Vec<String>>,
        host_config "HostConfig": DetailsHostConfig,
        mounts "Mounts": Vec<serde_json::Value>,
        config "Config": ContainerConfig,
        network_settings "NetworkSettings": DetailsNetworks,
    }
    ContainerState {
        status "Status": String,
        running "Running": bool,
        paused "Paused": bool,
        restarting "Restarting": bool,
        oom_killed "OOMKilled": bool,
        dead "Dead": bool,
        pid "Pid": u32,
        exit_code "ExitCode": i32,
        error "Error": String,
        started_at "StartedAt": String,
        finished_at "FinishedAt": String,
        health "Health"?: Option<ContainerHealth>,
    }
    ContainerHealth {
        status "Status": String,
        failing_streak "FailingStreak": u64,
        log "Log": Vec<serde_json::Value>,
    }
    DetailsHostConfig {
        network_mode "NetworkMode": String,
        log_config "LogConfig": LogConfig,
    }
    LogConfig {
        kind "Type": String,
        config "Config": Labels,
    }
    ContainerConfig {
        hostname "Hostname": String,
        user "User": String,
        exposed_ports "ExposedPorts"?: serde_json::Map<String, serde_json::Value>,
        tty "Tty": bool,
        open_stdin "OpenStdin": bool,
        env "Env": Vec<String>,
        cmd "Cmd": Vec<String>,
        image "Image": String,
        working_dir "WorkingDir": String,
        entrypoint "Entrypoint": Option<Vec<String>>,
        labels "Labels": Labels,
    }
    DetailsNetworks {
        ports "Ports": serde_json::Map<String, serde_json::Value>,
        networks "Networks": serde_json::Map<String, serde_json::Value>,
    }
    ContainerNetwork {
        network_id "NetworkID": String,
        ip_address "IPAddress": String,
        ip_prefix_len "IPPrefixLen": u8,
        global_ipv6_address "GlobalIPv6Address": String,
        global_ipv6_prefix_len "GlobalIPv6PrefixLen": u8,
        gateway "Gateway": String,
        mac_address "MacAddress": String,
    }
    WaitAnswer {
        status_code "StatusCode": i32,
    }
    ExecCreated {
        id "Id": String,
    }
    ExecDetails {
        id "ID": String,
        running "Running": bool,
        exit_code "ExitCode": Option<i32>,
        process_config "ProcessConfig": ExecProcess,
        open_stdin "OpenStdin": bool,
        open_stderr "OpenStderr": bool,
        open_stdout "OpenStdout": bool,
        can_remove "CanRemove": bool,
        container_id "ContainerID": String,
        detach_keys "DetachKeys": String,
        pid "Pid": u32,
    }
    ExecProcess {
        tty "tty": bool,
        entrypoint "entrypoint": String,
        arguments "arguments": Vec<String>,
        privileged "privileged": bool,
    }
    TopAnswer {
        titles "Titles": Vec<String>,
        processes "Processes": Vec<Vec<String>>,
    }
    StatsAnswer {
        read "read": String,
        preread "preread": String,
        name "name": String,
        id "id": String,
        pids_stats "pids_stats": PidsStats,
        cpu_stats "cpu_stats": CpuStats,
        precpu_stats "precpu_stats": CpuStats,
        memory_stats "memory_stats": MemoryStats,
        blkio_stats "blkio_stats": DiskStats,
        networks "networks": std::collections::BTreeMap<String, LinkStats>,
    }
    PidsStats {
        current "current": u64,
    }
    CpuStats {
        cpu_usage "cpu_usage": CpuUsage,
        system_cpu_usage "system_cpu_usage": u64,
        online_cpus "online_cpus": u64,
    }
    CpuUsage {
        total_usage "total_usage": u64,
    }
    MemoryStats {
        usage "usage": u64,
        limit "limit": u64,
    }
    DiskStats {
        io_service_bytes_recursive "io_service_bytes_recursive": Vec<DiskBytes>,
    }
    DiskBytes {
        op "op": String,
        value "value": u64,
    }
    LinkStats {
        rx_bytes "rx_bytes": u64,
        tx_bytes "tx_bytes": u64,
    }
}
