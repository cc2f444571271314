//! What the leader decides.

pub mod scheduler;
