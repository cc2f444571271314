//! Runs a program over fresh packets and says how long each took.
//!
//! Two ways. *Driven*: `BPF_PROG_TEST_RUN` with `repeat` runs a driver of bench-ebpf, which writes
//! the packet anew and calls the program under test; the time of the same driver with an empty
//! program is subtracted. *Single*: a system call per packet, for programs that change a socket
//! buffer in a way that a program cannot take back (the tunnel at TC hooks); an empty program run
//! the same way is subtracted. Caches are colder there, as far as a system call leaves them.

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{Array, MapData, PerCpuArray, ProgramArray};
use aya::programs::{Program, ProgramFd, SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};

/// The kernel programs of the benchmark.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/bench-ebpf"));

/// Bytes of every packet of the benchmark.
pub(crate) const FRAME: usize = 128;
const XDP_PROGRAMS: [&str; 6] = ["drive_xdp", "empty_xdp", "mac_swap", "array_lookups", "reference_balancer", "sink"];
const TC_PROGRAMS: [&str; 2] = ["drive_tc", "empty_tc"];

/// `Script` of bench-ebpf: the packet, then four numbers.
type Words = [u32; FRAME / 4 + 4];

/// Where a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// The driver of a network card.
    Xdp,
    /// TC ingress.
    Tc,
}

/// Packets to be made.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    /// The packet, [`FRAME`] bytes.
    pub(crate) frame: Vec<u8>,
    /// Packet `n` is of flow `n & flows`.
    pub(crate) flows: u32,
    /// Number of the first packet.
    pub(crate) first: u32,
    /// Offset of the client's port.
    pub(crate) port_at: usize,
    /// Offset of the client's address; its second and third byte vary.
    pub(crate) addr_at: usize,
}

impl Script {
    fn words(&self) -> Result<Words> {
        ensure!(self.frame.len() == FRAME, "a packet of {} bytes, not {FRAME}", self.frame.len());
        let mut words: Words = [0; FRAME / 4 + 4];
        for (word, bytes) in words.iter_mut().zip(self.frame.chunks_exact(4)) {
            *word = u32::from_ne_bytes(bytes.try_into()?);
        }
        let rest = [self.first, self.flows, u32::try_from(self.port_at)?, u32::try_from(self.addr_at + 1)?];
        words[FRAME / 4..].copy_from_slice(&rest);
        Ok(words)
    }
}

/// What came out of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Nanoseconds a packet, of driver and program.
    pub(crate) ns: f64,
    /// What the program answered to the last packet.
    pub(crate) action: u32,
}

/// The drivers and the references, loaded.
pub(crate) struct Driver {
    ebpf: Ebpf,
    script: Array<MapData, Words>,
    xdp_under_test: ProgramArray<MapData>,
    tc_under_test: ProgramArray<MapData>,
    sunk: PerCpuArray<MapData, u64>,
}

impl Driver {
    pub(crate) fn load() -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT).context("load bench-ebpf")?;
        for name in XDP_PROGRAMS {
            let program: &mut Xdp = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().context(name)?;
        }
        for name in TC_PROGRAMS {
            let program: &mut SchedClassifier = ebpf.program_mut(name).context(name)?.try_into()?;
            program.load().context(name)?;
        }
        let mut take = |name| ebpf.take_map(name).context(name);
        let script = take("SCRIPT")?.try_into()?;
        let xdp_under_test = take("XDP_UNDER_TEST")?.try_into()?;
        let tc_under_test = take("TC_UNDER_TEST")?.try_into()?;
        let sunk = take("SUNK")?.try_into()?;
        Ok(Self { ebpf, script, xdp_under_test, tc_under_test, sunk })
    }

    /// The object, for the maps of the references.
    pub(crate) fn object(&mut self) -> &mut Ebpf {
        &mut self.ebpf
    }

    /// A program of bench-ebpf.
    pub(crate) fn loaded(&self, name: &str) -> Result<&Program> {
        self.ebpf.program(name).with_context(|| format!("no program {name}"))
    }

    /// A handle of it.
    pub(crate) fn program(&self, name: &str) -> Result<ProgramFd> {
        fd_of(self.loaded(name)?)
    }

    /// Frames that the sink took.
    pub(crate) fn sunk(&self) -> Result<u64> {
        Ok(self.sunk.get(&0, 0)?.iter().sum())
    }

    /// Runs a program over `packets` packets of the script.
    pub(crate) fn drive(&mut self, hook: Hook, program: &ProgramFd, script: &Script, packets: u32) -> Result<Run> {
        self.script.set(0, script.words()?, 0)?;
        let (map, driver) = match hook {
            Hook::Xdp => (&mut self.xdp_under_test, "drive_xdp"),
            Hook::Tc => (&mut self.tc_under_test, "drive_tc"),
        };
        map.set(0, program, 0).context("put the program behind its driver")?;
        let mut options = TestRunOptions::new();
        options.data_in = Some(&script.frame);
        options.repeat = packets;
        test_run(self.ebpf.program(driver).context(driver)?, options)
    }

    /// The same, with nothing behind the driver.
    pub(crate) fn drive_empty(&mut self, hook: Hook, script: &Script, packets: u32) -> Result<Run> {
        let empty = self.program(empty(hook))?;
        self.drive(hook, &empty, script, packets)
    }

    /// Runs an empty program, one system call a packet.
    pub(crate) fn single_empty(&self, hook: Hook, script: &Script, packets: u32) -> Result<Run> {
        let name = empty(hook);
        single(self.ebpf.program(name).context(name)?, script, packets)
    }
}

fn empty(hook: Hook) -> &'static str {
    match hook {
        Hook::Xdp => "empty_xdp",
        Hook::Tc => "empty_tc",
    }
}

/// Runs a program over the script's packet, one system call each; the median of the times.
pub(crate) fn single(program: &Program, script: &Script, packets: u32) -> Result<Run> {
    let mut times = Vec::new();
    let mut action = 0;
    for _ in 0..packets {
        let mut options = TestRunOptions::new();
        options.data_in = Some(&script.frame);
        let run = test_run(program, options)?;
        times.push(run.ns);
        action = run.action;
    }
    Ok(Run { ns: crate::stats::median(&times), action })
}

/// A second handle of a loaded program.
pub(crate) fn fd_of(program: &Program) -> Result<ProgramFd> {
    let fd = match program {
        Program::Xdp(xdp) => xdp.fd()?,
        Program::SchedClassifier(tc) => tc.fd()?,
        _ => bail!("neither XDP nor TC"),
    };
    Ok(fd.try_clone()?)
}

fn test_run(program: &Program, options: TestRunOptions<'_>) -> Result<Run> {
    let result = match program {
        Program::Xdp(xdp) => xdp.test_run(options)?,
        Program::SchedClassifier(tc) => tc.test_run(options)?,
        _ => bail!("neither XDP nor TC"),
    };
    Ok(Run { ns: result.duration.as_nanos() as f64, action: result.return_value })
}
