//! The judge at the end: every answer against the one history, in one sweep over the revisions.
//!
//! The history gives the order of all writes, so linearizability needs no search: an answer names the revision it
//! belongs to, must not lie before anything that had ended when its operation began, and must say what the model says
//! at that revision.

use std::collections::{BTreeMap, BTreeSet};

use metastore_core::kv_error::KvError;
use metastore_core::output::{Outcome, Refusal};
use metastore_proto::etcdserverpb::RangeResponse;
use metastore_proto::etcdserverpb::response_op::Response;

use crate::history::{Ending, Record};
use crate::judge::{Chronicle, Failure};
use crate::model::{Effect, Op, read};

/// Judges the whole history.
pub(crate) fn sweep(history: &[Record], chronicle: &Chronicle) -> Result<(), Failure> {
    let floors = Floors::of(history);
    let mut writers = BTreeMap::new();
    for record in history {
        let Some((ended, ending)) = &record.ended else {
            continue;
        };
        let floor = floors.at(record.begun);
        if let Ending::Refused(Refusal::Kv(error)) = ending {
            refused(history, record, *ended, *error, floor)?;
        }
        if let Ending::Read(Err(error)) = ending {
            refused(history, record, *ended, *error, floor)?;
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
        if revision < floor {
            let why = format!("an operation that had ended before saw revision {floor}");
            return Err(wrong("linearizable", record, &why));
        }
        let changed = answered(history, record, ending, chronicle)?;
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
struct Floors(BTreeMap<u64, i64>);

impl Floors {
    fn of(history: &[Record]) -> Self {
        let mut ends = BTreeMap::new();
        for (ended, ending) in history.iter().filter_map(|record| record.ended.as_ref()) {
            ends.extend(ending.revision().map(|revision| (*ended, revision)));
        }
        let mut newest = 1;
        for revision in ends.values_mut() {
            newest = newest.max(*revision);
            *revision = newest;
        }
        Self(ends)
    }

    fn at(&self, ordinal: u64) -> i64 {
        let before = self.0.range(..ordinal).next_back();
        before.map_or(1, |(_, revision)| *revision)
    }
}

/// Holds an answer against the model; answers whether the operation took a revision of its own.
fn answered(
    history: &[Record],
    record: &Record,
    ending: &Ending,
    chronicle: &Chronicle,
) -> Result<bool, Failure> {
    let revision = ending.revision().expect("an answer names its revision");
    let keys = |at| {
        chronicle
            .keys(at)
            .ok_or_else(|| wrong("revisions", record, "no such revision"))
    };
    let (claims, deleted, succeeded) = match ending {
        Ending::Read(Ok(response)) => {
            read_answered(history, record, response, revision, chronicle)?;
            return Ok(false);
        }
        Ending::Wrote(Outcome::Compact { .. }) => return Ok(false),
        Ending::Wrote(Outcome::Put(_)) => (true, 0, false),
        Ending::Wrote(Outcome::DeleteRange(response)) => {
            (response.deleted > 0, response.deleted, false)
        }
        Ending::Wrote(Outcome::Txn(response)) => {
            let deleted = response.responses.iter().map(|op| match &op.response {
                Some(Response::ResponseDeleteRange(response)) => response.deleted,
                _ => 0,
            });
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
    history: &[Record],
    record: &Record,
    response: &RangeResponse,
    seen: i64,
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    let Op::Read { key, end, revision } = &record.op else {
        return Err(wrong("answers", record, "a write answered as a read"));
    };
    let at = if *revision > 0 { *revision } else { seen };
    let keys = chronicle
        .keys(at)
        .ok_or_else(|| wrong("answers", record, "no such revision"))?;
    if response.kvs != read(&keys, key, end) {
        let why = format!(
            "{:?} at revision {at} should be {:?}",
            response.kvs,
            read(&keys, key, end)
        );
        return Err(wrong("answers", record, &why));
    }
    let compacted = history.iter().find(|other| {
        matches!((&other.op, &other.ended), (Op::Compact { revision, .. }, Some((ended, Ending::Wrote(_))))
            if *revision > at && *ended < record.begun)
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

/// A refusal by the state must have a reason in the history.
fn refused(
    history: &[Record],
    record: &Record,
    ended: u64,
    error: KvError,
    floor: i64,
) -> Result<(), Failure> {
    let (at, least) = match record.op {
        Op::Read { revision, .. } => (revision, revision + 1),
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
        KvError::Compacted => history.iter().any(|other| {
            other.begun < ended
                && other.begun != record.begun
                && matches!(other.op, Op::Compact { revision, .. } if revision >= least)
        }),
        KvError::FutureRevision => at > floor,
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
/// most once and not before it was asked for.
fn unclaimed(
    history: &[Record],
    chronicle: &Chronicle,
    floors: &Floors,
    writers: &BTreeMap<i64, &Record>,
) -> Result<(), Failure> {
    let unknown: Vec<&Record> = history
        .iter()
        .filter(|record| match &record.ended {
            None => true,
            Some((_, ending)) => ending.revision().is_none() && !ending.surely_nothing(),
        })
        .collect();
    let mut claimed = BTreeSet::new();
    for revision in 2..=chronicle.last() {
        if writers.contains_key(&revision) {
            continue;
        }
        let before = chronicle
            .keys(revision - 1)
            .expect("the history has no gaps");
        let happened = &chronicle
            .revision(revision)
            .expect("it is in the history")
            .changes;
        let writer = unknown.iter().find(|record| {
            let Effect { changes, .. } = record.op.effect(&before, revision);
            changes == *happened
                && floors.at(record.begun) < revision
                && !claimed.contains(&record.begun)
        });
        let Some(writer) = writer else {
            let story =
                format!("revision {revision} is {happened:?}, and nobody asked for it (once more)");
            return Err(Failure::new("once", story));
        };
        // Only a value of its own tells an operation from its likes.
        if writer.op.own_value().is_some() {
            claimed.insert(writer.begun);
        }
    }
    Ok(())
}

fn wrong(judge: &'static str, record: &Record, why: &str) -> Failure {
    Failure::new(judge, format!("{record}\n  {why}"))
}

#[cfg(test)]
mod tests;
