//! datapath
fn main() {}
