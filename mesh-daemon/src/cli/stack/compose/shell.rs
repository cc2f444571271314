//! Cuts a command line into words, as a shell does.

/// The words of a line: quotes keep words together, a backslash keeps a letter, `#` begins a comment.
pub(super) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('\'') => break,
                        Some(letter) => word.push(letter),
                        None => return Err("EOF found when expecting closing quote".to_owned()),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match letters.next() {
                        Some('"') => break,
                        Some('\\') => word.extend(letters.next()),
                        Some(letter) => word.push(letter),
                        None => return Err("EOF found when expecting closing quote".to_owned()),
                    }
                }
            }
            '\\' => {
                let kept = letters.next().ok_or("EOF found after escape character")?;
                word.get_or_insert_default().push(kept);
            }
            '#' if word.is_none() => drop(letters.by_ref().find(|letter| *letter == '\n')),
            letter if letter.is_ascii_whitespace() => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    Ok(words)
}

#[test]
fn a_line_is_cut_as_a_shell_cuts() {
    for (line, words) in [
        ("sleep 100000", vec!["sleep", "100000"]),
        ("  a\t b\n", vec!["a", "b"]),
        ("sh -c 'echo \"x y\"'", vec!["sh", "-c", "echo \"x y\""]),
        (r#"a"b c"d "e\"f" g\ h"#, vec!["ab cd", "e\"f", "g h"]),
        ("a '' # c", vec!["a", ""]),
        ("a#b", vec!["a#b"]),
        ("", vec![]),
    ] {
        assert_eq!(split(line).unwrap(), words, "{line}");
    }
    for line in ["a 'b", "a \"b", "a \\"] {
        assert!(split(line).is_err(), "{line}");
    }
}
