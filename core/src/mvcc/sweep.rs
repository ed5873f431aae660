//! Sweep: the physical removal behind a compaction, a few keys at a time.

use super::history::Trim;
use super::{Store, Sweep};

/// How far the sweep came: the next change to pass, and the boundary it last finished.
///
/// The sweep passes every change from the last finished boundary (inclusive: a tombstone at it outlives it) to the
/// compact revision. When a key's last change at or below the boundary is passed, all that the compaction may
/// remove is gone. A boundary that moves meanwhile makes the walk longer: a change passed under the old boundary was
/// either its key's last and is done with, or has a later one still to be passed. Only the changes *at* the old
/// boundary outlived it, so if the walk has come to them, it goes back and passes them again.
#[derive(Clone, Copy, Debug)]
pub(super) struct SweepCursor {
    revision: i64,
    index: usize,
    /// The boundary that the walk is for.
    boundary: i64,
    /// The boundary up to which nothing is left to remove.
    finished: i64,
}

impl SweepCursor {
    pub(super) fn resting_at(compact_revision: i64) -> Self {
        SweepCursor {
            revision: compact_revision,
            index: 0,
            boundary: compact_revision,
            finished: compact_revision,
        }
    }

    /// Takes the boundary that the walk is for from now on.
    fn aim(&mut self, boundary: i64) {
        if self.boundary != boundary && self.revision >= self.boundary {
            (self.revision, self.index) = (self.boundary, 0);
        }
        self.boundary = boundary;
    }
}

impl Store {
    /// Whether all that compactions made unreadable is gone.
    pub fn is_swept(&self) -> bool {
        self.cursor.finished == self.view.compact_revision
    }

    /// Removes what compactions made unreadable, looking at no more than `keys_max` changes.
    ///
    /// Views taken before are not affected. Local: when and how often it is called changes no answer.
    pub fn sweep(&mut self, keys_max: usize) -> Sweep {
        let compact = self.view.compact_revision;
        if self.is_swept() {
            return Sweep::Done;
        }
        self.cursor.aim(compact);
        let mut left = keys_max.max(1);
        self.cursor.revision = self.cursor.revision.max(self.view.log.first_revision());
        while left > 0 && self.cursor.revision <= compact {
            let (revision, index) = (self.cursor.revision, self.cursor.index);
            left -= 1;
            match self.view.log.records(revision).get(index).cloned() {
                Some(record) => {
                    self.trim(record.key(), compact, revision);
                    self.cursor.index += 1;
                }
                None => {
                    self.cursor.revision += 1;
                    self.cursor.index = 0;
                    // Blocks of the log go as soon as both the walk and the boundary have left them behind.
                    self.view
                        .log
                        .drop_block_below(self.cursor.revision.min(compact));
                }
            }
        }
        if self.cursor.revision <= compact {
            return Sweep::More;
        }
        self.cursor = SweepCursor::resting_at(compact);
        Sweep::Done
    }

    fn trim(&mut self, key: &[u8], compact: i64, passing: i64) {
        // Editing copies the path to the key: look first whether there is anything to remove.
        if !self
            .view
            .keyspace
            .get(key)
            .is_some_and(|history| history.can_trim(compact, passing))
        {
            return;
        }
        let freed = self
            .view
            .keyspace
            .edit(key, |history| match history.trim(compact, passing) {
                Trim::Freed(bytes) => (true, bytes),
                Trim::Gone(bytes) => (false, bytes),
            });
        self.bytes_in_use -= freed.expect("the history was just found");
    }
}
