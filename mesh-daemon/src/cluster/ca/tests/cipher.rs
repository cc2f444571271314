use proptest::prelude::*;

use crate::cluster::ca::{Cipher, CipherError, DataKey, MAX_DATA_KEYS};

fn cipher() -> Cipher {
    Cipher::new(vec![DataKey::from_bytes([7; 32])]).unwrap()
}

proptest! {
    #[test]
    fn what_is_sealed_opens_at_its_place_and_nowhere_else(value: Vec<u8>, place: Vec<u8>, other: Vec<u8>) {
        let cipher = cipher();
        let sealed = cipher.seal(&place, &value).unwrap();
        prop_assert_eq!(cipher.open(&place, &sealed).unwrap(), value);
        if other != place {
            prop_assert_eq!(cipher.open(&other, &sealed), Err(CipherError::Damaged));
        }
    }

    #[test]
    fn no_byte_of_a_sealed_value_can_be_changed_or_lost(value: Vec<u8>, at: proptest::sample::Index, bit in 0..8) {
        let cipher = cipher();
        let sealed = cipher.seal(b"log/1", &value).unwrap();
        let at = at.index(sealed.len());
        let mut changed = sealed.clone();
        changed[at] ^= 1_u8 << bit;
        prop_assert!(cipher.open(b"log/1", &changed).is_err());
        prop_assert!(cipher.open(b"log/1", &sealed[..at]).is_err());
    }
}

#[test]
fn a_value_sealed_by_an_earlier_run_opens_and_no_two_seals_are_alike() {
    let sealed = [cipher().seal(b"x", b"same").unwrap(), cipher().seal(b"x", b"same").unwrap()];
    assert_ne!(sealed[0], sealed[1]);
    for sealed in sealed {
        assert_eq!(cipher().open(b"x", &sealed).unwrap(), b"same");
    }
}

#[test]
fn many_earlier_runs_are_opened_in_turn() {
    let sealed: Vec<_> = (0..40).map(|n: u8| cipher().seal(b"x", &[n]).unwrap()).collect();
    let reader = cipher();
    for _ in 0..2 {
        for (n, sealed) in (0..).zip(&sealed) {
            assert_eq!(reader.open(b"x", sealed).unwrap(), [n]);
        }
    }
}

#[test]
fn after_a_rotation_old_values_open_and_new_ones_need_the_new_key() {
    let (old, new) = (DataKey::from_bytes([1; 32]), DataKey::from_bytes([2; 32]));
    let cipher = Cipher::new(vec![old.clone()]).unwrap();
    let before = cipher.seal(b"x", b"before").unwrap();
    cipher.replace_keys(vec![new.clone(), old.clone()]).unwrap();
    let after = cipher.seal(b"x", b"after").unwrap();
    assert_eq!(cipher.open(b"x", &before).unwrap(), b"before");
    let alone = Cipher::new(vec![old.clone()]).unwrap();
    assert_eq!(alone.open(b"x", &after), Err(CipherError::UnknownKey(new.id())));
    cipher.replace_keys(vec![new]).unwrap();
    assert_eq!(cipher.open(b"x", &before), Err(CipherError::UnknownKey(old.id())));
    assert_eq!(cipher.open(b"x", &after).unwrap(), b"after");
}

#[test]
fn keys_are_bounded_and_never_printed() {
    assert_eq!(Cipher::new(vec![]).err(), Some(CipherError::NoKey));
    let many = vec![DataKey::from_bytes([3; 32]); MAX_DATA_KEYS + 1];
    assert_eq!(Cipher::new(many).err(), Some(CipherError::TooManyKeys));
    let key = DataKey::generate().unwrap();
    assert_eq!(format!("{key:?}"), format!("DataKey({:08x})", key.id()));
    assert_ne!(key, DataKey::generate().unwrap());
}
