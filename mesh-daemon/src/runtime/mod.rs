//! How a task runs.

pub mod images;
