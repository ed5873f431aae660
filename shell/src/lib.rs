//! The shell of a member: everything that touches the outside.

pub mod config;
pub mod logging;
