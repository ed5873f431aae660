//! When a member writes its state to the disk, and what follows when it is there.

use super::Member;
use crate::output::{DiskOp, Output};

/// When to write the state to the disk.
#[derive(Default)]
pub(super) struct Checkpoints {
    /// The index of the one under way that this member takes by itself.
    running: Option<u64>,
    /// What the log holds beyond the last one.
    log_bytes: u64,
    /// The entry that the last one covers.
    covered: u64,
    /// The length of its file.
    last_bytes: u64,
}

impl Checkpoints {
    /// So much log lies after the checkpoint that covers this entry.
    pub(super) fn new(log_bytes: u64, covered: u64) -> Self {
        Self {
            log_bytes,
            covered,
            ..Self::default()
        }
    }

    /// The log has grown.
    pub(super) fn log_grows(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }
}

impl Member {
    pub(super) fn checkpointed(&mut self, index: u64, result: Result<u64, String>) {
        self.checkpoints.running.take_if(|at| *at == index);
        let confirmed = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.executor.enter(|| {
            self.outbox
                .borrow_mut()
                .confirm_checkpoint(index, &confirmed)
        });
        if let Ok(bytes) = result {
            self.checkpoints.last_bytes = bytes;
            self.checkpoints.covered = self.checkpoints.covered.max(index);
            self.outputs
                .push_back(Output::Disk(DiskOp::DropCovered { index }));
        }
    }

    pub(super) fn consider_checkpoint(&mut self) {
        let checkpoints = &self.checkpoints;
        let entries = self.published.applied.saturating_sub(checkpoints.covered);
        let bytes_due = self
            .settings
            .checkpoint_log_bytes
            .max(checkpoints.last_bytes / 2);
        let due = checkpoints.log_bytes >= bytes_due
            || self
                .settings
                .checkpoint_entries
                .is_some_and(|due| entries >= due);
        // A snapshot that is being installed is a checkpoint, and a newer one.
        if checkpoints.running.is_some() || !due || self.outbox.borrow().awaits_checkpoint() {
            return;
        }
        // The disk may have a state that this member's own is still behind.
        if entries == 0 {
            return;
        }
        if let Some(checkpoint) = self.replica.borrow().checkpoint() {
            self.checkpoints.running = Some(checkpoint.index);
            self.checkpoints.log_bytes = 0;
            self.checkpoints.covered = checkpoint.index;
            self.outputs
                .push_back(Output::Disk(DiskOp::Checkpoint(checkpoint)));
        }
    }
}
