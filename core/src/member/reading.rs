//! Reads that must see every write acknowledged before them, on any member (raft's read index, §6.4 of the raft
//! dissertation).
//!
//! All that wait share one *barrier*: the leader has the quorum confirm that it still leads (`confirming.rs`), and what it
//! had committed when it asked is the read index; who does not lead asks the leader for one. The barrier is passed when
//! this member's own state has got as far.
//!
//! A read index is good only for those that waited before it was asked for, and only as long as the leader that gave it
//! leads in the same term, as far as this member knows. Otherwise the barrier starts again, and so does one that took so
//! long that the process may have been paused. Whatever happens, everything that waits has its deadline.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use super::Member;
use super::confirming::Round;
use super::leasing::Ask;
use crate::output::{Output, Refusal};
use crate::pending;
use crate::plant::Plant;
use crate::raft::message::Forwarded;
use crate::raft::reception;

/// What waits for barriers.
pub(super) struct Barriers {
    /// Wait for the next barrier.
    waiting: Vec<Waiting>,
    /// Reads of clients here that have no answer yet.
    reads: usize,
    /// The one under way.
    pub(super) running: Option<Running>,
    /// Have a read index that the state has yet to reach.
    settling: VecDeque<Settling>,
    /// The last read index, and when it came.
    last: Option<(Sight, u64, Duration)>,
    /// The read indexes of barriers, by number: from consensus here, still to be confirmed, or from another member.
    given: Rc<RefCell<VecDeque<Given>>>,
    /// The number of the next barrier, greater than those of earlier lives.
    next: u64,
    /// After a failure the next barrier begins here, and the next failure pauses so long.
    not_before: Duration,
    pause: Duration,
}

/// The number of a barrier, and its read index.
type Given = (u64, Result<u64, Refusal>);

/// Something that waits, until its deadline.
struct Waiting {
    deadline: Duration,
    rider: Rider,
}

enum Rider {
    /// Reads of clients here, by their tokens.
    Reads(Vec<u64>),
    /// Another member's barrier of this number.
    Peer { member: u64, number: u64 },
    /// A question to the lessor: only a leader that the quorum still follows may answer.
    Ask(Ask),
}

pub(super) struct Running {
    pub(super) number: u64,
    pub(super) sight: Sight,
    begun: Duration,
    riders: Vec<Waiting>,
    /// The voters' confirmations, where this member leads and has an index.
    pub(super) round: Option<Round>,
    /// When to ask the leader once more, or the voters: letters may be lost.
    ask_at: Duration,
}

struct Settling {
    sight: Sight,
    index: u64,
    riders: Vec<Waiting>,
}

/// Who leads, as far as this member knows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Sight {
    term: u64,
    leader: u64,
}

/// The first pause after a barrier that failed, before the next, and the longest of several in a row.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(160);

/// The pause after a letter that is known to be lost, before the next.
const LOSS_PAUSE: Duration = Duration::from_millis(50);

/// How long the leader may take before it is asked once more.
pub(super) const ANSWER_PATIENCE: Duration = Duration::from_millis(500);

impl Sight {
    /// Whether it is this leader, in this term.
    pub(super) fn is(self, term: u64, leader: u64) -> bool {
        self == Self { term, leader }
    }
}

impl Barriers {
    pub(super) fn new(incarnation: u32) -> Self {
        Self {
            waiting: Vec::new(),
            reads: 0,
            running: None,
            settling: VecDeque::new(),
            last: None,
            given: Rc::default(),
            next: pending::first_number(incarnation) + 1,
            not_before: Duration::ZERO,
            pause: PAUSE_MIN,
        }
    }

    /// A question waits for the next barrier.
    pub(super) fn carry(&mut self, ask: Ask) {
        self.waiting.push(Waiting {
            deadline: ask.deadline,
            rider: Rider::Ask(ask),
        });
    }

    fn fail(&mut self, running: Running, now: Duration) {
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        self.start_again(running.riders);
    }

    /// What had a place in an earlier barrier goes before what waits for its first.
    fn start_again(&mut self, mut riders: Vec<Waiting>) {
        riders.append(&mut self.waiting);
        self.waiting = riders;
    }

    fn next_deadline(&self) -> Option<Duration> {
        let settling = self.settling.iter().flat_map(|it| &it.riders);
        let running = self.running.iter().flat_map(|it| &it.riders);
        let all = settling.chain(running).chain(&self.waiting);
        all.map(|waiting| waiting.deadline).min()
    }

    /// Takes out whatever has waited too long.
    fn take_late(&mut self, now: Duration) -> Vec<Rider> {
        if self.next_deadline().is_none_or(|deadline| deadline > now) {
            return Vec::new();
        }
        let settling = self.settling.iter_mut().map(|it| &mut it.riders);
        let running = self.running.iter_mut().map(|it| &mut it.riders);
        let mut late = Vec::new();
        for riders in settling.chain(running).chain([&mut self.waiting]) {
            late.extend(riders.extract_if(.., |waiting| waiting.deadline <= now));
        }
        self.settling.retain(|it| !it.riders.is_empty());
        self.running.take_if(|it| it.riders.is_empty());
        late.into_iter().map(|waiting| waiting.rider).collect()
    }
}

impl Member {
    pub(super) fn await_barrier(&mut self, mut tokens: Vec<u64>) {
        let room = self.settings.sizes.reads_max - self.barriers.reads;
        let beyond = tokens.split_off(tokens.len().min(room));
        if !beyond.is_empty() {
            self.outputs.push_back(Output::BarrierPassed {
                tokens: beyond,
                result: Err(Refusal::TooManyRequests),
            });
        }
        self.barriers.reads += tokens.len();
        self.barriers.waiting.push(Waiting {
            deadline: self.now + self.settings.request_timeout,
            rider: Rider::Reads(tokens),
        });
    }

    /// Another member asks for a read index. Its latest question is the only one it waits for.
    pub(super) fn serve_read_index(&mut self, member: u64, number: u64) {
        if self.published.leader != Some(self.id) {
            return self.send_forwarded(member, number, Forwarded::NoReadIndex);
        }
        let earlier =
            |it: &Waiting| matches!(it.rider, Rider::Peer { member: of, .. } if of == member);
        self.barriers.waiting.retain(|it| !earlier(it));
        self.barriers.waiting.push(Waiting {
            deadline: self.now + self.settings.request_timeout,
            rider: Rider::Peer { member, number },
        });
    }

    /// When barriers need attention next.
    pub(super) fn barriers_alarm(&self) -> Option<Duration> {
        let barriers = &self.barriers;
        let again = match &barriers.running {
            Some(running) => {
                let asked = running.sight.leader != self.id || running.round.is_some();
                asked.then_some(running.ask_at)
            }
            None if barriers.waiting.is_empty() || self.published.leader.is_none() => None,
            None => Some(barriers.not_before.max(self.now)),
        };
        again.into_iter().chain(barriers.next_deadline()).min()
    }

    /// Begins a barrier for all that wait, unless one is under way.
    pub(super) fn start_barrier(&mut self) {
        let now = self.now;
        if self.barriers.running.is_some() {
            return self.ask_once_more();
        }
        if self.barriers.waiting.is_empty() || self.barriers.not_before > now {
            return;
        }
        let Some(sight) = self.sight() else { return };
        let mut riders = std::mem::take(&mut self.barriers.waiting);
        let here = sight.leader == self.id;
        if !here {
            riders = self.send_away(riders);
            if riders.is_empty() {
                return;
            }
        }
        let number = self.barriers.next;
        self.barriers.next += 1;
        let running = Running {
            number,
            sight,
            begun: now,
            riders,
            round: None,
            ask_at: now + ANSWER_PATIENCE,
        };
        if let Some((index, at)) = self.kept_index(sight) {
            self.confirmed(running, index);
            self.barriers.last = Some((sight, index, at));
            return;
        }
        self.barriers.running = Some(running);
        if !here {
            return self.send_forwarded(sight.leader, number, Forwarded::AskReadIndex);
        }
        let (raft, given) = (self.raft.clone(), Rc::clone(&self.barriers.given));
        drop(self.executor.spawn(async move {
            let result = reception::read_index(&raft).await;
            given.borrow_mut().push_back((number, result));
        }));
    }

    fn ask_once_more(&mut self) {
        let due = |running: &mut Running| running.ask_at <= self.now;
        let Some(mut running) = self.barriers.running.take_if(due) else {
            return;
        };
        let Sight { leader, .. } = running.sight;
        if leader != self.id {
            running.ask_at = self.now + ANSWER_PATIENCE;
            self.send_forwarded(leader, running.number, Forwarded::AskReadIndex);
        } else if let Some(round) = running.round.take() {
            return self.have_confirmed(running, round);
        }
        self.barriers.running = Some(running);
    }

    /// Asks the voters that have yet to confirm, unless there is a quorum already.
    fn have_confirmed(&mut self, mut running: Running, round: Round) {
        let Sight { term, .. } = running.sight;
        if self.ask_voters(term, running.number, &round) {
            return self.confirmed(running, round.index);
        }
        running.ask_at = self.now + self.settings.heartbeat;
        running.round = Some(round);
        self.barriers.running = Some(running);
    }

    /// Only reads of clients here wait for the barrier of another member. All else is for a leader.
    fn send_away(&mut self, riders: Vec<Waiting>) -> Vec<Waiting> {
        let mut reads = Vec::new();
        for waiting in riders {
            match waiting.rider {
                Rider::Reads(_) => reads.push(waiting),
                Rider::Peer { member, number } => {
                    self.send_forwarded(member, number, Forwarded::NoReadIndex);
                }
                Rider::Ask(ask) => self.ask_elsewhere(ask),
            }
        }
        reads
    }

    /// A read index that is used again, and when it was confirmed, for a fault on purpose.
    fn kept_index(&self, sight: Sight) -> Option<(u64, Duration)> {
        let keeps = self.settings.planted().is(Plant::KeepsReadIndex);
        let (of, index, at) = self.barriers.last.filter(|_| keeps)?;
        let fresh = sight.leader == self.id || self.now < at + ANSWER_PATIENCE;
        (of == sight && fresh).then_some((index, at))
    }

    fn sight(&self) -> Option<Sight> {
        let term = self.published.term;
        let leader = self.published.leader?;
        Some(Sight { term, leader })
    }

    /// The leader of a term gives a read index, or whoever was asked has none.
    pub(super) fn take_read_index(&mut self, from: u64, number: u64, given: Option<(u64, u64)>) {
        let current = self.barriers.running.as_ref();
        let asked = current.is_some_and(|it| {
            it.number == number
                && it.sight.leader == from
                && given.is_none_or(|(term, _)| term == it.sight.term)
        });
        if !asked || from == self.id {
            return;
        }
        let nobody = Refusal::NotLeader { leader: None };
        let result = given.map(|(_, index)| index).ok_or(nobody);
        self.barriers.given.borrow_mut().push_back((number, result));
    }

    /// A question for a read index, or for a confirmation, may not have arrived.
    pub(super) fn question_lost(&mut self, number: u64) {
        let soon = self.now + LOSS_PAUSE;
        if let Some(running) = self.barriers.running.as_mut()
            && running.number == number
        {
            running.ask_at = running.ask_at.min(soon);
        }
    }

    /// Lets through whatever may pass.
    pub(super) fn finish_barriers(&mut self) {
        self.forsake_barriers();
        loop {
            let next = self.barriers.given.borrow_mut().pop_front();
            let Some((number, result)) = next else { break };
            let running = self.barriers.running.take_if(|it| it.number == number);
            match (running, result) {
                (None, _) => {}
                (Some(running), Ok(index)) if running.sight.leader == self.id => {
                    let round = self.new_round(running.sight.term, index);
                    self.have_confirmed(running, round);
                }
                (Some(running), Ok(index)) => self.confirmed(running, index),
                (Some(running), Err(Refusal::Stopped)) => {
                    for waiting in running.riders {
                        self.refuse_rider(waiting.rider, Refusal::Stopped);
                    }
                }
                (Some(running), Err(_)) => {
                    self.barriers.fail(running, self.now);
                }
            }
        }
        self.settle();
        for late in self.barriers.take_late(self.now) {
            self.refuse_rider(late, Refusal::TimedOut);
        }
    }

    /// Starts again what another leader, another term or a long pause has made void.
    fn forsake_barriers(&mut self) {
        let sight = self.sight();
        let oldest = self.now.saturating_sub(self.settings.election_timeout);
        let void = |it: &mut Running| Some(it.sight) != sight || it.begun < oldest;
        if let Some(running) = self.barriers.running.take_if(void) {
            self.barriers.start_again(running.riders);
        }
        if self
            .barriers
            .settling
            .iter()
            .any(|it| Some(it.sight) != sight)
        {
            let settling = std::mem::take(&mut self.barriers.settling);
            let riders = settling.into_iter().flat_map(|it| it.riders);
            let riders = riders.collect();
            self.barriers.start_again(riders);
        }
    }

    /// A read index is good, here and for whoever asked for it.
    pub(super) fn confirmed(&mut self, running: Running, index: u64) {
        self.barriers.pause = PAUSE_MIN;
        let Sight { term, .. } = running.sight;
        self.barriers.last = Some((running.sight, index, self.now));
        let mut riders = Vec::new();
        for waiting in running.riders {
            match waiting.rider {
                Rider::Peer { member, number } => {
                    let given = Forwarded::ReadIndex { term, index };
                    self.send_forwarded(member, number, given);
                }
                Rider::Reads(_) | Rider::Ask(_) => riders.push(waiting),
            }
        }
        self.barriers.settling.push_back(Settling {
            sight: running.sight,
            index,
            riders,
        });
    }

    fn settle(&mut self) {
        let applied = self.published.applied;
        let ready = |it: &mut Settling| it.index <= applied;
        while let Some(settled) = self.barriers.settling.pop_front_if(ready) {
            let mut passed = Vec::new();
            for waiting in settled.riders {
                match waiting.rider {
                    Rider::Reads(mut tokens) => passed.append(&mut tokens),
                    Rider::Ask(ask) => self.asks.ready.push(ask),
                    Rider::Peer { .. } => {}
                }
            }
            self.barriers.reads -= passed.len();
            if !passed.is_empty() {
                self.outputs.push_back(Output::BarrierPassed {
                    tokens: passed,
                    result: Ok(()),
                });
            }
        }
    }

    /// Refuses everything that waits for barriers.
    pub(super) fn refuse_all_barriers(&mut self, refusal: &Refusal) {
        let settling = std::mem::take(&mut self.barriers.settling).into_iter();
        let running = self.barriers.running.take().into_iter();
        let mut waiting = std::mem::take(&mut self.barriers.waiting);
        waiting.extend(settling.flat_map(|it| it.riders));
        waiting.extend(running.flat_map(|it| it.riders));
        for Waiting { rider, .. } in waiting {
            self.refuse_rider(rider, refusal.clone());
        }
    }

    fn refuse_rider(&mut self, rider: Rider, refusal: Refusal) {
        match rider {
            Rider::Reads(tokens) => {
                self.barriers.reads -= tokens.len();
                let result = Err(refusal);
                self.outputs
                    .push_back(Output::BarrierPassed { tokens, result });
            }
            // It has its own deadlines.
            Rider::Peer { .. } => {}
            Rider::Ask(ask) => self.answer_asker(ask.asker, Err(refusal)),
        }
    }
}
