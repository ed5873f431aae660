//! What the clients saw: every operation with its beginning, its end, and what is known of it.

use std::fmt;

use metastore_core::kv_error::KvError;
use metastore_core::output::{Outcome, Refusal};
use metastore_proto::etcdserverpb::RangeResponse;

use crate::model::Op;

/// One operation of one client. The order is that of the trace's ordinals.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) client: u64,
    pub(crate) op: Op,
    pub(crate) begun: u64,
    /// None while it is under way; what never ends is unknown.
    pub(crate) ended: Option<(u64, Ending)>,
}

/// How an operation ended, as its client saw it.
#[derive(Debug, Clone)]
pub(crate) enum Ending {
    /// A write was answered.
    Wrote(Outcome),
    /// A read was answered.
    Read(Result<RangeResponse, KvError>),
    /// It was refused, for the reason given.
    Refused(Refusal),
    /// The member went away: nothing is known.
    Lost,
}

impl Ending {
    /// The revision the answer names; none without an answer.
    pub(crate) fn revision(&self) -> Option<i64> {
        let header = match self {
            Ending::Wrote(Outcome::Put(response)) => &response.header,
            Ending::Wrote(Outcome::DeleteRange(response)) => &response.header,
            Ending::Wrote(Outcome::Txn(response)) => &response.header,
            Ending::Wrote(Outcome::Compact { response, .. }) => &response.header,
            Ending::Read(Ok(response)) => &response.header,
            _ => return None,
        };
        header.as_ref().map(|header| header.revision)
    }

    /// Whether the operation certainly had no effect.
    pub(crate) fn surely_nothing(&self) -> bool {
        matches!(
            self,
            Ending::Refused(
                Refusal::Kv(_)
                    | Refusal::Lease(_)
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
            (Ending::Read(Err(error)), _) => error.fmt(f),
            (Ending::Refused(refusal), _) => refusal.fmt(f),
            (Ending::Lost, _) => f.write_str("lost with its member"),
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "client {}: {} (from #{}",
            self.client, self.op, self.begun
        )?;
        match &self.ended {
            Some((ended, ending)) => write!(f, " to #{ended}): {ending}"),
            None => f.write_str(", never ended)"),
        }
    }
}
