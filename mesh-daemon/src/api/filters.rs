//! The `filters` of a list: JSON, as maps (Go's clients) or as lists (docker-py and others).

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Error;

/// What a list is narrowed by: of each key one value must fit.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Filters {
    by_key: BTreeMap<String, Vec<String>>,
}

/// How many values one request may carry: a list asks for each of them of each object.
const MAX_VALUES: usize = 4096;

impl Filters {
    /// Reads the query's value; the keys must be among those `known`.
    ///
    /// # Errors
    /// It is not JSON of either form, too long, or has an unknown key.
    pub(super) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Error> {
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Self::default());
        };
        let invalid = |why: String| Error::bad(format!("invalid filters: {why}"));
        let keys: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let mut filters = Self::default();
        for (key, values) in keys {
            if !known.contains(&key.as_str()) {
                return Err(Error::bad(format!("Invalid filter '{key}'")));
            }
            let values = read_values(values).ok_or_else(|| invalid(format!("'{key}' is neither a map nor a list")))?;
            filters.by_key.insert(key, values);
        }
        if filters.by_key.values().map(Vec::len).sum::<usize>() > MAX_VALUES {
            return Err(invalid(format!("more than {MAX_VALUES} values")));
        }
        Ok(filters)
    }

    /// Whether a key is filtered by at all.
    pub(super) fn has(&self, key: &str) -> bool {
        self.by_key.contains_key(key)
    }

    /// The values of a key.
    pub(super) fn values(&self, key: &str) -> &[String] {
        self.by_key.get(key).map_or(&[], Vec::as_slice)
    }

    /// Whether no value is asked for, or one that `fits`.
    pub(super) fn any(&self, key: &str, fits: impl Fn(&str) -> bool) -> bool {
        self.by_key.get(key).is_none_or(|values| values.is_empty() || values.iter().any(|value| fits(value)))
    }

    /// As [`Filters::any`], for names and ids: a value fits what it begins.
    pub(super) fn prefix(&self, key: &str, text: &str) -> bool {
        self.any(key, |value| text.starts_with(value))
    }

    /// Whether every label that is asked for is there: `key` or `key=value`.
    pub(super) fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(key).iter().all(|wanted| match wanted.split_once('=') {
            Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
            None => labels.contains_key(wanted),
        })
    }

    /// The one truth value of a key, if it has one.
    ///
    /// # Errors
    /// It is neither true nor false.
    pub(super) fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        match self.values(key).first().map(String::as_str) {
            None => Ok(None),
            Some("1" | "true" | "True" | "TRUE") => Ok(Some(true)),
            Some("0" | "false" | "False" | "FALSE") => Ok(Some(false)),
            Some(_) => Err(Error::bad(format!("Invalid filter '{key}'"))),
        }
    }
}

fn read_values(values: Value) -> Option<Vec<String>> {
    match values {
        Value::Object(map) => {
            Some(map.into_iter().filter(|(_, wanted)| *wanted != Value::Bool(false)).map(|(value, _)| value).collect())
        }
        Value::Array(list) => list.into_iter().map(read_value).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

/// docker-py sends `{"dangling": [true]}`.
fn read_value(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn parse(text: &str) -> Filters {
        Filters::parse(Some(text), &["name", "label", "is-task"]).unwrap()
    }

    #[test]
    fn maps_and_lists_say_the_same() {
        assert_eq!(parse(r#"{"name":{"web":true,"db":true}}"#).values("name"), ["web", "db"]);
        assert_eq!(parse(r#"{"name":["web","db"]}"#), parse(r#"{"name":{"web":true,"db":true}}"#));
        assert_eq!(parse(r#"{"is-task":[true]}"#).truth("is-task"), Ok(Some(true)));
        assert_eq!(parse(r#"{"name":{"web":false}}"#).values("name"), [""; 0]);
    }

    #[test]
    fn names_fit_by_prefix_and_labels_whole() {
        let filters = parse(r#"{"name":{"web":true},"label":{"a":true,"b=1":true}}"#);
        assert!(filters.prefix("name", "web-2") && !filters.prefix("name", "we"));
        assert!(Filters::default().prefix("name", "anything"));
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        assert!(filters.labels("label", &labels(&[("a", "x"), ("b", "1")])));
        assert!(!filters.labels("label", &labels(&[("a", "x"), ("b", "2")])));
        assert!(!filters.labels("label", &labels(&[("b", "1")])));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, message) in [
            (r#"{"foo":["x"]}"#, "Invalid filter 'foo'"),
            (r#"{"name":"x"}"#, "invalid filters: 'name' is neither a map nor a list"),
            ("x", "invalid filters: expected value at line 1 column 1"),
            ("[]", "invalid filters: invalid type: sequence, expected a map at line 1 column 0"),
        ] {
            let error = Filters::parse(Some(text), &["name"]).unwrap_err();
            assert_eq!((error.status().as_u16(), error.to_string().as_str()), (400, message));
        }
    }
}
