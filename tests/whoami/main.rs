//! whoami
fn main() {}
