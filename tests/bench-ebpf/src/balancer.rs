//! The reference balancer: what a load balancer in XDP usually looks like.
//!
//! Service by a hash map, connection by an LRU hash map with a time stamp, backend by a hash map,
//! address rewritten with the checksum helper. IPv4 and TCP or UDP only, no tunnel, no refusals:
//! less than mesh does with such a packet.

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::btf_maps::{HashMap, LruHashMap, PerCpuArray};
use aya_ebpf::helpers::generated::{bpf_csum_diff, bpf_ktime_get_ns};
use aya_ebpf::macros::{btf_map, xdp};
use aya_ebpf::programs::XdpContext;

use crate::packet::at;

#[repr(C)]
#[derive(Clone, Copy)]
struct ServiceKey {
    addr: u32,
    port: u16,
    proto: u16,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Service {
    first: u32,
    backends: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Connection {
    client: u32,
    dialled: u32,
    ports: [u16; 2],
    proto: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct State {
    seen: u64,
    packets: u64,
    backend: u32,
    zero: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Backend {
    addr: u32,
    port: u16,
    mac: [u8; 6],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    start: [u8; 8],
    ttl: u8,
    proto: u8,
    checksum: u16,
    src: u32,
    dst: u32,
}

#[btf_map]
static REF_SERVICES: HashMap<ServiceKey, Service, 65536> = HashMap::new();
#[btf_map]
static REF_BACKENDS: HashMap<u32, Backend, 131072> = HashMap::new();
#[btf_map]
static REF_CONNECTIONS: LruHashMap<Connection, State, 262144> = LruHashMap::new();
#[btf_map]
static REF_PACKETS: PerCpuArray<u64, 4> = PerCpuArray::new();

const ETH: usize = 14;
const TCP: u8 = 6;
const UDP: u8 = 17;
const L4: usize = ETH + 20;

#[xdp]
fn reference_balancer(ctx: XdpContext) -> u32 {
    balance(ctx.data(), ctx.data_end()).unwrap_or(xdp_action::XDP_PASS)
}

#[inline(always)]
fn balance(data: usize, end: usize) -> Option<u32> {
    let ether_type = at::<u16>(data, end, 12)?;
    let ip = at::<Ipv4>(data, end, ETH)?;
    let ports = at::<[u16; 2]>(data, end, L4)?;
    // SAFETY: `at` checked the bounds of each; nothing moves the packet.
    let (ether_type, header, [src_port, dst_port]) = unsafe { (ether_type.read(), ip.read(), ports.read()) };
    if ether_type != 0x0800_u16.to_be() || header.start[0] != 0x45 || (header.proto != TCP && header.proto != UDP) {
        return None;
    }
    let key = ServiceKey { addr: header.dst, port: dst_port, proto: u16::from(header.proto) };
    // SAFETY: plain bytes, copied at once.
    let service = *unsafe { REF_SERVICES.get(key) }?;
    let connection = Connection {
        client: header.src,
        dialled: header.dst,
        ports: [src_port, dst_port],
        proto: u32::from(header.proto),
    };
    let number = connect(&connection, &service)?;
    // SAFETY: plain bytes, copied at once.
    let backend = *unsafe { REF_BACKENDS.get(number) }?;
    rewrite(data, end, &header, dst_port, &backend)?;
    count(0);
    Some(xdp_action::XDP_TX)
}

/// The backend of a connection, which is remembered.
#[inline(always)]
fn connect(connection: &Connection, service: &Service) -> Option<u32> {
    // SAFETY: the helper has no precondition.
    let now = unsafe { bpf_ktime_get_ns() };
    if let Some(state) = REF_CONNECTIONS.get_ptr_mut(connection) {
        // SAFETY: a map element.
        unsafe {
            (*state).seen = now;
            (*state).packets += 1;
            return Some((*state).backend);
        }
    }
    let mut hash = connection.client ^ u32::from(connection.ports[0]) << 16 ^ u32::from(connection.ports[1]);
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    let backend = service.first + ((u64::from(hash) * u64::from(service.backends)) >> 32) as u32;
    let state = State { seen: now, packets: 1, backend, zero: 0 };
    REF_CONNECTIONS.insert(connection, &state, 0).ok()?;
    count(1);
    Some(backend)
}

#[inline(always)]
fn rewrite(data: usize, end: usize, old: &Ipv4, old_port: u16, backend: &Backend) -> Option<()> {
    let checksum_at = L4 + if old.proto == TCP { 16 } else { 6 };
    let checksum = at::<u16>(data, end, checksum_at)?;
    let ip = at::<Ipv4>(data, end, ETH)?;
    let ports = at::<[u16; 2]>(data, end, L4)?;
    let mac = at::<[u8; 6]>(data, end, 0)?;
    let mut before = [old.dst, u32::from(old_port)];
    let mut after = [backend.addr, u32::from(backend.port)];
    // SAFETY: `at` checked the bounds of each, and the helper gets whole words of the stack.
    unsafe {
        let header = difference(&mut before[..1], &mut after[..1], (*ip).checksum);
        let segment = difference(&mut before, &mut after, checksum.read());
        (*ip).checksum = header;
        (*ip).dst = backend.addr;
        (*ports)[1] = backend.port;
        checksum.write(segment);
        mac.write(backend.mac);
    }
    Some(())
}

/// A checksum after words changed.
#[inline(always)]
fn difference(before: &mut [u32], after: &mut [u32], checksum: u16) -> u16 {
    let size = size_of_val(before) as u32;
    // SAFETY: both are words of the stack of this size.
    let sum =
        unsafe { bpf_csum_diff(before.as_mut_ptr(), size, after.as_mut_ptr(), size, u32::from(!checksum)) } as u32;
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[inline(always)]
fn count(index: u32) {
    if let Some(value) = REF_PACKETS.get_ptr_mut(index) {
        // SAFETY: this CPU's own element.
        unsafe { *value += 1 }
    }
}
