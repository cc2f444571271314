//! mesh daemon
