//! Linearizability once more, by a search that believes no revision: an order of all operations on one key that every
//! client could have seen (Wing and Gong, with Lowe's memory of what was tried).
//!
//! It takes the operations on keys that only single-key operations touch, and gives up on histories whose search grows
//! too large: it is the cross-check of the sweep, not its replacement.

use std::collections::{BTreeMap, BTreeSet};

use super::Failure;
use super::sweep::is_single_key_read;
use crate::history::{Ending, Record};
use crate::model::{Keys, Op};

/// Keys that begin with this are touched by single-key puts, deletes and reads alone.
pub const PREFIX: &[u8] = b"b/";

/// Operations on one key that are searched at most, the first ones.
const OPERATIONS_MAX: usize = 300;
/// States that are tried at most per key.
const STEPS_MAX: usize = 200_000;

/// An operation on a register, with the values given numbers.
#[derive(Debug, Clone, Copy)]
struct Step {
    begun: u64,
    /// None where nobody knows whether and when it happened.
    ended: Option<u64>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The value it holds from then on; none after a delete.
    Write(Option<usize>),
    Read(Option<usize>),
}

/// What came of the searches, each for one register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Searched {
    /// Registers that were read, and for whose operations there is an order.
    pub decided: u64,
    /// Those whose search grew too large, so that nothing was found out.
    pub given_up: u64,
    /// Those of which only the first operations were looked at, whatever came of it.
    pub cut: u64,
}

/// Judges every register of a history that began with these keys; answers what came of it.
///
/// # Errors
/// When no order explains what clients saw.
pub fn judge(history: &[Record], keys_at_first: &Keys) -> Result<Searched, Failure> {
    let mut keys: BTreeMap<&[u8], Vec<&Record>> = BTreeMap::new();
    for record in history {
        let key = match &record.op {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
            op if is_single_key_read(op) => match op {
                Op::Read { key, .. } => key,
                _ => continue,
            },
            _ => continue,
        };
        if key.starts_with(PREFIX) {
            keys.entry(key).or_default().push(record);
        }
    }
    let mut searched = Searched::default();
    for (key, records) in keys {
        let at_first = keys_at_first.get(key).map(|kv| kv.value.as_slice());
        let (mut steps, value) = steps(&records, at_first);
        searched.cut += u64::from(cut(&mut steps));
        let any_read = steps.iter().any(|step| matches!(step.kind, Kind::Read(_)));
        match linearizable(&steps, value) {
            Some(true) => searched.decided += u64::from(any_read),
            Some(false) => {
                let story = format!(
                    "no order of its {} operations explains what the clients of {} saw",
                    records.len().min(OPERATIONS_MAX),
                    key.escape_ascii()
                );
                return Err(Failure::new("registers", story));
            }
            None => searched.given_up += 1,
        }
    }
    Ok(searched)
}

/// The operations in order, and the number of the value that there was before.
fn steps(records: &[&Record], at_first: Option<&[u8]>) -> (Vec<Step>, Option<usize>) {
    let mut values: BTreeMap<&[u8], usize> = BTreeMap::new();
    let first = at_first.map(|value| *values.entry(value).or_insert(0));
    for record in records {
        if let Some(value) = record.op.own_value() {
            let number = values.len();
            values.entry(value).or_insert(number);
        }
    }
    let mut steps = Vec::new();
    for record in records {
        let ended = record.ended.as_ref();
        let ending = ended.map(|(_, ending)| ending);
        if ending.is_some_and(Ending::surely_nothing) {
            continue;
        }
        let known = ended.filter(|(_, ending)| ending.revision().is_some());
        let kind = match (&record.op, ending) {
            (Op::Put { value, .. }, _) => Kind::Write(values.get(value.as_slice()).copied()),
            (Op::Delete { .. }, _) => Kind::Write(None),
            (_, Some(Ending::Read(Ok(response)))) => {
                let read = response.kvs.first();
                // A value that nobody wrote has a number that nobody has.
                Kind::Read(read.map(|kv| {
                    values
                        .get(kv.value.as_slice())
                        .copied()
                        .unwrap_or(usize::MAX)
                }))
            }
            _ => continue,
        };
        steps.push(Step {
            begun: record.begun.ordinal,
            ended: known.map(|(moment, _)| moment.ordinal),
            kind,
        });
    }
    steps.sort_by_key(|step| step.begun);
    (steps, first)
}

/// Leaves the first operations only, if there are too many; answers whether there were.
fn cut(steps: &mut Vec<Step>) -> bool {
    let Some(cut) = steps.get(OPERATIONS_MAX).map(|step| step.begun) else {
        return false;
    };
    // What begins later cannot come before; what of the rest had ended by then must be explained by these alone.
    steps.truncate(OPERATIONS_MAX);
    for step in steps.iter_mut() {
        step.ended = step.ended.filter(|ended| *ended < cut);
    }
    steps.retain(|step| step.ended.is_some() || matches!(step.kind, Kind::Write(_)));
    true
}

/// Whether there is an order that begins with a value; none if the search was given up.
fn linearizable(steps: &[Step], value: Option<usize>) -> Option<bool> {
    let mut tried: BTreeSet<(Vec<u64>, Option<usize>)> = BTreeSet::new();
    let first = (vec![0; steps.len().div_ceil(64)], value);
    let mut stack = vec![first];
    while let Some((done, value)) = stack.pop() {
        let is_done = |number: usize| done[number / 64] >> (number % 64) & 1 == 1;
        let open = || (0..steps.len()).filter(|number| !is_done(*number));
        // The next one in order must have begun before the first of the others ended.
        let ends = open().filter_map(|number| steps[number].ended).min();
        let Some(ends) = ends else {
            return Some(true);
        };
        for number in open().take_while(|number| steps[*number].begun < ends) {
            let after = match steps[number].kind {
                Kind::Read(read) if read != value => continue,
                Kind::Read(_) => value,
                Kind::Write(written) => written,
            };
            let mut next = done.clone();
            next[number / 64] |= 1 << (number % 64);
            if tried.insert((next.clone(), after)) {
                stack.push((next, after));
            }
        }
        if tried.len() > STEPS_MAX {
            return None;
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metastore_core::output::Outcome;
    use metastore_proto::etcdserverpb::{PutResponse, RangeResponse, ResponseHeader};

    use super::*;
    use crate::history::Moment;

    fn step(begun: u64, ended: u64, kind: Kind) -> Step {
        Step {
            begun,
            ended: Some(ended),
            kind,
        }
    }

    #[test]
    fn a_read_of_an_old_value_after_a_write_that_ended_has_no_order() {
        let write = step(1, 2, Kind::Write(Some(0)));
        assert_eq!(
            linearizable(&[write, step(3, 4, Kind::Read(None))], None),
            Some(false)
        );
        assert_eq!(
            linearizable(&[write, step(3, 4, Kind::Read(Some(0)))], None),
            Some(true)
        );
        let overlapping = step(1, 5, Kind::Write(Some(0)));
        assert_eq!(
            linearizable(&[overlapping, step(3, 4, Kind::Read(None))], None),
            Some(true)
        );
    }

    #[test]
    fn reads_never_go_back_over_a_write_under_way() {
        let write = step(1, 9, Kind::Write(Some(0)));
        let new_then_old = [
            write,
            step(2, 3, Kind::Read(Some(0))),
            step(4, 5, Kind::Read(None)),
        ];
        assert_eq!(linearizable(&new_then_old, None), Some(false));
    }

    #[test]
    fn a_write_that_nobody_knows_of_may_happen_late_or_never() {
        let unknown = Step {
            ended: None,
            ..step(1, 0, Kind::Write(Some(0)))
        };
        let late = [
            unknown,
            step(5, 6, Kind::Read(None)),
            step(7, 8, Kind::Read(Some(0))),
        ];
        assert_eq!(linearizable(&late, None), Some(true));
        assert_eq!(linearizable(&late[..2], None), Some(true));
        let twice = [
            unknown,
            step(2, 3, Kind::Read(Some(0))),
            step(4, 5, Kind::Write(None)),
            step(6, 7, Kind::Read(Some(0))),
        ];
        assert_eq!(linearizable(&twice, None), Some(false));
    }

    #[test]
    fn what_was_there_before_may_be_read_until_it_is_written_over() {
        let read = step(1, 2, Kind::Read(Some(0)));
        assert_eq!(linearizable(&[read], Some(0)), Some(true));
        let write = step(1, 2, Kind::Write(None));
        let late = step(3, 4, Kind::Read(Some(0)));
        assert_eq!(linearizable(&[write, late], Some(0)), Some(false));
    }

    fn records(count: u64, read: impl Fn(u64) -> Option<Ending>) -> Vec<Record> {
        let moment = |ordinal| Moment {
            ordinal,
            time: Duration::ZERO,
        };
        let key = || [PREFIX, b"1"].concat();
        let record = |number: u64| {
            let (op, ending) = match read(number) {
                Some(ending) => (Op::read(key(), Vec::new()), ending),
                None => {
                    let put = Op::put(key(), number.to_string().into_bytes());
                    let done = PutResponse {
                        header: Some(ResponseHeader::default()),
                        prev_kv: None,
                    };
                    (put, Ending::Wrote(Outcome::Put(done)))
                }
            };
            Record {
                client: 1,
                op,
                begun: moment(2 * number),
                ended: Some((moment(2 * number + 1), ending)),
            }
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn what_came_of_each_search_is_counted() {
        let searched = |count, empty_at: u64| {
            let found_nothing = || Ending::Read(Ok(with_header()));
            let history = records(count, |it| (it == empty_at).then(found_nothing));
            judge(&history, &Keys::new()).map_err(|failure| failure.judge)
        };
        let decided = Searched {
            decided: 1,
            ..Searched::default()
        };
        assert_eq!(searched(10, 0), Ok(decided));
        assert_eq!(searched(10, 5), Err("registers"));
        // Where nobody reads, there is nothing to decide.
        assert_eq!(searched(10, 99), Ok(Searched::default()));
        assert_eq!(searched(400, 0), Ok(Searched { cut: 1, ..decided }));
        let cut = Searched {
            cut: 1,
            ..Searched::default()
        };
        assert_eq!(searched(400, 350), Ok(cut));
    }

    fn with_header() -> RangeResponse {
        RangeResponse {
            header: Some(ResponseHeader::default()),
            ..RangeResponse::default()
        }
    }

    #[test]
    fn a_search_that_grows_too_large_is_given_up() {
        let writes =
            (0..40_u8).map(|number| step(number.into(), 1000, Kind::Write(Some(number.into()))));
        let mut steps: Vec<Step> = writes.collect();
        steps.push(step(2000, 2001, Kind::Read(Some(77))));
        assert_eq!(linearizable(&steps, None), None);
    }
}
