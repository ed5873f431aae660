//! The judge at the end: every answer against the one history, in one sweep over the revisions.
//!
//! The history gives the order of all writes, so linearizability needs no search: an answer names the revision it
//! belongs to, must not lie before anything that had ended when its operation began, and must say what the model says
//! at that revision.

use std::collections::{BTreeMap, BTreeSet};

use metastore_core::kv_error::KvError;
use metastore_core::output::{Outcome, Refusal};
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{RangeResponse, TxnResponse};

use super::Failure;
use super::chronicle::Chronicle;
use super::leases::{LeaseEnd, lease_ended_by};
use crate::history::{Ending, Moment, Record};
use crate::model::{Effect, Op, read};

/// Judges the whole history. Answers which revisions were the end of a lease that no client asked for.
pub fn sweep(history: &[Record], chronicle: &Chronicle) -> Result<Vec<LeaseEnd>, Failure> {
    let floors = Floors::of(history, chronicle.base());
    let compactions: Vec<&Record> = history
        .iter()
        .filter(|record| matches!(record.op, Op::Compact { .. }))
        .collect();
    let mut writers = BTreeMap::new();
    // The answer to a revocation does not tell whether it changed anything: it has what nobody else has.
    let is_revocation = |record: &&Record| matches!(record.op, Op::Revoke { .. });
    let others = history.iter().filter(|record| !is_revocation(record));
    for record in others.chain(history.iter().filter(is_revocation)) {
        let Some((ended, ending)) = &record.ended else {
            continue;
        };
        let floor = floors.at(record.begun);
        if let Ending::Refused(Refusal::Kv(error)) | Ending::Read(Err(error)) = ending {
            refused(&compactions, record, *ended, *error, floor, chronicle)?;
        }
        let Some(revision) = ending.revision() else {
            continue;
        };
        if revision > chronicle.last() {
            return Err(wrong(
                "durable",
                record,
                "its revision is not in the history",
            ));
        }
        let serializable = matches!(
            record.op,
            Op::Read {
                serializable: true,
                ..
            }
        );
        if revision < floor && !serializable {
            let why = format!("an operation that had ended before saw revision {floor}");
            return Err(wrong("linearizable", record, &why));
        }
        if serializable && revision < chronicle.base() {
            // A member that has yet to catch up shows what was forgotten.
            continue;
        }
        let free = revision > floor && !writers.contains_key(&revision);
        let changed = answered(&compactions, record, ending, chronicle, free)?;
        if changed {
            if revision == floor {
                return Err(wrong(
                    "linearizable",
                    record,
                    "its revision was known before it began",
                ));
            }
            if let Some(other) = writers.insert(revision, record) {
                let why = format!("its revision is also that of {other}");
                return Err(wrong("revisions", record, &why));
            }
        }
    }
    unclaimed(history, chronicle, &floors, &writers)
}

/// The newest revision that had been seen by an operation that had ended, by ordinal.
pub(crate) struct Floors(BTreeMap<u64, i64>);

impl Floors {
    /// All that was seen before the history is `base`.
    pub(crate) fn of(history: &[Record], base: i64) -> Self {
        let mut ends = BTreeMap::new();
        for (ended, ending) in history.iter().filter_map(|record| record.ended.as_ref()) {
            ends.extend(ending.revision().map(|revision| (ended.ordinal, revision)));
        }
        let mut newest = base;
        for revision in ends.values_mut() {
            newest = newest.max(*revision);
            *revision = newest;
        }
        ends.insert(0, base);
        Self(ends)
    }

    /// What was known at a moment.
    pub(crate) fn at(&self, moment: Moment) -> i64 {
        let before = self.0.range(..moment.ordinal).next_back();
        before.map_or(1, |(_, revision)| *revision)
    }
}

/// Holds an answer against the model; answers whether the operation took a revision of its own. `free` says whether its
/// revision may be: it is nobody else's, and was not known before.
fn answered(
    compactions: &[&Record],
    record: &Record,
    ending: &Ending,
    chronicle: &Chronicle,
    free: bool,
) -> Result<bool, Failure> {
    let revision = ending.revision().expect("an answer names its revision");
    let keys = |at| {
        chronicle
            .keys(at)
            .ok_or_else(|| wrong("revisions", record, "no such revision"))
    };
    let (claims, deleted, succeeded) = match ending {
        Ending::Read(Ok(response)) => {
            read_answered(compactions, record, response, revision, chronicle)?;
            return Ok(false);
        }
        Ending::Wrote(Outcome::Compact { .. } | Outcome::LeaseGranted(_)) => return Ok(false),
        Ending::Wrote(Outcome::LeaseRevoked(_)) => {
            // The answer does not tell whether there were keys; the history does.
            let before = keys(revision - 1).unwrap_or_default();
            let expected = record.op.effect(&before, revision);
            let happened = chronicle
                .revision(revision)
                .map_or(&[][..], |it| &it.changes);
            let claims = free && !expected.changes.is_empty() && expected.changes == happened;
            let deleted = if claims { expected.deleted } else { 0 };
            (claims, deleted, false)
        }
        Ending::Wrote(Outcome::Put(_)) => (true, 0, false),
        Ending::Wrote(Outcome::DeleteRange(response)) => {
            (response.deleted > 0, response.deleted, false)
        }
        Ending::Wrote(Outcome::Txn(response)) => {
            let deleted = response.responses.iter().map(|op| match &op.response {
                Some(Response::ResponseDeleteRange(response)) => response.deleted,
                _ => 0,
            });
            if let Some(read) = recalled(response) {
                read_answered(compactions, record, read, revision, chronicle)?;
            }
            (response.succeeded, deleted.sum(), response.succeeded)
        }
        _ => return Err(wrong("answers", record, "an answer of another kind")),
    };
    let before = if claims { revision - 1 } else { revision };
    let expected = record.op.effect(&keys(before)?, revision);
    if (expected.deleted, expected.succeeded) != (deleted, succeeded) {
        let why = format!(
            "the model deletes {} and succeeds: {}",
            expected.deleted, expected.succeeded
        );
        return Err(wrong("answers", record, &why));
    }
    let happened = chronicle.revision(revision).map(|it| it.changes.as_slice());
    let happened = if claims { happened.unwrap_or(&[]) } else { &[] };
    if expected.changes != happened {
        let why = format!("revision {revision} is {happened:?}, which is not what it asked for");
        return Err(wrong("durable", record, &why));
    }
    Ok(claims)
}

fn read_answered(
    compactions: &[&Record],
    record: &Record,
    response: &RangeResponse,
    seen: i64,
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    let (key, end, revision) = match &record.op {
        Op::Read {
            key, end, revision, ..
        }
        | Op::Recall {
            key, end, revision, ..
        } => (key, end, revision),
        // What a claim finds of itself is for the judge of claims to say.
        Op::Stake { .. } | Op::Txn { .. } => return Ok(()),
        _ => return Err(wrong("answers", record, "a write answered as a read")),
    };
    let at = if *revision > 0 { *revision } else { seen };
    let keys = chronicle
        .keys(at)
        .ok_or_else(|| wrong("answers", record, "no such revision"))?;
    let expected = read(&keys, key, end);
    if !response.kvs.iter().eq(expected.iter().map(|kv| &**kv)) {
        let why = format!("{:?} at revision {at} should be {expected:?}", response.kvs);
        return Err(wrong("answers", record, &why));
    }
    let serializable = matches!(
        record.op,
        Op::Read {
            serializable: true,
            ..
        }
    );
    let compacted = compactions.iter().find(|other| {
        matches!((&other.op, &other.ended), (Op::Compact { revision, .. }, Some((ended, Ending::Wrote(_))))
            if *revision > at && *ended < record.begun && !serializable)
    });
    match compacted {
        Some(other) => Err(wrong(
            "compaction",
            record,
            &format!("readable in spite of {other}"),
        )),
        None => Ok(()),
    }
}

/// What a transaction read.
fn recalled(response: &TxnResponse) -> Option<&RangeResponse> {
    response.responses.iter().find_map(|op| match &op.response {
        Some(Response::ResponseRange(read)) => Some(read),
        _ => None,
    })
}

/// A refusal by the state must have a reason in the history.
fn refused(
    compactions: &[&Record],
    record: &Record,
    ended: Moment,
    error: KvError,
    floor: i64,
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    let (at, least) = match record.op {
        // Whether the lease may have been gone is for the judge of leases to say.
        Op::Put { lease, .. } | Op::Stake { lease, .. }
            if lease != 0 && error == KvError::LeaseNotFound =>
        {
            return Ok(());
        }
        Op::Read { revision, .. } | Op::Recall { revision, .. } => (revision, revision + 1),
        Op::Compact { revision, .. } => (revision, revision),
        _ => {
            return Err(wrong(
                "answers",
                record,
                "nothing in the state can refuse it",
            ));
        }
    };
    let explained = match error {
        KvError::Compacted => {
            chronicle.compacted_before(least)
                || compactions.iter().any(|other| {
                    other.begun < ended
                        && other.begun != record.begun
                        && matches!(other.op, Op::Compact { revision, .. } if revision >= least)
                })
        }
        KvError::FutureRevision => {
            at > floor
                || matches!(
                    record.op,
                    Op::Read {
                        serializable: true,
                        ..
                    }
                )
        }
        _ => false,
    };
    if explained {
        Ok(())
    } else {
        Err(wrong(
            "answers",
            record,
            "nothing in the history explains the refusal",
        ))
    }
}

/// Revisions without an acknowledged writer belong to operations whose end nobody knows, each of which happened at
/// most once and not before it was asked for; or they are the end of a lease.
fn unclaimed(
    history: &[Record],
    chronicle: &Chronicle,
    floors: &Floors,
    writers: &BTreeMap<i64, &Record>,
) -> Result<Vec<LeaseEnd>, Failure> {
    let unknown: Vec<&Record> = history
        .iter()
        .filter(|record| match &record.ended {
            None => true,
            Some((_, ending)) => ending.revision().is_none() && !ending.surely_nothing(),
        })
        .collect();
    let mut claimed = BTreeSet::new();
    let mut ends = Vec::new();
    for revision in chronicle.known() {
        if writers.contains_key(&revision) {
            continue;
        }
        let before = chronicle
            .keys(revision - 1)
            .expect("the history has no gaps");
        let happened = chronicle.revision(revision).expect("it is in the history");
        let writer = unknown.iter().find(|record| {
            let Effect { changes, .. } = record.op.effect(&before, revision);
            changes == happened.changes
                && floors.at(record.begun) < revision
                && !claimed.contains(&record.begun)
        });
        let Some(writer) = writer else {
            if let Some(id) = lease_ended_by(&happened.changes, &before) {
                let shown_at = happened.shown_at;
                ends.push(LeaseEnd {
                    id,
                    revision,
                    shown_at,
                });
                continue;
            }
            let story = format!(
                "revision {revision} is {:?}, and nobody asked for it (once more)",
                happened.changes
            );
            return Err(Failure::new("once", story));
        };
        // Only a value of its own tells an operation from its likes.
        if writer.op.own_value().is_some() {
            claimed.insert(writer.begun);
        }
    }
    Ok(ends)
}

/// Whether this reads the newest state of one key, as all who asked before know it.
pub(crate) fn is_single_key_read(op: &Op) -> bool {
    matches!(op, Op::Read { end, revision: 0, serializable: false, .. } if end.is_empty())
}

fn wrong(judge: &'static str, record: &Record, why: &str) -> Failure {
    Failure::new(judge, format!("{record}\n  {why}"))
}

#[cfg(test)]
mod tests;
