//! Where a leader transfer meets the member: wait until the target is close, hand over, answer when it leads.

use std::time::Duration;

use super::Member;
use crate::output::{Output, Refusal};
use crate::raft::following::Following;
use crate::transfer::TransferError;

/// Transfers that are not answered yet.
#[derive(Default)]
pub(super) struct Transfers {
    waiting: Vec<Transfer>,
    /// The term in which leadership was handed over: consensus takes no proposals in it any more.
    handed_over: Option<u64>,
    /// A member that has handed leadership over unasked does not do it again before this time.
    resigned_until: Duration,
}

struct Transfer {
    token: u64,
    to: u64,
    deadline: Duration,
}

impl Transfers {
    pub(super) fn alarm(&self) -> Option<Duration> {
        self.waiting.iter().map(|transfer| transfer.deadline).min()
    }

    /// Whether leadership was handed over in this term.
    pub(super) fn hands_over(&self, term: u64) -> bool {
        self.handed_over == Some(term)
    }

    /// All clients that wait for an answer.
    pub(super) fn take_clients(&mut self) -> Vec<u64> {
        let waiting = self.waiting.drain(..);
        waiting.map(|transfer| transfer.token).collect()
    }
}

impl Member {
    /// Takes a transfer in, or refuses it.
    pub(super) fn transfer_leader(&mut self, token: u64, to: u64) {
        let refusal = if self.published.leader != Some(self.id) {
            Some(TransferError::NotLeader)
        } else if !self.raft.voter_ids().any(|voter| voter == to) {
            Some(TransferError::BadTransferee)
        } else {
            None
        };
        if let Some(error) = refusal {
            return self.answer_transfer(token, Err(Refusal::Transfer(error)));
        }
        let deadline = self.now + self.settings.request_timeout;
        let transfer = Transfer {
            token,
            to,
            deadline,
        };
        self.transfers.waiting.push(transfer);
    }

    /// Hands leadership to whoever can take it soonest, if this member has it and anybody can.
    pub(super) fn step_down(&mut self, token: u64) {
        let leads = self.published.leader == Some(self.id);
        match self.successor().filter(|_| leads) {
            Some(to) => self.transfer_leader(token, to),
            None => self.answer_transfer(token, Ok(())),
        }
    }

    /// The other voter in touch that lacks least of the log; of several the one with the lowest id.
    fn successor(&self) -> Option<u64> {
        let following = Following::of(&self.raft, self.now, self.settings.election_timeout);
        let others = self.raft.voter_ids().filter(|id| *id != self.id);
        let others = others.filter(|id| following.active.contains(id));
        others
            .filter_map(|id| Some((*following.matched.get(&id)?, std::cmp::Reverse(id))))
            .max()
            .map(|(_, std::cmp::Reverse(id))| id)
    }

    /// Answers what has ended and hands over if it is time; tells whether it did. A corrupt leader does so unasked.
    pub(super) fn tend_transfers(&mut self) -> bool {
        if self.standing.is_corrupt() && self.resign() {
            return true;
        }
        if self.transfers.waiting.is_empty() {
            return false;
        }
        let (now, leader) = (self.now, self.published.leader);
        let waiting = &mut self.transfers.waiting;
        let arrived: Vec<Transfer> = waiting
            .extract_if(.., |transfer| leader == Some(transfer.to))
            .collect();
        let late: Vec<Transfer> = waiting
            .extract_if(.., |transfer| transfer.deadline <= now)
            .collect();
        for transfer in arrived {
            self.answer_transfer(transfer.token, Ok(()));
        }
        for transfer in late {
            self.answer_transfer(
                transfer.token,
                Err(Refusal::Transfer(TransferError::TooLong)),
            );
        }
        let last = self.transfers.waiting.last();
        last.map(|transfer| transfer.to)
            .is_some_and(|to| self.hand_over(to))
    }

    /// Hands leadership over unasked, and not again at once: the next one may be corrupt as well.
    fn resign(&mut self) -> bool {
        if self.transfers.resigned_until > self.now {
            return false;
        }
        let handed_over = self.successor().is_some_and(|to| self.hand_over(to));
        if handed_over {
            self.transfers.resigned_until = self.now + self.settings.election_timeout;
        }
        handed_over
    }

    /// Hands leadership over, once in a term: what is handed over cannot be taken back.
    fn hand_over(&mut self, to: u64) -> bool {
        let term = self.published.term;
        let leads = self.published.leader == Some(self.id);
        if !leads || self.transfers.hands_over(term) || !self.is_close(to) {
            return false;
        }
        self.transfers.handed_over = Some(term);
        let raft = self.raft.clone();
        drop(
            self.executor
                .spawn(async move { raft.trigger().transfer_leader(to).await }),
        );
        true
    }

    /// Whether a member is in touch and lacks little of the log.
    fn is_close(&self, id: u64) -> bool {
        let following = Following::of(&self.raft, self.now, self.settings.election_timeout);
        let index = |id| following.matched.get(&id).copied();
        let Some(at) = index(id) else {
            return false;
        };
        let gap = index(self.id).unwrap_or(at).saturating_sub(at);
        let too_far = self.log.last_beyond(self.settings.sizes.transfer_bytes);
        let is_light = self.log.holds(at + 1) && too_far.is_none_or(|far| far <= at);
        following.active.contains(&id) && gap <= self.settings.sizes.transfer_entries && is_light
    }

    fn answer_transfer(&mut self, token: u64, answer: Result<(), Refusal>) {
        self.outputs
            .push_back(Output::TransferAnswer { token, answer });
    }
}
