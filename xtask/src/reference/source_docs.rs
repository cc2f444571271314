//! Reads the documentation of the contract's types and constants from their source. The compiler
//! gives sizes and values; only the source has the words.

use std::collections::BTreeMap;

/// The words on one source file of mesh-common.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SourceDocs {
    /// `pub struct` declarations by name.
    pub(super) structs: BTreeMap<String, StructDocs>,
    /// Texts of `pub const NAME: u32`, in the order of the source.
    pub(super) constants: Vec<(String, String)>,
}

/// The words on one type.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct StructDocs {
    pub(super) text: String,
    /// Name, type and text of each field.
    pub(super) fields: Vec<FieldDocs>,
}

/// The words on one field.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FieldDocs {
    pub(super) name: String,
    pub(super) ty: String,
    pub(super) text: String,
}

impl SourceDocs {
    /// Reads a file in the form that the house writes it: one item or field a line, its
    /// documentation above it. Structs count inside a macro only, where they are indented: others are
    /// not shared.
    pub(super) fn read(source: &str) -> Self {
        let mut docs = Self::default();
        let mut text: Vec<&str> = Vec::new();
        let mut open: Option<String> = None;
        for line in source.lines() {
            let indented = line.starts_with(' ');
            let line = line.trim();
            if let Some(doc) = line.strip_prefix("///") {
                text.push(doc.trim());
                continue;
            }
            let words = std::mem::take(&mut text).join(" ");
            if let (Some(name), true) = (struct_name(line), indented) {
                docs.structs.insert(name.to_owned(), StructDocs { text: words, fields: Vec::new() });
                open = (!line.ends_with('}')).then(|| name.to_owned());
            } else if line == "}" {
                open = None;
            } else if let (Some(name), Some((field, ty))) = (&open, field(line)) {
                let field = FieldDocs { name: field.to_owned(), ty: ty.to_owned(), text: words };
                docs.structs.entry(name.clone()).or_default().fields.push(field);
            } else if let Some((name, "u32")) = line.strip_prefix("pub const ").and_then(declaration) {
                docs.constants.push((name.to_owned(), words));
            }
        }
        docs
    }
}

fn struct_name(line: &str) -> Option<&str> {
    line.strip_prefix("pub struct ")?.split([' ', '(', '{', '<', ';']).next()
}

fn field(line: &str) -> Option<(&str, &str)> {
    line.strip_prefix("pub ")?.strip_suffix(',')?.split_once(": ")
}

fn declaration(line: &str) -> Option<(&str, &str)> {
    line.split_once(" = ")?.0.split_once(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_fields_and_constants_keep_their_words() {
        let docs = SourceDocs::read(
            "//! Module.\n\nshared! {\n    /// A key.\n    /// Two lines.\n    pub struct Key {\n        /// The network.\n        \
             pub vni: u32,\n        /// Zero.\n        pub pad: [u8; 2],\n    }\n}\n\n/// How many.\npub const KEYS: u32 = 4;\n",
        );
        let key = &docs.structs["Key"];
        assert_eq!(key.text, "A key. Two lines.");
        let fields: Vec<_> = key.fields.iter().map(|f| (f.name.as_str(), f.ty.as_str(), f.text.as_str())).collect();
        assert_eq!(fields, [("vni", "u32", "The network."), ("pad", "[u8; 2]", "Zero.")]);
        assert_eq!(docs.constants, [("KEYS".to_owned(), "How many.".to_owned())]);
    }
}
