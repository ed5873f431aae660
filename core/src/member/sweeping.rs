//! What compactions gave up goes in slices, between other work.

use std::time::Duration;

use super::Member;
use crate::mvcc::Sweep;
use crate::output::Output;

/// Changes looked at in one slice of the sweep after a compaction.
const SWEEP_CHANGES: usize = 256;

/// The pause between two slices, a few times as long as a slice takes, so that a sweep never has a core for itself.
const SWEEP_PAUSE: Duration = Duration::from_micros(500);

impl Member {
    pub(super) fn sweep(&mut self) {
        match self.replica.borrow_mut().state.sweep(SWEEP_CHANGES) {
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
