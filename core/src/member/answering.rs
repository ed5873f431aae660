//! How proposals end, and who is told.

use super::Member;
use super::forwarding::End;
use crate::output::{Outcome, Output, Refusal};
use crate::pending::{Asker, Pending};
use crate::raft::outbox::Ended;

impl Member {
    pub(super) fn collect_ended(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        loop {
            let next = self.outbox.borrow_mut().next_ended();
            let Some((number, ended)) = next else {
                return ends;
            };
            let (index, result) = match ended {
                // What the member does by itself is not tried again: it must keep its order.
                Ended::TooEarly if self.try_again(number, true) => continue,
                Ended::TooEarly => (0, Err(Refusal::NotLeader { leader: None })),
                Ended::Refused(Refusal::NotLeader { .. }) if self.try_again(number, false) => {
                    continue;
                }
                Ended::Refused(refusal) => (0, Err(refusal)),
                Ended::Applied(index, result) => {
                    self.forwards.leader_is_ready();
                    (index, result.map_err(Refusal::from))
                }
            };
            // A proposal that is not pending any more has been answered as timed out.
            if let Some(Pending { asker, .. }) = self.pending.remove(number) {
                ends.push(End {
                    asker,
                    index,
                    result,
                });
            }
        }
    }

    pub(super) fn answer(&mut self, ended: Vec<End>) {
        for End {
            asker,
            index,
            result: answer,
        } in ended
        {
            let token = match asker {
                Asker::Client(token) => token,
                Asker::Peer {
                    member,
                    letter,
                    number,
                    ..
                } => {
                    // What its state makes of the entry the other member finds out by itself.
                    let result = match index {
                        0 => answer.map(drop),
                        _ => Ok(()),
                    };
                    self.return_end(member, (letter, number), index, result);
                    continue;
                }
                Asker::Lessor(act) => {
                    self.asks.ended.push((act, answer.err()));
                    continue;
                }
                Asker::Compactor => {
                    self.compaction_ended(&answer);
                    continue;
                }
            };
            // One that came back from a leader may find the sweep here over.
            let sweeps = self.sweep_at.is_some();
            if sweeps && matches!(answer, Ok(Outcome::Compact { physical: true, .. })) {
                self.until_swept
                    .extend(answer.ok().map(|outcome| (token, outcome)));
                continue;
            }
            self.outputs.push_back(Output::Answer { token, answer });
        }
    }

    pub(super) fn expire(&mut self) {
        while let Some(pending) = self.pending.take_expired(self.now) {
            // Another member's client has a deadline there.
            if !matches!(pending.asker, Asker::Peer { .. }) {
                self.answer(vec![End {
                    asker: pending.asker,
                    index: 0,
                    result: Err(self.timed_out()),
                }]);
            }
        }
    }
}
