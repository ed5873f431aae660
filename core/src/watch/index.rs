//! Index: from a changed key to the watchers that want to know.

use std::collections::BTreeMap;

use super::intervals::{End, Intervals};
use crate::key::Key;

/// The keys a watcher watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: Key,
    /// None for exactly the start.
    pub(super) end: Option<End>,
}

impl Span {
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => self.start.as_bytes() == key,
            Some(end) => self.start.as_bytes() <= key && end.is_beyond(key),
        }
    }
}

/// All watchers by what they watch: those of one key apart from those of a range.
#[derive(Debug)]
pub(super) struct Index {
    keys: BTreeMap<Key, Vec<u32>>,
    ranges: Intervals,
}

impl Index {
    pub(super) fn new() -> Self {
        Index {
            keys: BTreeMap::new(),
            ranges: Intervals::new(),
        }
    }

    /// Files a watcher; the place it gets is needed to take it out again, and changes as [`Index::remove`] says.
    pub(super) fn insert(&mut self, span: &Span, watcher: u32) -> usize {
        let Some(end) = &span.end else {
            let watchers = self.keys.entry(span.start.clone()).or_default();
            watchers.push(watcher);
            return watchers.len() - 1;
        };
        self.ranges.insert(&span.start, end, watcher)
    }

    /// Takes a watcher out; answers the watcher that has its place from now on, if there is one.
    pub(super) fn remove(&mut self, span: &Span, place: usize) -> Option<u32> {
        let Some(end) = &span.end else {
            let watchers = self
                .keys
                .get_mut(&span.start)
                .expect("a watcher is filed under its key");
            watchers.swap_remove(place);
            let moved = watchers.get(place).copied();
            if watchers.is_empty() {
                self.keys.remove(&span.start);
            }
            return moved;
        };
        self.ranges.remove(&span.start, end, place)
    }

    /// Appends every watcher of `key` to `found`, in an order that depends only on the history of the index.
    pub(super) fn watching(&self, key: &[u8], found: &mut Vec<u32>) {
        if let Some(watchers) = self.keys.get(key) {
            found.extend_from_slice(watchers);
        }
        self.ranges
            .holding(key, &mut |watchers| found.extend_from_slice(watchers));
    }
}
