//! Consensus: openraft, driven one step at a time inside the core.

pub mod executor;
