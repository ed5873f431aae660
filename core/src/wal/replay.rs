//! Folding the records of a log, in order, into what a member must know when it starts.

use std::collections::VecDeque;
use std::fmt;

use super::record::RecordRef;

/// The fold. Feed it every record of every segment in order, then `finish`.
///
/// Entries that a checkpoint covers are counted but not copied.
#[derive(Debug)]
pub struct Replay {
    checkpoint: Option<u64>,
    /// The index the next entry must have; unknown until the first one.
    next_index: Option<u64>,
    replayed: Replayed,
}

/// What the log says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The last vote.
    pub vote: Option<Vec<u8>>,
    /// The last committed position that was written down; it may lag.
    pub committed: Option<Vec<u8>>,
    /// The last purged position: its index and its encoding.
    pub purged: Option<(u64, Vec<u8>)>,
    /// The entries after the checkpoint, contiguous: index and payload.
    pub entries: VecDeque<(u64, Vec<u8>)>,
    /// Whether the last life ended in good order, so that nothing can be missing at the end.
    pub closed_cleanly: bool,
}

/// Records that each make sense but not together. The log must not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayError {
    /// An entry does not follow the one before it.
    EntryOutOfOrder {
        /// The index that should come next.
        expected: u64,
        /// The index that does.
        found: u64,
    },
    /// The entries do not reach back to the checkpoint.
    EntriesMissing {
        /// The first index after the checkpoint.
        expected: u64,
        /// The first index in the log.
        found: u64,
    },
    /// The log was purged further than the newest usable checkpoint reaches.
    CheckpointMissing {
        /// The last purged index.
        purged: u64,
        /// The index of the checkpoint, if there is one.
        checkpoint: Option<u64>,
    },
    /// A purge to a lower index than one before it.
    PurgeWentBack {
        /// The index purged before.
        purged: u64,
        /// The lower one.
        found: u64,
    },
    /// Purged, hence committed, entries are declared void.
    TruncatesPurged {
        /// The last purged index.
        purged: u64,
        /// The first index that was to go.
        found: u64,
    },
    /// An index at the end of its range, which no honest log reaches.
    IndexOutOfRange,
}

impl Replay {
    /// A fold that keeps only entries after `checkpoint`, the last index that the newest usable checkpoint covers.
    /// Without a checkpoint the log must begin at index 0, the first there is.
    pub fn new(checkpoint: Option<u64>) -> Replay {
        Replay {
            checkpoint,
            next_index: None,
            replayed: Replayed::default(),
        }
    }

    /// Takes the next record.
    pub fn apply(&mut self, record: RecordRef<'_>) -> Result<(), ReplayError> {
        self.replayed.closed_cleanly = record == RecordRef::Closed;
        match record {
            RecordRef::Entry { index, payload } => self.entry(index, payload)?,
            RecordRef::Vote(payload) => self.replayed.vote = Some(payload.to_vec()),
            RecordRef::Committed(payload) => self.replayed.committed = Some(payload.to_vec()),
            RecordRef::TruncateFrom { index } => self.truncate_from(index)?,
            RecordRef::Purge { payload, index } => self.purge(index, payload)?,
            RecordRef::Opened | RecordRef::Closed => {}
        }
        Ok(())
    }

    /// What the log says, once it is whole: the entries begin right after the checkpoint, and the checkpoint reaches
    /// as far as the log was purged.
    pub fn finish(self) -> Result<Replayed, ReplayError> {
        let checkpoint = self.checkpoint;
        match self.replayed.purged {
            Some((purged, _)) if checkpoint.is_none_or(|checkpoint| purged > checkpoint) => {
                return Err(ReplayError::CheckpointMissing { purged, checkpoint });
            }
            _ => {}
        }
        let expected = checkpoint.map_or(Ok(0), after)?;
        match self.replayed.entries.front() {
            Some(&(found, _)) if found != expected => {
                Err(ReplayError::EntriesMissing { expected, found })
            }
            _ => Ok(self.replayed),
        }
    }

    fn entry(&mut self, index: u64, payload: &[u8]) -> Result<(), ReplayError> {
        match self.next_index {
            Some(expected) if expected != index => {
                return Err(ReplayError::EntryOutOfOrder {
                    expected,
                    found: index,
                });
            }
            _ => {}
        }
        self.next_index = Some(after(index)?);
        if self.checkpoint.is_none_or(|checkpoint| index > checkpoint) {
            self.replayed.entries.push_back((index, payload.to_vec()));
        }
        Ok(())
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), ReplayError> {
        match self.replayed.purged {
            Some((purged, _)) if index <= purged => {
                return Err(ReplayError::TruncatesPurged {
                    purged,
                    found: index,
                });
            }
            _ => {}
        }
        // An entry that was in a segment long removed may be what is truncated here; then `next_index` is unknown.
        self.next_index = Some(self.next_index.map_or(index, |known| known.min(index)));
        while self
            .replayed
            .entries
            .back()
            .is_some_and(|&(last, _)| last >= index)
        {
            self.replayed.entries.pop_back();
        }
        Ok(())
    }

    fn purge(&mut self, index: u64, payload: &[u8]) -> Result<(), ReplayError> {
        match self.replayed.purged {
            Some((purged, _)) if index < purged => {
                return Err(ReplayError::PurgeWentBack {
                    purged,
                    found: index,
                });
            }
            _ => {}
        }
        let next = after(index)?;
        // Unknown stays unknown: at the head of the oldest segment the purge is a repetition, and the segments removed
        // since may have held entries beyond it.
        self.next_index = self.next_index.map(|known| known.max(next));
        self.replayed.purged = Some((index, payload.to_vec()));
        while self
            .replayed
            .entries
            .front()
            .is_some_and(|&(first, _)| first <= index)
        {
            self.replayed.entries.pop_front();
        }
        Ok(())
    }
}

fn after(index: u64) -> Result<u64, ReplayError> {
    index.checked_add(1).ok_or(ReplayError::IndexOutOfRange)
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::EntryOutOfOrder { expected, found } => {
                write!(
                    f,
                    "entry {found} stands where entry {expected} should; {REPLACE}"
                )
            }
            ReplayError::EntriesMissing { expected, found } => {
                write!(
                    f,
                    "the log begins at entry {found} but entry {expected} is needed; {REPLACE}"
                )
            }
            ReplayError::CheckpointMissing { purged, checkpoint } => {
                write!(f, "the log was purged up to entry {purged} but ")?;
                match checkpoint {
                    Some(index) => write!(f, "the newest usable checkpoint ends at entry {index}")?,
                    None => f.write_str("there is no usable checkpoint")?,
                }
                write!(f, "; put the missing checkpoint file back, or {REPLACE}")
            }
            ReplayError::PurgeWentBack { purged, found } => {
                write!(
                    f,
                    "the log was purged up to entry {purged} and then only up to entry {found}; {REPLACE}"
                )
            }
            ReplayError::TruncatesPurged { purged, found } => {
                write!(
                    f,
                    "entries after {found} are declared void although those up to {purged} are committed; {REPLACE}"
                )
            }
            ReplayError::IndexOutOfRange => {
                write!(f, "an entry's index is out of range; {REPLACE}")
            }
        }
    }
}

impl std::error::Error for ReplayError {}

const REPLACE: &str =
    "remove this member from the cluster and add it anew, or restore it from a backup";
