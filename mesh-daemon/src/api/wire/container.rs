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
}
