//! Consensus: openraft on a stepped executor. openraft ends at this folder's door.
//!
//! openraft is written against an asynchronous runtime, a log store, a state machine and a network. All
//! four are values on the member's thread: [`executor`] polls its tasks only when told to, with the time it
//! is told; [`log_store`] and [`machine`] hold the log and the state; [`network`] writes letters. So the
//! whole of consensus is a machine like the others: put something in, run until idle, take things out.

mod alone;
mod append_stream;
pub(crate) mod call;
pub(crate) mod config;
pub mod executor;
pub(crate) mod following;
pub(crate) mod installing;
pub mod log_store;
pub mod machine;
pub mod message;
pub mod network;
pub(crate) mod outbox;
pub(crate) mod proposer;
pub(crate) mod receiving;
pub(crate) mod reception;
pub(crate) mod reconfiguration;
pub(crate) mod retention;
pub(crate) mod sending;
pub(crate) mod spoiling;
pub(crate) mod trimmer;
pub mod types;
mod wire;

pub use alone::end_alone;
pub use log_store::RecoveredLog;
pub use message::{MessageKind, PeerMessage};
pub use wire::PEER_PROTOCOL;

/// The log position that a checkpoint's description names: where the log after it begins.
pub fn position_of(description: &[u8]) -> Result<Option<types::LogId>, machine::BadDescription> {
    machine::position_of(description)
}

#[cfg(test)]
mod tests;
