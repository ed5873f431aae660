//! Retained: the records that belong to the state, as opposed to those merely not yet swept.

use super::{Record, View};
use crate::key::KeyRange;

impl View {
    /// Every record no compaction may remove, by key and then by position.
    ///
    /// Equal on all members with equal revision and compact revision, however far their sweeps came.
    pub(crate) fn retained(&self) -> impl Iterator<Item = &Record> {
        let histories = self.keyspace.histories(KeyRange::ALL);
        histories.flat_map(|history| history.retained(self.compact_revision))
    }
}
