//! Compactions: what was given up cannot be read, and each that is acknowledged gives up more than those before it.

use metastore_core::output::Outcome;

use super::wrong;
use crate::Failure;
use crate::chronicle::Chronicle;
use crate::history::{Ending, Record};
use crate::model::Op;

/// The compactions of a history, each with the revision that it asks for.
pub(super) struct Compactions<'a>(Vec<(i64, &'a Record)>);

impl<'a> Compactions<'a> {
    pub(super) fn of(history: &'a [Record]) -> Self {
        let asked = history.iter().filter_map(|record| match record.op {
            Op::Compact { revision, .. } => Some((revision, record)),
            _ => None,
        });
        Self(asked.collect())
    }

    /// Nobody who asks after a compaction was acknowledged reads what it gave up, save who takes any state.
    pub(super) fn none_forbids(&self, record: &Record, at: i64) -> Result<(), Failure> {
        let ended_before = |other: &Record| {
            let end = other.ended.as_ref();
            is_acknowledged(other) && end.is_some_and(|(ended, _)| *ended < record.begun)
        };
        let forbids = |(revision, other): &&(i64, &Record)| *revision > at && ended_before(other);
        match self.0.iter().find(forbids) {
            Some((_, other)) if !record.op.is_serializable() => {
                let why = format!("readable in spite of {other}");
                Err(wrong("compaction", record, &why))
            }
            _ => Ok(()),
        }
    }

    /// An acknowledged compaction moved the boundary up, to a revision that there was.
    pub(super) fn acknowledged(
        &self,
        record: &Record,
        answered_at: i64,
        chronicle: &Chronicle,
    ) -> Result<(), Failure> {
        let (Op::Compact { revision, .. }, Some((ended, _))) = (&record.op, &record.ended) else {
            return Err(wrong("answers", record, "an answer of another kind"));
        };
        if *revision > answered_at {
            let why = "there was no such revision yet";
            return Err(wrong("compaction", record, why));
        }
        if !chronicle.compacted_by(*revision, ended.time) {
            let why = "nobody has shown this boundary";
            return Err(wrong("compaction", record, why));
        }
        let is_other = |other: &Record| other.begun != record.begun && is_acknowledged(other);
        let mut others = self.0.iter().filter(|(_, other)| is_other(other));
        let below = others.find(|(to, other)| {
            let before = other.ended.as_ref();
            let before = before.is_some_and(|(ended, _)| *ended < record.begun);
            to == revision || to > revision && before
        });
        match below {
            Some((_, other)) => {
                let why = format!("it moves no boundary in spite of {other}");
                Err(wrong("compaction", record, &why))
            }
            None => Ok(()),
        }
    }

    /// Whether another one than this asked for the same revision, and may have happened by the time this one ended.
    pub(super) fn other_may_have(&self, record: &Record, revision: i64) -> bool {
        let end = record.ended.as_ref().map(|(ended, _)| *ended);
        self.0.iter().any(|(to, other)| {
            let happened = other.ended.as_ref();
            let refused = happened.is_some_and(|(_, ending)| ending.surely_nothing());
            let is_other = other.begun != record.begun && end.is_none_or(|end| other.begun < end);
            *to == revision && is_other && !refused
        })
    }
}

fn is_acknowledged(record: &Record) -> bool {
    let ending = record.ended.as_ref().map(|(_, ending)| ending);
    matches!(ending, Some(Ending::Wrote(Outcome::Compact { .. })))
}
