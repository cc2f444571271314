//! What the leader decides.

pub mod allocator;
pub mod scheduler;
