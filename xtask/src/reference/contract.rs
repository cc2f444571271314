//! What a reference page promises, read back from its text: the ABI version, and per heading the
//! first columns of its table. Two versions of a page are compared by this.

use std::collections::BTreeMap;

/// The promise of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contract {
    pub(super) version: Option<u32>,
    /// Rows of a number and its name. Each list is the index of an array, as long as the list.
    numbers: BTreeMap<String, String>,
    /// Rows of a limit and its value: a pinned map keeps the capacity it was made with.
    limits: BTreeMap<String, String>,
    /// Types by name, each with its rows of offset, size and field.
    layouts: BTreeMap<String, Vec<String>>,
}

/// How a page states its version; `pages` writes it, `read` finds it.
pub(super) const VERSION_LINE: &str = "ABI version: ";

/// How the heading of a type begins.
pub(super) const TYPE_HEADING: &str = "### ";

impl Contract {
    pub(super) fn read(page: &str) -> Self {
        let mut contract = Self::default();
        let mut layout = None;
        for line in page.lines() {
            if let Some(version) = line.strip_prefix(VERSION_LINE) {
                contract.version = version.trim_end_matches('.').parse().ok();
            } else if let Some(heading) = line.strip_prefix(TYPE_HEADING) {
                let name = heading.split(' ').next().unwrap_or(heading).trim_matches('`').to_owned();
                contract.layouts.insert(name.clone(), vec![heading.to_owned()]);
                layout = Some(name);
            } else if line.starts_with("## ") {
                layout = None;
            } else if let Some([first, second, third]) = cells(line) {
                let is_number = |cell: &str| cell.parse::<u32>().is_ok();
                match &layout {
                    Some(name) if is_number(first) => {
                        contract.layouts.entry(name.clone()).or_default().push(format!("{first} {second} {third}"));
                    }
                    None if is_number(first) => drop(contract.numbers.insert(first.to_owned(), second.to_owned())),
                    None if is_number(second) => drop(contract.limits.insert(first.to_owned(), second.to_owned())),
                    // The head of a table.
                    _ => {}
                }
            }
        }
        contract
    }

    /// What of `old` this no longer keeps, if both claim the same version. A new type or limit
    /// breaks nothing: it belongs to a new map. Nor does a new number: the arrays have room.
    pub(super) fn breaks(&self, old: &Self) -> Vec<String> {
        if self.version != old.version {
            return Vec::new();
        }
        let limits = old.limits.iter().filter_map(|(name, value)| match self.limits.get(name) {
            Some(now) if now == value => None,
            Some(now) => Some(format!("limit {name} was {value} and is {now}")),
            None => Some(format!("limit {name} is gone")),
        });
        let numbers = old.numbers.iter().filter_map(|(number, name)| match self.numbers.get(number) {
            Some(now) if now == name => None,
            Some(now) => Some(format!("number {number} was {name} and is {now}")),
            None => Some(format!("number {number}, {name}, is gone")),
        });
        let layouts = old.layouts.iter().filter_map(|(name, layout)| match self.layouts.get(name) {
            Some(now) if now == layout => None,
            Some(_) => Some(format!("type {name} has another layout")),
            None => Some(format!("type {name} is gone")),
        });
        numbers.chain(limits).chain(layouts).collect()
    }
}

/// The first three cells of a row of a table.
fn cells(line: &str) -> Option<[&str; 3]> {
    let mut cells = line.strip_prefix("| ")?.split('|').map(|cell| cell.trim().trim_matches('`'));
    Some([cells.next()?, cells.next()?, cells.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(version: u32, rows: &[(u32, &str)]) -> Contract {
        let rows: String = rows.iter().map(|(number, name)| format!("| {number} | `{name}` | text |\n")).collect();
        Contract::read(&format!(
            "# Page\n\nABI version: {version}.\n\n| number | name | meaning |\n|---|---|---|\n{rows}"
        ))
    }

    fn layout(version: u32, size: u32, rows: &[(u32, u32, &str)]) -> Contract {
        let rows: String =
            rows.iter().map(|(at, n, name)| format!("| {at} | {n} | `{name}` | `u8` | text |\n")).collect();
        Contract::read(&format!(
            "ABI version: {version}.\n## Types\n### `Node` ({size} bytes)\nText.\n| offset | size | field |\n|---|---|---|\n{rows}"
        ))
    }

    #[test]
    fn a_list_of_numbers_keeps_its_names_and_may_grow() {
        let old = numbers(1, &[(0, "A"), (1, "B")]);
        assert!(old.breaks(&old).is_empty());
        let longer = numbers(1, &[(0, "A"), (1, "B"), (2, "C")]);
        assert!(longer.breaks(&old).is_empty());
        assert_eq!(
            numbers(1, &[(0, "B"), (1, "A")]).breaks(&old),
            ["number 0 was A and is B", "number 1 was B and is A"]
        );
        assert_eq!(numbers(1, &[(0, "A")]).breaks(&old), ["number 1, B, is gone"]);
    }

    #[test]
    fn a_layout_is_kept_in_offset_size_and_name() {
        let old = layout(1, 8, &[(0, 4, "a"), (4, 4, "b")]);
        assert!(layout(1, 8, &[(0, 4, "a"), (4, 4, "b")]).breaks(&old).is_empty());
        let changed = ["type Node has another layout"];
        assert_eq!(layout(1, 8, &[(0, 4, "b"), (4, 4, "a")]).breaks(&old), changed);
        assert_eq!(layout(1, 12, &[(0, 4, "a"), (4, 4, "b"), (8, 4, "c")]).breaks(&old), changed);
        assert_eq!(numbers(1, &[]).breaks(&old), ["type Node is gone"]);
    }

    #[test]
    fn a_limit_keeps_its_value_and_a_new_one_breaks_nothing() {
        let limits =
            |rows: &str| Contract::read(&format!("ABI version: 1.\n## Limits\n| limit | value | of |\n{rows}"));
        let old = limits("| `NODES` | 16 | text |\n");
        assert!(limits("| `NODES` | 16 | words |\n| `LINKS` | 8 | text |\n").breaks(&old).is_empty());
        assert_eq!(limits("| `NODES` | 32 | text |\n").breaks(&old), ["limit NODES was 16 and is 32"]);
        assert_eq!(limits("").breaks(&old), ["limit NODES is gone"]);
    }

    #[test]
    fn another_version_may_change_everything() {
        assert!(numbers(2, &[(0, "B")]).breaks(&numbers(1, &[(0, "A")])).is_empty());
        assert!(layout(2, 4, &[(0, 4, "b")]).breaks(&layout(1, 8, &[(0, 8, "a")])).is_empty());
    }

    #[test]
    fn texts_may_be_reworded() {
        let page = |text: &str| Contract::read(&format!("ABI version: 1.\n| 0 | `A` | {text} |\n"));
        assert!(page("new words").breaks(&page("old words")).is_empty());
    }
}
