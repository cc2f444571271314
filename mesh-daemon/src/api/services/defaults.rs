//! What a service does where its spec says nothing: `docker service inspect --pretty` asks for it.

use crate::api::wire::{DnsConfig, EndpointSpec, Ratio, RestartPolicy, ServiceSpec, UpdateConfig};

const SECOND: i64 = 1_000_000_000;

pub(super) fn insert(spec: &mut ServiceSpec) {
    if let Some(container) = &mut spec.task_template.container_spec {
        container.stop_grace_period.get_or_insert(10 * SECOND);
        container.dns_config.get_or_insert_with(DnsConfig::default);
    }
    let restart = spec.task_template.restart_policy.get_or_insert_with(RestartPolicy::default);
    if restart.condition.is_empty() {
        restart.condition = "any".to_owned();
    }
    restart.delay.get_or_insert(5 * SECOND);
    restart.max_attempts.get_or_insert(0);
    if spec.task_template.placement.is_none() {
        spec.task_template.placement = Some(crate::api::wire::Placement::default());
    }
    let is_job = spec.mode.replicated_job.is_some() || spec.mode.global_job.is_some();
    if !is_job {
        for config in [&mut spec.update_config, &mut spec.rollback_config] {
            insert_update(config.get_or_insert_with(|| UpdateConfig { parallelism: 1, ..UpdateConfig::default() }));
        }
    }
    let endpoint = spec.endpoint_spec.get_or_insert_with(EndpointSpec::default);
    if endpoint.mode.is_empty() {
        endpoint.mode = "vip".to_owned();
    }
}

fn insert_update(config: &mut UpdateConfig) {
    if config.failure_action.is_empty() {
        config.failure_action = "pause".to_owned();
    }
    if config.monitor == 0 {
        config.monitor = 5 * SECOND;
    }
    if config.order.is_empty() {
        config.order = "stop-first".to_owned();
    }
    if config.max_failure_ratio.0 < 0.0 {
        config.max_failure_ratio = Ratio(0.0);
    }
}
