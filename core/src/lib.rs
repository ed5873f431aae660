//! The core of MetaStore: a pure, deterministic state machine with one door in and one door out.
//!
//! | room | what it keeps or decides |
//! |---|---|
//! | [`member`] | one cluster member as a value: inputs and the time in, outputs and the next alarm out |
//! | [`input`], [`output`] | the two closed lists that pass the door |
//! | [`command`] | what an entry of the log asks for |
//! | [`state`] | the replicated half: a function of the log |
//! | [`check`], [`txn`] | what a request must satisfy whatever the state; transactions |
//! | [`kv_error`], [`apply_error`] | what the state refuses, in etcd's words |
//! | [`lease`] | which leases there are, and the leader's countdown |
//! | [`claim`] | what locks and elections are made of |
//! | [`quota`] | what a request may add to the store, and whether there is room |
//! | [`compactor`] | what a leader compacts by itself, and when |
//! | [`membership`] | which changes of the membership are allowed |
//! | [`key`], [`mvcc`] | keys, their history, and frozen views of both |
//! | [`raft`] | consensus, stepped |
//! | [`codec`] | values of consensus as bytes |
//! | [`watch`] | who hears of which change |
//! | [`transfer`] | a snapshot on its way to another member |
//! | [`wal`], [`snapshot`] | what is on the disk, as functions on bytes |
//! | [`plant`] | faults on purpose, for the simulator alone |
//!
//! There is no clock in here, no thread, no socket, no file and no dice that are not an argument.

#![forbid(unsafe_code)]

#[cfg(all(feature = "plant", not(debug_assertions)))]
compile_error!("faults on purpose are for simulations; no release build has them");

pub mod apply_error;
pub mod check;
pub mod claim;
pub mod codec;
pub mod command;
pub mod compactor;
pub mod input;
pub mod key;
pub mod kv_error;
pub mod lease;
pub mod member;
pub mod membership;
pub mod mvcc;
pub mod output;
mod pending;
pub mod plant;
pub mod quota;
pub mod raft;
pub mod snapshot;
pub mod state;
pub mod transfer;
pub mod txn;
pub mod wal;
pub mod watch;
