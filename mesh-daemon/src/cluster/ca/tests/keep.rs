use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::{DAY, now, root, subject};
use crate::cluster::ca::{
    CipherError, DataKey, KeepError, Keys, MAX_DATA_KEYS, NodeFiles, Stored, UnlockError, UnlockKey,
};
use crate::model::node::Role;

fn keys() -> Keys {
    let (key, csr) = Keys::request().unwrap();
    let chain = root().issue(&csr, &subject(1, Role::Manager), now(), DAY).unwrap();
    Keys { chain, key, data_keys: vec![DataKey::from_bytes([1; 32]), DataKey::from_bytes([2; 32])] }
}

fn folder() -> (tempfile::TempDir, NodeFiles) {
    let folder = tempfile::tempdir().unwrap();
    let files = NodeFiles::new(folder.path().join("certificates"));
    (folder, files)
}

#[test]
fn what_is_kept_comes_back_and_is_for_its_owner_only() {
    let (folder, files) = folder();
    assert!(matches!(files.load(), Ok(Stored::Nothing)));
    assert!(matches!(files.load_roots(), Ok(None)));
    let (keys, roots) = (keys(), root().certificate().to_owned());
    files.save(&keys, None).unwrap();
    files.save_roots(&roots).unwrap();
    let Stored::Open(back) = files.load().unwrap() else { panic!("it is not locked") };
    assert_eq!(back, keys);
    assert_eq!(files.load_roots().unwrap(), Some(roots));
    let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("certificates"), 0o700);
    assert_eq!(mode("certificates/node.pem"), 0o600);
    files.remove().unwrap();
    assert!(matches!(files.load(), Ok(Stored::Nothing)));
    files.remove().unwrap();
}

#[test]
fn a_file_cut_or_changed_anywhere_is_named_and_left_alone() {
    let (folder, files) = folder();
    files.save(&keys(), None).unwrap();
    files.save_roots(root().certificate()).unwrap();
    for name in ["node.pem", "roots.pem"] {
        let path = folder.path().join("certificates").join(name);
        let whole = fs::read(&path).unwrap();
        let load = || match name {
            "node.pem" => files.load().map(drop),
            _ => files.load_roots().map(drop),
        };
        // All of the checksum's line, and of the rest each seventh place.
        let tail = whole.len() - 80;
        let places = || (0..whole.len()).filter(|at| *at > tail || at % 7 == 0);
        let mut bad: Vec<_> = places().map(|at| whole[..at].to_vec()).collect();
        bad.extend(places().map(|at| {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            changed
        }));
        bad.push([&whole[..], b"x"].concat());
        for bytes in bad {
            fs::write(&path, &bytes).unwrap();
            let error = load().unwrap_err();
            assert!(matches!(error, KeepError::Damaged { .. }), "{error}");
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes);
        }
        fs::write(&path, &whole).unwrap();
        load().unwrap();
    }
}

#[test]
fn a_lock_hides_every_key_and_opens_with_its_own_key_only() {
    let (folder, files) = folder();
    let (keys, lock) = (keys(), UnlockKey::generate().unwrap());
    files.save(&keys, Some(&lock)).unwrap();
    let text = fs::read_to_string(folder.path().join("certificates/node.pem")).unwrap();
    assert!(!text.contains("PRIVATE KEY") && !text.contains("DATA KEY"));
    let Stored::Locked(locked) = files.load().unwrap() else { panic!("it is locked") };
    assert_eq!(locked.own().unwrap(), keys.own().unwrap());
    assert_eq!(locked.unlock(&UnlockKey::generate().unwrap()), Err(UnlockError::Key));
    assert_eq!(UnlockError::Key.to_string(), "swarm could not be unlocked: invalid key provided");
    assert_eq!(locked.unlock(&lock).unwrap(), keys);
}

#[test]
fn what_does_not_belong_together_is_not_written() {
    let (_folder, files) = folder();
    let good = keys();
    files.save(&good, None).unwrap();
    let mixed = Keys { key: keys().key, ..good.clone() };
    assert!(matches!(files.save(&mixed, None), Err(KeepError::Damaged { .. })));
    assert!(files.save_roots("nothing").is_err());
    let Stored::Open(still) = files.load().unwrap() else { panic!("it is not locked") };
    assert_eq!(still, good);
}

#[test]
fn what_a_crash_left_beside_a_file_does_not_matter() {
    let (folder, files) = folder();
    let keys = keys();
    files.save(&keys, None).unwrap();
    fs::write(folder.path().join("certificates/node.new"), "half of it").unwrap();
    assert!(matches!(files.load(), Ok(Stored::Open(_))));
    files.save(&keys, None).unwrap();
    assert!(matches!(files.load(), Ok(Stored::Open(_))));
}

#[test]
fn data_keys_are_never_dropped_to_make_room() {
    let mut keys = keys();
    keys.renew_data_key().unwrap();
    keys.renew_data_key().unwrap();
    assert_eq!(keys.renew_data_key(), Err(CipherError::TooManyKeys));
    assert_eq!(keys.data_keys.len(), MAX_DATA_KEYS);
    assert_eq!(keys.data_keys[MAX_DATA_KEYS - 1], DataKey::from_bytes([2; 32]));
}
