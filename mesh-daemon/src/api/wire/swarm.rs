//! The swarm itself: how it is made, joined, left and set.

use super::{Labels, TlsInfo, Version, wire};

wire! {
    Swarm {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        spec "Spec": SwarmSpec,
        tls_info "TLSInfo": TlsInfo,
        root_rotation_in_progress "RootRotationInProgress": bool,
        default_addr_pool "DefaultAddrPool": Option<Vec<String>>,
        subnet_size "SubnetSize": u32,
        data_path_port "DataPathPort": u32,
        join_tokens "JoinTokens"?: Option<JoinTokens>,
    }
    JoinTokens {
        worker "Worker": String,
        manager "Manager": String,
    }
    SwarmSpec {
        name "Name"?: String,
        labels "Labels": Labels,
        orchestration "Orchestration": Orchestration,
        raft "Raft": Raft,
        dispatcher "Dispatcher": Dispatcher,
        ca_config "CAConfig": CaConfig,
        task_defaults "TaskDefaults": TaskDefaults,
        encryption_config "EncryptionConfig": EncryptionConfig,
    }
    Orchestration {
        task_history_retention_limit "TaskHistoryRetentionLimit"?: Option<i64>,
    }
    Raft {
        snapshot_interval "SnapshotInterval"?: u64,
        keep_old_snapshots "KeepOldSnapshots"?: Option<u64>,
        log_entries_for_slow_followers "LogEntriesForSlowFollowers"?: u64,
        election_tick "ElectionTick": i64,
        heartbeat_tick "HeartbeatTick": i64,
    }
    Dispatcher {
        heartbeat_period "HeartbeatPeriod"?: i64,
    }
    CaConfig {
        node_cert_expiry "NodeCertExpiry"?: i64,
        external_cas "ExternalCAs"?: Vec<serde_json::Value>,
        signing_ca_cert "SigningCACert"?: String,
        signing_ca_key "SigningCAKey"?: String,
        force_rotate "ForceRotate"?: u64,
    }
    TaskDefaults {
        log_driver "LogDriver"?: Option<super::LogDriver>,
    }
    EncryptionConfig {
        auto_lock_managers "AutoLockManagers": bool,
    }
    InitRequest {
        listen_addr "ListenAddr": String,
        advertise_addr "AdvertiseAddr": String,
        data_path_addr "DataPathAddr": String,
        data_path_port "DataPathPort": u32,
        force_new_cluster "ForceNewCluster": bool,
        spec "Spec": SwarmSpec,
        auto_lock_managers "AutoLockManagers": bool,
        availability "Availability": String,
        default_addr_pool "DefaultAddrPool": Vec<String>,
        subnet_size "SubnetSize": u32,
    }
    JoinRequest {
        listen_addr "ListenAddr": String,
        advertise_addr "AdvertiseAddr": String,
        data_path_addr "DataPathAddr": String,
        remote_addrs "RemoteAddrs": Vec<String>,
        join_token "JoinToken": String,
        availability "Availability": String,
    }
    UnlockRequest {
        unlock_key "UnlockKey": String,
    }
}
