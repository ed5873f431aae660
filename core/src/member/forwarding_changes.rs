//! Changes of the membership that clients ask of a member that does not lead: it has the leader make them.
//!
//! A change goes out again only where a leader said that it did nothing about it. If the leader changes meanwhile, nobody
//! knows, and the client is told so; unlike a proposal's, its entry does not say who asked. What came of one is told when
//! this member's own state has got as far as the leader's then was, so that the members listed here are those after the
//! change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Member;
use super::forwarding::REFUSAL_PAUSE;
use super::publishing::list_members;
use super::reconfiguring::{CHANGES_MAX, ChangeAsker, Waiting};
use crate::membership::MembershipChange;
use crate::output::{MemberInfo, Output, Refusal};
use crate::raft::following;
use crate::raft::message::Forwarded;

/// Those that have no end yet, by the letters they went out in.
#[derive(Default)]
pub(super) struct ForwardedChanges {
    away: BTreeMap<u64, ForwardedChange>,
    /// None goes out again before this time.
    not_before: Duration,
}

struct ForwardedChange {
    waiting: Waiting,
    leader: u64,
    term: u64,
    /// What the leader said, and the index that its state had then.
    end: Option<(u64, Result<(), Refusal>)>,
}

impl ForwardedChanges {
    pub(super) fn len(&self) -> usize {
        self.away.len()
    }

    /// When the next client gives up, or what was refused may go out again.
    pub(super) fn alarm(&self, now: Duration) -> Option<Duration> {
        let deadlines = self.away.values().map(|it| it.waiting.deadline);
        let again = (self.not_before > now).then_some(self.not_before);
        deadlines.chain(again).min()
    }
}

impl Member {
    /// Sends to the leader what clients here ask for, and back what those of other members do.
    pub(super) fn forward_changes(&mut self) {
        let Some(leader) = self.published.leader else {
            return;
        };
        if self.forwarded_changes.not_before > self.now {
            return;
        }
        let term = self.published.term;
        for waiting in std::mem::take(&mut self.changes.waiting) {
            if let ChangeAsker::Peer { .. } = waiting.asker {
                let leader = Some(leader);
                self.answer_change(waiting.asker, Err(Refusal::NotLeader { leader }));
                continue;
            }
            let change = waiting.change.clone();
            let letter = self.forwards.number_letter();
            let forwarded = ForwardedChange {
                waiting,
                leader,
                term,
                end: None,
            };
            self.forwarded_changes.away.insert(letter, forwarded);
            self.send_forwarded(leader, letter, Forwarded::Change { term, change });
        }
    }

    /// Another member asks for one of its clients.
    pub(super) fn take_forwarded_change(
        &mut self,
        from: u64,
        letter: u64,
        term: u64,
        change: MembershipChange,
    ) {
        if !self.forwards.take_letter(from, letter) {
            return;
        }
        let asker = ChangeAsker::Peer {
            member: from,
            letter,
        };
        if let Some(refusal) = self.refusal_in(term) {
            return self.answer_change(asker, Err(refusal));
        }
        if self.changes.waiting.len() >= CHANGES_MAX {
            return self.answer_change(asker, Err(Refusal::TooManyRequests));
        }
        self.await_change(asker, change);
    }

    /// What came of one that was sent to the leader.
    pub(super) fn take_change_end(
        &mut self,
        from: u64,
        letter: u64,
        index: u64,
        result: Result<(), Refusal>,
    ) {
        let away = &mut self.forwarded_changes.away;
        let Some(change) = away.get_mut(&letter).filter(|it| it.leader == from) else {
            return;
        };
        if !matches!(result, Err(Refusal::NotLeader { .. })) {
            change.end.get_or_insert((index, result));
        } else if change.end.is_none()
            && let Some(change) = away.remove(&letter)
        {
            self.changes.waiting.push_back(change.waiting);
            self.forwarded_changes.not_before = self.now + REFUSAL_PAUSE;
        }
    }

    /// Answers what this member's own state has caught up with, what took too long, and what nobody can know.
    pub(super) fn finish_forwarded_changes(&mut self) {
        if self.forwarded_changes.away.is_empty() {
            return;
        }
        let (now, applied) = (self.now, self.published.applied);
        let newest = self.published.leader.map(|_| self.published.term);
        let over = |_: &u64, it: &mut ForwardedChange| match &it.end {
            Some((index, _)) => *index <= applied || it.waiting.deadline <= now,
            None => it.waiting.deadline <= now || newest.is_some_and(|term| term > it.term),
        };
        let ended: Vec<_> = self.forwarded_changes.away.extract_if(.., over).collect();
        for (_, change) in ended {
            let result = match change.end {
                Some((index, result)) if index <= applied => result,
                _ if change.waiting.deadline <= now => Err(self.timed_out()),
                _ => Err(Refusal::LeaderChanged),
            };
            self.answer_change(change.waiting.asker, result);
        }
    }

    /// This member was removed. Its own state may never get as far as the leader's, so whoever wanted this hears what the
    /// leader said at once; nobody else hears more.
    pub(super) fn leave_forwarded_changes(&mut self) {
        let leave = MembershipChange::Remove { id: self.id };
        for (_, change) in std::mem::take(&mut self.forwarded_changes.away) {
            let asker = change.waiting.asker;
            let ended = change.end.filter(|_| change.waiting.change == leave);
            let answer = match ended {
                Some((index, Ok(()))) => self.members_left_behind(index),
                Some((_, Err(refusal))) => Err(refusal),
                None => Err(Refusal::Stopped),
            };
            match (asker, answer) {
                (ChangeAsker::Client(token), answer @ Ok(_)) => self
                    .outputs
                    .push_back(Output::MembershipAnswer { token, answer }),
                (asker, answer) => self.answer_change(asker, answer.map(|_| ())),
            }
        }
    }

    /// The members without this one, if its log says who they are: the change itself takes it out, or its log goes as far
    /// as the leader's state did then. One that does not list this member may also be of a time before it was added.
    pub(super) fn members_left_behind(&self, index: u64) -> Result<Arc<[MemberInfo]>, Refusal> {
        let newest = following::newest_membership(&self.raft);
        let roster = newest.membership();
        let votes_to_the_end = roster
            .get_joint_config()
            .last()
            .is_some_and(|voters| voters.contains(&self.id));
        let leaves = roster.voter_ids().any(|voter| voter == self.id) && !votes_to_the_end;
        let is_listed = roster.get_node(&self.id).is_some();
        let covers = following::last_log_index(&self.raft) >= Some(index);
        if !leaves && (is_listed || !covers) {
            return Err(Refusal::Stopped);
        }
        let view = self.replica.borrow().state.view();
        let all = list_members(roster, &view.members).into_iter();
        Ok(all.filter(|member| member.id != self.id).collect())
    }
}
