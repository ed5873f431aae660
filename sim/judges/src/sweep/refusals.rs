//! Refusals by the state: each must have a reason in the history.

use metastore_core::kv_error::KvError;

use super::{Compactions, wrong};
use crate::Failure;
use crate::chronicle::Chronicle;
use crate::history::{Moment, Record};
use crate::model::Op;

/// Looks for the reason of a refusal that ended an operation; `floor` is the revision that was known when that began.
pub(super) fn explained(
    compactions: &Compactions<'_>,
    record: &Record,
    ended: Moment,
    error: KvError,
    floor: i64,
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    let at = match record.op {
        // Whether the lease may have been gone is for the judge of leases to say.
        Op::Put { lease, .. } | Op::Stake { lease, .. }
            if lease != 0 && error == KvError::LeaseNotFound =>
        {
            return Ok(());
        }
        Op::Compact { revision, .. } => revision,
        _ => record.op.reads_at(),
    };
    let boundary = |least| chronicle.compacted_by(least, ended.time);
    let explained = match error {
        // The newest revision can always be read, and what names none cannot miss it.
        _ if at == 0 => false,
        KvError::Compacted if matches!(record.op, Op::Compact { .. }) => {
            // Not by itself: it would have happened, and been tried once more.
            boundary(at + 1)
                || chronicle.compacted_before(at, record.begun.time)
                || boundary(at) && compactions.other_may_have(record, at)
        }
        KvError::Compacted => boundary(at + 1),
        // What one member has shown before is for the judge of followers to say.
        KvError::FutureRevision => at > floor || record.op.is_serializable(),
        _ => false,
    };
    match explained {
        true => Ok(()),
        false => {
            let why = "nothing in the history explains the refusal";
            Err(wrong("answers", record, why))
        }
    }
}
