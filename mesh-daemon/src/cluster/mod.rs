//! How nodes find, trust and agree.

pub mod gossip;
