//! What is counted for each service and each local task of one, and whose count it is.
//!
//! A count for a whole service is taken where it is dialled, one for a task where it runs: in the sum
//! over all nodes each packet is counted once for its service and once for its task.

use crate::abi::{Field, Value};
use crate::addr::Mac;

shared! {
    /// Element of the per-CPU array `TALLIES`. Number 0 is of all that found no number of their own.
    pub struct Tally {
        /// Frames that came: of a service, to what is dialled here; of a task, into its link.
        pub packets: u64,
        /// Their bytes, link layer included. Segments that travel as one frame count as one.
        pub bytes: u64,
        /// Frames of a task that answered clients of its service.
        pub replies: u64,
        /// Their bytes.
        pub reply_bytes: u64,
        /// Flows that were new, on the node of their task.
        pub flows: u64,
    }

    /// Element of `LABELS`: whose the tally of the same number is. No program reads it.
    pub struct Label {
        /// Name of the service.
        pub service: Name,
        /// Its network.
        pub vni: u32,
        /// Link-layer address of the task; zero for the service as a whole.
        pub task: Mac,
        /// Zero.
        pub pad: [u8; 2],
    }
}

plain_struct! {
    /// A name, cut to what fits.
    pub struct Name {
        /// UTF-8, the rest zero.
        pub bytes: [u8; 64],
    }
}

impl Field for Name {
    fn value(&self) -> Value<'_> {
        Value::Name(self.as_str())
    }
}

impl Name {
    /// From text; what does not fit is cut off.
    pub fn new(text: &str) -> Self {
        let mut bytes = [0; 64];
        let mut end = text.len().min(bytes.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        bytes[..end].copy_from_slice(&text.as_bytes()[..end]);
        Self { bytes }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let end = self.bytes.iter().position(|byte| *byte == 0).unwrap_or(self.bytes.len());
        core::str::from_utf8(&self.bytes[..end]).unwrap_or("?")
    }
}
