//! core
#![forbid(unsafe_code)]

pub mod check;
pub mod key;
pub mod kv_error;
pub mod mvcc;
pub mod raft;
pub mod snapshot;
pub mod txn;
