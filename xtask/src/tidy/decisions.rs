//! A decision in docs/decisions has a number of its own and can be found from another page.

use super::Finding;
use super::source::SourceFile;

const FOLDER: &str = "docs/decisions/";

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    let decisions: Vec<_> = files.iter().filter_map(|file| Some((file, name(&file.path)?))).collect();
    let mut findings = Vec::new();
    for (file, name) in &decisions {
        let mut find = |what: &str| findings.push(Finding { path: file.path.clone(), line: 0, what: what.to_owned() });
        match number(name) {
            None => find("a decision is named NNNN-what-was-decided.md"),
            Some(number)
                if decisions.iter().any(|(other, n)| other.path < file.path && self::number(n) == Some(number)) =>
            {
                find("another decision has this number");
            }
            Some(_) => {}
        }
        if !files.iter().any(|other| links(other, file, name)) {
            find("no page links to this decision: name it where its consequence is described");
        }
    }
    findings
}

/// The name of a decision's file; the folder's own page is none.
fn name(path: &str) -> Option<&str> {
    path.strip_prefix(FOLDER).filter(|name| *name != "README.md")
}

fn number(name: &str) -> Option<&str> {
    let (number, rest) = name.split_once('-')?;
    let title = rest.strip_suffix(".md")?;
    let well_formed = number.len() == 4
        && number.bytes().all(|c| c.is_ascii_digit())
        && title.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-');
    well_formed.then_some(number)
}

fn links(page: &SourceFile, decision: &SourceFile, name: &str) -> bool {
    page.path != decision.path
        && page.path.ends_with(".md")
        && page.text.as_ref().is_some_and(|text| text.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn expect(files: &[(&str, &str)], expected: &[(&str, &str)]) {
        let files: Vec<_> = files.iter().map(|(path, text)| SourceFile::new(path, text.as_bytes().to_vec())).collect();
        let found = check(&files);
        let found: Vec<_> = found.iter().map(|finding| (finding.path.as_str(), &finding.what[..10])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_numbered_and_linked_decision_is_fine() {
        expect(&[("docs/decisions/0001-ebpf.md", ""), ("README.md", "[why](docs/decisions/0001-ebpf.md)")], &[]);
        expect(&[("docs/decisions/0001-ebpf.md", ""), ("docs/decisions/README.md", "- [0001](0001-ebpf.md)")], &[]);
    }

    #[test]
    fn a_decision_that_nobody_links_is_a_finding() {
        expect(&[("docs/decisions/0001-a.md", "see 0001-a.md")], &[("docs/decisions/0001-a.md", "no page li")]);
    }

    #[test]
    fn numbers_have_four_digits_and_one_owner() {
        let index = ("docs/decisions/README.md", "1-a.md 0002-b.md 0002-c.md");
        let files =
            [("docs/decisions/1-a.md", ""), ("docs/decisions/0002-b.md", ""), ("docs/decisions/0002-c.md", ""), index];
        expect(&files, &[("docs/decisions/1-a.md", "a decision"), ("docs/decisions/0002-c.md", "another de")]);
    }
}
