//! What applied commands changed, for watchers, leases and the quota.

use super::record::Record;

/// One key changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The new record, a tombstone for a delete. It knows its key and revision.
    pub record: Record,
    /// The value it replaced; `None` if the key did not exist.
    pub previous: Option<Record>,
}

/// The changes of the commands applied so far, in order; commands only append.
#[derive(Clone, Debug, Default)]
pub struct Changes(Vec<Change>);

impl Changes {
    /// No changes.
    pub fn new() -> Self {
        Changes::default()
    }

    /// Forgets all changes but keeps the room.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The changes in the order they were made.
    pub fn as_slice(&self) -> &[Change] {
        &self.0
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes in the order they were made.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.0.iter()
    }

    pub(crate) fn push(&mut self, change: Change) {
        self.0.push(change);
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
