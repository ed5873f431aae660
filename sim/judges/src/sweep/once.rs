//! Revisions without an acknowledged writer belong to operations whose end nobody knows, each of which happened at most
//! once and not before it was asked for; or they are the end of a lease.

use std::collections::BTreeMap;

use super::Floors;
use crate::Failure;
use crate::chronicle::{Chronicle, Revision};
use crate::history::Record;
use crate::leases::{LeaseEnd, lease_ended_by};
use crate::model::{Effect, Keys, Op};

/// Finds an operation for each such revision, and no operation twice. Answers which of them can only be ends of leases.
pub(super) fn unclaimed(
    history: &[Record],
    chronicle: &Chronicle,
    floors: &Floors,
    writers: &BTreeMap<i64, &Record>,
) -> Result<Vec<LeaseEnd>, Failure> {
    let unknown = unknown(history);
    let mut causes = Causes::of(history, unknown.len());
    let (mut open, mut ends) = (Vec::new(), Vec::new());
    for revision in chronicle.known() {
        if writers.contains_key(&revision) {
            continue;
        }
        let before = chronicle.keys(revision - 1);
        let before = before.expect("the history has no gaps");
        let happened = chronicle.revision(revision);
        let happened = happened.expect("it is in the history");
        let explains = |record: &Record| {
            floors.at(record.begun) < revision
                && record.begun.time <= happened.shown_at
                && did(&record.op, &before, revision, happened)
        };
        let writers = unknown.iter().enumerate();
        let writers = writers.filter(|(_, record)| explains(record));
        let mut possible: Vec<usize> = writers.map(|(place, _)| place).collect();
        if let Some(id) = lease_ended_by(&happened.changes, &before) {
            if possible.is_empty() {
                ends.push(LeaseEnd {
                    id,
                    revision,
                    shown_at: happened.shown_at,
                });
            }
            // However a lease ends, it does so once.
            possible.retain(|place| !matches!(unknown[*place].op, Op::Revoke { .. }));
            possible.extend(causes.ends_of(id));
        }
        open.push((revision, possible));
    }
    match one_each(&open, causes.count) {
        None => Ok(ends),
        Some(revision) => {
            let changes = chronicle.revision(revision).map(|it| &it.changes);
            let story = format!(
                "revision {revision} is {:?}, and nobody asked for it (once more)",
                changes.expect("it is in the history")
            );
            Err(Failure::new("once", story))
        }
    }
}

/// The operations of which nobody knows whether they happened.
fn unknown(history: &[Record]) -> Vec<&Record> {
    let is_unknown = |record: &&Record| match &record.ended {
        None => true,
        Some((_, ending)) => ending.revision().is_none() && !ending.surely_nothing(),
    };
    history.iter().filter(is_unknown).collect()
}

/// Whether an operation does what happened in a revision.
fn did(op: &Op, before: &Keys, revision: i64, happened: &Revision) -> bool {
    let mut records = happened.changes.iter().map(|(_, record)| record);
    // Most are told apart by their values.
    let may_be = match op.own_value() {
        Some(own) => records.any(|it| it.as_ref().is_some_and(|kv| kv.value == own)),
        None => records.all(Option::is_none),
    };
    let Effect { changes, .. } = match may_be {
        true => op.effect(before, revision),
        false => return false,
    };
    changes == happened.changes
}

/// What can have made a revision, by number: the unknown operations come first, then the ends of leases.
struct Causes {
    count: usize,
    granted: BTreeMap<i64, usize>,
    ends: BTreeMap<i64, Vec<usize>>,
}

impl Causes {
    fn of(history: &[Record], unknown: usize) -> Self {
        let mut granted = BTreeMap::new();
        for record in history {
            if let Op::Grant { id, .. } = record.op {
                *granted.entry(id).or_insert(0) += 1;
            }
        }
        Self {
            count: unknown,
            granted,
            ends: BTreeMap::new(),
        }
    }

    /// The ends that a lease can come to: as many as it has beginnings.
    fn ends_of(&mut self, id: i64) -> &[usize] {
        let (count, granted) = (&mut self.count, &self.granted);
        self.ends.entry(id).or_insert_with(|| {
            let times = granted.get(&id).copied().unwrap_or(1);
            let first = *count;
            *count += times;
            (first..*count).collect()
        })
    }
}

/// Gives each revision one of its possible causes, and none to two of them; answers the first for which none is left.
fn one_each(open: &[(i64, Vec<usize>)], causes: usize) -> Option<i64> {
    let mut given: Vec<Option<usize>> = vec![None; causes];
    for place in 0..open.len() {
        let mut tried = vec![false; causes];
        if !find_one(open, place, &mut given, &mut tried) {
            return Some(open[place].0);
        }
    }
    None
}

/// Finds a cause that is free or whose revision can have another one instead, along a path of such exchanges.
fn find_one(
    open: &[(i64, Vec<usize>)],
    place: usize,
    given: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for &cause in &open[place].1 {
        if std::mem::replace(&mut tried[cause], true) {
            continue;
        }
        let free = match given[cause] {
            None => true,
            Some(other) => find_one(open, other, given, tried),
        };
        if free {
            given[cause] = Some(place);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::one_each;

    #[test]
    fn causes_are_exchanged_until_each_revision_has_one() {
        let both = vec![0, 1];
        let open = [(2, both.clone()), (3, vec![0]), (4, vec![1, 2])];
        assert_eq!(one_each(&open, 3), None);
        let scarce = [(2, both.clone()), (3, vec![0]), (4, both)];
        assert_eq!(one_each(&scarce, 3), Some(4));
        assert_eq!(one_each(&[(2, Vec::new())], 0), Some(2));
    }
}
