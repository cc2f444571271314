//! A backup as a file: a line that says what it is, all objects of the cluster, and a checksum.
//!
//! It holds every secret of the swarm, its root's key too. Of a swarm that locks its managers it is sealed by the
//! unlock key, so that who has the file alone has nothing.

use aws_lc_rs::digest;
use thiserror::Error;

use super::ca::{UnlockError, UnlockKey};
use super::raft::{self, Remains, ReviveError};
use crate::store::View;

const PLAIN: &[u8] = b"mesh backup 1 plain\n";
const SEALED: &[u8] = b"mesh backup 1 sealed\n";
const CHECKSUM: &[u8] = b"# sha256:";

/// Why a backup is not made or used.
#[derive(Debug, Error)]
pub enum BackupError {
    /// The file is of something else.
    #[error("this is no backup of a swarm")]
    Foreign,
    /// It was cut short or changed.
    #[error("the backup is damaged: {0}")]
    Damaged(&'static str),
    /// There is no key to open it with.
    #[error("the backup is sealed by the unlock key of its swarm, which must be given")]
    Sealed,
    /// It is not the key.
    #[error(transparent)]
    Key(#[from] UnlockError),
    /// It was not sealed.
    #[error("seal the backup")]
    Seal(#[source] super::ca::CipherError),
    /// Its objects.
    #[error(transparent)]
    Objects(#[from] ReviveError),
}

/// All objects of a view.
///
/// # Errors
/// If they cannot be written or sealed.
pub fn write(view: &View) -> Result<Vec<u8>, BackupError> {
    let mut objects = Vec::new();
    raft::backup(view, &mut objects)?;
    let key = view.cluster().and_then(|cluster| <[u8; 32]>::try_from(cluster.unlock_key.0.as_slice()).ok());
    let mut file = match key.map(UnlockKey::from_bytes) {
        None => [PLAIN, &objects].concat(),
        Some(key) => [SEALED, &key.seal_backup(&objects).map_err(BackupError::Seal)?].concat(),
    };
    let sum = checksum(&file);
    file.extend_from_slice(CHECKSUM);
    file.extend_from_slice(sum.as_bytes());
    file.push(b'\n');
    Ok(file)
}

/// What [`write()`] wrote.
///
/// # Errors
/// If it is not whole, or sealed by another key than the given one.
pub fn read(file: &[u8], key: Option<&UnlockKey>) -> Result<Remains, BackupError> {
    let is_sealed = file.starts_with(SEALED);
    if !is_sealed && !file.starts_with(PLAIN) {
        return Err(BackupError::Foreign);
    }
    let end = file.len().checked_sub(CHECKSUM.len() + 64 + 1).ok_or(BackupError::Damaged("its end is missing"))?;
    let (before, tail) = file.split_at(end);
    let sum = tail.strip_prefix(CHECKSUM).and_then(|sum| sum.strip_suffix(b"\n"));
    if sum.ok_or(BackupError::Damaged("its end is missing"))? != checksum(before).as_bytes() {
        return Err(BackupError::Damaged("its checksum is wrong"));
    }
    if !is_sealed {
        return Ok(Remains::of_backup(&before[PLAIN.len()..])?);
    }
    let objects = key.ok_or(BackupError::Sealed)?.open_backup(&before[SEALED.len()..])?;
    Ok(Remains::of_backup(&objects[..])?)
}

fn checksum(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::cluster::Cluster;
    use crate::model::id::ClusterId;
    use crate::model::payload::Payload;
    use crate::store::Store;

    async fn file(unlock_key: &[u8]) -> Vec<u8> {
        let store = Store::local(Arc::new(|| jiff::Timestamp::UNIX_EPOCH));
        let mut cluster = Cluster::new(ClusterId::from_u128(7));
        cluster.root_ca.key = Payload(b"the deepest secret".to_vec());
        cluster.unlock_key = Payload(unlock_key.to_vec());
        store.update(|tx| tx.create(cluster.clone())).await.unwrap();
        write(&store.view()).unwrap()
    }

    fn id(remains: &Remains) -> u128 {
        remains.replica.view().cluster().unwrap().id.to_u128()
    }

    #[tokio::test]
    async fn what_was_written_is_read_back_and_of_a_locked_swarm_with_its_key_only() {
        let plain = file(&[]).await;
        assert_eq!(id(&read(&plain, None).unwrap()), 7);
        let (key, other) = (UnlockKey::from_bytes([3; 32]), UnlockKey::from_bytes([4; 32]));
        let sealed = file(&[3; 32]).await;
        assert_eq!(id(&read(&sealed, Some(&key)).unwrap()), 7);
        assert!(matches!(read(&sealed, None), Err(BackupError::Sealed)));
        assert!(matches!(read(&sealed, Some(&other)), Err(BackupError::Key(UnlockError::Key))));
        let secret = wire(b"the deepest secret");
        let holds = |file: &[u8]| file.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(holds(&plain) && !holds(&sealed));
    }

    /// As payloads stand in objects.
    fn wire(bytes: &[u8]) -> String {
        serde_json::to_string(&Payload(bytes.to_vec())).unwrap()
    }

    #[tokio::test]
    async fn a_file_that_was_cut_or_changed_anywhere_is_refused() {
        let whole = file(&[]).await;
        for end in 0..whole.len() {
            assert!(read(&whole[..end], None).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            assert!(read(&changed, None).is_err(), "changed at {at}");
        }
    }
}
