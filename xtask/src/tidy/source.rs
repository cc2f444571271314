//! A file of the repository as the rules look at it: its text, and for Rust also its bare code,
//! with comments and literals blanked, cut into tokens.

/// A file, by its path from the root.
pub(super) struct SourceFile {
    pub(super) path: String,
    /// None if it is not text.
    pub(super) text: Option<String>,
    /// The text of a Rust file with comments and literals turned to spaces; else empty.
    pub(super) code: String,
}

/// An identifier, or one other character that is not white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) text: &'a str,
    /// Counted from 1.
    pub(super) line: usize,
}

impl SourceFile {
    pub(super) fn new(path: &str, bytes: Vec<u8>) -> Self {
        let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let code = text.as_deref().filter(|_| path.ends_with(".rs")).map(blank).unwrap_or_default();
        Self { path: path.to_owned(), text, code }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers; none if the file is not text.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.iter().flat_map(|text| (1..).zip(text.lines()))
    }

    pub(super) fn tokens(&self) -> Vec<Token<'_>> {
        (1..).zip(self.code.lines()).flat_map(|(number, line)| tokens_of_line(line, number)).collect()
    }
}

fn tokens_of_line(line: &str, number: usize) -> Vec<Token<'_>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let length = if is_word(first) { word } else { first.len_utf8() };
        let (text, after) = rest.split_at(length);
        tokens.push(Token { text, line: number });
        rest = after.trim_start();
    }
    tokens
}

/// Replaces comments and the insides of literals by spaces; lines stay where they are.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = skipped(&chars, at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        } else {
            out.extend(chars[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

/// Where the comment or literal ends that begins at `at`; `at` itself if none begins there.
fn skipped(chars: &[char], at: usize) -> usize {
    let starts = |what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    // In `for` or `b` of `curb"`, the letter before belongs to a word, not to a literal.
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if starts("//") {
        return find(chars, at, |c| c == '\n');
    }
    if starts("/*") {
        return end_of_block_comment(chars, at);
    }
    if starts("\"") {
        return end_of_quoted(chars, at + 1, '"');
    }
    if !in_word && (starts("r\"") || starts("r#") || starts("br\"") || starts("br#")) {
        return end_of_raw(chars, at);
    }
    // A quote begins a character, unless it begins a lifetime.
    if starts("'") && (chars.get(at + 1) == Some(&'\\') || chars.get(at + 2) == Some(&'\'')) {
        return end_of_quoted(chars, at + 1, '\'');
    }
    at
}

fn find(chars: &[char], from: usize, is: impl Fn(char) -> bool) -> usize {
    chars[from..].iter().position(|c| is(*c)).map_or(chars.len(), |offset| from + offset)
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start, 0);
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn end_of_quoted(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            c if c == quote => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// The end of `r"..."` or `r#"..."#`; `start` itself for a raw identifier such as `r#type`.
fn end_of_raw(chars: &[char], start: usize) -> usize {
    let hashes_at = find(chars, start, |c| c == 'r') + 1;
    let quote = find(chars, hashes_at, |c| c != '#');
    if chars.get(quote) != Some(&'"') {
        return start;
    }
    let hashes = quote - hashes_at;
    let closes =
        |at: usize| chars[at] == '"' && chars[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    (quote + 1..chars.len()).find(|at| closes(*at)).map_or(chars.len(), |at| at + 1 + hashes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[&str]) {
        let file = SourceFile::new("a.rs", text.as_bytes().to_vec());
        assert_eq!(file.tokens().iter().map(|token| token.text).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn comments_are_no_code() {
        check("a // crate::b\nc /* x /* y */ z */ d /// e", &["a", "c", "d"]);
    }

    #[test]
    fn literals_are_no_code() {
        check(r#"f("a \" b", 'x', '\'', b"c")"#, &["f", "(", ",", ",", ",", "b", ")"]);
        check("r#\"a \" b\"# c r\"\\\" d br##\"\"# \"## e", &["c", "d", "e"]);
    }

    #[test]
    fn lifetimes_and_raw_identifiers_are_code() {
        check(
            "fn f<'a>(r#type: &'a str)",
            &["fn", "f", "<", "'", "a", ">", "(", "r", "#", "type", ":", "&", "'", "a", "str", ")"],
        );
    }

    #[test]
    fn a_token_knows_its_line() {
        let file = SourceFile::new("a.rs", b"/* 1\n2 */ x\n\"a\nb\" y".to_vec());
        let lines: Vec<_> = file.tokens().iter().map(|token| (token.text.to_owned(), token.line)).collect();
        assert_eq!(lines, [("x".to_owned(), 2), ("y".to_owned(), 4)]);
    }

    #[test]
    fn bytes_that_are_no_text_have_none() {
        assert!(SourceFile::new("a.bin", vec![0x7f, b'E', 0, 1]).text.is_none());
        assert!(SourceFile::new("a.bin", vec![0xff, 0xfe]).text.is_none());
    }
}
