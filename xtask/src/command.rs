//! Runs the programs that chores are made of. Each is shown before it runs, and its failure names
//! the command line, so that a person can repeat it by hand.

use crate::workspace;
use anyhow::{Context as _, Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// A program to be run in the root of the workspace.
pub(crate) fn program(name: impl AsRef<Path>) -> Command {
    let mut command = Command::new(name.as_ref());
    command.current_dir(workspace::root()).stdin(Stdio::null());
    command
}

/// cargo, without the variables that `cargo xtask` itself was started with: build scripts of
/// others must not take them for their own.
pub(crate) fn cargo() -> Command {
    let mut command = program("cargo");
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        if name_text.starts_with("CARGO_PKG_") || name_text.starts_with("CARGO_MANIFEST_") || name_text == "CARGO" {
            command.env_remove(&name);
        }
    }
    command
}

/// Shows the command, runs it, and fails when it does.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("  $ {}", shown(command));
    let status = command.status().with_context(|| cannot_start(command))?;
    expect_success(command, status)
}

/// Runs the command in silence and returns what it prints; a failure carries its error output.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| cannot_start(command))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed ({}): {}", shown(command), output.status, stderr.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{}` printed something that is not text", shown(command)))
}

/// Turns an exit status into a result that names the command.
pub(crate) fn expect_success(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// The command as a person would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// Where a program lies on the search path, if it does.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn cannot_start(command: &Command) -> String {
    format!("cannot start `{}` (`cargo xtask setup` installs what is missing)", shown(command))
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_carries_its_error_output() {
        let error = read(program("sh").args(["-c", "echo no such thing >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("`sh -c 'echo no such thing >&2; exit 3'` failed"), "{error}");
        assert!(error.ends_with("no such thing"), "{error}");
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_the_fix() {
        let error = run(&mut program("no-such-program-of-mesh")).unwrap_err().to_string();
        assert!(error.contains("no-such-program-of-mesh") && error.contains("cargo xtask setup"), "{error}");
    }

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        let mut command = Command::new("ip");
        command.args(["link", "set", "it's", "a b", ""]);
        assert_eq!(shown(&command), r"ip link set 'it'\''s' 'a b' ''");
    }
}
