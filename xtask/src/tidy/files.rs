//! How long a file may be, what it may be called, and that it is text.

use super::Finding;
use super::source::SourceFile;

/// 150 lines are usual, 400 want a reason, this many fail.
const MAX_LINES: usize = 600;

/// Names that say nothing of what is inside.
const EMPTY_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc"];

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |what: String| findings.push(Finding { path: file.path.clone(), line: 0, what });
    if file.text.is_none() {
        find("is not text: what can be built or generated is not committed".to_owned());
    }
    if file.is_rust() {
        let lines = file.lines().count();
        if lines > MAX_LINES && !file.path.ends_with("/tests.rs") {
            find(format!("has {lines} lines, more than {MAX_LINES}: cut it by what it holds"));
        }
        let parts = file.path.trim_end_matches(".rs").split('/');
        for part in parts.filter(|part| EMPTY_NAMES.contains(part)) {
            find(format!("`{part}` does not say what is inside: name it by the one thing it holds"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whats(path: &str, bytes: Vec<u8>) -> Vec<String> {
        check(&[SourceFile::new(path, bytes)]).into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn a_file_of_more_than_600_lines_is_a_finding_but_for_tests() {
        assert!(whats("a/src/b.rs", b"x\n".repeat(600)).is_empty());
        assert_eq!(whats("a/src/b.rs", b"x\n".repeat(601)), ["has 601 lines, more than 600: cut it by what it holds"]);
        assert!(whats("a/src/tests.rs", b"x\n".repeat(601)).is_empty());
        assert!(whats("docs/long.md", b"x\n".repeat(601)).is_empty());
    }

    #[test]
    fn a_name_that_says_nothing_is_a_finding() {
        for path in ["a/src/util.rs", "a/src/helpers/mod.rs", "a/src/misc/b.rs", "a/src/common.rs"] {
            assert_eq!(whats(path, Vec::new()).len(), 1, "{path}");
        }
        // The crate of the contract is called so; a module is not.
        assert!(whats("mesh-common/src/lib.rs", Vec::new()).is_empty());
    }

    #[test]
    fn a_binary_is_a_finding() {
        assert_eq!(whats("a/b.o", vec![0x7f, b'E', b'L', b'F', 0]).len(), 1);
    }
}
