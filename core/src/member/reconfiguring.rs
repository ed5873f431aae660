//! Where changes of the membership meet the member: one at a time, decided by the leader, answered when effective.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::publishing::list_members;
use super::{Member, Settings};
use crate::membership::{self, MembershipChange, MembershipError, Rules, Sight};
use crate::output::{MemberInfo, Output, Refusal};
use crate::raft::following::{self, Following};
use crate::raft::reconfiguration::{Roster, Step, is_unfinished, joining};
use crate::raft::types::LogId;

/// Changes asked for, and the one under way.
#[derive(Default)]
pub(super) struct Changes {
    waiting: VecDeque<Waiting>,
    running: Option<Running>,
    /// The membership looked at last, and whether the leader has to do something about it by itself.
    seen: Option<(LogId, bool)>,
    result: Rc<RefCell<Option<Result<(), Refusal>>>>,
    /// When the leader tries again what it does by itself; none unless it just failed.
    again_at: Option<Duration>,
}

struct Waiting {
    token: u64,
    change: MembershipChange,
    deadline: Duration,
}

/// A change that consensus works on. It goes on when its client has given up.
struct Running {
    client: Option<(u64, Duration)>,
}

impl Changes {
    /// When the next client gives up, or at once when there is something to say.
    pub(super) fn alarm(&self) -> Option<Duration> {
        if self.result.borrow().is_some() {
            return Some(Duration::ZERO);
        }
        let running = self.running.as_ref().and_then(|running| running.client);
        let waiting = self.waiting.front().map(|waiting| waiting.deadline);
        let deadlines = running.map(|(_, at)| at).into_iter().chain(waiting);
        deadlines.chain(self.again_at).min()
    }

    /// All clients that wait for an answer.
    pub(super) fn take_clients(&mut self) -> Vec<u64> {
        let running = self.running.as_mut().and_then(|r| r.client.take());
        let waiting = self.waiting.drain(..).map(|waiting| waiting.token);
        running
            .map(|(token, _)| token)
            .into_iter()
            .chain(waiting)
            .collect()
    }
}

impl Member {
    /// Takes a change in; only the leader makes any.
    pub(super) fn change_membership(&mut self, token: u64, change: MembershipChange) {
        let deadline = self.now + self.settings.request_timeout;
        self.changes.waiting.push_back(Waiting {
            token,
            change,
            deadline,
        });
    }

    /// Answers what has ended and starts what may start; tells whether anything was started.
    pub(super) fn tend_membership(&mut self) -> bool {
        let now = self.now;
        self.changes.again_at.take_if(|at| *at <= now);
        self.finish_change();
        self.give_up_changes();
        if self.changes.running.is_some() || !self.changes_are_wanted() {
            return false;
        }
        // One that has taken itself out steps down soon, and must begin nothing else.
        let leads = self.published.leader == Some(self.id);
        if !leads || !self.raft.voter_ids().any(|voter| voter == self.id) {
            self.refuse_changes();
            return false;
        }
        if !following::membership_is_settled(&self.raft, &self.replica.borrow()) {
            return false;
        }
        let following = Following::of(&self.raft, self.now, self.settings.election_timeout);
        let membership = self.replica.borrow().membership.membership().clone();
        let rests = self.changes.again_at.is_some();
        if let Some(step) = Step::unfinished(&membership) {
            if !rests {
                self.start_change(step, None);
            }
            return !rests;
        }
        self.start_next_change(&membership, &following)
            || !rests && self.admit_joining_member(&membership, &following)
    }

    /// Whether a client wants a change, or a membership is unfinished. This is asked in every turn.
    fn changes_are_wanted(&mut self) -> bool {
        let replica = self.replica.borrow();
        let Some(at) = *replica.membership.log_id() else {
            return !self.changes.waiting.is_empty();
        };
        let look = || {
            let roster = replica.membership.membership();
            (at, is_unfinished(roster))
        };
        let (_, unfinished) = *match &mut self.changes.seen {
            Some(seen) if seen.0 == at => seen,
            seen => seen.insert(look()),
        };
        unfinished || !self.changes.waiting.is_empty()
    }

    fn finish_change(&mut self) {
        let Some(result) = self.changes.result.borrow_mut().take() else {
            return;
        };
        let client = self.changes.running.take().and_then(|r| r.client);
        if client.is_none() && result.is_err() {
            // A leader that is cut off is refused at once, again and again.
            self.changes.again_at = Some(self.now + self.settings.heartbeat);
        }
        if let Some((token, _)) = client {
            let answer = result.map(|()| Arc::clone(&self.published.agreed_members));
            self.outputs
                .push_back(Output::MembershipAnswer { token, answer });
        }
    }

    fn give_up_changes(&mut self) {
        let now = self.now;
        let late = |at: Duration| at <= now;
        let mut tokens = Vec::new();
        if let Some(running) = &mut self.changes.running {
            tokens.extend(running.client.take_if(|(_, at)| late(*at)).map(|(t, _)| t));
        }
        while let Some(waiting) = self.changes.waiting.pop_front_if(|w| late(w.deadline)) {
            tokens.push(waiting.token);
        }
        for token in tokens {
            self.answer_change(token, Err(Refusal::TimedOut));
        }
    }

    fn refuse_changes(&mut self) {
        let leader = self.published.leader.filter(|leader| *leader != self.id);
        for token in self.changes.take_clients() {
            self.answer_change(token, Err(Refusal::NotLeader { leader }));
        }
    }

    fn answer_change(&mut self, token: u64, answer: Result<Arc<[MemberInfo]>, Refusal>) {
        self.outputs
            .push_back(Output::MembershipAnswer { token, answer });
    }

    fn start_next_change(&mut self, membership: &Roster, following: &Following) -> bool {
        while let Some(waiting) = self.changes.waiting.pop_front() {
            let view = self.replica.borrow().state.view();
            let members = list_members(membership, &view.members);
            let sight = Sight {
                members: &members,
                removed: &view.removed,
                matched: &following.matched,
                active: &following.active,
                leader: self.id,
            };
            let rules = Rules {
                learners_max: self.settings.learners_max,
                strict: self.settings.strict_reconfiguration,
            };
            match membership::check(&waiting.change, &sight, rules) {
                Err(error) if !forgives(&self.settings, &waiting.change, error) => {
                    self.answer_change(waiting.token, Err(Refusal::Membership(error)));
                }
                _ => {
                    let step = Step::of(waiting.change, membership);
                    self.start_change(step, Some((waiting.token, waiting.deadline)));
                    return true;
                }
            }
        }
        false
    }

    /// Makes a voter of a member that was added to vote and has caught up.
    fn admit_joining_member(&mut self, membership: &Roster, following: &Following) -> bool {
        let sight = Sight {
            members: &[],
            removed: &BTreeSet::new(),
            matched: &following.matched,
            active: &following.active,
            leader: self.id,
        };
        let ready = |id: &u64| following.active.contains(id) && sight.in_sync(*id);
        let Some(id) = joining(membership).find(ready) else {
            return false;
        };
        let step = Step::of(MembershipChange::Promote { id }, membership);
        self.start_change(step, None);
        true
    }

    fn start_change(&mut self, step: Step, client: Option<(u64, Duration)>) {
        self.changes.running = Some(Running { client });
        let (raft, result) = (self.raft.clone(), Rc::clone(&self.changes.result));
        drop(self.executor.spawn(async move {
            let ended = step.take(raft).await;
            *result.borrow_mut() = Some(ended);
        }));
    }
}

/// Whether a change is made that is not allowed, for a fault on purpose.
#[cfg(feature = "plant")]
fn forgives(settings: &Settings, change: &MembershipChange, error: MembershipError) -> bool {
    match change {
        MembershipChange::Promote { .. } => {
            settings.promotes_early && error == MembershipError::NotInSync
        }
        MembershipChange::Add { .. } => settings.ids_return && error == MembershipError::NotFound,
        _ => false,
    }
}

#[cfg(not(feature = "plant"))]
fn forgives(_: &Settings, _: &MembershipChange, _: MembershipError) -> bool {
    false
}
