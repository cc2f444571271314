//! Which programs are attached, and to what.

use std::io;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::{ProgramError, ProgramInfo, loaded_programs};

use super::super::Pins;

/// Programs could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The folder of attachments.
    #[error("list the attachments below {}", pins.root().display())]
    List {
        /// Where.
        pins: Pins,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// One attachment.
    #[error("look at the attachment of {program} to interface {ifindex}")]
    Link {
        /// The program.
        program: String,
        /// Where it hangs.
        ifindex: u32,
        /// Why not.
        #[source]
        source: LinkError,
    },
    /// The list of programs.
    #[error("list the kernel's programs")]
    Programs(#[source] ProgramError),
}

/// A program on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The program.
    pub program: String,
    /// Number of the interface.
    pub ifindex: u32,
    /// The kernel's number of the program.
    pub id: u32,
    /// The kernel's fingerprint of its instructions; `None` if the program is gone meanwhile.
    pub tag: Option<u64>,
}

/// Every attachment that is pinned. Programs on clsact qdiscs have no pin and are not among them.
///
/// # Errors
/// The pins or the kernel cannot be asked.
pub fn attached(pins: &Pins) -> Result<Vec<Attached>, ProgramsError> {
    let list = |source| ProgramsError::List { pins: pins.clone(), source };
    let infos: Result<Vec<ProgramInfo>, _> = loaded_programs().collect();
    let infos = infos.map_err(ProgramsError::Programs)?;
    let mut attached = Vec::new();
    for (program, ifindex) in pins.attached().map_err(list)? {
        let wrong = |source| ProgramsError::Link { program: program.clone(), ifindex, source };
        let link = FdLink::from(PinnedLink::from_pin(pins.link(&program, ifindex)).map_err(wrong)?);
        let id = link.info().map_err(wrong)?.program_id();
        let tag = infos.iter().find(|info| info.id() == id).map(ProgramInfo::tag);
        attached.push(Attached { program, ifindex, id, tag });
    }
    Ok(attached)
}
