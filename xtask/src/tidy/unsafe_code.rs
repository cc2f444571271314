//! Unsafe code stays in the files that are there for it. Everything else calls their safe faces.

use super::Finding;
use super::source::SourceFile;

/// The files that may, and what for.
const ALLOWED: &[(&str, &str)] = &[
    ("mesh-common/src/abi.rs", "promises that shared types are plain bytes"),
    ("mesh-common/src/header.rs", "promises that headers have alignment 1"),
    ("mesh-common/src/parse.rs", "reads headers out of a slice, bounds checked before"),
    ("mesh-daemon/src/agent/gro.rs", "an ioctl for which no library has a message"),
    ("mesh-daemon/build.rs", "sets a variable of its own environment, which edition 2024 calls unsafe"),
    ("mesh-ebpf/src/maps.rs", "lookups give raw pointers into maps"),
    ("mesh-ebpf/src/packet.rs", "packet memory is raw pointers; helpers of the kernel are foreign functions"),
    ("tests/bench-ebpf/src/balancer.rs", "as mesh-ebpf/src/maps.rs and packet.rs"),
    ("tests/bench-ebpf/src/main.rs", "as mesh-ebpf/src/maps.rs and packet.rs"),
    ("tests/build.rs", "as mesh-daemon/build.rs"),
    ("tests/harness/vlan.rs", "loads two tiny TC programs by the raw system call"),
    ("tests/whoami/shutdown.rs", "a signal handler without a library, so that whoami links statically"),
];

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let allowed = |path: &str| ALLOWED.iter().any(|(file, _)| *file == path);
    files.iter().filter(|file| file.is_rust() && !allowed(&file.path)).flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Finding> {
    // `#[unsafe(no_mangle)]` is an attribute, not a block: program macros and sections need it.
    let tokens = file.tokens();
    let code = (0..tokens.len()).filter(|at| tokens[*at].text == "unsafe" && !(*at > 0 && tokens[at - 1].text == "["));
    let what = "unsafe code does not belong here: xtask/src/tidy/unsafe_code.rs lists the files that have it";
    code.map(|at| Finding { path: file.path.clone(), line: tokens[at].line, what: what.to_owned() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, code: &str) -> Vec<usize> {
        check(&[SourceFile::new(path, code.as_bytes().to_vec())]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn unsafe_code_outside_the_list_is_a_finding() {
        let code = "fn a() {\n  unsafe { b() }\n}\nunsafe impl C for D {}";
        assert_eq!(lines("mesh-ebpf/src/lb.rs", code), [2, 4]);
        assert!(lines("mesh-ebpf/src/packet.rs", code).is_empty());
    }

    #[test]
    fn attributes_lint_names_and_comments_are_not_unsafe_code() {
        assert!(
            lines("a.rs", "#[unsafe(no_mangle)]\n#[expect(unsafe_code, reason = \"unsafe\")]\n// unsafe\nfn a() {}")
                .is_empty()
        );
    }
}
