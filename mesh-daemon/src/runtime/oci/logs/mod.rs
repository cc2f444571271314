//! What containers wrote: files of JSON lines, as Docker's `json-file`, in numbered order.
//!
//! The writer appends to the highest number, and begins a new file when that is full; the lowest
//! goes when there are too many. A reader knows its place by number and offset, so it never
//! mistakes one file for another.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::task::LogDriver;
use crate::runtime::{LogLine, LogQuery, RuntimeError, Stream};

/// A line that is longer is cut into several, as Docker does.
pub(super) const LINE_BYTES: usize = 16 << 10;
/// What is read at a time.
const BATCH_BYTES: u64 = 1 << 20;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Of a file.
    pub(super) bytes: u64,
    /// How many.
    pub(super) files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 10 << 20, files: 3 }
    }
}

impl Limits {
    /// What a service asks for; None: nothing is kept.
    pub(super) fn of(driver: Option<&LogDriver>) -> Result<Option<Self>, RuntimeError> {
        let Some(driver) = driver else { return Ok(Some(Self::default())) };
        match driver.name.as_str() {
            "none" => return Ok(None),
            "" | "json-file" | "local" => {}
            other => {
                let why = format!("\"{other}\" is not known here; json-file, local and none are");
                return Err(RuntimeError::spec("LogDriver", why));
            }
        }
        let mut limits = Self::default();
        if let Some(size) = driver.options.get("max-size") {
            let why = || RuntimeError::spec("LogDriver", format!("max-size \"{size}\" is no size"));
            limits.bytes = size_of(size).filter(|bytes| *bytes > 0).ok_or_else(why)?;
        }
        if let Some(files) = driver.options.get("max-file") {
            let why = || RuntimeError::spec("LogDriver", format!("max-file \"{files}\" is no number from 1 to 1000"));
            limits.files = files.parse().ok().filter(|files| (1..=1000).contains(files)).ok_or_else(why)?;
        }
        Ok(Some(limits))
    }
}

/// `10m`, `512k`, `1g`, `100`: powers of 1024.
fn size_of(text: &str) -> Option<u64> {
    let text = text.trim().to_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let digits = text.trim_end_matches(['k', 'm', 'g']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    log: std::borrow::Cow<'a, str>,
    stream: Stream,
    time: Timestamp,
}

/// Appends lines.
#[derive(Debug)]
pub(super) struct Writer {
    directory: PathBuf,
    limits: Limits,
    number: u64,
    file: File,
    written: u64,
}

impl Writer {
    pub(super) fn open(directory: PathBuf, limits: Limits) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        let number = numbers(&directory)?.last().copied().unwrap_or(1);
        let file = OpenOptions::new().create(true).append(true).open(place(&directory, number))?;
        let written = file.metadata()?.len();
        Ok(Self { directory, limits, number, file, written })
    }

    /// Appends one line, with its line feed if it has one.
    pub(super) fn write(&mut self, at: Timestamp, stream: Stream, text: &[u8]) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line { log: String::from_utf8_lossy(text), stream, time: at })?;
        line.push(b'\n');
        if self.written > 0 && self.written + line.len() as u64 > self.limits.bytes {
            self.file = File::create(place(&self.directory, self.number + 1))?;
            self.number += 1;
            self.written = 0;
            let all = numbers(&self.directory)?;
            let keep = usize::try_from(self.limits.files).unwrap_or(usize::MAX);
            for old in &all[..all.len().saturating_sub(keep)] {
                fs::remove_file(place(&self.directory, *old))?;
            }
        }
        self.file.write_all(&line)?;
        self.written += line.len() as u64;
        Ok(())
    }
}

fn place(directory: &Path, number: u64) -> PathBuf {
    directory.join(number.to_string())
}

/// Of the files, from the oldest.
fn numbers(directory: &Path) -> io::Result<Vec<u64>> {
    let names = fs::read_dir(directory)?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut numbers: Vec<u64> = names.collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    number: u64,
    offset: u64,
}

/// Where to begin, so that not more than `tail` lines come.
pub(super) fn begin(directory: &Path, query: &LogQuery) -> Result<Place, RuntimeError> {
    let Some(tail) = query.tail else { return Ok(Place::default()) };
    let tail = usize::try_from(tail).unwrap_or(usize::MAX);
    let mut last: VecDeque<Place> = VecDeque::new();
    let mut at = Place::default();
    loop {
        let (lines, next) = read_places(directory, query, at)?;
        if next == at {
            break;
        }
        for (place, _) in lines {
            if last.len() == tail {
                last.pop_front();
            }
            if tail > 0 {
                last.push_back(place);
            }
        }
        at = next;
    }
    Ok(last.front().copied().unwrap_or(at))
}

/// Some lines from a place, and where to go on. The same place: there is nothing new.
pub(super) fn read(directory: &Path, query: &LogQuery, at: Place) -> Result<(Vec<LogLine>, Place), RuntimeError> {
    let (lines, next) = read_places(directory, query, at)?;
    Ok((lines.into_iter().map(|(_, line)| line).collect(), next))
}

fn read_places(directory: &Path, query: &LogQuery, at: Place) -> Result<(Vec<(Place, LogLine)>, Place), RuntimeError> {
    let error = |error| RuntimeError::file("read", directory)(error);
    let numbers = match numbers(directory) {
        Ok(numbers) => numbers,
        // Nothing was written yet, or the container is gone.
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), at)),
        Err(other) => return Err(error(other)),
    };
    let Some(number) = numbers.iter().copied().find(|number| *number >= at.number) else {
        return Ok((Vec::new(), at));
    };
    // The file where the reader was may have gone: on with the oldest.
    let mut place = if number == at.number { at } else { Place { number, offset: 0 } };
    let mut file = File::open(self::place(directory, number)).map_err(error)?;
    file.seek(SeekFrom::Start(place.offset)).map_err(error)?;
    let (mut reader, mut lines, begun) = (BufReader::new(file), Vec::new(), place.offset);
    let mut text = Vec::new();
    while place.offset - begun < BATCH_BYTES {
        text.clear();
        let length = reader.read_until(b'\n', &mut text).map_err(error)?;
        // A line without an end is being written.
        if length == 0 || text.last() != Some(&b'\n') {
            break;
        }
        // A damaged line, of a full disk perhaps, costs no other.
        if let Some(line) = parse(&text).filter(|line| wanted(query, line)) {
            lines.push((place, line));
        }
        place.offset += length as u64;
    }
    let ended = place.offset == begun;
    if ended && numbers.iter().any(|other| *other > number) {
        place = Place { number: number + 1, offset: 0 };
    }
    Ok((lines, place))
}

fn parse(text: &[u8]) -> Option<LogLine> {
    let line: Line<'_> = serde_json::from_slice(text).ok()?;
    Some(LogLine { at: line.time, stream: line.stream, text: Bytes::from(line.log.into_owned().into_bytes()) })
}

fn wanted(query: &LogQuery, line: &LogLine) -> bool {
    let stream = match line.stream {
        Stream::Stdout => query.stdout,
        Stream::Stderr => query.stderr,
    };
    let since = query.since.is_none_or(|since| line.at >= since);
    let until = query.until.is_none_or(|until| line.at <= until);
    stream && since && until
}

#[cfg(test)]
mod tests;
