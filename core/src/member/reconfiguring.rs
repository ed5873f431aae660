//! Where changes of the membership meet the member: one at a time, decided by the leader, answered when effective.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::publishing::list_members;
use super::{Member, Settings};
use crate::membership::{self, MembershipChange, MembershipError, Rules, Sight};
use crate::output::{Output, Refusal};
use crate::plant::Plant;
use crate::raft::following::{self, Following};
use crate::raft::message::Forwarded;
use crate::raft::reconfiguration::{Roster, Step, is_unfinished, joining};
use crate::raft::types::LogId;

/// Changes asked for, and the one under way.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) waiting: VecDeque<Waiting>,
    running: Option<Running>,
    /// The membership looked at last, and whether the leader has to do something about it by itself.
    seen: Option<(LogId, bool)>,
    result: Rc<RefCell<Option<Result<(), Refusal>>>>,
    /// After one that failed, the next begins no sooner: what failed may fail again at once.
    not_before: Duration,
}

/// Who asked for a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeAsker {
    /// Whoever handed this token in.
    Client(u64),
    /// A client of another member, which wrote this letter about it.
    Peer { member: u64, letter: u64 },
}

pub(super) struct Waiting {
    pub(super) asker: ChangeAsker,
    pub(super) change: MembershipChange,
    pub(super) deadline: Duration,
}

/// A change that consensus works on. It goes on when its client has given up.
struct Running {
    client: Option<(ChangeAsker, Duration)>,
}

/// Changes that may wait at once; more are refused at once rather than queued.
pub(super) const CHANGES_MAX: usize = 256;

/// The pause after a change that failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

impl Changes {
    /// When the next client gives up, what failed may be tried again, or at once when there is something to say.
    pub(super) fn alarm(&self, now: Duration) -> Option<Duration> {
        if self.result.borrow().is_some() {
            return Some(Duration::ZERO);
        }
        let running = self.running.as_ref().and_then(|running| running.client);
        let running = running.map(|(_, at)| at);
        let waiting = self.waiting.iter().map(|waiting| waiting.deadline);
        let again = (self.not_before > now).then_some(self.not_before);
        running.into_iter().chain(waiting).chain(again).min()
    }

    /// All who wait for an answer.
    pub(super) fn take_askers(&mut self) -> Vec<ChangeAsker> {
        let running = self.running.as_mut().and_then(|r| r.client.take());
        let waiting = self.waiting.drain(..).map(|waiting| waiting.asker);
        let running = running.map(|(asker, _)| asker).into_iter();
        running.chain(waiting).collect()
    }
}

impl Member {
    /// Takes a client's change in. Only the leader makes any; another member asks it to.
    pub(super) fn change_membership(&mut self, token: u64, change: MembershipChange) {
        let asker = ChangeAsker::Client(token);
        if self.changes.waiting.len() + self.forwarded_changes.len() >= CHANGES_MAX {
            return self.answer_change(asker, Err(Refusal::TooManyRequests));
        }
        self.await_change(asker, change);
    }

    /// A change waits for its turn.
    pub(super) fn await_change(&mut self, asker: ChangeAsker, change: MembershipChange) {
        let deadline = self.now + self.settings.request_timeout;
        self.changes.waiting.push_back(Waiting {
            asker,
            change,
            deadline,
        });
    }

    /// Answers what has ended and starts what may start; tells whether anything was started.
    pub(super) fn tend_membership(&mut self) -> bool {
        self.finish_change();
        self.give_up_changes();
        self.finish_forwarded_changes();
        if self
            .published
            .leader
            .is_some_and(|leader| leader != self.id)
        {
            self.forward_changes();
            return false;
        }
        if self.changes.running.is_some() || !self.changes_are_wanted() {
            return false;
        }
        // One that has taken itself out steps down soon, and must begin nothing else.
        let leads = self.published.leader == Some(self.id);
        let votes = self.raft.voter_ids().any(|voter| voter == self.id);
        if !leads || !votes || self.changes.not_before > self.now {
            return false;
        }
        if !following::membership_is_settled(&self.raft, &self.replica.borrow()) {
            return false;
        }
        let following = Following::of(&self.raft, self.now, self.settings.election_timeout);
        let membership = self.replica.borrow().membership.membership().clone();
        if let Some(step) = Step::unfinished(&membership) {
            self.start_change(step, None);
            return true;
        }
        self.start_next_change(&membership, &following)
            || self.admit_joining_member(&membership, &following)
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
        if result.is_err() {
            self.changes.not_before = self.now + FAILURE_PAUSE;
        }
        let client = self.changes.running.take().and_then(|r| r.client);
        if let Some((asker, _)) = client {
            self.answer_change(asker, result);
        }
    }

    fn give_up_changes(&mut self) {
        let now = self.now;
        let mut late = Vec::new();
        if let Some(running) = &mut self.changes.running {
            let client = running.client.take_if(|(_, at)| *at <= now);
            late.extend(client.map(|(asker, _)| asker));
        }
        let waiting = &mut self.changes.waiting;
        if waiting.iter().any(|it| it.deadline <= now) {
            let (over, rest) = waiting.drain(..).partition(|it| it.deadline <= now);
            *waiting = rest;
            let over: VecDeque<Waiting> = over;
            late.extend(over.into_iter().map(|it| it.asker));
        }
        for asker in late {
            self.answer_change(asker, Err(self.timed_out()));
        }
    }

    /// Answers whoever asked for a change: a client here with all members, another member with what it needs to know.
    pub(super) fn answer_change(&mut self, asker: ChangeAsker, result: Result<(), Refusal>) {
        match asker {
            ChangeAsker::Client(token) => {
                let answer = result.map(|()| Arc::clone(&self.published.agreed_members));
                self.outputs
                    .push_back(Output::MembershipAnswer { token, answer });
            }
            ChangeAsker::Peer { member, letter } => {
                let index = self.published.applied;
                let ended = Forwarded::Changed { index, result };
                self.send_forwarded(member, letter, ended);
            }
        }
    }

    /// Starts the first change that may be made, unless that has to wait for a member that joins.
    fn start_next_change(&mut self, membership: &Roster, following: &Following) -> bool {
        let voting = membership.voter_ids().collect();
        while let Some(waiting) = self.changes.waiting.pop_front() {
            let view = self.replica.borrow().state.view();
            let members = list_members(membership, &view.members);
            let sight = Sight {
                members: &members,
                voting: &voting,
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
                    self.answer_change(waiting.asker, Err(Refusal::Membership(error)));
                }
                _ if membership::must_wait(&waiting.change, &sight) => {
                    self.changes.waiting.push_front(waiting);
                    return false;
                }
                _ => {
                    let step = Step::of(waiting.change, membership);
                    self.start_change(step, Some((waiting.asker, waiting.deadline)));
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
            voting: &BTreeSet::new(),
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

    fn start_change(&mut self, step: Step, client: Option<(ChangeAsker, Duration)>) {
        self.changes.running = Some(Running { client });
        let (raft, result) = (self.raft.clone(), Rc::clone(&self.changes.result));
        drop(self.executor.spawn(async move {
            let ended = step.take(raft).await;
            *result.borrow_mut() = Some(ended);
        }));
    }
}

/// Whether a change is made that is not allowed, for a fault on purpose.
fn forgives(settings: &Settings, change: &MembershipChange, error: MembershipError) -> bool {
    let planted = settings.planted();
    match change {
        MembershipChange::Promote { .. } => {
            planted.is(Plant::PromotesEarly) && error == MembershipError::NotInSync
        }
        MembershipChange::Add { .. } => {
            planted.is(Plant::IdsReturn) && error == MembershipError::NotFound
        }
        _ => false,
    }
}
