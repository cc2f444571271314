use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::{AllocateError, Allocator, DYNAMIC, PortError};
use crate::model::cluster::Cluster;
use crate::model::id::{ClusterId, NetworkId, ServiceId, TaskId};
use crate::model::meta::Annotations;
use crate::model::network::{IpamConfig, Network, NetworkSpec, Vni};
use crate::model::service::{EndpointMode, Port, Protocol, PublishMode, Service, ServiceSpec};
use crate::model::state::TaskState;
use crate::model::task::{NetworkAttachmentSpec, Task, TaskSpec};

fn cluster() -> Cluster {
    Cluster::new(ClusterId::from_u128(0xab_cdef_0123 << 88))
}

fn allocator() -> Allocator {
    Allocator::load(&cluster(), [], [], [])
}

fn network(number: u128, change: impl FnOnce(&mut NetworkSpec)) -> Network {
    let annotations = Annotations::named(format!("net{number}"));
    let mut spec = NetworkSpec { annotations, ..NetworkSpec::default() };
    change(&mut spec);
    Network::new(NetworkId::from_u128(number), spec)
}

fn with_subnet(number: u128, subnet: &str) -> Network {
    let subnet = Some(subnet.parse().unwrap());
    network(number, |spec| spec.ipam = vec![IpamConfig { subnet, ..IpamConfig::default() }])
}

fn allocated(allocator: &mut Allocator, network: &Network) -> Network {
    allocator.allocate_network(network).unwrap().unwrap()
}

fn attach(networks: &[&Network]) -> Vec<NetworkAttachmentSpec> {
    let spec = |network: &&Network| NetworkAttachmentSpec {
        network_id: network.id,
        aliases: Vec::new(),
        driver_options: Default::default(),
        addresses: Vec::new(),
    };
    networks.iter().map(spec).collect()
}

fn service(number: u128, networks: &[&Network], ports: Vec<Port>) -> Service {
    let mut spec = ServiceSpec::default();
    spec.task.networks = attach(networks);
    spec.endpoint.ports = ports;
    Service::new(ServiceId::from_u128(number), spec)
}

fn port(published_port: u16, target_port: u16) -> Port {
    Port { published_port, target_port, ..Port::default() }
}

fn task(number: u128, service: &Service) -> Task {
    Task::new(TaskId::from_u128(number), Some(service.id), service.spec.task.clone())
}

fn addresses(allocator: &mut Allocator, task: &Task, service: &Service) -> Result<Vec<String>, AllocateError> {
    let attachments = allocator.allocate_task(task, Some(service))?;
    Ok(attachments.iter().flat_map(|attachment| &attachment.addresses).map(ToString::to_string).collect())
}

#[test]
fn networks_get_the_next_subnet_and_number() {
    let mut allocator = allocator();
    for (number, subnet) in [(1, "10.0.0.0/24"), (2, "10.0.1.0/24"), (3, "10.0.2.0/24")] {
        let network = allocated(&mut allocator, &network(number, |_| ()));
        assert_eq!(network.subnets[0].subnet, subnet.parse().unwrap());
        assert_eq!(network.subnets[0].gateway.to_string(), subnet.replace(".0/24", ".1"));
        assert_eq!(network.vni, Some(Vni(4095 + u32::try_from(number).unwrap())));
    }
}

#[test]
fn a_subnet_given_back_is_given_again_and_one_asked_for_is_left_out() {
    let mut allocator = allocator();
    allocated(&mut allocator, &with_subnet(1, "10.0.1.0/25"));
    let first = allocated(&mut allocator, &network(2, |_| ()));
    let second = allocated(&mut allocator, &network(3, |_| ()));
    assert_eq!(first.subnets[0].subnet.to_string(), "10.0.0.0/24");
    assert_eq!(second.subnets[0].subnet.to_string(), "10.0.2.0/24");
    allocator.free_network(&first);
    let third = allocated(&mut allocator, &network(4, |_| ()));
    assert_eq!((third.subnets, third.vni), (first.subnets, first.vni));
}

#[test]
fn both_families_come_from_pools_of_their_own() {
    let mut allocator = allocator();
    let first = allocated(&mut allocator, &network(1, |spec| spec.ipv6 = true));
    let second = allocated(&mut allocator, &network(2, |spec| (spec.ipv4, spec.ipv6) = (false, true)));
    let subnets = |network: &Network| -> Vec<_> { network.subnets.iter().map(|one| one.subnet.to_string()).collect() };
    assert_eq!(subnets(&first), ["10.0.0.0/24", "fdab:cdef:123::/64"]);
    assert_eq!(subnets(&second), ["fdab:cdef:123:1::/64"]);
}

#[test]
fn what_a_network_cannot_have_is_named() {
    let mut allocator = allocator();
    allocated(&mut allocator, &with_subnet(1, "10.9.0.0/16"));
    let overlap = allocator.allocate_network(&with_subnet(2, "10.9.3.0/24"));
    assert_eq!(overlap, Err(AllocateError::Overlap("10.9.3.0/24".parse().unwrap())));
    let mut gateway = with_subnet(3, "10.8.0.0/24");
    gateway.spec.ipam[0].gateway = Some("10.7.0.1".parse().unwrap());
    assert!(matches!(allocator.allocate_network(&gateway), Err(AllocateError::Gateway { .. })));
    for wanted in ["4096", "0", "16777216", "x"] {
        let option = |spec: &mut NetworkSpec| {
            spec.options.insert("com.docker.network.driver.overlay.vxlanid_list".into(), wanted.into());
        };
        assert_eq!(allocator.allocate_network(&network(4, option)), Err(AllocateError::Vni(wanted.into())));
    }
    // Nothing was given to those who were refused.
    assert_eq!(allocated(&mut allocator, &with_subnet(5, "10.8.0.0/24")).vni, Some(Vni(4097)));
}

#[test]
fn pools_end() {
    let mut cluster = cluster();
    cluster.default_address_pools = vec!["10.1.0.0/30".parse().unwrap()];
    cluster.subnet_size = 31;
    let mut allocator = Allocator::load(&cluster, [], [], []);
    for number in 1..3 {
        allocated(&mut allocator, &network(number, |_| ()));
    }
    assert_eq!(allocator.allocate_network(&network(3, |_| ())), Err(AllocateError::PoolsExhausted));
}

#[test]
fn networks_of_a_node_need_nothing() {
    let bridge = network(1, |spec| spec.driver = "bridge".into());
    assert_eq!(allocator().allocate_network(&bridge), Ok(None));
}

#[test]
fn a_service_gets_an_address_in_each_of_its_networks_and_one_for_its_ports() {
    let mut allocator = allocator();
    let ingress = allocated(&mut allocator, &network(1, |spec| spec.ingress = true));
    let own = allocated(&mut allocator, &network(2, |spec| spec.ipv6 = true));
    let mut web = service(1, &[&own], vec![port(80, 8080)]);
    let endpoint = allocator.allocate_service(&web).unwrap().unwrap();
    let vips: Vec<_> = endpoint.vips.iter().map(|vip| (vip.network_id, vip.address.to_string())).collect();
    assert_eq!(
        vips,
        [
            (own.id, "10.0.1.2/24".to_owned()),
            (own.id, "fdab:cdef:123::2/64".to_owned()),
            (ingress.id, "10.0.0.2/24".to_owned())
        ]
    );
    web.endpoint = Some(endpoint);
    assert_eq!(allocator.allocate_service(&web), Ok(None));
    web.spec.endpoint.mode = EndpointMode::Dnsrr;
    web.spec.endpoint.ports.clear();
    assert_eq!(allocator.allocate_service(&web).unwrap().unwrap().vips, []);
}

#[test]
fn a_service_without_networks_and_ports_gets_no_address() {
    let endpoint = allocator().allocate_service(&service(1, &[], Vec::new())).unwrap().unwrap();
    assert_eq!((endpoint.vips, endpoint.ports), (Vec::new(), Vec::new()));
}

#[test]
fn ports_are_kept_chosen_and_refused() {
    let mut allocator = allocator();
    let mut web = service(1, &[], vec![port(0, 80), port(30_000, 81)]);
    let endpoint = allocator.allocate_service(&web).unwrap().unwrap();
    let published = |ports: &[Port]| -> Vec<_> { ports.iter().map(|port| port.published_port).collect() };
    assert_eq!(published(&endpoint.ports), [30_001, 30_000]);
    web.endpoint = Some(endpoint);
    web.spec.endpoint.ports.push(port(0, 82));
    let endpoint = allocator.allocate_service(&web).unwrap().unwrap();
    assert_eq!(published(&endpoint.ports), [30_001, 30_000, 30_002]);
    web.endpoint = Some(endpoint);

    let other = service(2, &[], vec![port(30_000, 80)]);
    let refused = PortError::InUse { port: 30_000, service: web.id };
    assert_eq!(allocator.allocate_service(&other), Err(refused.into()));
    let udp = Port { protocol: Protocol::Udp, ..port(30_000, 80) };
    assert!(allocator.allocate_service(&service(3, &[], vec![udp])).is_ok());
    allocator.free_service(&web);
    assert!(allocator.allocate_service(&other).is_ok());
}

#[test]
fn a_host_port_is_the_nodes_affair() {
    let mut allocator = allocator();
    let host = Port { publish_mode: PublishMode::Host, ..port(0, 80) };
    let endpoint = allocator.allocate_service(&service(1, &[], vec![host])).unwrap().unwrap();
    assert_eq!(endpoint.ports[0].published_port, 0);
    assert_eq!(endpoint.vips, []);
}

#[test]
fn dynamic_ports_end() {
    let mut allocator = allocator();
    let all = DYNAMIC.map(|target| port(0, target)).collect();
    allocator.allocate_service(&service(1, &[], all)).unwrap();
    let exhausted = PortError::Exhausted { protocol: Protocol::Tcp };
    assert_eq!(allocator.allocate_service(&service(2, &[], vec![port(0, 1)])), Err(exhausted.into()));
}

#[test]
fn a_full_network_gives_nothing_and_an_address_given_back_is_the_last_to_be_given_again() {
    let mut allocator = allocator();
    let small = allocated(&mut allocator, &with_subnet(1, "10.5.0.0/29"));
    let web = service(1, &[&small], Vec::new());
    let mut tasks: Vec<_> = (1..=5).map(|number| task(number, &web)).collect();
    for (task, last) in tasks.iter_mut().zip(2..) {
        task.networks = allocator.allocate_task(task, Some(&web)).unwrap();
        assert_eq!(task.networks[0].addresses[0].to_string(), format!("10.5.0.{last}/29"));
    }
    let full = AllocateError::AddressesExhausted("net1".into());
    assert_eq!(addresses(&mut allocator, &task(6, &web), &web), Err(full));
    allocator.free_task(&tasks[1]);
    assert_eq!(addresses(&mut allocator, &task(6, &web), &web), Ok(vec!["10.5.0.3/29".into()]));
}

#[test]
fn a_task_that_publishes_and_has_no_network_is_in_the_one_of_ports() {
    let mut allocator = allocator();
    let ingress = allocated(&mut allocator, &network(1, |spec| spec.ingress = true));
    let web = service(1, &[], vec![port(80, 80)]);
    let attachments = allocator.allocate_task(&task(1, &web), Some(&web)).unwrap();
    assert_eq!(attachments[0].network_id, ingress.id);
    let quiet = service(2, &[], Vec::new());
    assert_eq!(allocator.allocate_task(&task(2, &quiet), Some(&quiet)), Ok(Vec::new()));
}

#[test]
fn an_address_asked_for_is_given_once() {
    let mut allocator = allocator();
    let net = allocated(&mut allocator, &network(1, |_| ()));
    let mut web = service(1, &[&net], Vec::new());
    web.spec.task.networks[0].addresses = vec!["10.0.0.77".parse().unwrap()];
    assert_eq!(addresses(&mut allocator, &task(1, &web), &web), Ok(vec!["10.0.0.77/24".into()]));
    assert!(matches!(addresses(&mut allocator, &task(2, &web), &web), Err(AllocateError::Address { .. })));
}

#[test]
fn a_network_that_is_missing_is_named() {
    let missing = network(9, |_| ());
    let web = service(1, &[&missing], Vec::new());
    let error = addresses(&mut allocator(), &task(1, &web), &web);
    assert_eq!(error, Err(AllocateError::NetworkNotReady(missing.id)));
}

/// What a new leader learns from the objects is what the old one knew.
#[test]
fn a_new_leader_gives_nothing_twice() {
    let mut old = allocator();
    let net = allocated(&mut old, &network(1, |spec| spec.ingress = true));
    let mut web = service(1, &[&net], vec![port(0, 80)]);
    web.endpoint = old.allocate_service(&web).unwrap();
    let mut running = task(1, &web);
    running.networks = old.allocate_task(&running, Some(&web)).unwrap();
    let mut ended = task(2, &web);
    ended.networks = old.allocate_task(&ended, Some(&web)).unwrap();
    ended.status.state = TaskState::Failed;

    let mut new = Allocator::load(&cluster(), [&net], [&web], [&running, &ended]);
    assert_eq!(addresses(&mut new, &task(3, &web), &web), Ok(vec!["10.0.0.4/24".into()]));
    assert_eq!(new.allocate_network(&network(2, |_| ())).unwrap().unwrap().vni, Some(Vni(4097)));
    let other = service(2, &[], vec![port(0, 80)]);
    assert_eq!(new.allocate_service(&other).unwrap().unwrap().ports[0].published_port, 30_001);
    assert_eq!(new.allocate_network(&net), Ok(None));
    assert_eq!(new.allocate_service(&web), Ok(None));
}

proptest! {
    #[test]
    fn no_address_is_had_by_two(steps in proptest::collection::vec((any::<bool>(), 0_usize..20), 1..200)) {
        let mut allocator = allocator();
        let net = allocated(&mut allocator, &with_subnet(1, "10.5.0.0/28"));
        let web = service(1, &[&net], Vec::new());
        let mut alive: Vec<Task> = Vec::new();
        for (number, (gives, which)) in (1..).zip(steps) {
            if gives {
                let mut task = Task::new(TaskId::from_u128(number), None, TaskSpec::default());
                task.spec.networks = web.spec.task.networks.clone();
                match allocator.allocate_task(&task, None) {
                    Ok(networks) => { task.networks = networks; alive.push(task); }
                    Err(error) => {
                        prop_assert_eq!(error, AllocateError::AddressesExhausted("net1".into()));
                        prop_assert_eq!(alive.len(), 13);
                    }
                }
            } else if !alive.is_empty() {
                allocator.free_task(&alive.swap_remove(which % alive.len()));
            }
            let used: BTreeSet<IpAddr> = alive.iter().map(|task| task.networks[0].addresses[0].address).collect();
            prop_assert_eq!(used.len(), alive.len());
        }
    }
}
