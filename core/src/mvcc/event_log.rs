//! Event log: which records each revision wrote, in order; what watch catch-up and compaction walk.

use std::sync::Arc;

use im::OrdMap;

use super::record::Record;

/// The records of every revision from the first kept to the newest; cloning is O(1).
///
/// Revisions are contiguous and each wrote at least one record, so a revision is found by arithmetic. Records are
/// shared with the histories. Full blocks live in a persistent map, the newest block beside it, so that an append
/// touches one block only; the front goes in whole blocks.
#[derive(Clone, Debug)]
pub struct EventLog {
    full: OrdMap<i64, Arc<[Written]>>,
    tail: Arc<Vec<Written>>,
    /// The revision of entry 0 of block 0, gone or not.
    origin: i64,
    /// The revision the next append gets.
    next: i64,
}

/// What one revision wrote.
#[derive(Clone, Debug)]
enum Written {
    One(Record),
    Many(Arc<Vec<Record>>),
}

impl EventLog {
    /// A log whose first revision will be `origin`.
    pub fn starting_at(origin: i64) -> Self {
        EventLog {
            full: OrdMap::new(),
            tail: Arc::default(),
            origin,
            next: origin,
        }
    }

    /// The revision after the newest.
    pub fn next_revision(&self) -> i64 {
        self.next
    }

    /// The oldest revision still present; [`EventLog::next_revision`] when there is none.
    pub fn first_revision(&self) -> i64 {
        let block = self
            .full
            .get_min()
            .map_or(self.block_of(self.next), |&(block, _)| block);
        self.origin + block * BLOCK_REVISIONS
    }

    /// The records written by `revision` in order; empty if it is not in the log.
    pub fn records(&self, revision: i64) -> &[Record] {
        if !(self.origin..self.next).contains(&revision) {
            return &[];
        }
        let block = self.block_of(revision);
        let written = match block == self.block_of(self.next) {
            true => Some(self.tail.as_slice()),
            false => self.full.get(&block).map(|block| &**block),
        };
        written.map_or(&[], |written| written[self.place_of(revision)].records())
    }

    /// Appends the records of the next revision; there must be at least one.
    pub fn push(&mut self, mut records: Vec<Record>) {
        assert!(!records.is_empty(), "every revision changes something");
        let at_next = |record: &Record| record.mod_revision() == self.next;
        assert!(records.iter().all(at_next), "revisions are contiguous");
        if records.len() == 1 {
            return self.push_one(records.swap_remove(0));
        }
        records.shrink_to_fit();
        self.append(Written::Many(Arc::new(records)));
    }

    /// Appends the only record of the next revision.
    pub fn push_one(&mut self, record: Record) {
        assert!(
            record.mod_revision() == self.next,
            "revisions are contiguous"
        );
        self.append(Written::One(record));
    }

    /// Frees one block that lies wholly below `revision`; answers whether there was one.
    pub fn drop_block_below(&mut self, revision: i64) -> bool {
        match self.full.get_min() {
            Some(&(block, _)) if self.origin + (block + 1) * BLOCK_REVISIONS <= revision => {
                self.full.remove(&block);
                true
            }
            _ => false,
        }
    }

    fn append(&mut self, written: Written) {
        if Arc::get_mut(&mut self.tail).is_none() {
            // A view shares the tail. Copy it with its final capacity: the next appends must not move it again.
            let mut tail = Vec::with_capacity(BLOCK);
            tail.extend_from_slice(&self.tail);
            self.tail = Arc::new(tail);
        }
        let tail = Arc::get_mut(&mut self.tail).expect("nobody shares a tail just made");
        tail.push(written);
        if tail.len() == BLOCK {
            let full: Arc<[Written]> = Arc::from(tail.as_slice());
            tail.clear();
            self.full.insert(self.block_of(self.next), full);
        }
        self.next += 1;
    }

    fn block_of(&self, revision: i64) -> i64 {
        (revision - self.origin) / BLOCK_REVISIONS
    }

    fn place_of(&self, revision: i64) -> usize {
        usize::try_from((revision - self.origin) % BLOCK_REVISIONS)
            .expect("a remainder of a positive number")
    }
}

impl Written {
    fn records(&self) -> &[Record] {
        match self {
            Written::One(record) => std::slice::from_ref(record),
            Written::Many(records) => records,
        }
    }
}

/// With its reference counts a full block is exactly 1 KiB.
const BLOCK: usize = 63;
const BLOCK_REVISIONS: i64 = BLOCK as i64;

#[cfg(test)]
mod tests {
    use super::super::record::RecordPacker;
    use super::*;

    fn records(revision: i64, count: u32) -> Vec<Record> {
        let mut packer = RecordPacker::default();
        (0..count)
            .map(|sub| packer.tombstone(b"k", (revision, sub)))
            .collect()
    }

    #[test]
    fn an_entry_is_two_words() {
        assert_eq!(size_of::<Written>(), 16);
    }

    #[test]
    fn every_revision_is_found_until_its_block_is_dropped() {
        let mut log = EventLog::starting_at(2);
        let mut early = log.clone();
        for revision in 2..500 {
            log.push(records(revision, 1 + (revision % 7 == 0) as u32));
            if revision == 100 {
                early = log.clone();
            }
        }
        while log.drop_block_below(300) {}
        assert_eq!(log.first_revision(), 2 + 4 * BLOCK_REVISIONS);
        for revision in 0..600 {
            let wanted = if (log.first_revision()..500).contains(&revision) {
                1 + usize::from(revision % 7 == 0)
            } else {
                0
            };
            assert_eq!(log.records(revision).len(), wanted, "{revision}");
            assert!(
                log.records(revision)
                    .iter()
                    .all(|record| record.mod_revision() == revision)
            );
        }
        assert_eq!(
            (early.first_revision(), early.next_revision()),
            (2, 101),
            "a clone is not affected"
        );
        assert_eq!(early.records(100).len(), 1);
        assert!(early.records(101).is_empty());
    }
}
