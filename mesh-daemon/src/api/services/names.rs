//! Names for services that their users left without one.

const QUALITIES: [&str; 16] = [
    "agile", "bold", "brave", "bright", "calm", "clever", "eager", "gentle", "keen", "lively", "patient", "quick",
    "quiet", "steady", "sunny", "wise",
];

const BIRDS: [&str; 16] = [
    "crane",
    "dunnock",
    "egret",
    "finch",
    "goldcrest",
    "heron",
    "jackdaw",
    "kestrel",
    "lapwing",
    "magpie",
    "nuthatch",
    "osprey",
    "plover",
    "robin",
    "swift",
    "wren",
];

/// Two words and four digits: `quiet_heron4711`. Two services have one name about never; if so, the second
/// is refused by name, as any.
pub(super) fn from(chance: u128) -> String {
    let pick = |words: &[&'static str; 16], shift: u32| words[(chance >> shift) as usize % 16];
    format!("{}_{}{:04}", pick(&QUALITIES, 0), pick(&BIRDS, 4), (chance >> 8) % 10_000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_is_two_words_and_four_digits() {
        assert_eq!(super::from(0), "agile_crane0000");
        assert_eq!(super::from(0x1a45c), "quiet_heron0420");
        assert!(super::from(u128::MAX).starts_with("wise_wren"));
    }
}
