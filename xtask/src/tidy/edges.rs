//! Modules of mesh-daemon name each other along these edges only, so that the graph of ARCHITECTURE.md
//! is the graph of the code. A new module is a line here.

use super::Finding;
use super::source::{SourceFile, Token};

/// What one module may name: modules, `module::part` for a part only, and the crates of
/// [`GUARDED`].
struct Edges {
    from: &'static str,
    to: &'static [&'static str],
}

const fn edges(from: &'static str, to: &'static [&'static str]) -> Edges {
    Edges { from, to }
}

/// Means every module and crate.
const ALL: &str = "*";

/// The table, from the top stratum down. Programs are named by their file.
const TABLE: &[Edges] = &[
    // `meshd datapath` runs the packet path alone, without a node around it; `meshd shim` stands beside a
    // container; errors are shown as meshctl shows them.
    edges("bin/meshd", &["node", "config", "datapath", "cli", "runtime"]),
    edges("bin/meshctl", &["cli"]),
    edges("node", &[ALL]),
    // meshctl asks the cluster by HTTP, and the kernel of its own node by the maps' one owner.
    edges("cli", &["api::wire", "doctor", "datapath", "mesh_common"]),
    edges("api", &["doctor", "cluster", "runtime", "store", "model"]),
    edges("doctor", &["datapath"]),
    edges("manager", &["cluster", "store", "model"]),
    edges("agent", &["cluster", "runtime", "dns", "datapath", "model"]),
    edges("cluster", &["store", "model"]),
    edges("runtime", &["model"]),
    edges("dns", &[]),
    edges("datapath", &["mesh_common", "aya", "aya_log"]),
    edges("store", &["model"]),
    edges("config", &["model"]),
    edges("model", &[]),
];

/// Crates that only some modules may name: nobody but `datapath` speaks to the kernel's maps.
const GUARDED: &[&str] = &["mesh_common", "aya", "aya_log"];

const SOURCE: &str = "mesh-daemon/src/";

pub(super) fn check(files: &[SourceFile]) -> Vec<Finding> {
    files.iter().filter(|file| file.is_rust()).flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<Finding> {
    let Some(module) = module_path(&file.path) else {
        return Vec::new();
    };
    let finding = |line, what| Finding { path: file.path.clone(), line, what };
    let Some(edges) = TABLE.iter().find(|edges| edges.from == module[0]) else {
        let what = format!("module `{}` is not in the table of edges (xtask/src/tidy/edges.rs)", module[0]);
        return vec![finding(0, what)];
    };
    let broken = |name: &Name| name.module != module[0] && !edges.allow(name);
    let named = names(&file.tokens(), module.len());
    let what = |name: &Name| {
        let may = if edges.to.is_empty() { "nothing".to_owned() } else { edges.to.join(", ") };
        format!("`{}` may not name `{}` (it may name: {may})", edges.from, name.shown())
    };
    named.iter().filter(|name| broken(name)).map(|name| finding(name.line, what(name))).collect()
}

impl Edges {
    fn allow(&self, name: &Name) -> bool {
        self.to.iter().any(|to| *to == ALL || *to == name.module || *to == name.shown())
    }
}

/// The modules that lead to a file of the daemon; None for other files and for lib.rs, which holds
/// no code. A program is one module, `bin/NAME`.
fn module_path(path: &str) -> Option<Vec<&str>> {
    let path = path.strip_prefix(SOURCE)?.strip_suffix(".rs")?;
    if path == "lib" {
        return None;
    }
    if path.starts_with("bin/") {
        return Some(vec![path]);
    }
    Some(path.split('/').filter(|part| *part != "mod").collect())
}

/// A module or guarded crate that code names, and the part of it.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    module: String,
    part: Option<String>,
    line: usize,
}

impl Name {
    fn shown(&self) -> String {
        self.part.as_ref().map_or(self.module.clone(), |part| format!("{}::{part}", self.module))
    }
}

/// Everything that the code of a module at this depth names in the root of its crate.
fn names(tokens: &[Token<'_>], depth: usize) -> Vec<Name> {
    let mut found = Vec::new();
    let mut inline = InlineModules::default();
    let mut at = 0;
    while at < tokens.len() {
        inline.see(tokens, at);
        let inside_path = at >= 2 && tokens[at - 1].text == ":" && tokens[at - 2].text == ":";
        let after = match tokens[at].text {
            _ if inside_path => None,
            "crate" | "mesh_daemon" => path_continues(tokens, at),
            "super" => above_root(tokens, at, depth + inline.depth()),
            name if GUARDED.contains(&name) && path_continues(tokens, at).is_some() => {
                found.push(Name { module: name.to_owned(), part: None, line: tokens[at].line });
                None
            }
            _ => None,
        };
        if let Some(after) = after {
            tree(tokens, after, &mut Vec::new(), &mut found);
        }
        at += 1;
    }
    found
}

/// Reads a path, or a group of paths in braces, that begins at `at`; adds the first two words of
/// each; returns where it ends.
fn tree(tokens: &[Token<'_>], at: usize, prefix: &mut Vec<String>, found: &mut Vec<Name>) -> usize {
    let Some(token) = tokens.get(at) else {
        return at;
    };
    if token.text == "{" {
        let mut next = at + 1;
        while tokens.get(next).is_some_and(|token| token.text != "}") {
            next = if tokens[next].text == "," { next + 1 } else { tree(tokens, next, prefix, found).max(next + 1) };
        }
        return next + 1;
    }
    prefix.push(token.text.to_owned());
    let continued = path_continues(tokens, at).filter(|_| prefix.len() < 2);
    let end = match continued {
        Some(next) => tree(tokens, next, prefix, found),
        None => {
            let part = prefix.get(1).cloned();
            found.push(Name { module: prefix[0].clone(), part, line: token.line });
            end_of_item(tokens, at + 1)
        }
    };
    prefix.pop();
    end
}

/// Skips the rest of a path within a group: to the comma or closing brace that ends it.
fn end_of_item(tokens: &[Token<'_>], mut at: usize) -> usize {
    let mut open = 0;
    while let Some(token) = tokens.get(at) {
        match token.text {
            "{" => open += 1,
            "}" | "," if open == 0 => return at,
            "}" => open -= 1,
            // A path outside a group ends here; nothing after it is of interest.
            ";" => return at,
            _ => {}
        }
        at += 1;
    }
    at
}

/// The token behind `::`, if the path goes on.
fn path_continues(tokens: &[Token<'_>], at: usize) -> Option<usize> {
    let colon = |at: usize| tokens.get(at).is_some_and(|token| token.text == ":");
    (colon(at + 1) && colon(at + 2) && tokens.len() > at + 3).then_some(at + 3)
}

/// Where `super::super::..` goes on, if it leads from this depth to the root of the crate.
fn above_root(tokens: &[Token<'_>], at: usize, depth: usize) -> Option<usize> {
    let (mut at, mut left) = (at, depth);
    while tokens.get(at).is_some_and(|token| token.text == "super") {
        left = left.checked_sub(1)?;
        at = path_continues(tokens, at)?;
    }
    (left == 0).then_some(at)
}

/// The `mod name { .. }` blocks around a place: each is one `super` more.
#[derive(Default)]
struct InlineModules {
    braces: usize,
    opened_at: Vec<usize>,
}

impl InlineModules {
    fn see(&mut self, tokens: &[Token<'_>], at: usize) {
        match tokens[at].text {
            "{" => {
                if at >= 2 && tokens[at - 2].text == "mod" {
                    self.opened_at.push(self.braces);
                }
                self.braces += 1;
            }
            "}" => {
                self.braces = self.braces.saturating_sub(1);
                if self.opened_at.last() == Some(&self.braces) {
                    self.opened_at.pop();
                }
            }
            _ => {}
        }
    }

    fn depth(&self) -> usize {
        self.opened_at.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Findings for code at a path below mesh-daemon/src, as `line: what it may not name`.
    fn broken(path: &str, code: &str) -> Vec<String> {
        let file = SourceFile::new(&format!("{SOURCE}{path}"), code.as_bytes().to_vec());
        let named = |what: &str| what.split('`').nth(3).unwrap_or(what).to_owned();
        check(&[file]).iter().map(|finding| format!("{}: {}", finding.line, named(&finding.what))).collect()
    }

    #[test]
    fn an_edge_of_the_table_is_allowed_and_any_other_is_not() {
        assert!(broken("manager/mod.rs", "use crate::store::Store;\nuse crate::model::{Task, id::TaskId};").is_empty());
        assert_eq!(
            broken("manager/mod.rs", "use crate::store;\nuse crate::datapath::Desired;"),
            ["2: datapath::Desired"]
        );
        assert_eq!(broken("model/mod.rs", "fn f() { crate::store::view() }"), ["1: store::view"]);
    }

    #[test]
    fn a_module_may_name_itself_and_node_names_all() {
        assert!(broken("datapath/plan.rs", "use crate::datapath::Desired;").is_empty());
        assert!(broken("node.rs", "use crate::{agent, api, datapath, manager};").is_empty());
    }

    #[test]
    fn groups_are_read_to_their_leaves() {
        let code = "use crate::{\n  model::{self, Task},\n  api::{wire, router::{Router, Route}},\n  store,\n};";
        assert_eq!(broken("cli/mod.rs", code), ["2: model::self", "2: model::Task", "3: api::router", "4: store"]);
    }

    #[test]
    fn only_the_named_part_of_a_module_is_allowed() {
        assert!(broken("cli/nodes.rs", "use crate::api::wire::Node;").is_empty());
        assert_eq!(broken("cli/nodes.rs", "use crate::api;"), ["1: api"]);
        assert_eq!(broken("cli/nodes.rs", "use crate::api::router;"), ["1: api::router"]);
    }

    #[test]
    fn comments_and_texts_name_nothing() {
        assert!(broken("dns/mod.rs", "//! See [`crate::agent`].\nconst A: &str = \"crate::agent::x\";").is_empty());
    }

    #[test]
    fn super_reaches_the_root_too() {
        assert_eq!(broken("dns/zone.rs", "use super::super::agent::Agent;"), ["1: agent::Agent"]);
        assert!(broken("dns/zone.rs", "use super::server::Server;").is_empty());
        assert!(broken("dns/zone.rs", "mod tests {\n use super::super::server::Server;\n}").is_empty());
        assert_eq!(broken("dns/zone.rs", "mod tests { }\nuse super::super::agent;"), ["2: agent"]);
    }

    #[test]
    fn only_the_datapath_speaks_to_maps() {
        assert!(broken("datapath/maps.rs", "use aya::maps::HashMap;\nuse mesh_common::node::Node;").is_empty());
        assert_eq!(broken("agent/mod.rs", "let a = mesh_common::limits::LINKS;"), ["1: mesh_common"]);
    }

    #[test]
    fn programs_name_the_top_only() {
        assert!(broken("bin/meshctl.rs", "fn main() { mesh_daemon::cli::main() }").is_empty());
        assert_eq!(broken("bin/meshctl.rs", "use mesh_daemon::datapath::observe;"), ["1: datapath::observe"]);
        assert_eq!(broken("bin/meshd.rs", "use mesh_daemon::{manager, node};"), ["1: manager"]);
    }

    #[test]
    fn a_module_that_is_not_in_the_table_is_a_finding() {
        assert_eq!(broken("attic/mod.rs", "").len(), 1);
        let other = SourceFile::new("tests/harness/lib.rs", b"use mesh_daemon::datapath;".to_vec());
        assert!(check(&[other]).is_empty());
    }

    #[test]
    fn the_table_has_no_cycle() {
        let rank = |name: &str| TABLE.iter().position(|edges| edges.from == name);
        for edges in TABLE {
            for to in edges.to.iter().filter(|to| **to != ALL && !GUARDED.contains(to)) {
                let module = to.split("::").next().unwrap();
                assert!(rank(module) > rank(edges.from), "{} -> {to} does not lead down", edges.from);
            }
        }
    }
}
