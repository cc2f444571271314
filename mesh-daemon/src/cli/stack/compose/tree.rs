//! A compose file as a tree in which everything knows where it stands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};
use serde_saphyr::{Location, Spanned};

/// A place in a file.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli::stack) struct At {
    file: Arc<str>,
    line: u64,
    column: u64,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// What is wrong with a file, and where.
#[derive(Debug)]
pub(in crate::cli::stack) struct Wrong {
    at: Option<At>,
    text: String,
}

impl Wrong {
    pub(in crate::cli::stack) fn at(at: &At, text: impl Into<String>) -> Self {
        Self { at: Some(at.clone()), text: text.into() }
    }

    /// Of the files as a whole.
    pub(in crate::cli::stack) fn anywhere(text: impl Into<String>) -> Self {
        Self { at: None, text: text.into() }
    }

    /// What stands first in a file comes first.
    pub(super) fn place(&self) -> (u64, u64) {
        self.at.as_ref().map_or((0, 0), |at| (at.line, at.column))
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            Some(at) => write!(f, "{at}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for Wrong {}

/// A value, and where it stands: what has a name, where its name does.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli::stack) struct Node {
    pub(in crate::cli::stack) at: At,
    pub(in crate::cli::stack) value: Value,
}

/// What a name leads to, sorted: one file makes the same of itself each time.
pub(in crate::cli::stack) type Map = BTreeMap<String, Node>;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::cli::stack) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

impl Node {
    /// A value that stands where another does that it was made of.
    pub(super) fn beside(&self, value: Value) -> Self {
        Self { at: self.at.clone(), value }
    }

    pub(super) fn text_beside(&self, text: impl Into<String>) -> Self {
        self.beside(Value::Text(text.into()))
    }

    pub(in crate::cli::stack) fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value { Some(text) } else { None }
    }

    /// The items of a list; of anything else none.
    pub(in crate::cli::stack) fn items(&self) -> &[Node] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    pub(in crate::cli::stack) fn map(&self) -> Option<&Map> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    pub(super) fn map_mut(&mut self) -> Option<&mut Map> {
        if let Value::Map(map) = &mut self.value { Some(map) } else { None }
    }

    /// What a name leads to.
    pub(in crate::cli::stack) fn get(&self, name: &str) -> Option<&Node> {
        self.map()?.get(name)
    }

    /// A scalar as text; None of what is null.
    pub(in crate::cli::stack) fn plain(&self) -> Option<String> {
        match &self.value {
            Value::Bool(is) => Some(is.to_string()),
            Value::Integer(number) => Some(number.to_string()),
            Value::Number(number) => Some(number.to_string()),
            Value::Text(text) => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }
}

/// Reads the text of a file: `name` is what errors call it.
pub(super) fn parse(name: &str, text: &str) -> Result<Node, Wrong> {
    let file: Arc<str> = name.into();
    // As the docker CLI reads YAML: 0440 is a mode, and `yes` is a word.
    let options = serde_saphyr::options! {
        legacy_octal_numbers: true,
        strict_booleans: true,
        with_snippet: false,
    };
    let place = |location: Location| At { file: file.clone(), line: location.line(), column: location.column() };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options) {
        Ok(raw) => Ok(raw.value.placed(place(raw.referenced), &place)),
        Err(error) => {
            let text = error.without_snippet().to_string();
            Err(match error.location() {
                Some(location) => Wrong::at(&place(location), text),
                None => Wrong::anywhere(format!("{name}: {text}")),
            })
        }
    }
}

/// As the parser gives it.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl Raw {
    fn placed(self, at: At, place: &impl Fn(Location) -> At) -> Node {
        let value = match self {
            Self::Scalar(value) => value,
            Self::List(items) => {
                Value::List(items.into_iter().map(|item| item.value.placed(place(item.referenced), place)).collect())
            }
            Self::Map(entries) => {
                let entry = |(key, item): (Spanned<String>, Spanned<Raw>)| {
                    let node = item.value.placed(place(key.referenced), place);
                    (key.value, node)
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Node { at, value }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Raw, D::Error> {
        Raw::deserialize(from)
    }

    fn visit_bool<E>(self, is: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(is)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Integer(number)))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Raw, E> {
        let number = i64::try_from(number).map_err(|_| E::custom(format!("{number} is too large")))?;
        Ok(Raw::Scalar(Value::Integer(number)))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Text(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Raw, A::Error> {
        let mut entries: Vec<(Spanned<String>, _)> = Vec::new();
        while let Some(entry) = from.next_entry::<Spanned<String>, Spanned<Raw>>()? {
            if entries.len() >= MAX_NAMES {
                return Err(A::Error::custom(format!("more than {MAX_NAMES} names in one place")));
            }
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

/// Names in one mapping: ten thousand services are a large stack.
const MAX_NAMES: usize = 100_000;

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => to.serialize_unit(),
            Value::Bool(is) => to.serialize_bool(*is),
            Value::Integer(number) => to.serialize_i64(*number),
            Value::Number(number) => to.serialize_f64(*number),
            // Who reads it again puts variables again.
            Value::Text(text) => to.serialize_str(&text.replace('$', "$$")),
            Value::List(items) => to.collect_seq(items),
            Value::Map(map) => to.collect_map(map),
        }
    }
}
