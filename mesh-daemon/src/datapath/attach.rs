//! Puts loaded programs on interfaces, by links that are pinned: they outlive the daemon, and the
//! next daemon replaces the program of each in one step.
//!
//! Below kernel 6.6 (no TCX) a TC program hangs on the clsact qdisc instead, at a fixed priority and
//! handle, by which the next daemon finds it again.

use std::collections::BTreeSet;
use std::io;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::xdp::XdpLink;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp, XdpMode, tc};
use serde::Serialize;

use super::{Pins, preflight};

/// The XDP program of the uplinks.
pub const UNDERLAY: &str = "underlay";
/// The TC program of the uplinks.
pub const UNDERLAY_BULK: &str = "underlay_bulk";
/// The TC program of tasks' links.
pub const CONTAINER: &str = "container";
/// The TC program of tasks' links behind it.
pub const OUTWARD: &str = "outward";
/// The TC program of the loopback interface.
pub const HOST_LEND: &str = "host_lend";
/// The one behind it.
pub const HOST: &str = "host";
/// The loopback interface.
pub const LOOPBACK: &str = "lo";
/// The TC programs.
const TC_PROGRAMS: [&str; 5] = [UNDERLAY_BULK, CONTAINER, OUTWARD, HOST_LEND, HOST];

/// First kernel with TCX.
const TCX_SINCE: (u32, u32) = (6, 6);

/// Our place on a clsact qdisc.
pub(super) const PRIORITY: u16 = 0x6d65;
/// The place behind it, of a program that takes what the first passes on.
pub(super) const SECOND: u16 = PRIORITY + 1;
/// See [`PRIORITY`].
pub(super) const HANDLE: TcHandle = TcHandle::new(0, 0x7368);

/// A program could not be put on an interface.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is not in the object.
    #[error("the eBPF object has no program {0}")]
    Missing(&'static str),
    /// The kernel's verifier refused it.
    #[error("load program {program}")]
    Load {
        /// Which.
        program: &'static str,
        /// Why not.
        #[source]
        source: Box<ProgramError>,
    },
    /// The interface runs somebody else's XDP program.
    #[error(
        "{interface} already runs another XDP program (id {id}): detach it with `ip link set dev {interface} xdp off`, \
         or name another uplink"
    )]
    Foreign {
        /// The interface.
        interface: String,
        /// The program's id, as `bpftool prog` lists it.
        id: u32,
    },
    /// The kernel refused.
    #[error("attach {program} to {interface}")]
    Attach {
        /// Which.
        program: &'static str,
        /// To what.
        interface: String,
        /// Why not.
        #[source]
        source: Box<ProgramError>,
    },
    /// The pin.
    #[error("pin the link of {program} on {interface}")]
    Pin {
        /// Which.
        program: &'static str,
        /// On what.
        interface: String,
        /// Why not.
        #[source]
        source: Box<aya::pin::PinError>,
    },
    /// A link that is there could not be used.
    #[error("adopt the link of {program} on {interface}")]
    Adopt {
        /// Which.
        program: &'static str,
        /// On what.
        interface: String,
        /// Why not.
        #[source]
        source: LinkError,
    },
    /// Pins could not be read or removed.
    #[error("clear old links")]
    Clear(#[source] io::Error),
}

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TcMode {
    /// TCX where the kernel has it, else clsact.
    #[default]
    Auto,
    /// The clsact qdisc, as before kernel 6.6.
    Clsact,
}

impl TcMode {
    /// Do TC programs hang on clsact qdiscs?
    pub fn uses_clsact(self) -> bool {
        self == Self::Clsact || !preflight::kernel_at_least(TCX_SINCE)
    }
}

/// How an uplink's frames reach the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UplinkMode {
    /// By native XDP, and by TC what XDP leaves to be coalesced.
    Xdp,
    /// By TC alone: the driver has no native XDP. Slower, and all there is: generic XDP would cost
    /// more than it saves.
    Tc,
}

/// Loads every program. The verifier sees them all before any is attached.
///
/// # Errors
/// One is missing or refused.
pub fn load(ebpf: &mut Ebpf) -> Result<(), AttachError> {
    let refused = |program| move |source| AttachError::Load { program, source: Box::new(source) };
    let program = xdp(ebpf)?;
    again(|| program.load()).map_err(refused(UNDERLAY))?;
    for name in TC_PROGRAMS {
        let program = classifier(ebpf, name)?;
        again(|| program.load()).map_err(refused(name))?;
    }
    Ok(())
}

/// The verifier stops with EAGAIN when a signal comes in; libbpf tries five times too.
fn again(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    const TRIES: u32 = 5;
    let interrupted = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error() == Some(nix::libc::EAGAIN),
        _ => false,
    };
    for _ in 1..TRIES {
        match load() {
            Err(error) if interrupted(&error) => {}
            other => return other,
        }
    }
    load()
}

fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, AttachError> {
    ebpf.program_mut(UNDERLAY).and_then(|program| program.try_into().ok()).ok_or(AttachError::Missing(UNDERLAY))
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut SchedClassifier, AttachError> {
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(AttachError::Missing(name))
}

/// An interface as attaching needs it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its number.
    pub ifindex: u32,
    /// The XDP program on it.
    pub xdp_program: Option<u32>,
}

/// Puts the XDP program on an uplink, or replaces the one of an earlier daemon.
///
/// # Errors
/// The interface runs somebody else's program, or the kernel refuses for another reason than that
/// the driver has no native XDP.
pub fn uplink_xdp(ebpf: &mut Ebpf, pins: &Pins, target: Target<'_>) -> Result<UplinkMode, AttachError> {
    let pin = pins.link(UNDERLAY, target.ifindex);
    let attach = |source| attach_error(UNDERLAY, target.name, source);
    let adopt = |source| AttachError::Adopt { program: UNDERLAY, interface: target.name.to_owned(), source };
    if let Some(old) = pinned(&pin).map_err(adopt)? {
        let old = FdLink::from(old);
        let ours = old.info().map_err(adopt)?.program_id();
        if target.xdp_program == Some(ours) {
            let link = XdpLink::try_from(old).map_err(adopt)?;
            let program = xdp(ebpf)?;
            let id = program.attach_to_link(link).map_err(attach)?;
            // Dropping the link closes our descriptor; the pin keeps it attached.
            program.take_link(id).map_err(attach)?;
            return Ok(UplinkMode::Xdp);
        }
        // The interface was replaced by another with its number: this link hangs in the air.
        std::fs::remove_file(&pin).map_err(AttachError::Clear)?;
    }
    if let Some(id) = target.xdp_program {
        return Err(AttachError::Foreign { interface: target.name.to_owned(), id });
    }
    let program = xdp(ebpf)?;
    let id = match program.attach_to_if_index(target.ifindex, XdpMode::Driver) {
        Ok(id) => id,
        Err(error) if is_unsupported(&error) => return Ok(UplinkMode::Tc),
        Err(error) => return Err(attach(error)),
    };
    let link = program.take_link(id).map_err(attach)?;
    let link = FdLink::try_from(link).map_err(adopt)?;
    link.pin(&pin).map_err(|source| pin_error(UNDERLAY, target.name, source))?;
    Ok(UplinkMode::Xdp)
}

/// Puts a TC program on an interface's ingress, before those that are there, or replaces the one of an earlier daemon.
///
/// # Errors
/// The kernel refuses.
pub fn ingress(
    ebpf: &mut Ebpf,
    pins: &Pins,
    mode: TcMode,
    name: &'static str,
    target: Target<'_>,
) -> Result<(), AttachError> {
    let pin = pins.link(name, target.ifindex);
    let attach = |source| attach_error(name, target.name, source);
    let adopt = |source| AttachError::Adopt { program: name, interface: target.name.to_owned(), source };
    let program = classifier(ebpf, name)?;
    if mode.uses_clsact() {
        return clsact(program, name, target);
    }
    if let Some(old) = pinned(&pin).map_err(adopt)? {
        let link = SchedClassifierLink::try_from(FdLink::from(old)).map_err(adopt)?;
        match program.attach_to_link(link) {
            Ok(id) => {
                program.take_link(id).map_err(attach)?;
                return Ok(());
            }
            // The interface went away, and another has its number now.
            Err(error) if is_gone(&error) => std::fs::remove_file(&pin).map_err(AttachError::Clear)?,
            Err(error) => return Err(attach(error)),
        }
    }
    // First: what is ours must not be looked at by filters that were there before.
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(target.name, TcAttachType::Ingress, order).map_err(attach)?;
    let link = program.take_link(id).map_err(attach)?;
    let link = FdLink::try_from(link).map_err(adopt)?;
    link.pin(&pin).map_err(|source| pin_error(name, target.name, source))?;
    Ok(())
}

fn clsact(program: &mut SchedClassifier, name: &'static str, target: Target<'_>) -> Result<(), AttachError> {
    let attach = |source| attach_error(name, target.name, source);
    let priority = if name == OUTWARD || name == HOST { SECOND } else { PRIORITY };
    match tc::qdisc_add_clsact(target.name) {
        Ok(()) => {}
        Err(error) if netlink_errno(&error) == Some(nix::libc::EEXIST) => {}
        Err(error) => return Err(attach(error.into())),
    }
    let ours = || SchedClassifierLink::attached(target.name, TcAttachType::Ingress, priority, HANDLE, None);
    let old = ours().map_err(|error| attach(error.into()))?;
    let id = match program.attach_to_link(old) {
        Ok(id) => id,
        // ENOENT: there is none to replace.
        Err(ProgramError::TcError(error)) if netlink_errno(&error) == Some(nix::libc::ENOENT) => {
            let options = TcAttachOptions::Netlink(NlOptions { priority, handle: HANDLE, ..NlOptions::default() });
            program.attach_with_options(target.name, TcAttachType::Ingress, options).map_err(attach)?
        }
        Err(error) => return Err(attach(error)),
    };
    let link = program.take_link(id).map_err(attach)?;
    // Dropping it would detach the program; it stays until `clsact::remove`.
    std::mem::forget(link);
    Ok(())
}

/// Removes the pins of links that are not in `wanted`.
///
/// # Errors
/// A pin cannot be removed.
pub fn clear(pins: &Pins, wanted: &BTreeSet<(&'static str, u32)>) -> Result<(), AttachError> {
    for (program, ifindex) in pins.attached().map_err(AttachError::Clear)? {
        if !wanted.iter().any(|(name, index)| *name == program && *index == ifindex) {
            std::fs::remove_file(pins.link(&program, ifindex)).map_err(AttachError::Clear)?;
        }
    }
    Ok(())
}

fn pinned(path: &std::path::Path) -> Result<Option<PinnedLink>, LinkError> {
    match PinnedLink::from_pin(path) {
        Ok(link) => Ok(Some(link)),
        Err(LinkError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn netlink_errno(error: &TcError) -> Option<i32> {
    match error {
        TcError::NetlinkError(error) => error.raw_os_error(),
        _ => None,
    }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

fn is_unsupported(error: &ProgramError) -> bool {
    errno(error) == Some(nix::libc::EOPNOTSUPP)
}

/// ENOLINK: the kernel lets go of the links of an interface that is deleted.
fn is_gone(error: &ProgramError) -> bool {
    errno(error) == Some(nix::libc::ENOLINK)
}

fn attach_error(program: &'static str, interface: &str, source: ProgramError) -> AttachError {
    AttachError::Attach { program, interface: interface.to_owned(), source: Box::new(source) }
}

fn pin_error(program: &'static str, interface: &str, source: aya::pin::PinError) -> AttachError {
    AttachError::Pin { program, interface: interface.to_owned(), source: Box::new(source) }
}
