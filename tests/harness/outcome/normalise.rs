//! Makes two runs of the docker CLI comparable: ids, times, addresses, digests and tokens get names,
//! and lines go that depend on how long something took.

use std::collections::BTreeMap;

/// What stands in the place of each kind of thing that differs from run to run.
pub fn normalise(text: &str) -> String {
    let kept: Vec<_> = text.lines().filter(|line| !depends_on_time(line)).collect();
    let mut ids = BTreeMap::new();
    let named = name_things(&kept.join("\n"), &mut ids);
    let lines = named.lines().map(|line| collapse(line.trim_end())).filter(|line| !line.is_empty());
    lines.map(|line| line + "\n").collect()
}

/// Progress is polled: how often depends on the machine.
fn depends_on_time(line: &str) -> bool {
    let counts = |word: &str| {
        let (slot, of) = word.split_once('/').unwrap_or_default();
        !slot.is_empty()
            && !of.is_empty()
            && [slot, of].iter().all(|part| part.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    [
        "verify: Waiting",
        "verify: Detected",
        "overall progress: ",
        "rolling back update: ",
        "active tasks: ",
        "job progress: ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
        || line.split_once(": ").is_some_and(|(word, _)| counts(word) || (word.len() == 12 && is_id(word)))
}

/// Two spaces for more: widths of columns follow what is in them.
fn collapse(line: &str) -> String {
    let mut out = String::new();
    let mut spaces = 0;
    for letter in line.chars() {
        spaces = if letter == ' ' { spaces + 1 } else { 0 };
        if spaces <= 2 {
            out.push(letter);
        }
    }
    out
}

fn name_things(text: &str, ids: &mut BTreeMap<String, usize>) -> String {
    let mut out = String::new();
    let mut rest = text;
    let mut inside_word = false;
    while let Some(letter) = rest.chars().next() {
        let found = if inside_word { None } else { thing(rest, ids) };
        if let Some((length, name)) = found {
            out.push_str(&name);
            rest = &rest[length..];
            inside_word = false;
            continue;
        }
        inside_word = letter.is_ascii_alphanumeric();
        out.push(letter);
        rest = &rest[letter.len_utf8()..];
    }
    out
}

/// What begins here: its length, and what stands for it.
fn thing(text: &str, ids: &mut BTreeMap<String, usize>) -> Option<(usize, String)> {
    let named = |length: Option<usize>, name: &str| Some((length?, name.to_owned()));
    named(after(text, "SWMTKN-1-", |c| c.is_ascii_alphanumeric() || c == '-'), "<TOKEN>")
        .or_else(|| named(after(text, "SWMKEY-1-", |c| c.is_ascii_alphanumeric() || "+/=".contains(c)), "<UNLOCKKEY>"))
        .or_else(|| named(after(text, "sha256:", |c| c.is_ascii_hexdigit()), "<DIGEST>"))
        .or_else(|| named(after(text, "10.0.", |c| c.is_ascii_digit() || c == '.' || c == '/'), "<OVERLAYIP>"))
        .or_else(|| named(after(text, "\"Index\": ", |c| c.is_ascii_digit()), "\"Index\": 0"))
        .or_else(|| named(after(text, "vxlanid_list\": \"", |c| c.is_ascii_digit()), "vxlanid_list\": \"<VNI>"))
        .or_else(|| named(after(text, "\"PID\": ", |c| c.is_ascii_digit()), "\"PID\": 0"))
        .or_else(|| named(time(text), "<TIME>"))
        .or_else(|| named(age(text), "<AGO>"))
        .or_else(|| {
            let word = &text[..run(text, |c| c.is_ascii_digit() || c.is_ascii_lowercase())];
            let is_name = matches!(word.len(), 12 | 25 | 64) && is_id(word);
            let next = ids.len() + 1;
            is_name.then(|| (word.len(), format!("<ID{}>", ids.entry(word[..12].to_owned()).or_insert(next))))
        })
}

fn is_id(word: &str) -> bool {
    word.chars().all(|c| c.is_ascii_digit() || c.is_ascii_lowercase())
        && word.contains(|c: char| c.is_ascii_digit())
        && word.contains(|c: char| c.is_ascii_lowercase())
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of a prefix and what belongs to it, if there is any.
fn after(text: &str, prefix: &str, belongs: impl Fn(char) -> bool) -> Option<usize> {
    let rest = text.strip_prefix(prefix)?;
    let length = run(rest, belongs);
    (length > 0).then_some(prefix.len() + length)
}

/// `2026-11-24T03:59:05.36Z`, `2026-11-24 03:59:05.36 +0000 utc`.
fn time(text: &str) -> Option<usize> {
    let shape = "dddd-dd-dd dd:dd:dd";
    let head = text.get(..shape.len())?;
    let fits = |(letter, wanted): (char, char)| match wanted {
        'd' => letter.is_ascii_digit(),
        ' ' => letter == ' ' || letter == 'T',
        other => letter == other,
    };
    if !head.chars().zip(shape.chars()).all(fits) {
        return None;
    }
    let mut length = shape.len();
    length += run(&text[length..], |c| c.is_ascii_digit() || c == '.');
    for zone in ["Z", " +0000 utc", " +0000 UTC"] {
        if text[length..].starts_with(zone) {
            return Some(length + zone.len());
        }
    }
    Some(length)
}

/// `6 seconds ago`, `About a minute`.
fn age(text: &str) -> Option<usize> {
    let fixed = [
        "Less than a second",
        "less than a second",
        "About a minute",
        "about a minute",
        "About an hour",
        "about an hour",
    ];
    let ago = |length: usize| length + if text[length..].starts_with(" ago") { 4 } else { 0 };
    if let Some(words) = fixed.iter().find(|words| text.starts_with(**words)) {
        return Some(ago(words.len()));
    }
    let digits = run(text, |c| c.is_ascii_digit());
    let unit = text[digits..].strip_prefix(' ').filter(|_| digits > 0)?;
    let unit =
        ["second", "minute", "hour", "day", "week", "month", "year"].iter().find(|name| unit.starts_with(**name))?;
    let mut length = digits + 1 + unit.len();
    length += usize::from(text[length..].starts_with('s'));
    Some(ago(length))
}

#[test]
fn what_differs_from_run_to_run_gets_a_name() {
    for (text, expected) in [
        ("x17rtwguomvp824q91rlod4nh *   node1", "<ID1> *  node1\n"),
        ("x17rtwguomvp web x17rtwguomvp824q91rlod4nh", "<ID1> web <ID1>\n"),
        ("Running 6 seconds ago", "Running <AGO>\n"),
        ("at 2026-11-24T03:59:05.365158833Z.", "at <TIME>.\n"),
        ("at 2026-11-24 03:59:05.3 +0000 utc", "at <TIME>\n"),
        ("10.0.0.7/24 10.60.0.0/24", "<OVERLAYIP> 10.60.0.0/24\n"),
        ("overall progress: 0 out of 2 tasks\n1/2:  \nverify: Waiting 5 seconds\nok", "ok\n"),
        ("web1 scaled to 4", "web1 scaled to 4\n"),
    ] {
        assert_eq!(normalise(text), expected);
    }
}
