//! The judge at the end: every answer against the one history, in one sweep over the revisions.
//!
//! The history gives the order of all writes, so linearizability needs no search: an answer names the revision it
//! belongs to, must not lie before anything that had ended when its operation began, and must say what the model says
//! at that revision.

use std::collections::BTreeMap;

use metastore_core::output::Outcome;
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{RangeResponse, TxnResponse};

use super::Failure;
use super::chronicle::Chronicle;
use super::leases::LeaseEnd;
use crate::history::{Ending, Moment, Record};
use crate::model::{Keys, Op, Selected};

mod compactions;
mod once;
mod refusals;

use compactions::Compactions;

/// Judges the whole history. Answers which revisions were the end of a lease that no client asked for.
pub fn sweep(history: &[Record], chronicle: &Chronicle) -> Result<Vec<LeaseEnd>, Failure> {
    let floors = Floors::of(history, chronicle.base());
    let compactions = Compactions::of(history);
    let mut writers = BTreeMap::new();
    // The answer to a revocation does not tell whether it changed anything: it has what nobody else has.
    let is_revocation = |record: &&Record| matches!(record.op, Op::Revoke { .. });
    let others = history.iter().filter(|record| !is_revocation(record));
    for record in others.chain(history.iter().filter(is_revocation)) {
        let Some((ended, ending)) = &record.ended else {
            continue;
        };
        let floor = floors.at(record.begun);
        if let Some(error) = ending.refused_by_state() {
            refusals::explained(&compactions, record, *ended, error, floor, chronicle)?;
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
        let serializable = record.op.is_serializable();
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
    once::unclaimed(history, chronicle, &floors, &writers)
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
    compactions: &Compactions<'_>,
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
        Ending::Surveyed(Ok(response)) => {
            let seen = (revision, &keys(revision)?);
            surveyed(compactions, record, response, seen, chronicle)?;
            return Ok(false);
        }
        Ending::Wrote(Outcome::Compact { .. }) => {
            compactions.acknowledged(record, revision, chronicle)?;
            return Ok(false);
        }
        Ending::Wrote(Outcome::LeaseGranted(_)) => return Ok(false),
        Ending::Wrote(Outcome::LeaseRevoked(_)) => {
            let deleted = match free {
                true => revoked(record, revision, chronicle),
                false => 0,
            };
            (deleted > 0, deleted, false)
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
            (response.succeeded, deleted.sum(), response.succeeded)
        }
        _ => return Err(wrong("answers", record, "an answer of another kind")),
    };
    let before = if claims { revision - 1 } else { revision };
    let found = keys(before)?;
    let expected = record.op.effect(&found, revision);
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
    if let Ending::Wrote(Outcome::Txn(response)) = ending {
        transacted(compactions, record, response, (before, &found), chronicle)?;
    }
    Ok(claims)
}

/// How many keys a revocation took away in a revision, if that was it. Its answer does not tell; the history does.
fn revoked(record: &Record, revision: i64, chronicle: &Chronicle) -> i64 {
    let before = chronicle.keys(revision - 1).unwrap_or_default();
    let expected = record.op.effect(&before, revision);
    let happened = chronicle.revision(revision);
    match happened.is_some_and(|it| it.changes == expected.changes) {
        true => expected.deleted,
        false => 0,
    }
}

/// A transaction that only reads belongs as a whole to the revision that it names.
fn surveyed(
    compactions: &Compactions<'_>,
    record: &Record,
    response: &TxnResponse,
    (revision, keys): (i64, &Keys),
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    if response.succeeded != record.op.effect(keys, revision).succeeded {
        let why = format!("its guards should hold: {}", !response.succeeded);
        return Err(wrong("answers", record, &why));
    }
    transacted(compactions, record, response, (revision, keys), chronicle)
}

/// What a transaction answers for its operations, where it found these keys at a revision.
fn transacted(
    compactions: &Compactions<'_>,
    record: &Record,
    response: &TxnResponse,
    (found, keys): (i64, &Keys),
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    let at = record.op.reads_at();
    let past = |at| if at > found { None } else { chronicle.keys(at) };
    let expected = record.op.responses(keys, found, past);
    let expected = expected.ok_or_else(|| wrong("answers", record, "no such revision"))?;
    if response.responses != expected {
        let answers = &response.responses;
        let why = format!("at revision {found} it should answer {expected:?} and not {answers:?}");
        return Err(wrong("answers", record, &why));
    }
    match at > 0 && response.succeeded {
        true => compactions.none_forbids(record, at),
        false => Ok(()),
    }
}

fn read_answered(
    compactions: &Compactions<'_>,
    record: &Record,
    response: &RangeResponse,
    seen: i64,
    chronicle: &Chronicle,
) -> Result<(), Failure> {
    let asked_for = record.op.reads_at();
    let at = if asked_for > 0 { asked_for } else { seen };
    let keys = chronicle.keys(at).filter(|_| at <= seen);
    let keys = keys.ok_or_else(|| wrong("answers", record, "no such revision"))?;
    let expected = match &record.op {
        Op::Read { key, end, .. } => Selected::all(&keys, (key, end)),
        Op::Select(selection) => selection.of(&keys),
        _ => return Err(wrong("answers", record, "a write answered as a read")),
    };
    if !expected.is(response) {
        let why = format!("{response:?} at revision {at} should be {expected:?}");
        return Err(wrong("answers", record, &why));
    }
    compactions.none_forbids(record, at)
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
