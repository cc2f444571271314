//! Services as they are: a spec, what became of it, and what updates it.

use super::{EndpointSpec, PortConfig, ServiceSpec, wire};

wire! {
    /// The version of an object: what an update must name.
    Version {
        index "Index": u64,
    }
    Service {
        id "ID": String,
        version "Version": Version,
        created_at "CreatedAt": String,
        updated_at "UpdatedAt": String,
        spec "Spec": ServiceSpec,
        previous_spec "PreviousSpec"?: Option<ServiceSpec>,
        endpoint "Endpoint": Endpoint,
        update_status "UpdateStatus"?: Option<UpdateStatus>,
        service_status "ServiceStatus"?: Option<ServiceStatus>,
        job_status "JobStatus"?: Option<JobStatus>,
    }
    Endpoint {
        spec "Spec": EndpointSpec,
        ports "Ports"?: Vec<PortConfig>,
        virtual_ips "VirtualIPs"?: Vec<VirtualIp>,
    }
    VirtualIp {
        network_id "NetworkID"?: String,
        addr "Addr"?: String,
    }
    UpdateStatus {
        state "State"?: String,
        started_at "StartedAt"?: Option<String>,
        completed_at "CompletedAt"?: Option<String>,
        message "Message"?: String,
    }
    ServiceStatus {
        running_tasks "RunningTasks": u64,
        desired_tasks "DesiredTasks": u64,
        completed_tasks "CompletedTasks": u64,
    }
    JobStatus {
        job_iteration "JobIteration": JobIteration,
        last_execution "LastExecution"?: Option<String>,
    }
    JobIteration {
        index "Index"?: u64,
    }
    /// The answer to a creation.
    Created {
        id "ID": String,
        warnings "Warnings"?: Vec<String>,
    }
    /// The answer to an update of a service.
    Updated {
        warnings "Warnings": Option<Vec<String>>,
    }
}
