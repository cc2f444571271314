use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, StorageError};

use super::log::Log;
use super::machine::Machine;
use super::types::{Command, Entry, LogId, Types};
use super::*;
use crate::cluster::ca::{Cipher, DataKey};
use crate::model::id::ServiceId;
use crate::model::meta::Annotations;
use crate::model::service::{Service, ServiceSpec};
use crate::store::{AnyObject, Change, Proposal, Replica};

fn cipher(key: u8) -> Arc<Cipher> {
    Arc::new(Cipher::new(vec![DataKey::from_bytes([key; 32])]).unwrap())
}

struct Builder;

impl StoreBuilder<Types, Log, Machine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<Types>> {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(&dir.path().join("raft.redb"), cipher(1)).unwrap();
        let machine = Machine::open(disk.clone(), Replica::default()).unwrap();
        Ok((dir, Log::new(disk), machine))
    }
}

#[tokio::test]
async fn the_log_does_what_openraft_asks_of_one() {
    Suite::test_all(Builder).await.unwrap();
}

fn entry(index: u64) -> Entry {
    let spec = ServiceSpec { annotations: Annotations::named(format!("s{index}")), ..ServiceSpec::default() };
    let service = Service::new(ServiceId::from_u128(index.into()), spec);
    let change = Change::Put { object: AnyObject::Service(Arc::new(service)), seen: None };
    let proposal = Proposal { changes: vec![change], at: Timestamp::UNIX_EPOCH, fence: None };
    let leader = openraft::alias::LeaderIdOf::<Types>::new(1, 1).to_committed();
    Entry { log_id: LogId::new(leader, index), payload: EntryPayload::Normal(Command(proposal)) }
}

/// Writes entries, each with a sync of its own, as a manager does.
async fn written(path: &Path, entries: u64) {
    let disk = Disk::open(path, cipher(1)).unwrap();
    let mut log = Log::new(disk);
    for index in 1..=entries {
        log.append([entry(index)], IOFlushed::noop()).await.unwrap();
    }
}

fn read(path: &Path) -> Result<Vec<u64>, DiskError> {
    let disk = Disk::open(path, cipher(1))?;
    let entries: Vec<Entry> = disk.file().entries(0, u64::MAX, usize::MAX)?;
    Ok(entries.iter().map(|entry| entry.log_id.index).collect())
}

#[tokio::test]
async fn what_was_written_is_read_again_and_only_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    written(&path, 20).await;
    assert_eq!(read(&path).unwrap(), (1..=20).collect::<Vec<u64>>());
    let other = Disk::open(&path, cipher(2)).map(drop).unwrap_err();
    assert!(other.to_string().contains("or the key is another"), "{other}");
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(11).any(|window| window == b"annotations"), "objects lie on disk in clear");
}

#[tokio::test]
async fn a_file_that_another_process_has_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    let _first = Disk::open(&path, cipher(1)).unwrap();
    let second = Disk::open(&path, cipher(1)).map(drop).unwrap_err();
    assert_eq!(second.to_string(), format!("{} is in use by another meshd", path.display()));
}

/// One way to damage a file.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Cut(usize),
    Flip(usize),
    Zero(usize),
}

fn damage(bytes: &[u8], how: Damage) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match how {
        Damage::Cut(length) => bytes.truncate(length),
        Damage::Flip(at) => bytes[at] ^= 0x10,
        Damage::Zero(at) => {
            let end = (at + 512).min(bytes.len());
            bytes[at..end].fill(0);
        }
    }
    bytes
}

/// Opens damaged copies of a file that was closed. What is read must be all that was written, or the error
/// must name the file; and the file must not be changed into another that looks whole.
#[tokio::test]
async fn a_damaged_file_is_named_and_never_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    written(&path, 30).await;
    let whole = std::fs::read(&path).unwrap();
    let all: Vec<u64> = (1..=30).collect();
    let step = whole.len() / 97;
    let places = (0..whole.len()).step_by(step);
    let damages = places.flat_map(|at| [Damage::Cut(at), Damage::Flip(at), Damage::Zero(at)]);
    let header = (0..512).step_by(16).flat_map(|at| [Damage::Flip(at)]);
    let (mut named, mut harmless) = (0, 0);
    for how in damages.chain(header) {
        std::fs::write(&path, damage(&whole, how)).unwrap();
        // An empty file is what a first start finds: a manager that had one is known by its other files.
        if matches!(how, Damage::Cut(0)) {
            continue;
        }
        match std::panic::catch_unwind(|| read(&path)) {
            Ok(Ok(entries)) if entries == all => harmless += 1,
            Ok(Ok(entries)) => panic!("{how:?} of {} lost entries silently: {} are left", whole.len(), entries.len()),
            Ok(Err(error)) => {
                assert!(error.to_string().contains(&path.display().to_string()), "{how:?}: {error}");
                named += 1;
            }
            Err(_) => panic!("{how:?}: the daemon would have died"),
        }
    }
    assert!(named > 50, "{named} damages were found, {harmless} did no harm");
}

#[tokio::test]
async fn a_full_disk_is_said_in_plain_words() {
    let dir = tempfile::tempdir().unwrap();
    let small = FullDisk { room: 2 * 1024 * 1024, inner: redb::backends::InMemoryBackend::new() };
    let name = dir.path().join("raft.redb");
    let disk = Disk::simulated(small, &name, cipher(1), Arc::new(Threads)).unwrap();
    let mut log = Log::new(disk.clone());
    let mut index = 0;
    let error = loop {
        index += 1;
        if let Err(error) = log.append([entry(index)], IOFlushed::noop()).await {
            break error;
        }
        assert!(index < 100_000, "the disk never filled");
    };
    let plain = format!("no space is left to write {}: free some", name.display());
    assert_eq!(error.to_string(), plain);
    assert_eq!(disk.failure(), Some(plain));
}

/// A disk of this many bytes.
#[derive(Debug)]
struct FullDisk {
    room: u64,
    inner: redb::backends::InMemoryBackend,
}

impl redb::StorageBackend for FullDisk {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        if len > self.room {
            return Err(std::io::Error::from(ErrorKind::StorageFull));
        }
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.inner.write(offset, data)
    }
}

#[tokio::test]
async fn a_cluster_is_begun_anew_with_all_that_one_manager_had() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raft.redb");
    written(&path, 12).await;
    let disk = Disk::open(&path, cipher(1)).unwrap();
    Remains::of_log(&disk).unwrap().begin(&disk, 5, Member::default(), 99).unwrap();
    let replica = Replica::default();
    let mut machine = Machine::open(disk.clone(), replica.clone()).unwrap();
    assert_eq!(replica.view().services().len(), 12);
    let (last, members) = openraft::storage::RaftStateMachine::applied_state(&mut machine).await.unwrap();
    assert_eq!((last.unwrap().index, members.voter_ids().collect::<BTreeSet<_>>()), (13, BTreeSet::from([5])));
    assert_eq!(epoch::Epoch::open(disk).unwrap().get(), 99);
}

#[tokio::test]
async fn a_backup_is_put_into_an_empty_place_only() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| -> PathBuf { dir.path().join(name) };
    written(&place("old"), 3).await;
    let mut bytes = Vec::new();
    let replica = Replica::default();
    backup(&replica.view(), &mut bytes).unwrap();
    let old = Disk::open(&place("old"), cipher(1)).unwrap();
    let begin = |disk: &Disk| Remains::of_backup(&bytes[..]).unwrap().begin(disk, 1, Member::default(), 7);
    assert!(matches!(begin(&old), Err(ReviveError::NotEmpty)));
    let new = Disk::open(&place("new"), cipher(2)).unwrap();
    begin(&new).unwrap();
    let none = Disk::open(&place("none"), cipher(2)).unwrap();
    assert!(matches!(Remains::of_log(&none), Err(ReviveError::Empty)));
}
