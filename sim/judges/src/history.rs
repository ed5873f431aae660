//! What the clients saw: every operation with its beginning, its end, and what is known of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseStatus;
use metastore_core::output::{MemberInfo, Outcome, Refusal};
use metastore_proto::etcdserverpb::{RangeResponse, TxnResponse};

use crate::model::Op;

/// One operation of one client. The order is that of the trace's ordinals.
#[derive(Debug, Clone)]
pub struct Record {
    /// Whose it is.
    pub client: u64,
    /// What was asked for.
    pub op: Op,
    /// When it was asked for.
    pub begun: Moment,
    /// None while it is under way; what never ends is unknown.
    pub ended: Option<(Moment, Ending)>,
}

/// A place in the order of all that was seen, and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    /// Unique, ascending.
    pub ordinal: u64,
    /// Since the beginning of the run, virtual or real.
    pub time: Duration,
}

/// How an operation ended, as its client saw it.
#[derive(Debug, Clone)]
pub enum Ending {
    /// A write was answered.
    Wrote(Outcome),
    /// A read was answered.
    Read(Result<RangeResponse, KvError>),
    /// A transaction that only reads was answered.
    Surveyed(Result<TxnResponse, KvError>),
    /// A renewal was answered: the lease has so many seconds from now on, 0 if it is gone.
    Renewed {
        /// What the answer says.
        ttl_seconds: i64,
    },
    /// How a lease stands; none if there is no such lease.
    Stands(Option<LeaseStatus>),
    /// The leases that the asked member knows.
    Leases {
        /// Their ids.
        ids: Vec<i64>,
        /// The newest revision that the member showed when it was asked.
        shown: i64,
    },
    /// The membership was changed; these are the members after it.
    Changed(Arc<[MemberInfo]>),
    /// These are the members.
    Listed(Arc<[MemberInfo]>),
    /// The member that was asked for leads.
    Transferred,
    /// It was refused before it was proposed, because there is no room in the store.
    Full,
    /// It was refused, for the reason given.
    Refused(Refusal),
    /// The member went away: nothing is known.
    Lost,
}

impl Ending {
    /// The revision the answer names; none without an answer.
    pub fn revision(&self) -> Option<i64> {
        let header = match self {
            Ending::Wrote(Outcome::Put(response)) => &response.header,
            Ending::Wrote(Outcome::DeleteRange(response)) => &response.header,
            Ending::Wrote(Outcome::Txn(response)) => &response.header,
            Ending::Wrote(Outcome::Compact { response, .. }) => &response.header,
            Ending::Wrote(Outcome::LeaseGranted(response)) => &response.header,
            Ending::Wrote(Outcome::LeaseRevoked(response)) => &response.header,
            Ending::Read(Ok(response)) => &response.header,
            Ending::Surveyed(Ok(response)) => &response.header,
            _ => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// Why the state refused it, where it did.
    pub fn refused_by_state(&self) -> Option<KvError> {
        match self {
            Ending::Refused(Refusal::Kv(error))
            | Ending::Read(Err(error))
            | Ending::Surveyed(Err(error)) => Some(*error),
            _ => None,
        }
    }

    /// Whether the operation certainly had no effect.
    pub fn surely_nothing(&self) -> bool {
        matches!(
            self,
            Ending::Full
                | Ending::Refused(
                    Refusal::Kv(_)
                        | Refusal::Lease(_)
                        | Refusal::Membership(_)
                        | Refusal::NotLeader { .. }
                        | Refusal::TooManyRequests
                )
        )
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.revision()) {
            (Ending::Wrote(_), Some(revision)) => write!(f, "done at revision {revision}"),
            (Ending::Wrote(_), None) => f.write_str("done"),
            (Ending::Read(Ok(response)), _) => write!(
                f,
                "{} keys at revision {}",
                response.count,
                self.revision().unwrap_or(0)
            ),
            (Ending::Surveyed(Ok(_)), at) => write!(f, "looked at revision {}", at.unwrap_or(0)),
            (Ending::Read(Err(error)) | Ending::Surveyed(Err(error)), _) => error.fmt(f),
            (Ending::Renewed { ttl_seconds: 0 }, _) => f.write_str("there is no such lease"),
            (Ending::Renewed { ttl_seconds }, _) => write!(f, "{ttl_seconds}s from now"),
            (Ending::Stands(None), _) => f.write_str("there is none"),
            (Ending::Stands(Some(status)), _) => {
                let (left, ttl) = (status.remaining_seconds, status.ttl_seconds);
                write!(f, "{left}s of {ttl}s are left, {} keys", status.keys.len())
            }
            (Ending::Leases { ids, .. }, _) => write!(f, "leases {ids:?}"),
            (Ending::Changed(members) | Ending::Listed(members), _) => {
                f.write_str("members")?;
                members.iter().try_for_each(|info| {
                    let learner = if info.is_learner { " (learner)" } else { "" };
                    write!(f, " m{}{learner}", info.id)
                })
            }
            (Ending::Transferred, _) => f.write_str("it leads"),
            (Ending::Full, _) => f.write_str("there is no room"),
            (Ending::Refused(refusal), _) => refusal.fmt(f),
            (Ending::Lost, _) => f.write_str("lost with its member"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun = self.begun.ordinal;
        write!(f, "client {}: {} (from #{begun}", self.client, self.op)?;
        match &self.ended {
            Some((ended, ending)) => write!(f, " to #{}): {ending}", ended.ordinal),
            None => f.write_str(", never ended)"),
        }
    }
}
