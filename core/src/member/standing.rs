//! Whether this member may still take part: it may have been removed, or hold another state than the others
//! (`comparing.rs`).

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
use crate::raft::message::Body;
use crate::raft::network::{Reply, Request};

/// See the module.
#[derive(Default)]
pub(super) struct Standing {
    /// It was removed and has stopped.
    removed: bool,
    /// Somebody said that it was removed.
    told: bool,
    /// Its state is not that of the others.
    corrupt: bool,
    /// The members that are known to have left.
    farewells: Arc<BTreeSet<u64>>,
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

    pub(super) fn convict(&mut self, corrupt: bool) {
        self.corrupt = corrupt;
    }

    /// A peer says that this member was removed, which is final.
    pub(super) fn tell_removed(&mut self) {
        self.told = true;
    }
}

impl Member {
    /// Looks who has left, this member among them; tells whether anything is to be sent.
    pub(super) fn tend_standing(&mut self, leads: bool) -> bool {
        let removed = Arc::clone(self.replica.borrow().state.removed());
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
        sent
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
        for asker in self.changes.take_askers() {
            self.answer_change(asker, Err(Refusal::Stopped));
        }
        self.leave_forwarded_changes();
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

    /// Tells the sender of a request that it was removed.
    pub(super) fn refuse_stranger(&mut self, to: u64, call: u64) {
        self.outbox.borrow_mut().reply(to, call, Reply::Removed);
    }
}
