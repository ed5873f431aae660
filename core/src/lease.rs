//! Leases: keys that live as long as somebody keeps renewing a promise.
//!
//! - [`table`] is the replicated half: which leases exist and which keys hang on them, a function of the log.
//! - `lessor` is the local half: the leader's countdown. It deletes nothing; when a lease's time is over it
//!   proposes the end of the lease, and the log deletes the keys.
//!
//! An id can be given back and granted again, so whatever was decided about a lease earlier names the lease by
//! its id and by the index of the entry that granted it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::command::Request;

pub(crate) mod lessor;
pub mod table;

pub use table::{Keys, Lease, Leases};

/// No lease may be granted for longer, in seconds.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Why a request about a lease was refused.
///
/// `Display` is the exact text of the wire: clients turn it back into a typed error by looking the text up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseError {
    /// There is no lease with this id.
    NotFound,
    /// The id is in use.
    Exists,
    /// The time to live exceeds [`TTL_SECONDS_MAX`].
    TtlTooLarge,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "etcdserver: requested lease not found",
            Self::Exists => "etcdserver: lease already exists",
            Self::TtlTooLarge => "etcdserver: too large lease TTL",
        })
    }
}

impl std::error::Error for LeaseError {}

/// A lease whose time is over, as the leader counted it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LeaseExpiry {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// The entry that granted it: a later lease with the same id is another one.
    #[prost(uint64, tag = "2")]
    pub granted_index: u64,
}

/// What leases have left, for the next leader to count on from.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RemainingTimes {
    /// In any order.
    #[prost(message, repeated, tag = "1")]
    pub leases: Vec<RemainingTime>,
}

/// What one lease has left.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct RemainingTime {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// The entry that granted it.
    #[prost(uint64, tag = "2")]
    pub granted_index: u64,
    /// Seconds, rounded up; 0 takes an earlier record back, so that the full time counts again.
    #[prost(int64, tag = "3")]
    pub seconds: i64,
}

/// A lease without its keys, as a checkpoint describes it.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct LeaseTerms {
    /// The lease.
    #[prost(int64, tag = "1")]
    pub id: i64,
    /// The entry that granted it.
    #[prost(uint64, tag = "2")]
    pub granted_index: u64,
    /// What it was granted for.
    #[prost(int64, tag = "3")]
    pub ttl_seconds: i64,
    /// What it had left when that was last recorded; 0 if it was not.
    #[prost(int64, tag = "4")]
    pub remaining_seconds: i64,
}

/// Who waits for what the lessor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeaseAsker {
    /// Whoever handed this token in.
    Client(u64),
    /// A client of another member, which knows the question by this number.
    Peer { member: u64, number: u64 },
}

/// A question to the lessor, and the token its answer will carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseQuery {
    /// Chosen by the caller, unique among those not yet answered.
    pub token: u64,
    /// What to do or tell.
    pub question: LeaseQuestion,
}

/// What one may ask the lessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseQuestion {
    /// Give the lease its full time again.
    Renew(i64),
    /// How long it still lives.
    TimeToLive {
        /// The lease.
        id: i64,
        /// Whether its keys are to be told, too.
        keys: bool,
    },
    /// Which leases there are, as far as this member knows.
    List,
}

/// What the lessor says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaseAnswer {
    /// The lease has this many seconds from now on; 0 when there is no such lease, or not any more.
    Renewed {
        /// The full time it was granted for.
        ttl_seconds: i64,
    },
    /// How a lease stands; none if it does not exist.
    TimeToLive(Option<LeaseStatus>),
    /// All ids; on the leader the lease that ends soonest comes first.
    List(Arc<[i64]>),
}

impl LeaseAnswer {
    /// The bytes that it takes in a letter, roughly.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Renewed { .. } | Self::TimeToLive(None) => 16,
            Self::TimeToLive(Some(status)) => {
                let keys = status.keys.iter().map(|key| key.len() + 4);
                32 + keys.sum::<usize>()
            }
            Self::List(ids) => 16 + 10 * ids.len(),
        }
    }
}

/// How a lease stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// What it was granted for.
    pub ttl_seconds: i64,
    /// What it has left, rounded down.
    pub remaining_seconds: i64,
    /// The keys that hang on it, if they were asked for.
    pub keys: Keys,
}

/// The lease that this request may bring or take away.
pub(crate) fn touched(request: &Request) -> Option<i64> {
    match request {
        Request::LeaseGrant(grant) => Some(grant.id),
        Request::LeaseRevoke(revoke) => Some(revoke.id),
        Request::LeaseExpire(expiry) => Some(expiry.id),
        _ => None,
    }
}
