//! The log as consensus sees it: recent entries in memory, every change also told to the disk, in order.
//!
//! The disk's log and this one are cut independently. Consensus forgets entries that its in-memory
//! snapshot covers; the disk keeps all that its last *checkpoint* does not cover, because that is what a
//! restart replays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};

use super::outbox::SharedOutbox;
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::codec;
use crate::wal::Record;

/// The log: one writer (consensus), any number of readers (replication), all on the member's thread.
#[derive(Clone)]
pub struct LogStore {
    log: Rc<RefCell<Log>>,
    outbox: SharedOutbox,
    /// Bytes of entries that one read for a peer gives at most, and at least one entry.
    read_bytes: usize,
}

/// What a restart finds on the disk, and the log starts from.
#[derive(Debug, Default)]
pub struct RecoveredLog {
    /// The vote last made durable.
    pub vote: Option<Vote>,
    /// The commit position last noted; it may lag.
    pub committed: Option<LogId>,
    /// The position that the checkpoint covers; entries begin right after it.
    pub purged: Option<LogId>,
    /// The entries after it, contiguous.
    pub entries: Vec<Entry>,
}

impl LogStore {
    /// Bytes of the entries in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.log.borrow().bytes
    }

    /// The term of the newest vote that consensus has handed to the disk; 0 if there is none. A vote leaves this member
    /// only when it is durable, so no other has a vote of a later term from here.
    pub(crate) fn voted_term(&self) -> u64 {
        self.log.borrow().vote.map_or(0, |vote| vote.leader_id.term)
    }

    /// The entries in memory behind this one.
    pub(crate) fn entries_after(&self, index: u64) -> Vec<Entry> {
        let log = self.log.borrow();
        let stored = log.range(index + 1, u64::MAX);
        stored.map(|stored| stored.entry.clone()).collect()
    }

    /// Whether no entry is gone from this one on.
    pub(crate) fn holds(&self, index: u64) -> bool {
        self.log.borrow().first_index() <= index
    }

    /// Whether the entry at this position is in memory.
    pub(crate) fn contains(&self, id: LogId) -> bool {
        let log = self.log.borrow();
        let mut at = log.range(id.index(), id.index() + 1);
        at.next().is_some_and(|stored| stored.entry.log_id() == id)
    }

    /// The last entry that together with all newer ones has more than `bytes`; none if all fit.
    pub(crate) fn last_beyond(&self, bytes: usize) -> Option<u64> {
        let log = self.log.borrow();
        let mut room = bytes;
        for stored in log.entries.iter().rev() {
            if stored.bytes > room {
                return Some(stored.entry.index());
            }
            room -= stored.bytes;
        }
        None
    }
}

impl RecoveredLog {
    /// Makes the log follow its checkpoint, and answers what the disk must learn of it before anything is appended.
    ///
    /// A checkpoint is durable on its own. A crash may leave one that reaches beyond the end of the synced log: the
    /// state holds entries that others had synced, or came as a snapshot. The log then begins anew right after it.
    /// A second time there is nothing left to be done.
    pub(super) fn join(&mut self) -> Vec<Record> {
        let Some(purged) = self.purged else {
            return Vec::new();
        };
        let mut records = Vec::new();
        // Terms never fall along a log, so entries of an earlier term than the checkpoint's are not what followed it:
        // they were to be truncated when the snapshot came, and that was not synced.
        let conflict = |entry: &Entry| {
            entry.log_id().committed_leader_id().term < purged.committed_leader_id().term
        };
        if self.entries.first().is_some_and(conflict) {
            self.entries.clear();
            let index = purged.index() + 1;
            records.push(Record::TruncateFrom { index });
        }
        if self.entries.is_empty() {
            records.push(purge_record(purged));
        }
        records
    }

    /// Bytes of the entries, roughly.
    pub fn bytes(&self) -> u64 {
        self.entries
            .iter()
            .map(|entry| entry_bytes(entry) as u64)
            .sum()
    }
}

struct Log {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Contiguous; the first follows `purged`.
    entries: VecDeque<Stored>,
    /// Of all entries together.
    bytes: usize,
}

struct Stored {
    entry: Entry,
    bytes: usize,
}

impl LogStore {
    /// The log as a restart finds it; what the disk's log needs for a new beginning is written to the outbox.
    pub(crate) fn new(
        mut recovered: RecoveredLog,
        outbox: SharedOutbox,
        read_bytes: usize,
    ) -> Self {
        let records = recovered.join();
        if !records.is_empty() {
            outbox.borrow_mut().write_lazily(records);
        }
        let first = recovered.purged.as_ref().map_or(0, |id| id.index() + 1);
        let contiguous = (first..)
            .zip(&recovered.entries)
            .all(|(index, entry)| entry.index() == index);
        assert!(
            contiguous,
            "recovered entries are contiguous and follow the checkpoint"
        );
        let bytes = recovered.entries.iter().map(entry_bytes).sum();
        let entries = recovered.entries.into_iter().map(|entry| Stored {
            bytes: entry_bytes(&entry),
            entry,
        });
        let log = Log {
            vote: recovered.vote,
            committed: recovered.committed,
            purged: recovered.purged,
            entries: entries.collect(),
            bytes,
        };
        Self {
            log: Rc::new(RefCell::new(log)),
            outbox,
            read_bytes,
        }
    }
}

/// Slots for entries that a log keeps however few it has, a few megabytes.
const SLOTS_KEPT: usize = 1 << 16;

impl Log {
    /// After a start that replayed much, or once a follower has caught up, few of the slots are ever needed again.
    fn give_back_slots(&mut self) {
        let (used, there) = (self.entries.len(), self.entries.capacity());
        if there > SLOTS_KEPT && used < there / 4 {
            self.entries.shrink_to(SLOTS_KEPT.max(2 * used));
        }
    }

    fn first_index(&self) -> u64 {
        let after_purged = || self.purged.as_ref().map_or(0, |id| id.index() + 1);
        self.entries
            .front()
            .map_or_else(after_purged, |stored| stored.entry.index())
    }

    fn last_log_id(&self) -> Option<LogId> {
        self.entries
            .back()
            .map(|stored| stored.entry.log_id())
            .or(self.purged)
    }

    /// The entries with indexes in `[start, end)` that are here.
    fn range(&self, start: u64, end: u64) -> impl Iterator<Item = &Stored> {
        let first = self.first_index();
        let skip = usize::try_from(start.saturating_sub(first)).unwrap_or(usize::MAX);
        let take = usize::try_from(end.saturating_sub(start.max(first))).unwrap_or(usize::MAX);
        self.entries.iter().skip(skip).take(take)
    }
}

fn purge_record(log_id: LogId) -> Record {
    Record::Purge {
        index: log_id.index(),
        payload: codec::encode(&log_id),
    }
}

/// Roughly what an entry weighs in a message, without encoding it.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    const FRAME: usize = 32;
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => command.encoded_len() + FRAME,
        _ => FRAME,
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&last) => last + 1,
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        Ok(self
            .log
            .borrow()
            .range(start, end)
            .map(|stored| stored.entry.clone())
            .collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.borrow().vote)
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        let log = self.log.borrow();
        let mut room = self.read_bytes;
        let mut entries = Vec::new();
        for stored in log.range(start, end) {
            if !entries.is_empty() && stored.bytes > room {
                break;
            }
            room = room.saturating_sub(stored.bytes);
            entries.push(stored.entry.clone());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.log.borrow();
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: log.last_log_id(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.borrow_mut().vote = Some(*vote);
        let durable = self
            .outbox
            .borrow_mut()
            .write_awaited(vec![Record::Vote(codec::encode(vote))]);
        durable.await.unwrap_or_else(|_| {
            Err(io::Error::other(
                "the member stopped before its vote was durable",
            ))
        })
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.borrow_mut().committed = committed;
        if let Some(committed) = committed {
            self.outbox
                .borrow_mut()
                .write_lazily(vec![Record::Committed(codec::encode(&committed))]);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.borrow().committed)
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut log = self.log.borrow_mut();
        let mut records = Vec::new();
        for entry in entries {
            if let Some(last) = log.last_log_id() {
                assert_eq!(
                    entry.index(),
                    last.index() + 1,
                    "entries are appended without gaps"
                );
            }
            let payload = codec::encode(&entry);
            let bytes = payload.len();
            records.push(Record::Entry {
                index: entry.index(),
                payload,
            });
            log.bytes += bytes;
            log.entries.push_back(Stored { entry, bytes });
        }
        self.outbox.borrow_mut().write_flushed(records, callback);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let mut log = self.log.borrow_mut();
        let first = log.first_index();
        let keep = last_log_id.map_or(first, |id| id.index() + 1);
        assert!(
            keep >= first,
            "entries below the checkpoint are committed and never truncated"
        );
        let keep_entries = usize::try_from(keep - first).unwrap_or(usize::MAX);
        while log.entries.len() > keep_entries {
            log.bytes -= log.entries.pop_back().map_or(0, |stored| stored.bytes);
        }
        self.outbox
            .borrow_mut()
            .write_lazily(vec![Record::TruncateFrom { index: keep }]);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let mut log = self.log.borrow_mut();
        if log
            .purged
            .as_ref()
            .is_some_and(|purged| purged.index() >= log_id.index())
        {
            return Ok(());
        }
        let beyond_the_end = log
            .last_log_id()
            .is_none_or(|last| last.index() < log_id.index());
        while log
            .entries
            .front()
            .is_some_and(|stored| stored.entry.index() <= log_id.index())
        {
            log.bytes -= log.entries.pop_front().map_or(0, |stored| stored.bytes);
        }
        log.give_back_slots();
        log.purged = Some(log_id);
        // The disk learns of a purge only when the log restarts after an installed snapshot. Otherwise the
        // purged entries may still be needed: they are covered by a snapshot in memory, which a crash loses.
        if beyond_the_end {
            let record = purge_record(log_id);
            self.outbox.borrow_mut().write_lazily(vec![record]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
