//! The file of a manager: log, vote, snapshot, all encrypted record by record.
//!
//! Everything is read and decrypted when the file is opened. A record that is not what was written, or
//! is missing between two others, is an error that names the file; nothing is ever thrown away or begun
//! anew because of it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redb::{
    Database, DatabaseError, Durability, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::cluster::ca::Cipher;
use crate::store::Pending;

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const SNAPSHOT: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("snapshot");

/// redb's own cache: entries are read once, so a large one would only hold memory.
const CACHE_BYTES: usize = 4 * 1024 * 1024;
/// A snapshot lies in pieces of this size.
const PIECE_BYTES: usize = 1024 * 1024;

/// A full disk is looked at so often.
const LOOK_FOR_ROOM: Duration = Duration::from_millis(500);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// It cannot be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// Another process has it.
    #[error("{} is in use by another meshd", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// What it holds is not what was written.
    #[error("{} is damaged: {what}; restore it from a backup, or remove this manager and let it join anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// There is no room left.
    #[error("no space is left to write {}: free some", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read or written.
    #[error("read or write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

/// Where work on the disk is done, so that nobody else waits for it.
pub trait Work: Send + Sync {
    /// Does a piece of work; returns when it is done.
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> Pending<'_, ()>;
}

/// On a thread that may block.
pub struct Threads;

impl Work for Threads {
    fn run(&self, job: Box<dyn FnOnce() + Send>) -> Pending<'_, ()> {
        Box::pin(async move {
            // A job that panics leaves no answer, which its caller sees.
            let _ = tokio::task::spawn_blocking(job).await;
        })
    }
}

/// An open file.
#[derive(Clone)]
pub struct Disk {
    file: Arc<File>,
    work: Arc<dyn Work>,
}

/// The file itself: every call may block.
pub(super) struct File {
    /// None while it is opened anew.
    database: RwLock<Option<Database>>,
    /// Opens it anew; a simulated disk that is full stays so.
    again: Option<Again>,
    cipher: Arc<Cipher>,
    path: PathBuf,
    /// Why it does not work, if it does not.
    failure: watch::Sender<Option<Failure>>,
}

type Again = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// What is wrong with the disk, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// There is no room: it goes on when there is some.
    Full(String),
    /// It is of no use any more.
    Broken(String),
}

impl Disk {
    /// Opens the file, or makes it, and reads all of it once.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, or is damaged, or was encrypted under another key.
    pub fn open(path: &Path, cipher: Arc<Cipher>) -> Result<Self, DiskError> {
        let own = path.to_owned();
        let again: Again = Box::new(move || builder().create(&own));
        Self::with(|| builder().create(path), Some(again), path, cipher, Arc::new(Threads))
    }

    /// As [`Disk::open`], on a disk that is none: for simulations. `name` stands in errors.
    ///
    /// # Errors
    ///
    /// As [`Disk::open`].
    pub fn simulated(
        backend: impl StorageBackend,
        name: &Path,
        cipher: Arc<Cipher>,
        work: Arc<dyn Work>,
    ) -> Result<Self, DiskError> {
        Self::with(|| builder().create_with_backend(backend), None, name, cipher, work)
    }

    fn with(
        open: impl FnOnce() -> Result<Database, DatabaseError>,
        again: Option<Again>,
        path: &Path,
        cipher: Arc<Cipher>,
        work: Arc<dyn Work>,
    ) -> Result<Self, DiskError> {
        let path = path.to_owned();
        // redb panics on some damage; for its user that is damage, not a reason to die.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = open().map_err(|error| not_opened(&path, error))?;
            let database = RwLock::new(Some(database));
            let file = File { database, again, cipher, path: path.clone(), failure: watch::Sender::new(None) };
            file.prepare()?;
            file.check()?;
            Ok(file)
        }));
        let what = "its structure contradicts itself".to_owned();
        let file = opened.unwrap_or_else(|_| Err(DiskError::Damaged { path: path.clone(), what }))?;
        Ok(Self { file: Arc::new(file), work })
    }

    /// Seals everything that is in the file with the newest key, and has whoever writes wait.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or written; then all is as it was.
    pub async fn seal_anew(&self) -> std::io::Result<()> {
        self.run(|file| file.write(|pages| pages.seal_anew())).await
    }

    /// Does something with the file where it may block. On a disk that is full it waits for room, and
    /// [`Disk::failure`] says so: an error here would end the manager for good.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        job: impl Fn(&File) -> Result<T, DiskError> + Send + Sync + 'static,
    ) -> std::io::Result<T> {
        let job = Arc::new(job);
        loop {
            let job = Arc::clone(&job);
            match self.once(move |file| job(file)).await {
                Err(DiskError::Full { .. }) if self.file.again.is_some() => {
                    tokio::time::sleep(LOOK_FOR_ROOM).await;
                    // One that does not open is seen by the job.
                    let _ = self.once(File::open_again).await;
                }
                Err(error) => return Err(std::io::Error::other(error)),
                Ok(done) => return Ok(done),
            }
        }
    }

    async fn once<T: Send + 'static>(
        &self,
        job: impl FnOnce(&File) -> Result<T, DiskError> + Send + 'static,
    ) -> Result<T, DiskError> {
        let answer = Arc::new(Mutex::new(None));
        let (slot, file) = (Arc::clone(&answer), Arc::clone(&self.file));
        let run = move || {
            let done = job(&file);
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        };
        self.work.run(Box::new(run)).await;
        let done = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let path = self.file.path.clone();
        let panicked = || Err(DiskError::Damaged { path, what: "reading it went wrong".to_owned() });
        done.unwrap_or_else(panicked).inspect_err(|error| self.file.remember(error))
    }

    /// Why the disk stopped working, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        self.file.failure.borrow().clone().map(|failure| match failure {
            Failure::Full(text) | Failure::Broken(text) => text,
        })
    }

    /// Changes when [`Disk::failure`] does.
    pub(super) fn watch_failure(&self) -> watch::Receiver<Option<Failure>> {
        self.file.failure.subscribe()
    }

    /// The file, for who may block.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn not_opened(path: &Path, error: redb::DatabaseError) -> DiskError {
    let path = path.to_owned();
    match redb::Error::from(error) {
        redb::Error::DatabaseAlreadyOpen => DiskError::Locked { path },
        redb::Error::Corrupted(what) => DiskError::Damaged { path, what },
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            DiskError::Damaged { path, what: error.to_string() }
        }
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            DiskError::Damaged { path, what: "it ends too early".to_owned() }
        }
        source => DiskError::Open { path, source: Box::new(source) },
    }
}

impl File {
    fn remember(&self, error: &DiskError) {
        let mut text = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            text = format!("{text}: {source}");
        }
        let is_full = matches!(error, DiskError::Full { .. }) && self.again.is_some();
        self.failure.send_if_modified(|failure| {
            let news = match failure {
                Some(Failure::Broken(_)) => return false,
                Some(Failure::Full(_)) if is_full => return false,
                Some(Failure::Full(_)) | None if is_full => {
                    tracing::error!("{text}; this manager takes no part until there is room");
                    Failure::Full(format!("{text}; this manager takes no part until there is room"))
                }
                Some(Failure::Full(_)) | None => Failure::Broken(text.clone()),
            };
            *failure = Some(news);
            true
        });
    }

    fn is_full(&self) -> bool {
        matches!(*self.failure.borrow(), Some(Failure::Full(_)))
    }

    /// A disk that was full is tried again. What failed to be written closed the file.
    fn open_again(&self) -> Result<(), DiskError> {
        let Some(again) = self.again.as_ref().filter(|_| self.is_full()) else { return Ok(()) };
        {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // The old one has the lock of the file.
            *database = None;
            *database = Some(again().map_err(|error| self.failed(error))?);
        }
        self.prepare()?;
        self.failure.send_if_modified(|failure| {
            let was_full = matches!(failure, Some(Failure::Full(_)));
            if was_full {
                *failure = None;
                tracing::info!(path = %self.path.display(), "there is room again: this manager takes part");
            }
            was_full
        });
        Ok(())
    }

    fn begin_read(&self) -> Result<ReadTransaction, DiskError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| DiskError::Full { path: self.path.clone() })?;
        database.begin_read().map_err(|error| self.failed(error))
    }

    fn begin_write(&self) -> Result<WriteTransaction, DiskError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| DiskError::Full { path: self.path.clone() })?;
        database.begin_write().map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl Into<redb::Error>) -> DiskError {
        let path = self.path.clone();
        match error.into() {
            redb::Error::Io(error)
                if matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) =>
            {
                DiskError::Full { path }
            }
            // After a write that failed nothing is read or written any more, until the file is opened again.
            redb::Error::PreviousIo if self.is_full() => DiskError::Full { path },
            redb::Error::Corrupted(what) => DiskError::Damaged { path, what },
            source => DiskError::Io { path, source: Box::new(source) },
        }
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> DiskError {
        DiskError::Damaged { path: self.path.clone(), what: what.into() }
    }

    /// Makes the tables, so that they can be read.
    fn prepare(&self) -> Result<(), DiskError> {
        self.write(|_| Ok(()))
    }

    /// One transaction: all of it is on the disk when this returns, or nothing of it ever is.
    pub(super) fn write(&self, change: impl FnOnce(&mut Pages<'_>) -> Result<(), DiskError>) -> Result<(), DiskError> {
        self.transact(Durability::Immediate, change)
    }

    /// As `write`, but it comes to the disk with the next `write` only.
    pub(super) fn write_later(
        &self,
        change: impl FnOnce(&mut Pages<'_>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        self.transact(Durability::None, change)
    }

    fn transact(
        &self,
        durability: Durability,
        change: impl FnOnce(&mut Pages<'_>) -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        let mut transaction = self.begin_write()?;
        transaction.set_durability(durability).map_err(|error| self.failed(error))?;
        {
            let log = transaction.open_table(LOG).map_err(|error| self.failed(error))?;
            let facts = transaction.open_table(FACTS).map_err(|error| self.failed(error))?;
            let snapshot = transaction.open_table(SNAPSHOT).map_err(|error| self.failed(error))?;
            change(&mut Pages { file: self, log, facts, snapshot })?;
        }
        transaction.commit().map_err(|error| self.failed(error))
    }

    /// A fact by name.
    pub(super) fn fact<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, DiskError> {
        let read = self.begin_read()?;
        let table = read.open_table(FACTS).map_err(|error| self.failed(error))?;
        let sealed = table.get(name).map_err(|error| self.failed(error))?;
        sealed.map(|sealed| self.unseal(&place("facts", name.as_bytes()), sealed.value())).transpose()
    }

    /// Entries from `first` on and before `end`, as many as fit `bytes`, but one at least.
    pub(super) fn entries<T: DeserializeOwned>(&self, first: u64, end: u64, bytes: usize) -> Result<Vec<T>, DiskError> {
        let read = self.begin_read()?;
        let table = read.open_table(LOG).map_err(|error| self.failed(error))?;
        let (mut entries, mut size) = (Vec::new(), 0);
        for record in table.range(first..end.max(first)).map_err(|error| self.failed(error))? {
            let (index, sealed) = record.map_err(|error| self.failed(error))?;
            size += sealed.value().len();
            if size > bytes && !entries.is_empty() {
                break;
            }
            entries.push(self.unseal(&place("log", &index.value().to_be_bytes()), sealed.value())?);
        }
        Ok(entries)
    }

    /// The numbers of the first and the last entry.
    pub(super) fn bounds(&self) -> Result<Option<(u64, u64)>, DiskError> {
        let read = self.begin_read()?;
        let table = read.open_table(LOG).map_err(|error| self.failed(error))?;
        let first = table.first().map_err(|error| self.failed(error))?;
        let last = table.last().map_err(|error| self.failed(error))?;
        Ok(first.zip(last).map(|((first, _), (last, _))| (first.value(), last.value())))
    }

    /// The bytes of the snapshot.
    pub(super) fn snapshot(&self) -> Result<Vec<u8>, DiskError> {
        let read = self.begin_read()?;
        let table = read.open_table(SNAPSHOT).map_err(|error| self.failed(error))?;
        let mut bytes = Vec::new();
        for (expected, record) in (0..).zip(table.range::<u64>(..).map_err(|error| self.failed(error))?) {
            let (piece, sealed) = record.map_err(|error| self.failed(error))?;
            if piece.value() != expected {
                return Err(self.damaged(format!("piece {expected} of the snapshot is missing")));
            }
            let place = place("snapshot", &expected.to_be_bytes());
            bytes.extend(self.open_record(&place, sealed.value())?);
        }
        let length: Option<usize> = self.fact("snapshot-bytes")?;
        if length.unwrap_or(0) != bytes.len() {
            return Err(self.damaged("the snapshot is not as long as it was written"));
        }
        Ok(bytes)
    }

    /// Reads everything once.
    fn check(&self) -> Result<(), DiskError> {
        let read = self.begin_read()?;
        let facts = read.open_table(FACTS).map_err(|error| self.failed(error))?;
        for record in facts.range::<&str>(..).map_err(|error| self.failed(error))? {
            let (name, sealed) = record.map_err(|error| self.failed(error))?;
            self.open_record(&place("facts", name.value().as_bytes()), sealed.value())?;
        }
        let log = read.open_table(LOG).map_err(|error| self.failed(error))?;
        let mut expected = None;
        for record in log.range::<u64>(..).map_err(|error| self.failed(error))? {
            let (index, sealed) = record.map_err(|error| self.failed(error))?;
            let index = index.value();
            if expected.is_some_and(|expected| expected != index) {
                return Err(self.damaged(format!("entries of the log before {index} are missing")));
            }
            self.open_record(&place("log", &index.to_be_bytes()), sealed.value())?;
            expected = Some(index + 1);
        }
        self.snapshot().map(drop)
    }

    fn open_record(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DiskError> {
        let what = |_| self.damaged("a record cannot be decrypted, or the key is another");
        self.cipher.open(place, sealed).map_err(what)
    }

    fn unseal<T: DeserializeOwned>(&self, place: &[u8], sealed: &[u8]) -> Result<T, DiskError> {
        let plain = self.open_record(place, sealed)?;
        serde_json::from_slice(&plain).map_err(|error| self.damaged(format!("a record is not understood: {error}")))
    }
}

/// The tables, in a transaction.
pub(super) struct Pages<'a> {
    file: &'a File,
    log: redb::Table<'a, u64, &'static [u8]>,
    facts: redb::Table<'a, &'static str, &'static [u8]>,
    snapshot: redb::Table<'a, u64, &'static [u8]>,
}

impl Pages<'_> {
    /// Puts a fact.
    pub(super) fn put_fact(&mut self, name: &'static str, value: &impl Serialize) -> Result<(), DiskError> {
        let sealed = seal(self.file, &place("facts", name.as_bytes()), value)?;
        self.facts.insert(name, sealed.as_slice()).map_err(|error| self.file.failed(error)).map(drop)
    }

    /// Puts an entry.
    pub(super) fn put_entry(&mut self, index: u64, entry: &impl Serialize) -> Result<(), DiskError> {
        let sealed = seal(self.file, &place("log", &index.to_be_bytes()), entry)?;
        self.log.insert(index, sealed.as_slice()).map_err(|error| self.file.failed(error)).map(drop)
    }

    /// Takes all entries from this one on away.
    pub(super) fn cut_from(&mut self, first: u64) -> Result<(), DiskError> {
        self.log.retain_in(first.., |_, _| false).map_err(|error| self.file.failed(error))
    }

    /// Takes all entries up to this one away.
    pub(super) fn cut_to(&mut self, last: u64) -> Result<(), DiskError> {
        self.log.retain_in(..=last, |_, _| false).map_err(|error| self.file.failed(error))
    }

    /// Puts a snapshot in the place of the one before.
    pub(super) fn put_snapshot(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.snapshot.retain(|_, _| false).map_err(|error| self.file.failed(error))?;
        for (number, piece) in (0..).zip(bytes.chunks(PIECE_BYTES)) {
            let number: u64 = number;
            let sealed = self.file.cipher.seal(&place("snapshot", &number.to_be_bytes()), piece);
            let sealed = sealed.map_err(|error| self.file.damaged(error.to_string()))?;
            self.snapshot.insert(number, sealed.as_slice()).map_err(|error| self.file.failed(error))?;
        }
        self.put_fact("snapshot-bytes", &bytes.len())
    }

    fn seal_anew(&mut self) -> Result<(), DiskError> {
        let file = self.file;
        let failed = |error: redb::StorageError| file.failed(error);
        seal_table(file, "log", &mut self.log, |index| index.to_be_bytes().to_vec())?;
        seal_table(file, "snapshot", &mut self.snapshot, |piece| piece.to_be_bytes().to_vec())?;
        let names = self.facts.iter().map_err(failed)?.map(|record| Ok(record.map_err(failed)?.0.value().to_owned()));
        for name in names.collect::<Result<Vec<String>, DiskError>>()? {
            let place = place("facts", name.as_bytes());
            let sealed = self.facts.get(name.as_str()).map_err(failed)?.map(|sealed| sealed.value().to_vec());
            let sealed = again(file, &place, &sealed.unwrap_or_default())?;
            self.facts.insert(name.as_str(), sealed.as_slice()).map_err(failed)?;
        }
        Ok(())
    }
}

/// Seals the records of a table anew, one after the other.
fn seal_table(
    file: &File,
    name: &str,
    table: &mut redb::Table<'_, u64, &'static [u8]>,
    key: impl Fn(u64) -> Vec<u8>,
) -> Result<(), DiskError> {
    let failed = |error: redb::StorageError| file.failed(error);
    let numbers = table.iter().map_err(failed)?.map(|record| Ok(record.map_err(failed)?.0.value()));
    for number in numbers.collect::<Result<Vec<u64>, DiskError>>()? {
        let sealed = table.get(number).map_err(failed)?.map(|sealed| sealed.value().to_vec());
        let sealed = again(file, &place(name, &key(number)), &sealed.unwrap_or_default())?;
        table.insert(number, sealed.as_slice()).map_err(failed)?;
    }
    Ok(())
}

fn again(file: &File, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, DiskError> {
    let plain = file.open_record(place, sealed)?;
    file.cipher.seal(place, &plain).map_err(|error| file.damaged(error.to_string()))
}

fn seal(file: &File, place: &[u8], value: &impl Serialize) -> Result<Vec<u8>, DiskError> {
    let plain = serde_json::to_vec(value).map_err(|error| file.damaged(error.to_string()))?;
    file.cipher.seal(place, &plain).map_err(|error| file.damaged(error.to_string()))
}

/// Names a record's place, so that its encryption is bound to it.
fn place(table: &str, key: &[u8]) -> Vec<u8> {
    [table.as_bytes(), b"/", key].concat()
}
