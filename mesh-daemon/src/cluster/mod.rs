//! How nodes find, trust and agree with each other.
//!
//! - [`ca`]: whom a cluster trusts, and how its managers keep secrets.

pub mod ca;
