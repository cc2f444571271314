//! What marks code as unfinished, and lints waved through without a reason.

use super::Finding;
use super::source::{SourceFile, Token};

/// Macros that compile and then do nothing but panic.
const UNDONE: &[&str] = &["todo", "unimplemented"];

/// Marks of what is known to be wrong.
const MARKS: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X")];
/// The mark of what is still to be done, which may stand if it carries the number of an issue.
const OPEN: &str = concat!("TO", "DO");

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    files
        .iter()
        .filter(|file| file.is_rust())
        .flat_map(|file| [macros(file), marks(file), allows(file)].concat())
        .collect()
}

fn macros(file: &SourceFile) -> Vec<Finding> {
    let tokens = file.tokens();
    let calls = tokens.windows(2).filter(|pair| UNDONE.contains(&pair[0].text) && pair[1].text == "!");
    calls
        .map(|pair| {
            finding(
                file,
                pair[0].line,
                format!("`{}!` is code that is not there: write it or leave it out", pair[0].text),
            )
        })
        .collect()
}

fn marks(file: &SourceFile) -> Vec<Finding> {
    let check = |(number, line): (usize, &str)| {
        if let Some(mark) = MARKS.iter().find(|mark| has_word(line, mark)) {
            return Some(finding(file, number, format!("`{mark}`: fix it, or open an issue and write `{OPEN}(#N)`")));
        }
        let open = has_word(line, OPEN) && !line.contains(&format!("{OPEN}(#"));
        open.then(|| finding(file, number, format!("a {OPEN} carries the number of its issue: `{OPEN}(#N)`")))
    };
    file.lines().filter_map(check).collect()
}

fn has_word(line: &str, word: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

/// `#[allow(..)]` and `#![allow(..)]` without `reason = `. (`expect` without one is clippy's.)
fn allows(file: &SourceFile) -> Vec<Finding> {
    let tokens = file.tokens();
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let attribute = |at: &usize| {
        is(*at, "#")
            && (is(at + 1, "[") && is(at + 2, "allow") || is(at + 1, "!") && is(at + 2, "[") && is(at + 3, "allow"))
    };
    let bare = |at: &usize| !has_reason(&tokens[*at..]);
    let what = "a lint is set aside by `#[expect(.., reason = \"..\")]`; this `allow` gives no reason";
    (0..tokens.len()).filter(attribute).filter(bare).map(|at| finding(file, tokens[at].line, what.to_owned())).collect()
}

fn has_reason(attribute: &[Token<'_>]) -> bool {
    attribute.iter().take_while(|token| token.text != "]").any(|token| token.text == "reason")
}

fn finding(file: &SourceFile, line: usize, what: String) -> Finding {
    Finding { path: file.path.clone(), line, what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(code: &str) -> Vec<usize> {
        check(&[SourceFile::new("a.rs", code.as_bytes().to_vec())]).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn macros_that_only_panic_are_findings() {
        assert_eq!(lines("fn a() { todo!() }\nfn b() { unimplemented!(\"later\") }\nfn c() {}"), [1, 2]);
        assert!(lines("fn todo() {}\nconst A: &str = \"todo!\";").is_empty());
    }

    #[test]
    fn marks_of_unfinished_work_are_findings_unless_they_name_an_issue() {
        assert_eq!(lines(&format!("a\n// {}: later", MARKS[0])), [2]);
        assert_eq!(lines(&format!("// {OPEN} later\n// {OPEN}(#12): later")), [1]);
        assert!(lines("// a XXXL shirt").is_empty());
    }

    #[test]
    fn an_allow_needs_a_reason() {
        assert_eq!(lines("#[allow(dead_code)]\nfn a() {}\n#![allow(\n  unused\n)]"), [1, 3]);
        assert!(lines("#[allow(unused, reason = \"in a macro\")]\n#[expect(x, reason = \"y\")]").is_empty());
        assert!(lines("fn allow(a: [u8; 1]) {}").is_empty());
    }
}
