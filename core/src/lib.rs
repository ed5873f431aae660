//! The core of MetaStore: a pure, deterministic state machine with one door in and one door out.
//!
//! | room | what it keeps or decides |
//! |---|---|
//! | [`member`] | one cluster member as a value: inputs and the time in, outputs and the next alarm out |
//! | [`input`], [`output`] | the two closed lists that pass the door |
//! | [`state`] | the replicated half: a function of the log |
//! | [`mvcc`] | keys, their history, and frozen views of both |
//! | [`raft`] | consensus, stepped |
//! | [`wal`], [`snapshot`] | what is on the disk, as functions on bytes |
//! | [`watch_promises`] | the judge of what a watcher received; for tests and simulation |
//!
//! There is no clock in here, no thread, no socket, no file and no dice that are not an argument.

#![forbid(unsafe_code)]

pub mod check;
pub mod codec;
pub mod command;
pub mod input;
pub mod key;
pub mod kv_error;
pub mod member;
pub mod mvcc;
pub mod output;
mod pending;
pub mod raft;
pub mod snapshot;
pub mod state;
pub mod txn;
pub mod wal;
#[cfg(test)]
pub(crate) mod watch_model;
pub mod watch_promises;
