//! What a user asks of a service: `ServiceSpec` and all below it.

use super::{Labels, Ratio, wire};

wire! {
    ServiceSpec {
        name "Name": String,
        labels "Labels": Labels,
        task_template "TaskTemplate": TaskSpec,
        mode "Mode": ServiceMode,
        update_config "UpdateConfig"?: Option<UpdateConfig>,
        rollback_config "RollbackConfig"?: Option<UpdateConfig>,
        networks "Networks"?: Vec<NetworkAttachmentConfig>,
        endpoint_spec "EndpointSpec"?: Option<EndpointSpec>,
    }
    TaskSpec {
        container_spec "ContainerSpec"?: Option<ContainerSpec>,
        resources "Resources"?: Option<ResourceRequirements>,
        restart_policy "RestartPolicy"?: Option<RestartPolicy>,
        placement "Placement"?: Option<Placement>,
        networks "Networks"?: Vec<NetworkAttachmentConfig>,
        log_driver "LogDriver"?: Option<LogDriver>,
        force_update "ForceUpdate": u64,
        runtime "Runtime"?: String,
    }
    ContainerSpec {
        image "Image"?: String,
        labels "Labels"?: Labels,
        command "Command"?: Vec<String>,
        args "Args"?: Vec<String>,
        hostname "Hostname"?: String,
        env "Env"?: Vec<String>,
        dir "Dir"?: String,
        user "User"?: String,
        groups "Groups"?: Vec<String>,
        privileges "Privileges"?: Option<Privileges>,
        init "Init"?: Option<bool>,
        stop_signal "StopSignal"?: String,
        tty "TTY"?: bool,
        open_stdin "OpenStdin"?: bool,
        read_only "ReadOnly"?: bool,
        mounts "Mounts"?: Vec<Mount>,
        stop_grace_period "StopGracePeriod"?: Option<i64>,
        healthcheck "Healthcheck"?: Option<Healthcheck>,
        hosts "Hosts"?: Vec<String>,
        dns_config "DNSConfig"?: Option<DnsConfig>,
        secrets "Secrets"?: Vec<SecretReference>,
        configs "Configs"?: Vec<ConfigReference>,
        isolation "Isolation"?: String,
        sysctls "Sysctls"?: Labels,
        capability_add "CapabilityAdd"?: Vec<String>,
        capability_drop "CapabilityDrop"?: Vec<String>,
        ulimits "Ulimits"?: Vec<Ulimit>,
        oom_score_adj "OomScoreAdj"?: i64,
    }
    Privileges {
        credential_spec "CredentialSpec": Option<serde_json::Value>,
        selinux_context "SELinuxContext": Option<serde_json::Value>,
        seccomp "Seccomp"?: Option<serde_json::Value>,
        apparmor "AppArmor"?: Option<serde_json::Value>,
        no_new_privileges "NoNewPrivileges"?: bool,
    }
    Mount {
        kind "Type"?: String,
        source "Source"?: String,
        target "Target"?: String,
        read_only "ReadOnly"?: bool,
        consistency "Consistency"?: String,
        bind_options "BindOptions"?: Option<BindOptions>,
        volume_options "VolumeOptions"?: Option<VolumeOptions>,
        tmpfs_options "TmpfsOptions"?: Option<TmpfsOptions>,
    }
    BindOptions {
        propagation "Propagation"?: String,
        non_recursive "NonRecursive"?: bool,
        create_mountpoint "CreateMountpoint"?: bool,
    }
    VolumeOptions {
        no_copy "NoCopy"?: bool,
        labels "Labels"?: Labels,
        subpath "Subpath"?: String,
        driver_config "DriverConfig"?: Option<Driver>,
    }
    TmpfsOptions {
        size_bytes "SizeBytes"?: i64,
        mode "Mode"?: u32,
    }
    Driver {
        name "Name"?: String,
        options "Options"?: Labels,
    }
    LogDriver {
        name "Name"?: String,
        options "Options"?: Labels,
    }
    Healthcheck {
        test "Test"?: Vec<String>,
        interval "Interval"?: i64,
        timeout "Timeout"?: i64,
        start_period "StartPeriod"?: i64,
        start_interval "StartInterval"?: i64,
        retries "Retries"?: i64,
    }
    DnsConfig {
        nameservers "Nameservers"?: Vec<String>,
        search "Search"?: Vec<String>,
        options "Options"?: Vec<String>,
    }
    FileTarget {
        name "Name": String,
        uid "UID": String,
        gid "GID": String,
        mode "Mode": u32,
    }
    SecretReference {
        file "File": Option<FileTarget>,
        secret_id "SecretID": String,
        secret_name "SecretName": String,
    }
    ConfigReference {
        file "File"?: Option<FileTarget>,
        runtime "Runtime"?: Option<serde_json::Value>,
        config_id "ConfigID": String,
        config_name "ConfigName": String,
    }
    Ulimit {
        name "Name": String,
        hard "Hard": i64,
        soft "Soft": i64,
    }
    ResourceRequirements {
        limits "Limits"?: Option<Resources>,
        reservations "Reservations"?: Option<Resources>,
    }
    Resources {
        nano_cpus "NanoCPUs"?: i64,
        memory_bytes "MemoryBytes"?: i64,
        pids "Pids"?: i64,
        generic_resources "GenericResources"?: Vec<GenericResource>,
    }
    GenericResource {
        named "NamedResourceSpec"?: Option<NamedResource>,
        discrete "DiscreteResourceSpec"?: Option<DiscreteResource>,
    }
    NamedResource {
        kind "Kind": String,
        value "Value": String,
    }
    DiscreteResource {
        kind "Kind": String,
        value "Value": i64,
    }
    RestartPolicy {
        condition "Condition"?: String,
        delay "Delay"?: Option<i64>,
        max_attempts "MaxAttempts"?: Option<u64>,
        window "Window"?: Option<i64>,
    }
    Placement {
        constraints "Constraints"?: Vec<String>,
        preferences "Preferences"?: Vec<PlacementPreference>,
        max_replicas "MaxReplicas"?: u64,
        platforms "Platforms"?: Vec<Platform>,
    }
    PlacementPreference {
        spread "Spread": Option<SpreadOver>,
    }
    SpreadOver {
        descriptor "SpreadDescriptor": String,
    }
    Platform {
        architecture "Architecture"?: String,
        os "OS"?: String,
    }
    NetworkAttachmentConfig {
        target "Target"?: String,
        aliases "Aliases"?: Vec<String>,
        driver_opts "DriverOpts"?: Labels,
    }
    ServiceMode {
        replicated "Replicated"?: Option<Replicated>,
        global "Global"?: Option<GlobalMode>,
        replicated_job "ReplicatedJob"?: Option<ReplicatedJob>,
        global_job "GlobalJob"?: Option<GlobalMode>,
    }
    Replicated {
        replicas "Replicas"?: Option<u64>,
    }
    ReplicatedJob {
        max_concurrent "MaxConcurrent"?: Option<u64>,
        total_completions "TotalCompletions"?: Option<u64>,
    }
    GlobalMode {
    }
    UpdateConfig {
        parallelism "Parallelism": u64,
        delay "Delay"?: i64,
        failure_action "FailureAction"?: String,
        monitor "Monitor"?: i64,
        max_failure_ratio "MaxFailureRatio": Ratio,
        order "Order": String,
    }
    EndpointSpec {
        mode "Mode"?: String,
        ports "Ports"?: Vec<PortConfig>,
    }
    PortConfig {
        name "Name"?: String,
        protocol "Protocol"?: String,
        target_port "TargetPort"?: u32,
        published_port "PublishedPort"?: u32,
        publish_mode "PublishMode"?: String,
    }
}

impl ServiceSpec {
    /// As a manager keeps it: with what it fills in.
    pub fn into_kept(mut self) -> Self {
        let default = |text: &mut String, word: &str| {
            if text.is_empty() {
                word.clone_into(text);
            }
        };
        if let Some(container) = &mut self.task_template.container_spec {
            default(&mut container.isolation, "default");
        }
        let mode = &mut self.mode;
        let is_set = mode.global.is_some() || mode.replicated_job.is_some() || mode.global_job.is_some();
        if !is_set {
            mode.replicated.get_or_insert_with(Replicated::default).replicas.get_or_insert(1);
        }
        if let Some(job) = &mut mode.replicated_job {
            let concurrent = *job.max_concurrent.get_or_insert(1);
            job.total_completions.get_or_insert(concurrent);
        }
        // Traefik sees no network of a service whose mode is not said.
        if let Some(endpoint) = &mut self.endpoint_spec {
            default(&mut endpoint.mode, "vip");
            for port in &mut endpoint.ports {
                default(&mut port.protocol, "tcp");
                default(&mut port.publish_mode, "ingress");
            }
        }
        // The runtime is the task's in the model, and put back when a service is shown.
        if self.task_template.runtime == "container" {
            self.task_template.runtime.clear();
        }
        self
    }
}
