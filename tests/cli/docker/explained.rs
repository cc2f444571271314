//! Where our answers differ on purpose, and why.

/// Why a recording's outcome is another here; None: it is the same.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    EXPLAINED.iter().find(|(of, _)| *of == name).map(|(_, reason)| *reason)
}

/// In the order of the page.
pub(super) const EXPLAINED: &[(&str, &str)] = &[];
