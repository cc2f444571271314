//! Objects by what people call them: the whole id, the name, or the beginning of an id, in this order.

use std::sync::Arc;

use super::error::Error;
use crate::store::{Object, Tables};

/// The object that `name` means.
///
/// # Errors
/// There is none, or several ids begin so.
pub(super) fn find<T: Object>(tables: &Tables, name: &str) -> Result<Arc<T>, Error>
where
    T::Id: std::str::FromStr,
{
    let table = T::table(tables);
    if let Some(object) = name.parse().ok().and_then(|id| table.get(id)) {
        return Ok(Arc::clone(object));
    }
    let what = T::KIND.as_str();
    let named: Vec<_> = table.by_name(name).collect();
    match named.as_slice() {
        [object] => return Ok(Arc::clone(object)),
        [] => {}
        // Two machines may have one host name.
        several => return Err(Error::Ambiguous { what, name: name.to_owned(), matches: several.len() }),
    }
    if name.is_empty() {
        return Err(Error::not_found(what, name));
    }
    let mut begin_so = table.by_id_prefix(name);
    match (begin_so.next(), begin_so.count()) {
        (Some(object), 0) => Ok(Arc::clone(object)),
        (Some(_), more) => Err(Error::Ambiguous { what, name: name.to_owned(), matches: more + 1 }),
        (None, _) => Err(Error::not_found(what, name)),
    }
}
