//! Variables of the user's environment in a file: `$NAME`, `${NAME:-default}`, `${NAME:?why}`, `$$`.

use std::collections::{BTreeMap, BTreeSet};

use super::tree::{Node, Value, Wrong};

/// The user's environment.
pub(in crate::cli::stack) type Environment = BTreeMap<String, String>;

/// Puts values in the place of variables, everywhere below a node. `missing` gets the names of those that
/// had none.
pub(super) fn put(
    node: &mut Node,
    path: &str,
    environment: &Environment,
    missing: &mut BTreeSet<String>,
) -> Result<(), Wrong> {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => match substitute(text, environment, missing) {
            Ok(put) => *text = put,
            Err(why) => return Err(Wrong::at(&node.at, why.said_of(path, text))),
        },
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                put(item, &format!("{path}.{index}"), environment, missing)?;
            }
        }
        Value::Map(map) => {
            for (name, item) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                put(item, &path, environment, missing)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Number(_) | Value::Text(_) => {}
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Bad {
    Format,
    Required(String),
}

impl Bad {
    fn said_of(&self, path: &str, text: &str) -> String {
        match self {
            Self::Format => format!(
                "invalid interpolation format for {path}: \"{text}\"; you may need to escape any $ with another $"
            ),
            Self::Required(why) => format!("{path}: {why}"),
        }
    }
}

fn substitute(text: &str, environment: &Environment, missing: &mut BTreeSet<String>) -> Result<String, Bad> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (inside, after) = after.split_once('}').ok_or(Bad::Format)?;
            out.push_str(&braced(inside, environment, missing)?);
            rest = after;
        } else {
            let (name, after) = name(after).ok_or(Bad::Format)?;
            out.push_str(&value(name, environment, missing));
            rest = after;
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// A name at the beginning of a text, and what follows it.
fn name(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins.then_some((name, rest))
}

fn value(name: &str, environment: &Environment, missing: &mut BTreeSet<String>) -> String {
    environment.get(name).cloned().unwrap_or_else(|| {
        missing.insert(name.to_owned());
        String::new()
    })
}

fn braced(inside: &str, environment: &Environment, missing: &mut BTreeSet<String>) -> Result<String, Bad> {
    let (name, how) = name(inside).ok_or(Bad::Format)?;
    let set = environment.get(name);
    // With a colon, an empty value counts as none.
    let (how, set) = match how.strip_prefix(':') {
        Some(how) => (how, set.filter(|value| !value.is_empty())),
        None => (how, set),
    };
    if inside.len() == name.len() {
        return Ok(value(name, environment, missing));
    }
    if let Some(default) = how.strip_prefix('-') {
        return Ok(set.cloned().unwrap_or_else(|| default.to_owned()));
    }
    let why = how.strip_prefix('?').ok_or(Bad::Format)?;
    set.cloned().ok_or_else(|| Bad::Required(format!("required variable {name} is missing a value: {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&str, Bad>) {
        let environment = Environment::from([("SET".into(), "x".into()), ("EMPTY".into(), String::new())]);
        let put = substitute(text, &environment, &mut BTreeSet::new());
        assert_eq!(put, expected.map(str::to_owned), "{text}");
    }

    #[test]
    fn variables_are_put_as_the_docker_cli_puts_them() {
        for (text, put) in [
            ("a $SET b", "a x b"),
            ("${SET}y", "xy"),
            ("$$SET", "$SET"),
            ("$$$SET", "$x"),
            ("${NONE}", ""),
            ("${NONE:-d}", "d"),
            ("${EMPTY:-d}", "d"),
            ("${EMPTY-d}", ""),
            ("${NONE-d}", "d"),
            ("${SET:?why}", "x"),
            ("${EMPTY?why}", ""),
            ("$SET-alpine", "x-alpine"),
        ] {
            check(text, Ok(put));
        }
        for text in ["$", "$1", "${", "${}", "${1}", "${SET", "${SET+x}", "a $ b"] {
            check(text, Err(Bad::Format));
        }
        check("${EMPTY:?why}", Err(Bad::Required("required variable EMPTY is missing a value: why".into())));
    }

    #[test]
    fn a_variable_without_a_value_is_told() {
        let mut missing = BTreeSet::new();
        assert_eq!(substitute("$A ${B:-b} ${C}", &Environment::new(), &mut missing).unwrap(), " b ");
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), ["A", "C"]);
    }
}
