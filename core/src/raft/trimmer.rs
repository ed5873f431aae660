//! Keeps the log in memory short: what no follower in touch needs goes, and after a number of bytes all else, too.
//!
//! Consensus makes a snapshot in memory every so many entries, which costs a copied root; what it covers may go. A few
//! thousand transactions of the largest size would be gigabytes, so snapshots are made by bytes as well. The log on
//! the disk is not touched.

use super::executor::Executor;
use super::log_store::LogStore;
use super::retention::SharedRetention;
use super::types::{Entry, Raft};
use crate::member::{Settings, Sizes};

/// Watches the log's size and asks consensus to forget.
pub(crate) struct Trimmer {
    log: LogStore,
    retention: SharedRetention,
    /// Entries kept behind a snapshot, for followers that are not in touch for a moment.
    entries_kept: u64,
    sizes: Sizes,
    /// The index a snapshot was asked for at, until it is there.
    asked: Option<u64>,
    /// Bytes at which the next snapshot is asked for.
    bytes_due: usize,
    /// What should go, up to here.
    wanted: u64,
    /// Whether bytes are the reason.
    pressed: bool,
    /// What consensus was told to forget, up to here.
    cut: u64,
}

/// What there is to know for a trim.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sight {
    /// The index that the state has reached.
    pub(crate) applied: u64,
    /// The index that the newest snapshot in memory has reached.
    pub(crate) snapshot: Option<u64>,
    /// The last entry that all followers in touch have; none when nobody follows.
    pub(crate) followed: Option<u64>,
    /// Bytes that the state takes, roughly.
    pub(crate) state_bytes: u64,
}

impl Trimmer {
    pub(crate) fn new(log: LogStore, retention: SharedRetention, settings: &Settings) -> Self {
        let sizes = settings.sizes;
        Self {
            log,
            retention,
            entries_kept: settings.catch_up_entries,
            sizes,
            asked: None,
            bytes_due: sizes.log_bytes_max,
            wanted: 0,
            pressed: false,
            cut: 0,
        }
    }

    /// The entries in memory behind this one.
    pub(crate) fn entries_after(&self, index: u64) -> Vec<Entry> {
        self.log.entries_after(index)
    }

    /// Bytes of the entries in memory, roughly.
    pub(crate) fn log_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// Looks once, and starts what is due.
    pub(crate) fn look(&mut self, executor: &Executor, raft: &Raft, sight: Sight) {
        self.look_at_bytes(executor, raft, sight);
        if let Some(snapshot) = sight.snapshot {
            self.wanted = self.wanted.max(snapshot.saturating_sub(self.entries_kept));
        }
        let (to, is_needed) = self.reach(sight);
        let due = to >= self.cut + self.sizes.trim_entries || (self.pressed && to > self.cut);
        if !due {
            return;
        }
        self.cut = to;
        if is_needed {
            // Only now: who is not waited for any more while the log stays is sent the same again and again.
            self.retention.borrow_mut().give_up(to);
        }
        if to == self.wanted {
            self.pressed = false;
            self.bytes_due = self.sizes.log_bytes_max;
        }
        let raft = raft.clone();
        drop(executor.spawn(async move { raft.trigger().purge_log(to).await }));
    }

    /// Has a snapshot made when there are too many bytes, and then wants all but a few of them gone.
    fn look_at_bytes(&mut self, executor: &Executor, raft: &Raft, sight: Sight) {
        match self.asked {
            None if self.log.bytes() > self.bytes_due => {
                self.asked = Some(sight.applied);
                let raft = raft.clone();
                drop(executor.spawn(async move { raft.trigger().snapshot().await }));
            }
            Some(asked) if sight.snapshot.is_some_and(|snapshot| snapshot >= asked) => {
                self.asked = None;
                self.bytes_due = self.log.bytes() + self.sizes.log_bytes_step;
                if let Some(last) = self.log.last_beyond(self.sizes.log_bytes_kept) {
                    self.wanted = self.wanted.max(last.min(asked));
                    self.pressed = true;
                }
            }
            _ => {}
        }
    }

    /// How far the log may go at present, and whether somebody still needs what goes: followers in touch and those who are
    /// sent a snapshot hold it back, unless it has grown to a quarter of the state.
    fn reach(&self, sight: Sight) -> (u64, bool) {
        let held = [sight.followed, self.retention.borrow().oldest_snapshot()];
        let Some(held) = held.into_iter().flatten().min() else {
            return (self.wanted, false);
        };
        let state_bytes = usize::try_from(sight.state_bytes).unwrap_or(usize::MAX);
        if self.log.bytes() > self.sizes.log_bytes_held_max.max(state_bytes / 4) {
            return (self.wanted, true);
        }
        (self.wanted.min(held), false)
    }
}
