use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Writes lines `0..count` to standard output, odd ones to standard error, one a second.
fn written(directory: &Path, limits: Limits, lines: std::ops::Range<i64>) {
    let mut writer = Writer::open(directory.to_owned(), limits).unwrap();
    for number in lines {
        let stream = if number % 2 == 0 { Stream::Stdout } else { Stream::Stderr };
        writer.write(at(number), stream, format!("{number}\n").as_bytes()).unwrap();
    }
}

fn texts(directory: &Path, query: &LogQuery) -> Vec<String> {
    let mut place = begin(directory, query).unwrap();
    let mut all = Vec::new();
    loop {
        let (lines, next) = read(directory, query, place).unwrap();
        all.extend(lines.iter().map(|line| String::from_utf8_lossy(&line.text).trim_end().to_owned()));
        if next == place {
            return all;
        }
        place = next;
    }
}

#[test]
fn lines_come_back_as_they_were_written_filtered_and_cut() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), Limits::default(), 0..6);
    let all = LogQuery::default();
    for (query, expected) in [
        (all.clone(), vec!["0", "1", "2", "3", "4", "5"]),
        (LogQuery { tail: Some(2), ..all.clone() }, vec!["4", "5"]),
        (LogQuery { tail: Some(0), ..all.clone() }, vec![]),
        (LogQuery { tail: Some(99), ..all.clone() }, vec!["0", "1", "2", "3", "4", "5"]),
        (LogQuery { stderr: false, tail: Some(2), ..all.clone() }, vec!["2", "4"]),
        (LogQuery { since: Some(at(2)), until: Some(at(3)), ..all.clone() }, vec!["2", "3"]),
    ] {
        assert_eq!(texts(directory.path(), &query), expected, "{query:?}");
    }
}

#[test]
fn files_are_bounded_in_size_and_number_and_the_newest_lines_stay() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 300, files: 2 };
    written(directory.path(), limits, 0..100);
    let files = numbers(directory.path()).unwrap();
    assert_eq!(files.len(), 2);
    for number in files {
        assert!(fs::metadata(place(directory.path(), number)).unwrap().len() <= 300);
    }
    let kept = texts(directory.path(), &LogQuery::default());
    assert!(kept.len() >= 4 && kept.last().unwrap() == "99", "{kept:?}");
    // A daemon that starts again goes on in the same file.
    written(directory.path(), limits, 100..101);
    assert_eq!(texts(directory.path(), &LogQuery { tail: Some(2), ..LogQuery::default() }), ["99", "100"]);
}

#[test]
fn a_reader_goes_on_over_a_change_of_files_and_over_damage() {
    let directory = tempfile::tempdir().unwrap();
    let limits = Limits { bytes: 200, files: 50 };
    written(directory.path(), limits, 0..3);
    let all = LogQuery::default();
    let (first, mut place) = read(directory.path(), &all, Place::default()).unwrap();
    assert!(!first.is_empty());
    fs::OpenOptions::new().append(true).open(self::place(directory.path(), 1)).unwrap().write_all(b"{half\n").unwrap();
    written(directory.path(), limits, 3..9);
    let mut rest = Vec::new();
    loop {
        let (lines, next) = read(directory.path(), &all, place).unwrap();
        rest.extend(lines.iter().map(|line| line.at.as_second()));
        if next == place {
            break;
        }
        place = next;
    }
    let seen: Vec<i64> = first.iter().map(|line| line.at.as_second()).chain(rest).collect();
    assert_eq!(seen, (0..9).collect::<Vec<_>>());
}

#[test]
fn what_is_kept_follows_the_log_driver() {
    let of = |name: &str, options: &[(&str, &str)]| {
        let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Limits::of(Some(&LogDriver { name: name.to_owned(), options })).map_err(|error| error.to_string())
    };
    assert_eq!(Limits::of(None).unwrap(), Some(Limits { bytes: 10 << 20, files: 3 }));
    assert_eq!(of("none", &[]), Ok(None));
    assert_eq!(of("json-file", &[("max-size", "64k"), ("max-file", "5")]), Ok(Some(Limits { bytes: 65536, files: 5 })));
    assert_eq!(of("local", &[("max-size", "1GB")]).unwrap().unwrap().bytes, 1 << 30);
    for (name, options) in [("syslog", &[][..]), ("json-file", &[("max-size", "x")]), ("", &[("max-file", "0")])] {
        assert!(of(name, options).unwrap_err().starts_with("LogDriver: "), "{name}");
    }
}
