//! Why leadership was not handed over.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a leader transfer was refused or did not happen.
///
/// `Display` is the exact text of the wire: clients turn it back into a typed error by looking the text up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferError {
    /// Only the leader can hand over.
    NotLeader,
    /// The member is unknown, or does not vote.
    BadTransferee,
    /// The member did not come to lead in time.
    TooLong,
}

impl fmt::Display for TransferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotLeader => "etcdserver: not leader",
            Self::BadTransferee => "etcdserver: bad leader transferee",
            Self::TooLong => "etcdserver: request timed out, leader transfer took too long",
        })
    }
}

impl std::error::Error for TransferError {}
