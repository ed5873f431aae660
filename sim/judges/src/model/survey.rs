//! Transactions that only read: they need no entry, and all of what they read belongs to one revision.

use std::fmt;

use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};

use super::words::text;
use super::{Interval, compares, read_request};

/// If all guards hold, reads both intervals; otherwise the second alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// Keys, and the revisions they must have been changed at last; 0 for a key that must not exist.
    pub guards: Vec<(Vec<u8>, i64)>,
    /// What is read only if the guards hold.
    pub first: Interval,
    /// The revision that the first interval is read at; 0 for the newest.
    pub revision: i64,
    /// What is read in any case, at the newest revision.
    pub second: Interval,
    /// For which of the two whatever the asked member has is good enough.
    pub serializable: [bool; 2],
}

impl Survey {
    /// As it is asked for.
    pub(super) fn request(&self) -> TxnRequest {
        let reads = |(key, end): &Interval, revision, serializable| RequestOp {
            request: Some(Request::RequestRange(RangeRequest {
                serializable,
                ..read_request(key, end, revision)
            })),
        };
        let first = reads(&self.first, self.revision, self.serializable[0]);
        let second = reads(&self.second, 0, self.serializable[1]);
        TxnRequest {
            compare: compares(&self.guards),
            success: vec![first, second.clone()],
            failure: vec![second],
        }
    }

    /// Whether any state of the asked member will do: all that may be read has to allow it.
    pub(super) fn is_serializable(&self) -> bool {
        self.serializable == [true, true]
    }
}

impl fmt::Display for Survey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, at) in &self.guards {
            write!(f, "if {}@{at} ", text(key))?;
        }
        let how = |serializable| if serializable { " serializable" } else { "" };
        let [one, other] = self.serializable.map(how);
        let (key, end) = &self.first;
        write!(
            f,
            "read [{}, {}) @{}{one}",
            text(key),
            text(end),
            self.revision
        )?;
        let (key, end) = &self.second;
        write!(f, " and anyhow [{}, {}){other}", text(key), text(end))
    }
}
