//! What compactions gave up goes in slices, between other work.

use std::cell::RefCell;
use std::time::Duration;

use super::Member;
use crate::mvcc::Sweep;
use crate::output::Output;
use crate::raft::machine::Replica;

/// The pause between two slices, a few times as long as a slice takes, so that a sweep never has a core for itself.
const SWEEP_PAUSE: Duration = Duration::from_micros(500);

/// When a start has something to sweep: what a compaction gave up that consensus has replayed from the log is still there,
/// though the first view shows its boundary already.
pub(super) fn at_start(replica: &RefCell<Replica>, now: Duration) -> Option<Duration> {
    let swept = replica.borrow().state.kv().is_swept();
    (!swept).then_some(now)
}

impl Member {
    pub(super) fn sweep(&mut self) {
        let changes = self.settings.sizes.sweep_changes;
        match self.replica.borrow_mut().state.sweep(changes) {
            Sweep::More => self.sweep_at = Some(self.now + SWEEP_PAUSE),
            Sweep::Done => {
                self.sweep_at = None;
                let revision = self.published.view.compact_revision();
                self.outputs.push_back(Output::Compacted { revision });
                for (token, outcome) in self.until_swept.drain(..) {
                    self.outputs.push_back(Output::Answer {
                        token,
                        answer: Ok(outcome),
                    });
                }
            }
        }
    }
}
