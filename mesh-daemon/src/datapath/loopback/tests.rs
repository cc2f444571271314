//! Settings in a directory that stands in for the kernel's.

use std::fs;

use super::{SETTINGS, close_in, open_in};

#[test]
fn settings_are_made_and_become_what_they_were() {
    for before in ["0", "1"] {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("lo");
        let all = |value: &str| {
            for setting in SETTINGS {
                assert_eq!(fs::read_to_string(dir.path().join(setting)).unwrap().trim(), value, "{setting}");
            }
        };
        for setting in SETTINGS {
            fs::write(dir.path().join(setting), format!("{before}\n")).unwrap();
        }
        open_in(dir.path(), &memory);
        all("1");
        // The next daemon finds its own settings, and does not take them for the host's.
        open_in(dir.path(), &memory);
        close_in(dir.path(), &memory);
        all(before);
    }
}

#[test]
fn what_was_never_set_is_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    for setting in SETTINGS {
        fs::write(dir.path().join(setting), "1\n").unwrap();
    }
    close_in(dir.path(), &dir.path().join("lo"));
    for setting in SETTINGS {
        assert_eq!(fs::read_to_string(dir.path().join(setting)).unwrap(), "1\n");
    }
}
