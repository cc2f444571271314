//! What was compared, and how it came out.

use std::process::ExitCode;

use harness::outcome::{Outcome, difference};

/// Outcomes of commands, theirs and ours.
#[derive(Default)]
pub(crate) struct Report {
    same: usize,
    explained: Vec<(String, &'static str)>,
    different: Vec<String>,
    /// Reasons for what is no different.
    idle: Vec<String>,
}

impl Report {
    /// Compares; both as they are comparable.
    pub(crate) fn add(&mut self, name: &str, theirs: &Outcome, ours: &Outcome, reason: Option<&'static str>) {
        match (theirs == ours, reason) {
            (true, None) => self.same += 1,
            (true, Some(_)) => {
                self.same += 1;
                self.idle.push(name.to_owned());
            }
            (false, Some(reason)) => self.explained.push((name.to_owned(), reason)),
            (false, None) => {
                let told = format!("{name}: exit code {} before Swarm, {} here", theirs.code, ours.code);
                let (out, err) = (difference(&theirs.out, &ours.out), difference(&theirs.err, &ours.err));
                self.different.push(format!("{told}\n--- output\n{out}--- errors\n{err}"));
            }
        }
    }

    /// Prints it. A failure, if a difference has no reason.
    pub(crate) fn print(&self) -> ExitCode {
        for (name, reason) in &self.explained {
            println!("differs on purpose: {name}: {reason}");
        }
        for name in &self.idle {
            println!("is the same here, though it may differ: {name}");
        }
        for told in &self.different {
            println!("\nDIFFERS: {told}");
        }
        let all = self.same + self.explained.len() + self.different.len();
        let (same, explained) = (self.same, self.explained.len());
        match self.different.len() {
            0 => println!("\n{same} of {all} identical, the rest ({explained}) explained"),
            more => println!("\n{same} of {all} identical, {explained} explained, {more} NOT explained"),
        }
        if self.different.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
