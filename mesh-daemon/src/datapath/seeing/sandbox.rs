//! The programs once more, beside those that run: the same instructions on the same configuration and
//! a copy of the flows, with counters of their own. What is tried here leaves no trace.

use std::io;

use aya::Ebpf;
use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use mesh_common::counter::Counter;
use mesh_common::drop::DropReason;
use mesh_common::watch::{Watch, wants, watcher};

use super::super::Pins;
use super::super::attach::{self, AttachError};
use super::super::loader::{self, LoadError};
use super::super::maps::{Maps, MapsError, WatchMaps};
use super::super::tables::Tables;
use super::watch::{Listener, Told, WatchError};

/// A packet could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The maps.
    #[error(transparent)]
    Maps(#[from] MapsError),
    /// The object.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The programs.
    #[error(transparent)]
    Programs(#[from] AttachError),
    /// The events.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The object has no such program.
    #[error("the eBPF object has no program {0}")]
    Missing(&'static str),
    /// The kernel refused a run.
    #[error("run {program} on a frame of {length} bytes from interface {ifindex}")]
    Run {
        /// Which.
        program: &'static str,
        /// Length of the frame.
        length: usize,
        /// The interface.
        ifindex: u32,
        /// Why not.
        #[source]
        source: Box<ProgramError>,
    },
    /// The frame is too long.
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
    /// A program ran and told nothing.
    #[error("the program {0} ran and told nothing of what it did")]
    Silent(&'static str),
    /// Its fingerprint.
    #[error("read the fingerprint of {program}")]
    Tag {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What a program made of a frame.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What it told last: verdict, reason, interface.
    pub told: Told,
    /// The frame afterwards.
    pub frame: Vec<u8>,
    /// What it counted.
    pub counters: Vec<(Counter, u64)>,
    /// What it dropped or refused.
    pub drops: Vec<(DropReason, u64)>,
}

/// Loaded programs that nothing is attached to.
pub struct Sandbox {
    ebpf: Ebpf,
    maps: Maps,
    listener: Listener,
}

/// Bytes that a program may add to a frame, at most.
const ROOM: usize = 256;
/// Fields of `struct __sk_buff` and `struct xdp_md` (linux/bpf.h), as numbers of 32-bit words.
const SKB_IFINDEX: usize = 10;
const SKB_LEN: usize = 192;
const XDP_DATA_END: usize = 1;
const XDP_INGRESS_IFINDEX: usize = 3;
const XDP_LEN: usize = 24;

impl Sandbox {
    /// Loads the programs beside those of a daemon, whose maps are `live`.
    ///
    /// # Errors
    /// The kernel refuses them.
    pub fn load(pins: &Pins, live: &Maps, tables: &Tables) -> Result<Self, SandboxError> {
        let mut ebpf = loader::load_apart(pins)?;
        attach::load(&mut ebpf)?;
        let watch = WatchMaps::take(&mut ebpf, watcher::TRACE)?;
        let mut maps = Maps::take(&mut ebpf)?;
        maps.copy_state(live, tables)?;
        let all = Watch { on: wants::DROPS | wants::VERDICTS, every: 1, limit: u32::MAX, bytes: u32::MAX };
        let listener = Listener::on_own(watch, watcher::TRACE, all)?;
        Ok(Self { ebpf, maps, listener })
    }

    /// The kernel's fingerprint of a program.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn tag(&self, program: &'static str) -> Result<u64, SandboxError> {
        let loaded = self.ebpf.program(program).ok_or(SandboxError::Missing(program))?;
        let info = loaded.info().map_err(|error| SandboxError::Tag { program, source: io::Error::other(error) })?;
        Ok(info.tag())
    }

    /// Runs a program on a frame that came in by an interface of this network namespace.
    ///
    /// # Errors
    /// The kernel refuses the run.
    pub fn run(&mut self, program: &'static str, ifindex: u32, frame: &[u8]) -> Result<Ran, SandboxError> {
        let (counters, drops) = (self.maps.counters()?, self.maps.drops()?);
        let mut out = vec![0; frame.len() + ROOM];
        let refused = |source| SandboxError::Run { program, length: frame.len(), ifindex, source: Box::new(source) };
        let end = u32::try_from(frame.len()).map_err(|_| SandboxError::TooLong(frame.len()))?;
        let missing = || SandboxError::Missing(program);
        let loaded = self.ebpf.program(program).ok_or_else(missing)?;
        let done = if program == attach::UNDERLAY {
            let context = words::<XDP_LEN>(&[(XDP_DATA_END, end), (XDP_INGRESS_IFINDEX, ifindex)]);
            let xdp: &Xdp = loaded.try_into().map_err(|_| missing())?;
            xdp.test_run(options(frame, &mut out, &context)).map_err(refused)?
        } else {
            let context = words::<SKB_LEN>(&[(SKB_IFINDEX, ifindex)]);
            let tc: &SchedClassifier = loaded.try_into().map_err(|_| missing())?;
            tc.test_run(options(frame, &mut out, &context)).map_err(refused)?
        };
        out.truncate(done.data_size_out as usize);
        let told = self.listener.take().told.pop().ok_or(SandboxError::Silent(program))?;
        let (counters, drops) = (moved(&counters, &self.maps.counters()?), moved(&drops, &self.maps.drops()?));
        Ok(Ran { told, frame: out, counters, drops })
    }
}

fn words<const LEN: usize>(set: &[(usize, u32)]) -> [u8; LEN] {
    let mut context = [0; LEN];
    for (at, word) in set {
        context[at * 4..at * 4 + 4].copy_from_slice(&word.to_ne_bytes());
    }
    context
}

fn options<'a>(frame: &'a [u8], out: &'a mut [u8], context: &'a [u8]) -> TestRunOptions<'a> {
    TestRunOptions { data_in: Some(frame), data_out: Some(out), ctx_in: Some(context), ..TestRunOptions::default() }
}

fn moved<K: Copy>(before: &[(K, u64)], after: &[(K, u64)]) -> Vec<(K, u64)> {
    let steps = before.iter().zip(after).map(|((key, old), (_, new))| (*key, new - old));
    steps.filter(|(_, step)| *step != 0).collect()
}
