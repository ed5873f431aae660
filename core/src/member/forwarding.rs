//! Clients' proposals on their way to whoever leads, and back.
//!
//! A client may ask any member. A proposal waits here until a leader is known, then goes into consensus here or to the
//! leader, once. The entry says who asked, and its outcome is the one that this member's own state gives, so that it never
//! travels and whoever reads here afterwards sees it. The leader only tells at which index it was applied, or that it
//! was not: a member that is given a snapshot instead of the entry then knows that it will not learn the outcome.
//!
//! *A proposal is never written twice.* It goes out again only if nothing came of it and nothing ever will. A leader says
//! so, if it appended nothing; only the life can say it that led in the letter's term, since an earlier life may have taken
//! the same letter. Otherwise the log does: a letter is good for the term of its leader alone, and of that term nothing is
//! committed any more that does not come before the first entry of a later one (raft §5.4). So once this member has
//! applied such an entry, having gone through the log, what has not ended by then never happened. If a snapshot came
//! instead of the entries, nobody knows, and the client is told so. A letter that arrives twice is taken once; one that
//! arrives late finds another term and is refused.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::Member;
use crate::command::{Command, Origin};
use crate::input::Proposal;
use crate::output::{Outcome, Output, Refusal};
use crate::pending::{self, Asker, Pending, Place};
use crate::plant::Plant;
use crate::raft::message::{Body, Forwarded, ForwardedEnd, PeerMessage};

/// What is on its way.
#[derive(Default)]
pub(super) struct Forwards {
    /// Proposals that wait for a leader, or for a leader to be ready.
    waiting: VecDeque<u64>,
    /// Not before this time is one of them tried, and how long the next pause is.
    try_at: Duration,
    pause: Duration,
    /// Proposals that leaders applied for clients of this member, by index, until its own state is there.
    ahead: BTreeMap<u64, Vec<u64>>,
    /// How many those are, ended ones among them.
    pub(super) ahead_count: usize,
    /// What came of other members' proposals, until this step's letters are written.
    ends: BTreeMap<u64, Vec<ForwardedEnd>>,
    /// The letters taken from each other member, by its lives, the newest last.
    taken: BTreeMap<u64, Vec<(u64, Taken)>>,
    /// The number of the next letter: the life of this member, and a count.
    next_letter: u64,
    /// The newest term in which a leader was seen.
    term: u64,
    /// The newest term of an entry that this member's state has come to.
    applied_term: u64,
    /// The log does not tell what came of proposals with smaller numbers: a snapshot came instead of some of it.
    untold_before: u64,
    /// The terms in which this life of the member led.
    led: BTreeSet<u64>,
}

/// Numbers of letters taken from one life of a member: all up to the floor count as taken. Lives follow each other in no
/// order of their numbers.
#[derive(Default)]
struct Taken {
    floor: u64,
    above: BTreeSet<u64>,
}

/// How a proposal ended.
pub(super) struct End {
    pub(super) asker: Asker,
    /// The entry it was, where it was applied.
    pub(super) index: u64,
    pub(super) result: Result<Outcome, Refusal>,
}

/// The first pause before a proposal that a leader was not ready for is tried again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// The pause after the answer that somebody else leads, before what is not a proposal is tried again.
pub(super) const REFUSAL_PAUSE: Duration = Duration::from_millis(20);

/// How many times the proposals that may be under way are applied before those are looked for that nobody waits for any
/// more.
const AHEAD_TIMES: usize = 4;

/// Terms remembered in which this member led.
const LED_MAX: usize = 64;

/// Lives of one member whose letters are remembered: a letter of an earlier one does not come any more.
const LIVES_MAX: usize = 16;

/// Numbers remembered beyond which a letter that comes late counts as one that came before.
const TAKEN_MAX: usize = 1024;

impl Forwards {
    pub(super) fn new(incarnation: u32) -> Self {
        Self {
            pause: PAUSE_MIN,
            next_letter: pending::first_number(incarnation) + 1,
            ..Self::default()
        }
    }

    /// A leader took something: it is ready.
    pub(super) fn leader_is_ready(&mut self) {
        self.pause = PAUSE_MIN;
    }

    /// The number of the next letter.
    pub(super) fn number_letter(&mut self) -> u64 {
        self.next_letter += 1;
        self.next_letter - 1
    }

    /// Takes a letter of another member; false if it was taken before.
    pub(super) fn take_letter(&mut self, from: u64, number: u64) -> bool {
        let life = pending::life_of(number);
        let lives = self.taken.entry(from).or_default();
        if let Some((_, taken)) = lives.iter_mut().find(|it| it.0 == life) {
            return taken.take(number);
        }
        if lives.len() == LIVES_MAX {
            lives.remove(0);
        }
        let mut taken = Taken::default();
        taken.take(number);
        lives.push((life, taken));
        true
    }

    /// A proposal waits for a leader.
    pub(super) fn wait(&mut self, number: u64) {
        self.waiting.push_back(number);
    }

    fn wait_again(&mut self, number: u64, now: Duration) {
        self.waiting.push_back(number);
        if self.try_at <= now {
            self.try_at = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

impl Taken {
    /// Takes a letter; false if it was taken before.
    fn take(&mut self, number: u64) -> bool {
        if number <= self.floor || !self.above.insert(number) {
            return false;
        }
        if self.above.len() > TAKEN_MAX {
            self.floor = self.above.pop_first().unwrap_or(self.floor);
        }
        true
    }
}

impl Member {
    pub(super) fn propose(&mut self, proposals: Vec<Proposal>) {
        let deadline = self.now + self.settings.request_timeout;
        for Proposal { token, command } in proposals {
            if self.pending.len() >= self.settings.sizes.proposals_max {
                self.outputs.push_back(Output::Answer {
                    token,
                    answer: Err(Refusal::TooManyRequests),
                });
                continue;
            }
            let number = self.pending.add(Pending {
                asker: Asker::Client(token),
                deadline,
                command,
                place: Place::Waiting,
            });
            self.forwards.wait(number);
        }
    }

    /// When proposals that wait can go somewhere.
    pub(super) fn forwards_alarm(&self) -> Option<Duration> {
        let may_go = !self.forwards.waiting.is_empty() && self.published.leader.is_some();
        may_go.then(|| self.forwards.try_at.max(self.now))
    }

    /// Sends proposals that wait to the leader, or into consensus if that is here.
    pub(super) fn route(&mut self) {
        if self.forwards_alarm().is_none_or(|at| at > self.now) {
            return;
        }
        let Some(leader) = self.published.leader else {
            return;
        };
        let term = self.published.term;
        let mut letter = Vec::new();
        let mut bytes = 0;
        for number in std::mem::take(&mut self.forwards.waiting) {
            let Some(pending) = self.pending.get_mut(number) else {
                continue;
            };
            let command = pending.command.clone();
            let here = leader == self.id;
            if let Asker::Peer { term: of, .. } = pending.asker
                && !(here && of == term)
            {
                let refused = Err(Refusal::NotLeader {
                    leader: Some(leader),
                });
                self.end_proposal(number, refused);
                continue;
            }
            if here {
                pending.place = Place::Here;
                self.executor
                    .enter(|| self.proposer.push(term, number, command));
                continue;
            }
            pending.place = Place::Sent {
                leader,
                term,
                letter: self.forwards.next_letter,
            };
            bytes += command.encoded_len();
            letter.push((number, command));
            if bytes >= self.settings.sizes.letter_bytes {
                self.send_proposals(leader, term, std::mem::take(&mut letter));
                bytes = 0;
            }
        }
        if !letter.is_empty() {
            self.send_proposals(leader, term, letter);
        }
    }

    fn send_proposals(&mut self, leader: u64, term: u64, proposals: Vec<(u64, Command)>) {
        let call = self.forwards.number_letter();
        self.send_forwarded(leader, call, Forwarded::Proposals { term, proposals });
    }

    pub(super) fn send_forwarded(&mut self, to: u64, call: u64, forwarded: Forwarded) {
        self.outputs.push_back(Output::Send {
            to,
            message: PeerMessage {
                call,
                body: Body::Forwarded(forwarded),
            },
        });
    }

    /// Consensus appended nothing: a client's proposal is tried again shortly, here or wherever the leader is then.
    /// Answers whether it is. With `peers_too`, so is one of another member's client.
    pub(super) fn try_again(&mut self, number: u64, peers_too: bool) -> bool {
        let Some(pending) = self.pending.get_mut(number) else {
            return false;
        };
        let again = match pending.asker {
            Asker::Client(_) => true,
            Asker::Peer { .. } => peers_too,
            Asker::Lessor(_) | Asker::Compactor => false,
        };
        if again {
            pending.place = Place::Waiting;
            self.forwards.wait_again(number, self.now);
        }
        again
    }

    /// Takes proposals of another member's clients, all or none.
    pub(super) fn take_proposals(
        &mut self,
        from: u64,
        call: u64,
        term: u64,
        proposals: Vec<(u64, Command)>,
    ) {
        let twice = self.settings.planted().is(Plant::TakesLettersTwice);
        if !self.forwards.take_letter(from, call) && !twice {
            return;
        }
        let refused = self.refusal_in(term);
        let deadline = self.now + self.settings.request_timeout;
        for (number, command) in proposals {
            let refusal = if let Some(refusal) = &refused {
                refusal.clone()
            } else if self.pending.len() >= self.settings.sizes.proposals_max {
                Refusal::TooManyRequests
            } else {
                let asker = Asker::Peer {
                    member: from,
                    term,
                    letter: call,
                    number,
                };
                let origin = Origin {
                    member: from,
                    number,
                };
                let command = command.asked_by(origin);
                let number = self.pending.add(Pending {
                    asker,
                    deadline,
                    command: command.clone(),
                    place: Place::Here,
                });
                self.executor
                    .enter(|| self.proposer.push(term, number, command));
                continue;
            };
            let end = ForwardedEnd {
                letter: call,
                number,
                index: 0,
                result: Err(refusal),
            };
            self.forwards.ends.entry(from).or_default().push(end);
        }
    }

    /// Why a letter for the leader of this term is refused here, if it is.
    pub(super) fn refusal_in(&self, term: u64) -> Option<Refusal> {
        let leader = self.published.leader;
        if leader == Some(self.id) && self.published.term == term {
            None
        } else if self.forwards.led.contains(&term) {
            Some(Refusal::NotLeader { leader })
        } else {
            Some(Refusal::LeaderChanged)
        }
    }

    /// What came of proposals that were sent to a leader.
    pub(super) fn take_ends(&mut self, from: u64, ends: Vec<ForwardedEnd>) {
        for ForwardedEnd {
            letter,
            number,
            index,
            result,
        } in ends
        {
            let place = self.pending.get(number).map(|pending| pending.place);
            let Some(Place::Sent {
                leader,
                term,
                letter: sent,
            }) = place
            else {
                continue;
            };
            if (leader, sent) != (from, letter) {
                continue;
            }
            match result {
                Err(Refusal::NotLeader { .. }) => {
                    self.try_again(number, false);
                }
                // It leads no more, and does not know what comes of this. The log tells, or has already.
                Err(Refusal::LeaderChanged) if term < self.forwards.applied_term => {
                    self.settle_proposal(number);
                }
                Err(Refusal::LeaderChanged) => {}
                Err(refusal) => {
                    self.forwards.leader_is_ready();
                    self.end_proposal(number, Err(refusal));
                }
                Ok(()) => {
                    self.forwards.leader_is_ready();
                    self.is_ahead(number, index);
                }
            }
        }
    }

    /// A leader applied a proposal as this entry.
    fn is_ahead(&mut self, number: u64, index: u64) {
        if let Some(pending) = self.pending.get_mut(number) {
            pending.place = Place::Ahead;
        }
        let forwards = &mut self.forwards;
        forwards.ahead.entry(index).or_default().push(number);
        forwards.ahead_count += 1;
        // A state may stand still for long, while its clients give up and others come.
        if forwards.ahead_count > AHEAD_TIMES * self.settings.sizes.proposals_max {
            forwards.ahead.retain(|_, numbers| {
                numbers.retain(|number| self.pending.get(*number).is_some());
                !numbers.is_empty()
            });
            forwards.ahead_count = forwards.ahead.values().map(Vec::len).sum();
        }
    }

    /// Ends what this member's own state has caught up with, and what nobody can know the end of any more.
    pub(super) fn finish_forwards(&mut self) {
        let applied = self.published.applied;
        while let Some(entry) = self.forwards.ahead.first_entry() {
            if *entry.key() > applied {
                break;
            }
            let numbers = entry.remove();
            self.forwards.ahead_count -= numbers.len();
            for number in numbers {
                // The entry itself would have ended it: it came in a snapshot, without its outcome.
                self.end_proposal(number, Err(Refusal::TimedOut));
            }
        }
        // What ended meanwhile, and without a leader everything does.
        while let Some(number) = self.forwards.waiting.front() {
            if self.pending.get(*number).is_some() {
                break;
            }
            self.forwards.waiting.pop_front();
        }
        let term = self.published.term;
        if self.published.leader == Some(self.id) && self.forwards.led.insert(term) {
            // Letters of older terms are as good as lost.
            while self.forwards.led.len() > LED_MAX {
                self.forwards.led.pop_first();
            }
        }
        if self.published.leader.is_some() && term > self.forwards.term {
            self.forwards.term = term;
            self.forwards.try_at = self.now;
        }
        self.settle_forwards();
    }

    /// Settles what was sent to leaders of earlier terms than that of an entry which this member has come to, and has not
    /// ended by that.
    fn settle_forwards(&mut self) {
        let (term, came_whole) = {
            let mut replica = self.replica.borrow_mut();
            let applied = replica.last_applied;
            let term = applied.map_or(0, |id| id.committed_leader_id().term);
            (term, std::mem::take(&mut replica.came_whole))
        };
        let term = match self.published.leader {
            Some(_) if self.settings.planted().is(Plant::TriesAgainEarly) => self.published.term,
            _ => term,
        };
        if came_whole {
            self.forwards.untold_before = self.pending.next_number();
        }
        if term <= self.forwards.applied_term {
            return;
        }
        self.forwards.applied_term = term;
        for number in self.pending.sent_before(term) {
            self.settle_proposal(number);
        }
    }

    /// Nothing came of a proposal before a later term began, as far as this member has seen the log.
    fn settle_proposal(&mut self, number: u64) {
        let is_told = number >= self.forwards.untold_before;
        if !(is_told && self.try_again(number, false)) {
            self.end_proposal(number, Err(Refusal::LeaderChanged));
        }
    }

    fn end_proposal(&mut self, number: u64, result: Result<Outcome, Refusal>) {
        if let Some(pending) = self.pending.remove(number) {
            self.answer(vec![End {
                asker: pending.asker,
                index: 0,
                result,
            }]);
        }
    }

    /// Remembers for the next letter what came of another member's proposal.
    pub(super) fn return_end(
        &mut self,
        member: u64,
        (letter, number): (u64, u64),
        index: u64,
        result: Result<(), Refusal>,
    ) {
        let ends = self.forwards.ends.entry(member).or_default();
        ends.push(ForwardedEnd {
            letter,
            number,
            index,
            result,
        });
    }

    /// Writes the letters with what came of other members' proposals.
    pub(super) fn send_ends(&mut self) {
        for (member, ends) in std::mem::take(&mut self.forwards.ends) {
            self.send_forwarded(member, 0, Forwarded::Ended(ends));
        }
    }
}
