//! From a question to an answer. No sockets: what is not ours is for [`Forwarder`].

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use super::forward::{Forwarder, Transport};
use super::zone::{Found, Kind, NetworkKey, Zone};

/// How many seconds the address of a task may be kept: it is gone from balancing much sooner.
const TASK_TTL: u32 = 2;
/// How many seconds a VIP may be kept.
const VIP_TTL: u32 = 5;
/// What a datagram holds for who does not say (RFC 1035 section 4.2.1).
const PLAIN: u16 = 512;
/// The most that is sent in a datagram: it crosses nothing but a loopback.
const LARGEST: u16 = 4096;
const HEADER: usize = 12;

/// The networks that one task sees, in the order names are looked for.
#[derive(Debug, Default)]
pub struct View {
    networks: ArcSwap<Vec<NetworkKey>>,
}

impl View {
    /// A view of these networks.
    pub fn new(networks: Vec<NetworkKey>) -> Self {
        Self { networks: ArcSwap::from_pointee(networks) }
    }

    /// Sees these networks from now on.
    pub fn set(&self, networks: Vec<NetworkKey>) {
        self.networks.store(Arc::new(networks));
    }
}

/// How often what was answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// By what the zone knows.
    pub answered: u64,
    /// By another server.
    pub forwarded: u64,
    /// With an error, since no other server answered in time.
    pub failed: u64,
    /// With an error, since too many questions were under way.
    pub refused: u64,
    /// Not at all or with an error: it was no question.
    pub malformed: u64,
}

#[derive(Debug, Default)]
struct Tally {
    answered: AtomicU64,
    forwarded: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
}

/// Answers for all tasks of a node.
pub struct Resolver {
    zone: Arc<Zone>,
    forwarder: Forwarder,
    chance: Mutex<StdRng>,
    tally: Tally,
}

/// What is to be done about a message.
#[derive(Debug)]
pub(super) enum Reply {
    /// Send this.
    Now(Vec<u8>),
    /// Ask others, as the message asks.
    Forward,
    /// It was no question.
    Nothing,
}

/// What the zone says.
enum Verdict {
    Records(Vec<Record>),
    NoSuchName,
    NotOurs,
}

impl Resolver {
    /// Answers from this zone, and else by this forwarder; in an order by this chance.
    pub fn new(zone: Arc<Zone>, forwarder: Forwarder, chance: StdRng) -> Self {
        Self { zone, forwarder, chance: Mutex::new(chance), tally: Tally::default() }
    }

    /// How often what was answered.
    pub fn counters(&self) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            answered: read(&self.tally.answered),
            forwarded: read(&self.tally.forwarded),
            failed: read(&self.tally.failed),
            refused: read(&self.tally.refused),
            malformed: read(&self.tally.malformed),
        }
    }

    /// What this view's zone says to a message.
    pub(super) fn reply(&self, message: &[u8], view: &View, transport: Transport) -> Reply {
        let Ok(asked) = Message::from_vec(message) else {
            add(&self.tally.malformed);
            return format_error(message).map_or(Reply::Nothing, Reply::Now);
        };
        if asked.metadata.message_type != MessageType::Query {
            add(&self.tally.malformed);
            return Reply::Nothing; // an answer to nobody's question: to answer it could go on for ever
        }
        let code = match (asked.metadata.op_code, asked.queries.as_slice()) {
            (OpCode::Query, [_]) if asked.edns.as_ref().is_some_and(|edns| edns.version() > 0) => ResponseCode::BADVERS,
            (OpCode::Query, [query]) => match self.look_up(query, view) {
                Verdict::Records(records) => {
                    add(&self.tally.answered);
                    return encode(&asked, ResponseCode::NoError, records, transport);
                }
                Verdict::NoSuchName => {
                    add(&self.tally.answered);
                    ResponseCode::NXDomain
                }
                Verdict::NotOurs => return Reply::Forward,
            },
            (OpCode::Query, _) => {
                add(&self.tally.malformed);
                ResponseCode::FormErr
            }
            _ => ResponseCode::NotImp,
        };
        encode(&asked, code, Vec::new(), transport)
    }

    /// Asks others what the message asks. If nobody answers, an error is answered.
    pub(super) async fn forward(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        match self.forwarder.ask(message, transport).await {
            Ok(answer) => {
                add(&self.tally.forwarded);
                Some(answer)
            }
            Err(error) => {
                tracing::debug!(%error, "a name was not resolved");
                add(&self.tally.failed);
                failure(message)
            }
        }
    }

    /// The answer to a message for which there is no room.
    pub(super) fn refuse(&self, message: &[u8]) -> Option<Vec<u8>> {
        add(&self.tally.refused);
        failure(message)
    }

    fn look_up(&self, query: &Query, view: &View) -> Verdict {
        if query.query_class != DNSClass::IN {
            return Verdict::NotOurs;
        }
        let networks = view.networks.load();
        let reversed = query.name.parse_arpa_name().ok();
        if let Some(reversed) = reversed.filter(|net| net.prefix_len() == net.max_prefix_len()) {
            return self.look_up_reverse(query, &networks, reversed.addr());
        }
        let name = query.name.to_ascii().to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        // RFC 6761 section 6.3: a resolver answers for localhost itself.
        let localhost = || (name == "localhost").then(|| Found { kind: Kind::Vip, addresses: LOCALHOST.to_vec() });
        match self.zone.find(&networks, name).or_else(localhost) {
            Some(found) => Verdict::Records(self.records(query, found)),
            None if is_single(name) || self.zone.is_ours(&networks, name) => Verdict::NoSuchName,
            None => Verdict::NotOurs,
        }
    }

    fn look_up_reverse(&self, query: &Query, networks: &[NetworkKey], address: IpAddr) -> Verdict {
        let named = self.zone.find_reverse(networks, address).and_then(|name| Name::from_str(&name).ok());
        match named {
            Some(name) if matches!(query.query_type, RecordType::PTR | RecordType::ANY) => {
                Verdict::Records(vec![Record::from_rdata(query.name.clone(), TASK_TTL, RData::PTR(PTR(name)))])
            }
            Some(_) => Verdict::Records(Vec::new()),
            None if self.zone.has_address(networks, address) => Verdict::NoSuchName,
            None => Verdict::NotOurs,
        }
    }

    /// The addresses that were asked for. A name that is known and has none of that kind exists: it
    /// has no records, which is not the same as no such name (RFC 2308 section 2).
    fn records(&self, query: &Query, found: Found) -> Vec<Record> {
        let (ttl, mut addresses) = match found.kind {
            Kind::Vip => (VIP_TTL, found.addresses),
            Kind::Task => (TASK_TTL, found.addresses),
        };
        if found.kind == Kind::Task && addresses.len() > 1 {
            addresses.shuffle(&mut *self.chance.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let record = |address| {
            let data = match (address, query.query_type) {
                (IpAddr::V4(v4), RecordType::A | RecordType::ANY) => RData::A(A(v4)),
                (IpAddr::V6(v6), RecordType::AAAA | RecordType::ANY) => RData::AAAA(AAAA(v6)),
                _ => return None,
            };
            Some(Record::from_rdata(query.name.clone(), ttl, data))
        };
        addresses.into_iter().filter_map(record).collect()
    }
}

const LOCALHOST: [IpAddr; 2] = [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A name without a dot, or the list of a service's tasks: it can only be meant for the cluster. The
/// root, which has no name, is anybody's.
fn is_single(name: &str) -> bool {
    let service = name.strip_prefix("tasks.").unwrap_or(name);
    !service.is_empty() && !service.contains('.')
}

fn encode(asked: &Message, code: ResponseCode, records: Vec<Record>, transport: Transport) -> Reply {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata.recursion_desired = asked.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    answer.metadata.response_code = code;
    answer.add_queries(asked.queries.iter().cloned());
    answer.add_answers(records);
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST).set_version(0).set_rcode_high(code.high());
        answer.set_edns(edns);
    }
    let limit = match transport {
        Transport::Udp => asked.max_payload().clamp(PLAIN, LARGEST),
        Transport::Tcp => u16::MAX,
    };
    fit(answer, usize::from(limit)).map_or(Reply::Nothing, Reply::Now)
}

/// The message, without the answers that do not fit; then it says so (RFC 2181 section 9).
fn fit(mut message: Message, limit: usize) -> Option<Vec<u8>> {
    loop {
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= limit || message.answers.is_empty() {
            return (bytes.len() <= limit).then_some(bytes);
        }
        message.metadata.truncation = true;
        let kept = message.answers.len() * limit / bytes.len();
        message.answers.truncate(kept.min(message.answers.len() - 1));
    }
}

/// What can be said to bytes that are no message: that, if they have at least an id.
fn format_error(message: &[u8]) -> Option<Vec<u8>> {
    header_only(message, ResponseCode::FormErr)
}

/// What is said if nobody else answered.
fn failure(message: &[u8]) -> Option<Vec<u8>> {
    let Ok(asked) = Message::from_vec(message) else {
        return header_only(message, ResponseCode::ServFail);
    };
    match encode(&asked, ResponseCode::ServFail, Vec::new(), Transport::Udp) {
        Reply::Now(answer) => Some(answer),
        Reply::Forward | Reply::Nothing => None,
    }
}

fn header_only(message: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    const IS_ANSWER: u8 = 0x80;
    if message.len() < HEADER || message[2] & IS_ANSWER != 0 {
        return None;
    }
    let id = u16::from_be_bytes([message[0], message[1]]);
    Message::error_msg(id, OpCode::Query, code).to_vec().ok()
}
