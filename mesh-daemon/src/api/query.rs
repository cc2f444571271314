//! The query of a request, read as Go's clients write it.

use std::collections::HashMap;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::error::Error;
use super::filters::Filters;

/// The query's members, each once.
pub(super) struct Params(HashMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Params {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Error> {
        let query = Query::try_from_uri(&parts.uri).map_err(|error| Error::bad(format!("invalid query: {error}")))?;
        Ok(Self(query.0))
    }
}

impl Params {
    /// A member, if it is there and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A truth value: everything is true but these words. Python writes `False`.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            !matches!(value.trim().to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// The filters, which must be among those `known`.
    pub(super) fn filters(&self, known: &[&str]) -> Result<Filters, Error> {
        Filters::parse(self.get("filters"), known)
    }

    /// The version of the object that an update replaces.
    pub(super) fn version(&self, what: &str) -> Result<crate::model::meta::Version, Error> {
        let text = self.0.get("version").map_or("", String::as_str);
        text.parse().map(crate::model::meta::Version).map_err(|_| {
            Error::bad(format!(
                "invalid {what} version '{text}': strconv.ParseUint: parsing \"{text}\": invalid syntax"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truth_is_read_as_gos_clients_and_pythons_write_it() {
        for (text, truth) in [
            ("1", true),
            ("true", true),
            ("True", true),
            ("yes", true),
            ("0", false),
            ("false", false),
            ("False", false),
            ("NONE", false),
            ("no", false),
            ("", false),
            (" ", false),
        ] {
            let params = Params(HashMap::from([("a".to_owned(), text.to_owned())]));
            assert_eq!(params.flag("a"), truth, "{text:?}");
        }
        assert!(!Params(HashMap::new()).flag("a"));
    }
}
