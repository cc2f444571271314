//! Membership, one piece at a time.
