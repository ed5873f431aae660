//! shell

pub mod disk;
