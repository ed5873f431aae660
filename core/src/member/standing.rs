//! Whether this member may still take part: it may have been removed, or hold another state than the others.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Member;
use crate::input::Input;
use crate::output::{Output, Refusal};
use crate::pending::Asker;
use crate::plant::Plant;
use crate::raft::call::bid_farewell;
use crate::raft::following;
use crate::raft::machine::Mark;
use crate::raft::message::Body;
use crate::raft::network::{Reply, Request};

/// Marks sent in one comparison: a follower need not be at the newest yet.
const MARKS_COMPARED: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct Standing {
    /// It was removed and has stopped.
    removed: bool,
    /// Somebody said that it was removed.
    told: bool,
    /// Its state is not the leader's.
    corrupt: bool,
    /// The members that are known to have left.
    farewells: Arc<BTreeSet<u64>>,
    /// When this leader next sends marks to the others.
    compare_at: Option<Duration>,
    compared: Option<Mark>,
}

impl Standing {
    pub(super) fn new(removed: &Arc<BTreeSet<u64>>) -> Self {
        Self {
            farewells: Arc::clone(removed),
            ..Self::default()
        }
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed
    }

    pub(super) fn is_corrupt(&self) -> bool {
        self.corrupt
    }

    pub(super) fn alarm(&self) -> Option<Duration> {
        self.compare_at
    }

    /// A peer says that this member was removed, which is final.
    pub(super) fn tell_removed(&mut self) {
        self.told = true;
    }
}

impl Member {
    /// Looks who has left, this member among them, and compares states when it is time; tells whether anything is
    /// to be sent.
    pub(super) fn tend_standing(&mut self) -> bool {
        let removed = Arc::clone(self.replica.borrow().state.removed());
        let leads = following::leads(&self.raft);
        let mut sent = false;
        if removed.len() != self.standing.farewells.len() {
            let known = std::mem::replace(&mut self.standing.farewells, Arc::clone(&removed));
            for id in removed.difference(&known).filter(|id| **id != self.id) {
                if leads {
                    let patience = self.settings.election_timeout;
                    let outbox = Rc::clone(&self.outbox);
                    drop(self.executor.spawn(bid_farewell(outbox, *id, patience)));
                    sent = true;
                }
            }
        }
        // A leader that finds itself removed hands over first. One that is told by others, who do not follow it any
        // more, has nothing left to hand over.
        let removed = self.standing.told || removed.contains(&self.id) && !leads;
        let stays = self.settings.planted().is(Plant::RemovedStays);
        if removed && !self.standing.removed && !stays {
            self.leave();
        }
        self.send_marks(leads) || sent
    }

    /// Answers everybody who waits and takes no part from now on.
    fn leave(&mut self) {
        self.standing.removed = true;
        self.raft.runtime_config().elect(false);
        while let Some(pending) = self.pending.take_expired(Duration::MAX) {
            if let Asker::Client(token) = pending.asker {
                self.outputs.push_back(Output::Answer {
                    token,
                    answer: Err(Refusal::Stopped),
                });
            }
        }
        for (token, _) in std::mem::take(&mut self.until_swept) {
            self.outputs.push_back(Output::Answer {
                token,
                answer: Err(Refusal::Stopped),
            });
        }
        self.refuse_all_barriers(&Refusal::Stopped);
        self.refuse_all_asks(&Refusal::Stopped);
        for applicant in self.changes.take_applicants() {
            self.answer_change(applicant, Err(Refusal::Stopped));
        }
        self.leave_applications();
        for token in self.transfers.take_clients() {
            self.outputs.push_back(Output::TransferAnswer {
                token,
                answer: Err(Refusal::Stopped),
            });
        }
        self.outputs.push_back(Output::Removed);
    }

    /// Refuses what a member in bad standing does not do; gives back what it does.
    pub(super) fn sift(&mut self, input: Input) -> Option<Input> {
        let refusal = match (self.standing.removed, self.standing.corrupt) {
            (true, _) => Refusal::Stopped,
            (false, true) => Refusal::Corrupt,
            (false, false) => return Some(input),
        };
        match input {
            Input::Propose(proposals) => {
                for proposal in proposals {
                    self.outputs.push_back(Output::Answer {
                        token: proposal.token,
                        answer: Err(refusal.clone()),
                    });
                }
            }
            Input::Barrier { tokens } => self.refuse_barrier(tokens, refusal),
            input if !self.standing.removed => return Some(input),
            Input::AskLeases(queries) => {
                for query in queries {
                    self.outputs.push_back(Output::LeaseAnswer {
                        token: query.token,
                        answer: Err(Refusal::Stopped),
                    });
                }
            }
            Input::ChangeMembership { token, .. } => {
                self.outputs.push_back(Output::MembershipAnswer {
                    token,
                    answer: Err(Refusal::Stopped),
                });
            }
            Input::TransferLeader { token, .. } | Input::StepDown { token } => {
                self.outputs.push_back(Output::TransferAnswer {
                    token,
                    answer: Err(Refusal::Stopped),
                });
            }
            Input::Tick
            | Input::Peer { .. }
            | Input::PeerUnreachable { .. }
            | Input::Written { .. }
            | Input::Checkpointed { .. } => {}
        }
        None
    }

    fn refuse_barrier(&mut self, tokens: Vec<u64>, refusal: Refusal) {
        if !tokens.is_empty() {
            self.outputs.push_back(Output::BarrierPassed {
                tokens,
                result: Err(refusal),
            });
        }
    }

    /// Whether what this sender asks is refused because it was removed. The leader that this member follows hands over
    /// before it goes; when it asks to be elected again, it has been away and does not know.
    pub(super) fn is_stranger(&self, from: u64, body: &Body) -> bool {
        let asks_for_votes = matches!(body, Body::Request(Request::Vote(_) | Request::PreVote(_)));
        let follows = following::leader(&self.raft) == Some(from) && !asks_for_votes;
        let forgiven = asks_for_votes && self.settings.planted().is(Plant::VotesForStrangers);
        !follows && !forgiven && self.replica.borrow().state.removed().contains(&from)
    }

    /// Sends the newest marks of this leader's history to all others, from time to time.
    fn send_marks(&mut self, leads: bool) -> bool {
        let Some(interval) = self.settings.comparison_interval.filter(|_| leads) else {
            self.standing.compare_at = None;
            return false;
        };
        let due = *self.standing.compare_at.get_or_insert(self.now + interval);
        if due > self.now {
            return false;
        }
        self.standing.compare_at = Some(self.now + interval);
        let marks = self.replica.borrow().newest_marks(MARKS_COMPARED);
        let newest = marks.last().copied();
        if newest.is_none() || newest == self.standing.compared {
            return false;
        }
        self.standing.compared = newest;
        let others: Vec<u64> = self.published.members.iter().map(|m| m.id).collect();
        let mut outbox = self.outbox.borrow_mut();
        for to in others.into_iter().filter(|id| *id != self.id) {
            let (call, _reply) = outbox.call(to, Request::Compare(marks.clone()));
            // Nothing to wait for: who differs says so to its own.
            outbox.forget_call(call);
        }
        true
    }

    /// The leader's marks have come.
    pub(super) fn compare(&mut self, from: u64, marks: &[Mark]) {
        let trusted = self.published.leader == Some(from) && !self.standing.corrupt;
        let replica = self.replica.borrow();
        let wrong = marks.iter().find(|mark| replica.contradicts(**mark));
        if let Some(mark) = wrong.filter(|_| trusted) {
            let index = mark.index;
            drop(replica);
            self.standing.corrupt = true;
            self.outputs.push_back(Output::Corrupt { index });
            self.refuse_all_barriers(&Refusal::Corrupt);
        }
    }

    /// Tells the sender of a request that it was removed.
    pub(super) fn refuse_stranger(&mut self, to: u64, call: u64) {
        self.outbox.borrow_mut().reply(to, call, Reply::Removed);
    }
}
