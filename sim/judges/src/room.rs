//! Who is refused because the store is full: only what adds something, only where there is a quota, and never before as
//! much was written as the store may take.

use std::time::Duration;

use super::Failure;
use super::chronicle::Chronicle;
use crate::history::{Ending, Record};
use crate::model::Op;

/// Judges all such refusals in a world with this quota, in bytes.
///
/// # Errors
/// When one has no reason.
pub fn judge(
    history: &[Record],
    chronicle: &Chronicle,
    quota_bytes: Option<u64>,
) -> Result<(), Failure> {
    let written = written(chronicle);
    let granted = granted(history);
    for record in history {
        let Some((ended, Ending::Full)) = &record.ended else {
            continue;
        };
        let Some(quota_bytes) = quota_bytes else {
            return Err(wrong(record, "the store has no bounds"));
        };
        let charge = record.op.charge();
        if charge == 0 {
            return Err(wrong(record, "it adds nothing"));
        }
        let shown = written.partition_point(|(shown_at, _)| *shown_at <= ended.time);
        let leases = granted.partition_point(|begun| *begun <= ended.time);
        let most =
            shown.checked_sub(1).map_or(0, |last| written[last].1) + LEASE_BYTES * leases as u64;
        // What was written before all that is known may still take room.
        if chronicle.base() == 1 && most + charge < quota_bytes {
            let why = format!(
                "it needs {charge} bytes, all that was ever written takes {most}, and there are {quota_bytes}"
            );
            return Err(wrong(record, &why));
        }
    }
    Ok(())
}

/// When each revision was shown, and how much room all up to it can take at most, in bytes.
fn written(chronicle: &Chronicle) -> Vec<(Duration, u64)> {
    let mut bytes = 0;
    let revisions = chronicle
        .known()
        .filter_map(|it| chronicle.revision(it))
        .map(|revision| {
            for (key, record) in &revision.changes {
                let value = record.as_ref().map_or(0, |kv| kv.value.len());
                bytes += RECORD_BYTES_MAX + (key.len() + value) as u64;
            }
            (revision.shown_at, bytes)
        });
    revisions.collect()
}

/// When each lease was asked for that may have been granted, in order.
fn granted(history: &[Record]) -> Vec<Duration> {
    let grants = history
        .iter()
        .filter(|record| matches!(record.op, Op::Grant { .. }));
    let mut begun: Vec<Duration> = grants.map(|record| record.begun.time).collect();
    begun.sort_unstable();
    begun
}

fn wrong(record: &Record, why: &str) -> Failure {
    Failure::new("room", format!("{record}\n  {why}"))
}

/// What a record takes beside its key and value, generously.
const RECORD_BYTES_MAX: u64 = 64;

/// What a lease takes.
const LEASE_BYTES: u64 = 64;

#[cfg(test)]
mod tests {
    use super::super::chronicle::tests::{shown_by, store_with};
    use super::*;
    use crate::history::Moment;

    fn verdict(op: Op, quota_bytes: Option<u64>) -> Result<(), &'static str> {
        let mut chronicle = Chronicle::default();
        let shown = shown_by(&store_with(&"v".repeat(1000)), 2, 1);
        let learnt = chronicle.learn(1, &shown, Duration::from_millis(5));
        learnt.expect("an honest store");
        let moment = |ordinal| Moment {
            ordinal,
            time: Duration::from_millis(ordinal),
        };
        let refused = Record {
            client: 1,
            op,
            begun: moment(6),
            ended: Some((moment(7), Ending::Full)),
        };
        let early = Record {
            ended: Some((moment(4), Ending::Full)),
            ..refused.clone()
        };
        let judged = judge(&[refused], &chronicle, quota_bytes);
        let when_empty = judge(&[early], &chronicle, quota_bytes);
        assert!(when_empty.is_err(), "nothing was written by then");
        judged.map_err(|failure| failure.judge)
    }

    #[test]
    fn a_store_is_full_only_when_as_much_was_written_as_it_takes() {
        let put = || Op::put(b"k".to_vec(), b"v".to_vec());
        assert_eq!(verdict(put(), Some(1200)), Ok(()));
        assert_eq!(verdict(put(), Some(1400)), Err("room"));
        assert_eq!(verdict(put(), None), Err("room"));
    }

    #[test]
    fn leases_take_room_from_when_they_are_asked_for() {
        let moment = |millis| Moment {
            ordinal: millis,
            time: Duration::from_millis(millis),
        };
        let grant = |begun| Record {
            client: 1,
            op: Op::Grant {
                id: 1,
                ttl_seconds: 1,
            },
            begun: moment(begun),
            ended: None,
        };
        let refused = Record {
            client: 2,
            op: Op::put(b"k".to_vec(), b"v".to_vec()),
            begun: moment(6),
            ended: Some((moment(7), Ending::Full)),
        };
        let quota = Some(refused.op.charge() + 2 * LEASE_BYTES);
        let judged = |grants: [Record; 2]| {
            let history: Vec<Record> = grants.into_iter().chain([refused.clone()]).collect();
            judge(&history, &Chronicle::default(), quota).is_ok()
        };
        assert!(judged([grant(3), grant(7)]));
        assert!(!judged([grant(3), grant(8)]));
    }

    #[test]
    fn what_adds_nothing_finds_room_in_any_store() {
        let delete = Op::Delete {
            key: b"k".to_vec(),
            end: Vec::new(),
        };
        assert_eq!(verdict(delete, Some(1)), Err("room"));
        let grant = Op::Grant {
            id: 1,
            ttl_seconds: 1,
        };
        assert_eq!(verdict(grant, Some(1000)), Ok(()));
    }
}
