//! The proposals that have no end yet, in the order of their deadlines.

use std::collections::VecDeque;
use std::time::Duration;

use crate::command::Command;
use crate::lease::lessor;

/// Who waits for the end of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    /// Whoever handed this token in.
    Client(u64),
    /// A client of another member, which knows the proposal by this number and sent it to the leader of this term.
    Peer {
        member: u64,
        term: u64,
        letter: u64,
        number: u64,
    },
    /// The lessor, for something it does by itself.
    Lessor(lessor::Act),
    /// The compactor.
    Compactor,
}

/// One proposal under way.
pub(crate) struct Pending {
    pub(crate) asker: Asker,
    pub(crate) deadline: Duration,
    /// Kept for another try where nothing was appended at the first.
    pub(crate) command: Command,
    pub(crate) place: Place,
}

/// Where a proposal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Waits for a leader.
    Waiting,
    /// In consensus on this member.
    Here,
    /// Sent to the leader of this term, in the letter with this number.
    Sent { leader: u64, term: u64, letter: u64 },
    /// Applied by the leader, at an index that this member's state has yet to reach.
    Ahead,
}

/// Where a life of a member begins to number its proposals, letters and questions: what a former one numbered is told
/// apart from them for 2^32 numbers.
pub(crate) fn first_number(incarnation: u32) -> u64 {
    u64::from(incarnation) << 32
}

/// The incarnation that gave this number.
pub(crate) fn life_of(number: u64) -> u64 {
    number >> 32
}

/// A ring over consecutive numbers: adding, finding and removing are O(1), and because every proposal gets
/// the same time, the oldest is the first to expire.
#[derive(Default)]
pub(crate) struct PendingProposals {
    first: u64,
    ring: VecDeque<Option<Pending>>,
    live: usize,
}

impl PendingProposals {
    /// The numbers of an earlier life must not come again: other members may still speak of them.
    pub(crate) fn new(incarnation: u32) -> Self {
        Self {
            first: first_number(incarnation),
            ..Self::default()
        }
    }

    /// Takes a proposal in and numbers it.
    pub(crate) fn add(&mut self, pending: Pending) -> u64 {
        let number = self.next_number();
        self.ring.push_back(Some(pending));
        self.live += 1;
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Pending> {
        self.ring.get(self.slot(number)?)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Pending> {
        let slot = self.slot(number)?;
        self.ring.get_mut(slot)?.as_mut()
    }

    /// The number that the next proposal gets: all so far have smaller ones.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Those that were sent to leaders of earlier terms. Looks at all.
    pub(crate) fn sent_before(&self, term: u64) -> Vec<u64> {
        let numbered = (self.first..).zip(&self.ring);
        let sent = numbered.filter(|(_, pending)| {
            let place = pending.as_ref().map(|pending| pending.place);
            matches!(place, Some(Place::Sent { term: sent, .. }) if sent < term)
        });
        sent.map(|(number, _)| number).collect()
    }

    /// Takes a proposal out; none if it has ended before.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Pending> {
        let slot = self.slot(number)?;
        let pending = self.ring.get_mut(slot)?.take()?;
        self.live -= 1;
        self.drop_ended();
        Some(pending)
    }

    /// Takes out one proposal whose deadline has come.
    pub(crate) fn take_expired(&mut self, now: Duration) -> Option<Pending> {
        match self.deadline() {
            Some(deadline) if deadline <= now => self.remove(self.first),
            _ => None,
        }
    }

    /// The deadline of the oldest.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.ring
            .front()
            .and_then(|front| front.as_ref())
            .map(|pending| pending.deadline)
    }

    pub(crate) fn len(&self) -> usize {
        self.live
    }

    fn slot(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    /// Keeps the front of the ring a live one.
    fn drop_ended(&mut self) {
        while matches!(self.ring.front(), Some(None)) {
            self.ring.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{MemberAttributes, Request};

    fn pending(token: u64, deadline_ms: u64) -> Pending {
        let command = Request::Publish(MemberAttributes::default()).into();
        Pending {
            asker: Asker::Client(token),
            deadline: Duration::from_millis(deadline_ms),
            command,
            place: Place::Waiting,
        }
    }

    #[test]
    fn proposals_end_in_any_order_and_only_once() {
        let mut all = PendingProposals::default();
        let numbers: Vec<u64> = (0..4).map(|i| all.add(pending(i, 10 + i))).collect();
        assert_eq!(
            all.remove(numbers[2]).map(|p| p.asker),
            Some(Asker::Client(2))
        );
        assert_eq!(
            all.remove(numbers[0]).map(|p| p.asker),
            Some(Asker::Client(0))
        );
        assert!(all.remove(numbers[2]).is_none());
        assert_eq!(all.len(), 2);
        assert_eq!(all.deadline(), Some(Duration::from_millis(11)));
        assert_eq!(all.add(pending(9, 20)), 4);
    }

    #[test]
    fn what_was_sent_in_an_earlier_term_is_found() {
        let mut all = PendingProposals::new(1);
        let numbers: Vec<u64> = (0..4).map(|i| all.add(pending(i, 10))).collect();
        for (number, term) in [(numbers[1], 4), (numbers[3], 5)] {
            let pending = all.get_mut(number).expect("it was added");
            let (leader, letter) = (2, 1);
            pending.place = Place::Sent {
                leader,
                term,
                letter,
            };
        }
        all.remove(numbers[0]);
        assert_eq!(all.sent_before(5), [numbers[1]]);
        assert!(numbers[0] > 0, "no number of an earlier life");
    }

    #[test]
    fn the_oldest_expires_first_and_not_before_its_time() {
        let mut all = PendingProposals::default();
        all.add(pending(1, 10));
        all.add(pending(2, 20));
        assert!(all.take_expired(Duration::from_millis(9)).is_none());
        assert_eq!(
            all.take_expired(Duration::from_millis(15)).map(|p| p.asker),
            Some(Asker::Client(1))
        );
        assert!(all.take_expired(Duration::from_millis(15)).is_none());
    }
}
