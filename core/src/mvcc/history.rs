//! History: all records of one key, from the oldest kept to the newest.

use std::sync::Arc;

use im::OrdMap;

use super::record::{Position, Record};

/// The records of one key in order of position; never empty.
///
/// A worked example. `put a; put a; delete a; put a` at revisions 2 to 5 leaves `put@2 put@3 delete@4 put@5`:
/// two generations, the first ended by the tombstone at 4. Compacting at 3 is entitled to remove `put@2`;
/// at 4 all before the tombstone, which itself stays for watchers that start there; at 5 the tombstone as well.
///
/// One record, the common case, needs no allocation beside the record. More live in chunks under a persistent
/// map, so that a put copies at most one chunk, a lookup is logarithmic, and dropping never recurses deeply.
#[derive(Clone, Debug)]
pub enum History {
    /// A single record.
    One(Record),
    /// Two or more.
    Many(Arc<Chunks>),
}

/// Two or more records: closed chunks by their first position, and the open chunk of the newest.
///
/// A transaction may change a key more than once, so a revision alone does not name a chunk: one may end within a
/// revision, and the next begin within it.
#[derive(Debug)]
pub struct Chunks {
    closed: OrdMap<Position, Arc<[Record]>>,
    /// Never empty, at most [`CHUNK_RECORDS`].
    open: Vec<Record>,
}

/// What [`History::trim`] did.
#[derive(Debug, PartialEq, Eq)]
pub enum Trim {
    /// This many bytes of records went; others remain.
    Freed(u64),
    /// Every record was removable: the key itself must go, and these bytes with it.
    Gone(u64),
}

/// How much one pass of the sweep removes.
enum Slice {
    Everything,
    Chunk,
}

impl History {
    /// The latest record, be it a tombstone.
    pub fn newest(&self) -> &Record {
        match self {
            History::One(record) => record,
            History::Many(chunks) => chunks.open.last().expect("the open chunk is never empty"),
        }
    }

    /// The key all records share.
    pub fn key(&self) -> &[u8] {
        self.newest().key()
    }

    /// The last record at or before revision `at`, be it a tombstone.
    pub fn last_at(&self, at: i64) -> Option<&Record> {
        self.last_before((at.checked_add(1)?, 0))
    }

    /// The record that gave the key its value at revision `at`; `None` if it did not exist then.
    pub fn live_at(&self, at: i64) -> Option<&Record> {
        let newest = self.newest();
        let record = if newest.mod_revision() <= at {
            newest
        } else {
            self.last_at(at)?
        };
        (!record.is_tombstone()).then_some(record)
    }

    /// The last record strictly before `position`.
    pub fn last_before(&self, position: Position) -> Option<&Record> {
        match self {
            History::One(record) => (record.position() < position).then_some(record),
            History::Many(chunks) => chunks.last_before(position),
        }
    }

    /// Adds the newest record.
    pub fn push(&mut self, record: Record) {
        assert!(
            self.newest().position() < record.position(),
            "history only grows forward"
        );
        match self {
            History::One(only) => {
                let mut open = Vec::with_capacity(2);
                open.extend([only.clone(), record]);
                *self = History::Many(Arc::new(Chunks {
                    closed: OrdMap::new(),
                    open,
                }));
            }
            History::Many(chunks) => Arc::make_mut(chunks).push(record),
        }
    }

    /// All records, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        let (one, many) = match self {
            History::One(record) => (Some(record), None),
            History::Many(chunks) => (None, Some(chunks)),
        };
        let closed = many.into_iter().flat_map(|chunks| chunks.closed.values());
        let open = many.into_iter().flat_map(|chunks| chunks.open.iter());
        one.into_iter()
            .chain(closed.flat_map(|chunk| chunk.iter()))
            .chain(open)
    }

    /// The records at or after `revision`, oldest first, found without a walk over those before.
    pub fn since(&self, revision: i64) -> impl Iterator<Item = &Record> {
        let (one, many) = match self {
            History::One(record) => (Some(record), None),
            History::Many(chunks) => (None, Some(chunks)),
        };
        let recent = many.into_iter().flat_map(move |chunks| {
            let begin = (revision, 0);
            let first = chunks.closed.get_prev(&begin);
            let first = first.map_or(begin, |(first, _)| *first);
            let closed = chunks
                .closed
                .range(first..)
                .flat_map(|(_, chunk)| chunk.iter());
            closed.chain(chunks.open.iter())
        });
        one.into_iter()
            .chain(recent)
            .skip_while(move |record| record.mod_revision() < revision)
    }

    /// The records a compaction at `compact` is not entitled to remove, oldest first.
    pub fn retained(&self, compact: i64) -> impl Iterator<Item = &Record> {
        let floor = self.floor(compact);
        self.iter()
            .skip_while(move |record| floor.is_some_and(|floor| record.position() < floor))
    }

    /// Removes what a compaction at `compact` is entitled to remove, as the sweep passes revision `passing`.
    ///
    /// The sweep passes every change of the key. Only the last one at or below the boundary removes everything;
    /// each earlier one removes at most one whole chunk, so that a key of a million versions goes in slices.
    pub fn trim(&mut self, compact: i64, passing: i64) -> Trim {
        let Some((floor, slice)) = self.removable(compact, passing) else {
            return Trim::Freed(0);
        };
        match self {
            History::One(record) => Trim::Gone(record.size()),
            History::Many(chunks) => {
                let chunks = Arc::make_mut(chunks);
                let freed = match slice {
                    Slice::Everything => chunks.trim(floor),
                    Slice::Chunk => chunks.drop_oldest_chunk(),
                };
                match (chunks.closed.is_empty(), chunks.open.as_slice()) {
                    (true, []) => return Trim::Gone(freed),
                    (true, [only]) => *self = History::One(only.clone()),
                    (_, open) => {
                        assert!(!open.is_empty(), "the open chunk holds the newest record")
                    }
                }
                Trim::Freed(freed)
            }
        }
    }

    /// Whether [`History::trim`] would remove anything.
    pub fn can_trim(&self, compact: i64, passing: i64) -> bool {
        self.removable(compact, passing).is_some()
    }

    /// Builds a history from records in order; `None` from no records.
    pub fn from_records(mut records: Vec<Record>) -> Option<History> {
        if records.len() < 2 {
            return records.pop().map(History::One);
        }
        let open = records.split_off((records.len() - 1) / CHUNK_RECORDS * CHUNK_RECORDS);
        let closed = records
            .chunks(CHUNK_RECORDS)
            .map(|chunk| (chunk[0].position(), Arc::from(chunk)));
        Some(History::Many(Arc::new(Chunks {
            closed: closed.collect(),
            open,
        })))
    }

    /// What the sweep may remove when it passes a change: everything below the position, or only one chunk of it.
    fn removable(&self, compact: i64, passing: i64) -> Option<(Position, Slice)> {
        let floor = self.floor(compact)?;
        let last = self.last_at(compact)?;
        let slice = if last.mod_revision() <= passing {
            Slice::Everything
        } else {
            Slice::Chunk
        };
        let begins_below = match self {
            History::One(record) => record.position() < floor,
            History::Many(chunks) => chunks.begins_below(floor, matches!(slice, Slice::Chunk)),
        };
        begins_below.then_some((floor, slice))
    }

    /// Where the records that survive a compaction at `compact` begin; `None` if all are newer.
    ///
    /// Below the boundary only the last record survives, and only if it is a value. At the boundary all do:
    /// a watcher may start there.
    fn floor(&self, compact: i64) -> Option<Position> {
        let last = self.last_at(compact)?;
        let whole_boundary = last.mod_revision() == compact || last.is_tombstone();
        Some(if whole_boundary {
            (compact, 0)
        } else {
            last.position()
        })
    }
}

impl Chunks {
    fn push(&mut self, record: Record) {
        if self.open.len() == CHUNK_RECORDS {
            let full: Arc<[Record]> = Arc::from(self.open.as_slice());
            self.close(full);
            self.open.clear();
        }
        self.open.push(record);
    }

    fn close(&mut self, chunk: Arc<[Record]>) {
        let replaced = self.closed.insert(chunk[0].position(), chunk);
        assert!(replaced.is_none(), "two chunks never begin alike");
    }

    fn last_before(&self, position: Position) -> Option<&Record> {
        let last_in = |chunk: &[Record]| {
            chunk
                .partition_point(|record| record.position() < position)
                .checked_sub(1)
        };
        if let Some(index) = last_in(&self.open) {
            return Some(&self.open[index]);
        }
        let (_, chunk) = self.closed.get_prev(&before(position)?)?;
        last_in(chunk).map(|index| &chunk[index])
    }

    /// Whether the oldest record, or with `whole_chunk` the whole oldest closed chunk, lies below `floor`.
    fn begins_below(&self, floor: Position, whole_chunk: bool) -> bool {
        match self.closed.get_min() {
            Some((_, chunk)) => {
                chunk[if whole_chunk { chunk.len() - 1 } else { 0 }].position() < floor
            }
            None => !whole_chunk && self.open[0].position() < floor,
        }
    }

    fn drop_oldest_chunk(&mut self) -> u64 {
        let first = self
            .closed
            .get_min()
            .expect("asked only with a closed chunk")
            .0;
        let chunk = self
            .closed
            .remove(&first)
            .expect("the least key is present");
        chunk.iter().map(Record::size).sum()
    }

    fn trim(&mut self, floor: Position) -> u64 {
        let mut freed = 0;
        while let Some(&(first, ref chunk)) = self.closed.get_min() {
            let below = chunk.partition_point(|record| record.position() < floor);
            if below == chunk.len() {
                freed += self.drop_oldest_chunk();
                continue;
            }
            if below > 0 {
                freed += chunk[..below].iter().map(Record::size).sum::<u64>();
                let rest: Arc<[Record]> = Arc::from(&chunk[below..]);
                self.closed.remove(&first);
                self.close(rest);
            }
            return freed;
        }
        let below = self
            .open
            .partition_point(|record| record.position() < floor);
        freed
            + self
                .open
                .drain(..below)
                .map(|record| record.size())
                .sum::<u64>()
    }
}

impl Clone for Chunks {
    /// Leaves room for the record whose arrival makes the copy necessary.
    fn clone(&self) -> Self {
        let mut open =
            Vec::with_capacity((self.open.len() + 2).next_multiple_of(2).min(CHUNK_RECORDS));
        open.extend_from_slice(&self.open);
        Chunks {
            closed: self.closed.clone(),
            open,
        }
    }
}

/// The greatest position before this one; none before the first.
fn before((revision, sub): Position) -> Option<Position> {
    match sub.checked_sub(1) {
        Some(sub) => Some((revision, sub)),
        None => Some((revision.checked_sub(1)?, u32::MAX)),
    }
}

/// Records of a closed chunk. A put copies the open one, which counts up a reference to each of its records: fewer are
/// faster, more take less memory.
const CHUNK_RECORDS: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::{PutNumbers, RecordPacker};
    use super::*;

    fn put(main: i64, sub: u32) -> Record {
        let numbers = PutNumbers {
            position: (main, sub),
            create_revision: 2,
            version: 1,
            lease: 0,
        };
        RecordPacker::default().put(b"k", b"", numbers)
    }

    fn history(revisions: impl Iterator<Item = i64>) -> History {
        let mut records = revisions.map(|revision| put(revision, 0));
        let mut history = History::One(records.next().expect("at least one"));
        records.for_each(|record| history.push(record));
        history
    }

    fn revisions(history: &History) -> Vec<i64> {
        history.iter().map(Record::mod_revision).collect()
    }

    #[test]
    fn a_history_is_two_words() {
        assert_eq!(size_of::<History>(), 16);
    }

    #[test]
    fn every_revision_finds_its_record_at_any_depth() {
        for depth in [1, 2, 7, 8, 9, 16, 17, 200] {
            let history = history((1..=depth).map(|n| n * 10));
            assert_eq!(
                revisions(&history),
                (1..=depth).map(|n| n * 10).collect::<Vec<_>>()
            );
            for at in 0..=depth * 10 + 5 {
                let found = history.last_at(at).map(Record::mod_revision);
                assert_eq!(
                    found,
                    Some(at.min(depth * 10) / 10 * 10).filter(|&at| at > 0),
                    "{depth} {at}"
                );
            }
        }
    }

    #[test]
    fn two_changes_of_one_revision_are_told_apart_across_chunks() {
        let mut history = history(2..=8);
        history.push(put(9, 0));
        history.push(put(9, 1));
        let last_before = |place, sub| history.last_before((place, sub)).map(Record::position);
        assert_eq!(last_before(9, 1), Some((9, 0)));
        assert_eq!(last_before(9, 0), Some((8, 0)));
        assert_eq!(history.last_at(9).map(Record::position), Some((9, 1)));
    }

    #[test]
    fn a_boundary_within_a_revision_that_spans_two_chunks_keeps_all_of_it() {
        for before in 1..=20 {
            for subs in 2..=3 {
                let mut history = history(1..=before);
                (0..subs).for_each(|sub| history.push(put(before + 1, sub)));
                (before + 2..before + 12).for_each(|at| history.push(put(at, 0)));
                let boundary = before + 1;
                let expected: Vec<Position> =
                    history.retained(boundary).map(Record::position).collect();
                assert_eq!(expected.len(), 10 + subs as usize);
                history.trim(boundary, boundary);
                let left: Vec<Position> = history.iter().map(Record::position).collect();
                assert_eq!(
                    left, expected,
                    "{before} records before, {subs} at the boundary"
                );
            }
        }
    }

    #[test]
    fn passing_a_change_below_the_last_frees_at_most_one_chunk() {
        let mut history = history(1..=100);
        let chunk = CHUNK_RECORDS as u64 * put(1, 0).size();
        let chunks_below = 69 / CHUNK_RECORDS as i64;
        for freed in 1..=chunks_below {
            assert_eq!(history.trim(70, 2 + freed), Trim::Freed(chunk));
            let first = freed * CHUNK_RECORDS as i64 + 1;
            assert_eq!(revisions(&history), (first..=100).collect::<Vec<_>>());
        }
        assert_eq!(
            history.trim(70, 60),
            Trim::Freed(0),
            "the next chunk is needed in part"
        );
        history.trim(70, 70);
        assert_eq!(revisions(&history), (70..=100).collect::<Vec<_>>());
        history.trim(100, 100);
        assert!(matches!(history, History::One(_)));
    }

    #[test]
    fn a_tombstone_goes_only_when_the_boundary_has_passed_it() {
        let mut ended = history(2..=3);
        ended.push(RecordPacker::default().tombstone(b"k", (4, 0)));
        ended.trim(4, 4);
        assert_eq!(revisions(&ended), [4]);
        assert!(matches!(ended.trim(5, 4), Trim::Gone(_)));
    }

    #[test]
    fn a_history_built_at_once_equals_one_that_grew() {
        for depth in [1, 2, 8, 9, 16, 17, 100] {
            let grown = history(1..=depth);
            let built =
                History::from_records((1..=depth).map(|n| put(n, 0)).collect()).expect("not empty");
            assert_eq!(revisions(&built), revisions(&grown));
            assert_eq!(built.newest(), grown.newest());
        }
        assert!(History::from_records(Vec::new()).is_none());
    }

    /// What happens to a key: changes in one revision, or the sweep passes a revision under a boundary so far back.
    #[derive(Debug, Clone)]
    enum Event {
        Change {
            skip: i64,
            subs: u32,
        },
        Pass {
            boundary_back: i64,
            passing_back: i64,
        },
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => (1i64..3, 1u32..4).prop_map(|(skip, subs)| Event::Change { skip, subs }),
            1 => (0i64..20, 0i64..10).prop_map(|(boundary_back, passing_back)| Event::Pass {
                boundary_back,
                passing_back
            }),
        ]
    }

    fn positions<'h>(records: impl Iterator<Item = &'h Record>) -> Vec<Position> {
        records.map(Record::position).collect()
    }

    proptest! {
        #[test]
        fn a_history_is_a_list_of_positions_from_which_only_the_oldest_go(
            events in prop::collection::vec(event(), 1..80)
        ) {
            let mut history = History::One(put(1, 0));
            let mut list: Vec<Position> = vec![(1, 0)];
            let (mut revision, mut boundary) = (1, 0);
            for event in events {
                match event {
                    Event::Change { skip, subs } => {
                        revision += skip;
                        for sub in 0..subs {
                            history.push(put(revision, sub));
                            list.push((revision, sub));
                        }
                    }
                    Event::Pass { boundary_back, passing_back } => {
                        boundary = boundary.max(revision - boundary_back);
                        let kept = list.iter().rposition(|at| at.0 <= boundary);
                        // Of what lies below the boundary the last; at it, all.
                        let kept = kept.map_or(0, |last| match list[last].0 == boundary {
                            true => list.partition_point(|at| at.0 < boundary),
                            false => last,
                        });
                        let retained = list.split_off(kept);
                        prop_assert_eq!(positions(history.retained(boundary)), retained.clone());
                        history.trim(boundary, boundary - passing_back);
                        let left = positions(history.iter());
                        prop_assert!(left.ends_with(&retained), "{:?} of {:?}", left, retained);
                        if passing_back == 0 {
                            prop_assert_eq!(left.len(), retained.len());
                        }
                        list = left;
                    }
                }
                prop_assert_eq!(positions(history.iter()), list.clone());
                for at in list[0].0..=revision {
                    let last = list.iter().rfind(|it| it.0 <= at).copied();
                    prop_assert_eq!(history.last_at(at).map(Record::position), last);
                    let since: Vec<Position> = list.iter().copied().filter(|it| it.0 >= at).collect();
                    prop_assert_eq!(positions(history.since(at)), since);
                }
                for (place, at) in list.iter().enumerate().skip(1) {
                    let before = history.last_before(*at).map(Record::position);
                    prop_assert_eq!(before, Some(list[place - 1]));
                }
            }
        }
    }
}
