//! Listens to what the programs tell of single packets.
//!
//! The buffers belong to the process that opened them: when it ends, however it ends, the kernel takes
//! them out of the map, and the next event turns the watch off.

use std::fs::File;
use std::io;

use aya::maps::MapData;
use aya::maps::perf::{PerfBufferError, PerfEvent, PerfEventArrayBuffer};
use mesh_common::addr::Addr;
use mesh_common::drop::DropReason;
use mesh_common::watch::{Event, Watch, verdict, wants, watcher};
use nix::fcntl::{Flock, FlockArg};

use super::super::Pins;
use super::super::maps::{MapsError, WatchMaps};
use super::frame::{self, Frame, Packet};

/// Of drops alone: events of a CPU in a window, bytes of each frame (a tunnel over IPv6 and the inner headers),
/// pages of each CPU's buffer.
const DROPS_LIMIT: u32 = 1000;
const DROPS_BYTES: u32 = 192;
const DROPS_PAGES: usize = 64;

/// Watching failed.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// Somebody else watches.
    #[error("another `meshctl datapath {name}` runs on this node; only one can")]
    Taken {
        /// The command.
        name: &'static str,
    },
    /// The lock.
    #[error("lock {}", path.display())]
    Lock {
        /// The directory that is locked.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The CPUs.
    #[error("list the CPUs")]
    Cpus(#[source] io::Error),
    /// A buffer.
    #[error("open the event buffer of CPU {cpu}")]
    Buffer {
        /// Which.
        cpu: u32,
        /// Why not.
        #[source]
        source: PerfBufferError,
    },
    /// The switch.
    #[error("switch the watch")]
    Switch(#[source] aya::maps::MapError),
}

/// An event with the bytes behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What was told.
    pub event: Event,
    /// The first bytes of the frame.
    pub bytes: Vec<u8>,
}

impl Told {
    /// Why the packet was dropped or refused, if it was.
    pub fn reason(&self) -> Option<DropReason> {
        let lost = matches!(self.event.verdict, verdict::DROPPED | verdict::REFUSED);
        DropReason::from_number(self.event.reason).filter(|_| lost)
    }

    /// What the frame says; of a refused packet, what that said.
    pub fn frame(&self, vxlan_port: u16) -> Frame {
        if self.event.verdict != verdict::REFUSED {
            return Frame::read(&self.bytes, vxlan_port);
        }
        let event = &self.event;
        let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
        Frame {
            packet: Some(Packet {
                src: frame::ip(event.src),
                dst: frame::ip(event.dst),
                proto: event.proto,
                ports: Some((port(event.src_port), port(event.dst_port))),
                tcp_flags: 0,
                fragment: false,
            }),
            ..Frame::default()
        }
    }

    /// From a sample of a buffer.
    fn read(sample: &[u8]) -> Option<Self> {
        let (head, rest) = sample.split_at_checked(size_of::<Event>())?;
        let event = event(head);
        // The kernel pads samples.
        let bytes = rest.get(..event.taken as usize)?.to_vec();
        Some(Self { event, bytes })
    }
}

/// An event from its bytes, field by field.
fn event(bytes: &[u8]) -> Event {
    let field = |name: &str| {
        let layout = Event::LAYOUT.fields.iter().find(|field| field.name == name);
        layout.and_then(|field| bytes.get(field.offset..field.offset + field.size)).unwrap_or_default()
    };
    let number = |name| field(name).iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let addr = |name| field(name).try_into().map_or(Addr::ZERO, Addr::v6);
    let port = |name| field(name).try_into().unwrap_or_default();
    let word = |name| number(name) as u32;
    Event {
        time: number("time"),
        src: addr("src"),
        dst: addr("dst"),
        src_port: port("src_port"),
        dst_port: port("dst_port"),
        proto: number("proto") as u8,
        hook: number("hook") as u8,
        verdict: number("verdict") as u8,
        reason: word("reason"),
        ifindex: word("ifindex"),
        to: word("to"),
        vni: word("vni"),
        len: word("len"),
        taken: word("taken"),
        kept_back: word("kept_back"),
        ..Event::ZERO
    }
}

/// What came since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// By time.
    pub told: Vec<Told>,
    /// Events that found no room in a buffer, or were kept back for they were too many.
    pub lost: u64,
}

/// A watch that is on until this is dropped.
pub struct Listener {
    maps: WatchMaps,
    number: u32,
    buffers: Vec<PerfEventArrayBuffer<MapData>>,
    _lock: Option<Flock<File>>,
}

impl Listener {
    /// Turns a watch of [`watcher`] on; `pages` is the size of each CPU's buffer, a power of two.
    ///
    /// # Errors
    /// There is no packet path, or somebody else watches.
    pub fn start(pins: &Pins, number: u32, wish: Watch, pages: usize) -> Result<Self, WatchError> {
        let maps = WatchMaps::open(pins, number)?;
        let lock = lock(pins, number)?;
        Self::on(maps, number, wish, pages, Some(lock))
    }

    /// Turns a watch of what is dropped on, with the headers of each frame.
    ///
    /// # Errors
    /// There is no packet path, or somebody else watches.
    pub fn drops(pins: &Pins) -> Result<Self, WatchError> {
        let wish = Watch { on: wants::DROPS, every: 1, limit: DROPS_LIMIT, bytes: DROPS_BYTES };
        Self::start(pins, watcher::TRACE, wish, DROPS_PAGES)
    }

    /// The same for programs that nobody else knows.
    ///
    /// # Errors
    /// The kernel refuses a buffer.
    pub fn on_own(maps: WatchMaps, number: u32, wish: Watch) -> Result<Self, WatchError> {
        Self::on(maps, number, wish, 2, None)
    }

    fn on(
        mut maps: WatchMaps,
        number: u32,
        wish: Watch,
        pages: usize,
        lock: Option<Flock<File>>,
    ) -> Result<Self, WatchError> {
        let cpus = aya::util::online_cpus().map_err(|(_, error)| WatchError::Cpus(error))?;
        let buffers: Result<Vec<_>, _> = cpus
            .into_iter()
            .map(|cpu| maps.buffers.open(cpu, Some(pages)).map_err(|source| WatchError::Buffer { cpu, source }))
            .collect();
        let buffers = buffers?;
        maps.switches.set(number, wish, 0).map_err(WatchError::Switch)?;
        Ok(Self { maps, number, buffers, _lock: lock })
    }

    /// Everything that has come; does not wait.
    pub fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        for buffer in &mut self.buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Sample { head, tail } => {
                    if let Some(told) = Told::read(&[head, tail].concat()) {
                        batch.lost += u64::from(told.event.kept_back);
                        batch.told.push(told);
                    }
                }
                PerfEvent::Lost { count } => batch.lost += count,
            });
        }
        batch.told.sort_by_key(|told| told.event.time);
        batch
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Where it fails the next event turns the watch off.
        let _ = self.maps.switches.set(self.number, Watch::ZERO, 0);
    }
}

/// One directory of the pins stands for each watcher: a lock on it goes with the process.
fn lock(pins: &Pins, number: u32) -> Result<Flock<File>, WatchError> {
    let (path, name) =
        if number == watcher::TRACE { (pins.maps(), "trace") } else { (pins.root().to_owned(), "capture") };
    let file = File::open(&path).map_err(|source| WatchError::Lock { path: path.clone(), source })?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        nix::errno::Errno::EWOULDBLOCK => WatchError::Taken { name },
        other => WatchError::Lock { path, source: other.into() },
    })
}

/// What a verdict is called.
pub fn verdict_name(number: u8) -> &'static str {
    match number {
        verdict::ARRIVED => "arrives",
        verdict::PASSED => "passed",
        verdict::REDIRECTED => "redirected",
        verdict::ROUTED => "routed",
        verdict::DROPPED => "dropped",
        verdict::REFUSED => "refused",
        verdict::TAKEN_HOME => "taken home",
        _ => "?",
    }
}
