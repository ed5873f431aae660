//! Keyspace: the histories of all keys in key order, as a persistent map of leaves.

use std::iter::Peekable;
use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use im::OrdMap;

use super::history::History;
use super::record::Record;
use crate::key::{Key, KeyRange};

/// All histories, ordered by key; cloning is O(1) and shares everything.
///
/// The persistent map orders leaves by a lower bound of their keys; a leaf is a plain sorted vector. Against one
/// map entry per key this halves the memory of the index, and a leaf knows how many of its keys are alive, so
/// that counting a large range reads no records.
///
/// Invariants: a leaf at bound `b` holds only keys at or after `b` and before the next bound; the first bound is
/// the empty key; only the first leaf may be empty.
#[derive(Clone, Debug)]
pub struct Keyspace {
    leaves: OrdMap<Key, Arc<Leaf>>,
    keys: usize,
}

#[derive(Debug)]
struct Leaf {
    histories: Vec<History>,
    /// The tag of each history's key, in the order of the histories; the rest means nothing.
    tags: [u8; LEAF_KEYS],
    /// How many of the histories end in a value.
    live: usize,
    /// No record of the leaf is newer than this.
    mod_revision_max: i64,
}

/// A run of neighbouring histories from one leaf.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The histories, in key order.
    pub histories: &'a [History],
    whole: Option<&'a Leaf>,
}

impl Keyspace {
    /// A keyspace without keys.
    pub fn new() -> Self {
        Keyspace {
            leaves: OrdMap::unit(Key::from(&[][..]), Arc::new(Leaf::new(Vec::new()))),
            keys: 0,
        }
    }

    /// How many keys have a history, deleted ones included.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether no key has a history.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// The history of `key`.
    pub fn get(&self, key: &[u8]) -> Option<&History> {
        let (_, leaf) = self.leaf_of(key);
        leaf.find(key).map(|index| &leaf.histories[index])
    }

    /// Adds the newest record of its key.
    pub fn push(&mut self, record: Record) {
        let kept = record.clone();
        self.push_with(kept.key(), |_| record);
    }

    /// Adds the newest record of `key`, made from the history so far, and returns it.
    pub fn push_with(
        &mut self,
        key: &[u8],
        make: impl FnOnce(Option<&History>) -> Record,
    ) -> Record {
        let bound = self.leaf_of(key).0.clone();
        let leaf = Arc::make_mut(
            self.leaves
                .get_mut(&bound)
                .expect("the bound was just found"),
        );
        let place = leaf.find(key);
        let record = make(place.map(|index| &leaf.histories[index]));
        assert!(record.key() == key, "a record goes to its own key");
        match place {
            Some(index) => leaf.push_at(index, record.clone()),
            None => {
                self.keys += 1;
                if let Some(right) = leaf.insert_or_split(record.clone()) {
                    let bound = Key::from(right.histories[0].key());
                    self.leaves.insert(bound, Arc::new(right));
                }
            }
        }
        record
    }

    /// Changes the history of `key`, if there is one; answering `false` removes the key altogether.
    pub fn edit<T>(
        &mut self,
        key: &[u8],
        edit: impl FnOnce(&mut History) -> (bool, T),
    ) -> Option<T> {
        let (bound, leaf) = self.leaf_of(key);
        let index = leaf.find(key)?;
        let bound = bound.clone();
        let leaf = Arc::make_mut(
            self.leaves
                .get_mut(&bound)
                .expect("the bound was just found"),
        );
        let was_live = !leaf.histories[index].newest().is_tombstone();
        let (keep, answer) = edit(&mut leaf.histories[index]);
        assert!(keep || !was_live, "only a deleted key is ever removed");
        if !keep {
            leaf.remove_at(index);
            self.keys -= 1;
            if leaf.histories.len() <= LEAF_KEYS / 4 {
                self.join(&bound);
            }
        }
        Some(answer)
    }

    /// The histories in `range`, in runs, in key order.
    pub fn runs<'a>(&'a self, range: KeyRange<'a>) -> Runs<'a> {
        let (first, _) = self.leaf_of(range.start());
        let from = Bound::Included(first.as_bytes());
        let to = match range {
            // No bound may lie before the first leaf's own.
            KeyRange::One(key) => Bound::Included(key),
            KeyRange::Between(start, end) => Bound::Excluded(end.max(start)),
            KeyRange::From(_) => Bound::Unbounded,
        };
        let empty = matches!(range, KeyRange::Between(start, end) if end <= start);
        let leaves = (!empty).then(|| self.leaves.range::<_, [u8]>((from, to)).peekable());
        Runs {
            leaves,
            range,
            at_first: true,
        }
    }

    /// The histories in `range`, in key order.
    pub fn histories<'a>(&'a self, range: KeyRange<'a>) -> impl Iterator<Item = &'a History> {
        self.runs(range).flat_map(|run| run.histories)
    }

    /// How many keys of `range` exist at revision `at`.
    pub fn count(&self, range: KeyRange<'_>, at: i64) -> usize {
        self.runs(range).map(|run| run.live_at(at)).sum()
    }

    /// Builds the keyspace from histories in strictly ascending key order.
    pub fn from_sorted(histories: impl Iterator<Item = History>) -> Self {
        let mut keyspace = Keyspace::new();
        let mut leaf = Vec::with_capacity(LEAF_KEYS);
        let mut bound = Key::from(&[][..]);
        for history in histories {
            if leaf.len() == LEAF_KEYS {
                let full = std::mem::replace(&mut leaf, Vec::with_capacity(LEAF_KEYS));
                keyspace.leaves.insert(bound, Arc::new(Leaf::new(full)));
                bound = Key::from(history.key());
            }
            leaf.push(history);
            keyspace.keys += 1;
        }
        leaf.shrink_to_fit();
        keyspace.leaves.insert(bound, Arc::new(Leaf::new(leaf)));
        keyspace
    }

    /// Panics in words if an invariant of the structure is broken.
    pub fn validate(&self) {
        let mut keys = 0;
        let mut previous: Option<&[u8]> = None;
        for (index, (bound, leaf)) in self.leaves.iter().enumerate() {
            assert!(
                index > 0 || bound.as_bytes().is_empty(),
                "the first bound is the empty key"
            );
            assert!(
                index == 0 || !leaf.histories.is_empty(),
                "only the first leaf may be empty"
            );
            assert!(leaf.histories.len() <= LEAF_KEYS, "a leaf is bounded");
            let live = leaf
                .histories
                .iter()
                .filter(|history| !history.newest().is_tombstone())
                .count();
            assert_eq!(leaf.live, live, "a leaf knows its live keys");
            assert!(
                index == 0 || previous < Some(bound.as_bytes()),
                "a leaf ends before the next bound"
            );
            for (history, tag) in leaf.histories.iter().zip(leaf.tags) {
                let key = history.key();
                assert!(previous < Some(key), "keys ascend strictly");
                assert_eq!(tag, tag_of(key), "a leaf knows the tags of its keys");
                assert!(
                    bound.as_bytes() <= key,
                    "a key lies at or after its leaf's bound"
                );
                assert!(
                    history.newest().mod_revision() <= leaf.mod_revision_max,
                    "a leaf knows its newest change"
                );
                previous = Some(key);
            }
            keys += leaf.histories.len();
        }
        assert_eq!(keys, self.keys, "the number of keys is right");
    }

    fn leaf_of(&self, key: &[u8]) -> (&Key, &Leaf) {
        let (bound, leaf) = self
            .leaves
            .get_prev(key)
            .expect("the first bound lies before every key");
        (bound, leaf)
    }

    /// Merges a leaf that became small with a neighbour, if the two fit with room to spare.
    fn join(&mut self, bound: &Key) {
        let from = (Bound::Included(bound.as_bytes()), Bound::Unbounded);
        let before = (Bound::Unbounded, Bound::Excluded(bound.as_bytes()));
        let mut here = self.leaves.range::<_, [u8]>(from);
        let (_, leaf) = here.next().expect("the bound is present");
        let fits =
            |other: &Arc<Leaf>| leaf.histories.len() + other.histories.len() <= LEAF_KEYS / 4 * 3;
        let right = here.next().filter(|(_, right)| fits(right));
        let left = self.leaves.range::<_, [u8]>(before).next_back();
        let pair = match (right, left.filter(|(_, left)| fits(left))) {
            (Some((right, _)), _) => Some((bound.clone(), right.clone())),
            (None, Some((left, _))) => Some((left.clone(), bound.clone())),
            (None, None) => None,
        };
        if let Some((left, right)) = pair {
            let right = self
                .leaves
                .remove(&right)
                .expect("the bound was just found");
            let left = Arc::make_mut(
                self.leaves
                    .get_mut(&left)
                    .expect("the bound was just found"),
            );
            left.append(&right);
        } else if leaf.histories.is_empty() && !bound.as_bytes().is_empty() {
            self.leaves.remove(bound);
        }
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Keyspace::new()
    }
}

impl Leaf {
    fn new(histories: Vec<History>) -> Self {
        let live = histories
            .iter()
            .filter(|history| !history.newest().is_tombstone())
            .count();
        let mod_revision_max = histories
            .iter()
            .map(|history| history.newest().mod_revision())
            .max()
            .unwrap_or(0);
        let mut tags = [0; LEAF_KEYS];
        for (tag, history) in tags.iter_mut().zip(&histories) {
            *tag = tag_of(history.key());
        }
        Leaf {
            histories,
            tags,
            live,
            mod_revision_max,
        }
    }

    /// The place of `key`, if it has a history.
    ///
    /// Each look at a key costs up to four cache misses, so that a binary search would cost twenty. The tags lie
    /// beside each other: nearly always they leave the one key to look at, whose record is needed anyway.
    fn find(&self, key: &[u8]) -> Option<usize> {
        let tag = tag_of(key);
        let tags = &self.tags[..self.histories.len()];
        (0..tags.len()).find(|&index| tags[index] == tag && self.histories[index].key() == key)
    }

    fn remove_at(&mut self, index: usize) {
        self.histories.remove(index);
        self.tags.copy_within(index + 1.., index);
    }

    /// Takes the histories of the leaf to the right.
    fn append(&mut self, right: &Leaf) {
        let (middle, end) = (
            self.histories.len(),
            self.histories.len() + right.histories.len(),
        );
        self.histories.extend_from_slice(&right.histories);
        self.tags[middle..end].copy_from_slice(&right.tags[..end - middle]);
        self.live += right.live;
        self.mod_revision_max = self.mod_revision_max.max(right.mod_revision_max);
    }

    fn push_at(&mut self, index: usize, record: Record) {
        let history = &mut self.histories[index];
        self.live -= usize::from(!history.newest().is_tombstone());
        self.live += usize::from(!record.is_tombstone());
        self.mod_revision_max = self.mod_revision_max.max(record.mod_revision());
        history.push(record);
    }

    /// Inserts the first record of a key; returns the right part if the leaf had to be split.
    fn insert_or_split(&mut self, record: Record) -> Option<Leaf> {
        let index = self
            .histories
            .partition_point(|history| history.key() < record.key());
        if self.histories.len() < LEAF_KEYS {
            self.insert_at(index, record);
            return None;
        }
        let mut right = self.split_for(index);
        match index.checked_sub(self.histories.len()) {
            Some(index) => right.insert_at(index, record),
            None => self.insert_at(index, record),
        }
        Some(right)
    }

    fn insert_at(&mut self, index: usize, record: Record) {
        if self.histories.len() == self.histories.capacity() {
            self.histories.reserve_exact(LEAF_KEYS_STEP);
        }
        self.live += usize::from(!record.is_tombstone());
        self.mod_revision_max = self.mod_revision_max.max(record.mod_revision());
        self.tags
            .copy_within(index..self.histories.len(), index + 1);
        self.tags[index] = tag_of(record.key());
        self.histories.insert(index, History::One(record));
    }

    /// Splits a full leaf that is about to take a key at `index`; returns the right part.
    ///
    /// At its very end only the new key goes right, so that keys arriving in order fill their leaves.
    fn split_for(&mut self, index: usize) -> Leaf {
        let middle = if index == self.histories.len() {
            index
        } else {
            self.histories.len() / 2
        };
        let mut right = Vec::with_capacity(
            LEAF_KEYS_STEP * (1 + (self.histories.len() - middle) / LEAF_KEYS_STEP),
        );
        right.extend(self.histories.drain(middle..));
        let right = Leaf {
            mod_revision_max: self.mod_revision_max,
            ..Leaf::new(right)
        };
        self.live -= right.live;
        self.histories.shrink_to(self.histories.len() + 1);
        right
    }
}

impl Clone for Leaf {
    /// Leaves room for the key whose arrival may make the copy necessary.
    fn clone(&self) -> Self {
        let steps = 1 + self.histories.len() / LEAF_KEYS_STEP;
        let mut histories = Vec::with_capacity((steps * LEAF_KEYS_STEP).min(LEAF_KEYS));
        histories.extend_from_slice(&self.histories);
        Leaf { histories, ..*self }
    }
}

impl<'a> Run<'a> {
    /// How many keys of the run exist at revision `at`.
    pub fn live_at(&self, at: i64) -> usize {
        match self.whole {
            Some(leaf) if leaf.mod_revision_max <= at => leaf.live,
            _ => self
                .histories
                .iter()
                .filter(|history| history.live_at(at).is_some())
                .count(),
        }
    }
}

/// The iterator of [`Keyspace::runs`].
pub struct Runs<'a> {
    leaves: Option<
        Peekable<im::ordmap::RangedIter<'a, Key, Arc<Leaf>, im::shared_ptr::DefaultSharedPtr>>,
    >,
    range: KeyRange<'a>,
    at_first: bool,
}

impl<'a> Iterator for Runs<'a> {
    type Item = Run<'a>;

    fn next(&mut self) -> Option<Run<'a>> {
        let leaves = self.leaves.as_mut()?;
        let (_, leaf) = leaves.next()?;
        let histories = leaf.histories.as_slice();
        // Only the outer leaves can reach beyond the range; the keys of others need no look.
        let from = if self.at_first {
            histories.partition_point(|history| history.key() < self.range.start())
        } else {
            0
        };
        self.at_first = false;
        let to = match (self.range, leaves.peek()) {
            (KeyRange::From(_), _) | (KeyRange::Between(..), Some(_)) => histories.len(),
            (KeyRange::Between(_, end), None) => {
                histories.partition_point(|history| history.key() < end)
            }
            (KeyRange::One(key), _) => {
                from + usize::from(
                    histories
                        .get(from)
                        .is_some_and(|history| history.key() == key),
                )
            }
        };
        let whole = (from == 0 && to == histories.len()).then_some(&**leaf);
        Some(Run {
            histories: histories.get(from..to).unwrap_or(&[]),
            whole,
        })
    }
}

impl<'a> Run<'a> {
    /// The histories of the run, in key order.
    pub fn iter(&self) -> slice::Iter<'a, History> {
        self.histories.iter()
    }
}

/// A byte that tells most keys of a leaf apart.
fn tag_of(key: &[u8]) -> u8 {
    crc32c::crc32c(key).to_le_bytes()[0]
}

/// Keys of a full leaf: the copy of a leaf, which most puts cause, counts up a reference to each of them, each in a
/// cache line of its own, so that fewer are faster; more take less memory.
const LEAF_KEYS: usize = 16;
/// Leaves grow by this many keys.
const LEAF_KEYS_STEP: usize = 4;

#[cfg(test)]
mod tests;
