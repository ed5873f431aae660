//! Where the lessor meets the member: questions in, proposals through the log, answers out.
//!
//! Only the leader's lessor counts, so a question asked elsewhere goes there, as often as it takes until it is answered
//! or its time is over: asking twice does no harm. On the leader it joins the read barrier, so that an answer comes from
//! a leader that the quorum still followed after the question was asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use metastore_proto::etcdserverpb::LeaseRevokeRequest;

use super::Member;
use super::forwarding::REFUSAL_PAUSE;
use super::reading::ANSWER_PATIENCE;
use crate::command::Request;
use crate::lease::lessor::{Act, Waiting};
use crate::lease::{Keys, LeaseAnswer, LeaseAsker, LeaseQuery, LeaseQuestion, LeaseStatus};
use crate::output::{Output, Refusal};
use crate::pending::{self, Asker};
use crate::plant::Plant;
use crate::raft::message::{Forwarded, LeaseAnswers};

/// Questions to the lessor on their way to an answer, and its proposals on their way back.
#[derive(Default)]
pub(super) struct Asks {
    /// May be answered.
    pub(super) ready: Vec<Ask>,
    /// For the lessor of another member, by number.
    away: BTreeMap<u64, Away>,
    /// The deadlines of those.
    deadlines: BTreeSet<(Duration, u64)>,
    next_number: u64,
    /// When to look at those next.
    look_at: Option<Duration>,
    /// The term and the leader at the last look.
    seen: (u64, Option<u64>),
    /// Answers for other members, until this step's letters are written.
    returns: BTreeMap<u64, LeaseAnswers>,
    /// What came of the lessor's proposals, since it was last told; none where they were applied.
    pub(super) ended: Vec<(Act, Option<Refusal>)>,
}

/// A question.
pub(super) struct Ask {
    pub(super) asker: LeaseAsker,
    pub(super) question: LeaseQuestion,
    pub(super) deadline: Duration,
}

/// A question that another member has to answer.
struct Away {
    ask: Ask,
    /// When to ask it, the first time or once more.
    ask_at: Duration,
}

/// A renewal that the lessor hands out again.
fn renewal((id, Waiting { asker, deadline }): (i64, Waiting)) -> Ask {
    Ask {
        asker,
        question: LeaseQuestion::Renew(id),
        deadline,
    }
}

impl Asks {
    /// The numbers of an earlier life must not come again: other members may still speak of them.
    pub(super) fn new(incarnation: u32) -> Self {
        Self {
            next_number: pending::first_number(incarnation),
            ..Self::default()
        }
    }

    fn look_by(&mut self, at: Duration) {
        self.look_at = Some(self.look_at.map_or(at, |known| known.min(at)));
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn send_away(&mut self, ask: Ask, ask_at: Duration) {
        let number = self.next_number;
        self.next_number += 1;
        self.deadlines.insert((ask.deadline, number));
        self.away.insert(number, Away { ask, ask_at });
        self.look_by(ask_at);
    }

    fn take_back(&mut self, number: u64) -> Option<Ask> {
        let Away { ask, .. } = self.away.remove(&number)?;
        self.deadlines.remove(&(ask.deadline, number));
        Some(ask)
    }
}

impl Member {
    /// Takes questions in. A list is answered from what this member knows, all else by the leader alone.
    pub(super) fn ask_leases(&mut self, queries: Vec<LeaseQuery>) {
        let deadline = self.now + self.settings.request_timeout;
        for LeaseQuery { token, question } in queries {
            let ask = Ask {
                asker: LeaseAsker::Client(token),
                question,
                deadline,
            };
            if question == LeaseQuestion::List {
                self.asks.ready.push(ask);
            } else if self.published.reads_need_no_quorum || self.published.leader == Some(self.id)
            {
                self.confirm_and_ask(ask);
            } else if self.settings.planted().is(Plant::RenewsAnywhere) {
                self.renew_without_leader(ask);
            } else {
                self.ask_elsewhere(ask);
            }
        }
    }

    /// Answers a question when the quorum has confirmed that this member leads.
    fn confirm_and_ask(&mut self, ask: Ask) {
        match self.published.reads_need_no_quorum {
            true => self.asks.ready.push(ask),
            false => self.barriers.carry(ask),
        }
    }

    /// A fault on purpose.
    fn renew_without_leader(&mut self, ask: Ask) {
        let LeaseQuestion::Renew(id) = ask.question else {
            return self.ask_elsewhere(ask);
        };
        let ttl_seconds = {
            let replica = self.replica.borrow();
            let lease = replica.state.kv().leases().get(id);
            lease.map_or(0, |lease| lease.ttl_seconds)
        };
        self.answer_asker(ask.asker, Ok(LeaseAnswer::Renewed { ttl_seconds }));
    }

    /// Takes questions of another member's clients in.
    pub(super) fn serve_leases(&mut self, member: u64, queries: Vec<LeaseQuery>) {
        let deadline = self.now + self.settings.request_timeout;
        for LeaseQuery { token, question } in queries {
            let ask = Ask {
                asker: LeaseAsker::Peer {
                    member,
                    number: token,
                },
                question,
                deadline,
            };
            if self.published.leader == Some(self.id) {
                self.barriers.carry(ask);
            } else {
                self.refuse_ask(ask);
            }
        }
    }

    /// Sends a client's question to whoever leads; one of another member's client goes back to its member.
    pub(super) fn ask_elsewhere(&mut self, ask: Ask) {
        self.ask_elsewhere_at(self.now, ask);
    }

    fn ask_elsewhere_at(&mut self, at: Duration, ask: Ask) {
        if let LeaseAsker::Peer { .. } = ask.asker {
            return self.refuse_ask(ask);
        }
        if self.asks.away.len() >= self.settings.sizes.proposals_max {
            return self.answer_asker(ask.asker, Err(Refusal::TooManyRequests));
        }
        self.asks.send_away(ask, at);
    }

    fn refuse_ask(&mut self, ask: Ask) {
        let leader = self.published.leader.filter(|leader| *leader != self.id);
        self.answer_asker(ask.asker, Err(Refusal::NotLeader { leader }));
    }

    /// Asks the leader what is due to be asked.
    pub(super) fn send_asks(&mut self) {
        let seen = (self.published.term, self.published.leader);
        let moved = std::mem::replace(&mut self.asks.seen, seen) != seen;
        if self.asks.away.is_empty() {
            self.asks.look_at = None;
            return;
        }
        let now = self.now;
        let Some(leader) = self.published.leader else {
            return;
        };
        if !moved && self.asks.look_at.is_none_or(|at| at > now) {
            return;
        }
        self.asks.look_at = None;
        if leader == self.id {
            self.asks.deadlines.clear();
            for (_, Away { ask, .. }) in std::mem::take(&mut self.asks.away) {
                self.barriers.carry(ask);
            }
            return;
        }
        let mut queries = Vec::new();
        let mut next = Duration::MAX;
        for (number, away) in &mut self.asks.away {
            if moved || away.ask_at <= now {
                away.ask_at = now + ANSWER_PATIENCE;
                queries.push(LeaseQuery {
                    token: *number,
                    question: away.ask.question,
                });
            }
            next = next.min(away.ask_at);
        }
        self.asks.look_by(next);
        if !queries.is_empty() {
            self.send_forwarded(leader, 0, Forwarded::AskLeases(queries));
        }
    }

    /// What a leader's lessor said.
    pub(super) fn take_lease_answers(&mut self, answers: LeaseAnswers) {
        for (number, answer) in answers {
            if let Err(Refusal::NotLeader { .. }) = answer {
                if let Some(away) = self.asks.away.get_mut(&number) {
                    away.ask_at = self.now + REFUSAL_PAUSE;
                    self.asks.look_by(self.now + REFUSAL_PAUSE);
                }
            } else if let Some(ask) = self.asks.take_back(number) {
                self.answer_asker(ask.asker, answer);
            }
        }
    }

    /// When leases need attention next.
    pub(super) fn leases_alarm(&self) -> Option<Duration> {
        let told = !self.asks.ended.is_empty() || !self.asks.ready.is_empty();
        let look_at = self
            .asks
            .look_at
            .filter(|_| self.published.leader.is_some());
        self.lessor
            .next_alarm()
            .into_iter()
            .chain(self.asks.next_deadline())
            .chain(look_at)
            .chain(told.then_some(self.now))
            .min()
    }

    /// Tells the lessor what happened, asks what is due, and answers; tells whether anything was proposed.
    pub(super) fn tend_leases(&mut self) -> bool {
        self.inform_lessor();
        let mut listed = None;
        for ask in std::mem::take(&mut self.asks.ready) {
            self.answer_ask(ask, &mut listed);
        }
        self.send_asks();
        self.expire_asks();
        let proposals = self.lessor.proposals(self.now);
        let proposed = !proposals.is_empty();
        for (act, request) in proposals {
            let request = match request {
                Request::LeaseExpire(expiry) if self.settings.planted().is(Plant::EndsAnyLease) => {
                    Request::LeaseRevoke(LeaseRevokeRequest { id: expiry.id })
                }
                request => request,
            };
            self.propose_internally(Asker::Lessor(act), request);
        }
        let again: Vec<_> = self.lessor.asked_again().map(renewal).collect();
        for ask in again {
            self.confirm_and_ask(ask);
        }
        let back: Vec<_> = self.lessor.given_back().map(renewal).collect();
        for ask in back {
            // A leader that hands over may lead for a while yet.
            self.ask_elsewhere_at(self.now + REFUSAL_PAUSE, ask);
        }
        self.give_lease_answers();
        self.send_lease_answers();
        proposed
    }

    fn give_lease_answers(&mut self) {
        let answers: Vec<_> = self.lessor.answers(self.now).collect();
        for (asker, answer) in answers {
            self.answer_asker(asker, answer);
        }
    }

    /// Writes the letters with what the lessor said to other members' clients.
    fn send_lease_answers(&mut self) {
        for (member, answers) in std::mem::take(&mut self.asks.returns) {
            let mut letter = Vec::new();
            let mut bytes = 0;
            for (number, answer) in answers {
                bytes += answer.as_ref().map_or(0, LeaseAnswer::weight);
                letter.push((number, answer));
                if bytes >= self.settings.sizes.letter_bytes {
                    bytes = 0;
                    let answers = std::mem::take(&mut letter);
                    self.send_forwarded(member, 0, Forwarded::LeaseAnswers(answers));
                }
            }
            if !letter.is_empty() {
                self.send_forwarded(member, 0, Forwarded::LeaseAnswers(letter));
            }
        }
    }

    fn inform_lessor(&mut self) {
        let mut replica = self.replica.borrow_mut();
        let touched = std::mem::take(&mut replica.leases_touched);
        let leases = replica.state.kv().leases();
        // Entries of earlier terms may bring leases and records of them: the countdown begins after those.
        let applied = replica.last_applied.map(|id| id.committed_leader_id().term);
        let everybody = self.settings.planted().is(Plant::FollowersEndLeases);
        let leads = self
            .leadership
            .leads()
            .or(applied.filter(|_| everybody))
            .filter(|term| applied == Some(*term));
        self.lessor.lead(leads, leases, self.now);
        for id in touched {
            self.lessor.touch(id, leases, self.now);
        }
        for (act, failure) in self.asks.ended.drain(..) {
            self.lessor.ended(act, failure.as_ref(), self.now);
        }
    }

    /// Answers a question; all who ask for a list at this time share one.
    fn answer_ask(&mut self, ask: Ask, listed: &mut Option<Arc<[i64]>>) {
        let asker = ask.asker;
        match ask.question {
            LeaseQuestion::List => {
                let list = listed.get_or_insert_with(|| self.list_leases().into());
                let answer = Ok(LeaseAnswer::List(Arc::clone(list)));
                self.answer_asker(asker, answer);
            }
            // Replaced since the barrier was passed.
            _ if !self.lessor.leads() => self.ask_elsewhere(ask),
            LeaseQuestion::Renew(id) => {
                let deadline = ask.deadline;
                self.lessor.renew(id, Waiting { asker, deadline }, self.now);
            }
            LeaseQuestion::TimeToLive { id, keys } => {
                let answer = Ok(LeaseAnswer::TimeToLive(self.lease_status(id, keys)));
                self.answer_asker(asker, answer);
            }
        }
    }

    fn list_leases(&self) -> Vec<i64> {
        if self.lessor.leads() {
            return self.lessor.ids_by_deadline();
        }
        let replica = self.replica.borrow();
        let leases = replica.state.kv().leases();
        leases.iter().map(|(id, _)| id).collect()
    }

    fn lease_status(&self, id: i64, keys: bool) -> Option<LeaseStatus> {
        let replica = self.replica.borrow();
        let lease = replica.state.kv().leases().get(id)?;
        Some(LeaseStatus {
            ttl_seconds: lease.ttl_seconds,
            remaining_seconds: self.lessor.remaining_seconds(id, self.now)?,
            keys: match keys {
                true => lease.keys.clone(),
                false => Keys::default(),
            },
        })
    }

    fn expire_asks(&mut self) {
        let now = self.now;
        while let Some(&(deadline, number)) = self.asks.deadlines.first() {
            if deadline > now {
                return;
            }
            let ask = self.asks.take_back(number);
            let ask = ask.expect("a deadline has its question");
            let refusal = match self.published.leader {
                None => Refusal::NotLeader { leader: None },
                Some(_) => Refusal::TimedOut,
            };
            self.answer_asker(ask.asker, Err(refusal));
        }
    }

    /// Refuses all questions of clients here that have no answer yet and wait for no barrier.
    pub(super) fn refuse_all_asks(&mut self, refusal: &Refusal) {
        self.asks.deadlines.clear();
        let away = std::mem::take(&mut self.asks.away).into_values();
        let mut asks = std::mem::take(&mut self.asks.ready);
        asks.extend(away.map(|away| away.ask));
        for ask in asks {
            self.answer_asker(ask.asker, Err(refusal.clone()));
        }
        let replica = self.replica.borrow();
        self.lessor
            .lead(None, replica.state.kv().leases(), self.now);
        drop(replica);
        let mut renewals: Vec<_> = self.lessor.asked_again().collect();
        renewals.extend(self.lessor.given_back());
        for (_, Waiting { asker, .. }) in renewals {
            self.answer_asker(asker, Err(refusal.clone()));
        }
        self.give_lease_answers();
    }

    /// Answers a client here, or leaves the answer for the next letter to the member of a client elsewhere.
    pub(super) fn answer_asker(&mut self, asker: LeaseAsker, answer: Result<LeaseAnswer, Refusal>) {
        match asker {
            LeaseAsker::Client(token) => {
                let answered = Output::LeaseAnswer { token, answer };
                self.outputs.push_back(answered);
            }
            LeaseAsker::Peer { member, number } => {
                let returns = self.asks.returns.entry(member).or_default();
                returns.push((number, answer));
            }
        }
    }
}
