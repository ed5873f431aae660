//! Where the lessor meets the member: questions in, proposals through the log, answers out.

use std::time::Duration;

use super::Member;
use crate::lease::lessor::{Act, Waiting};
use crate::lease::{LeaseAnswer, LeaseQuery, LeaseQuestion, LeaseStatus};
use crate::output::{Output, Refusal};
use crate::pending::Asker;

/// Questions to the lessor on their way to an answer, and its proposals on their way back.
#[derive(Default)]
pub(super) struct Asks {
    /// Wait for the next barrier: only a leader that the quorum still follows may answer.
    waiting: Vec<Ask>,
    /// Wait for the barrier that is under way.
    under_way: Vec<Ask>,
    /// May be answered.
    ready: Vec<Ask>,
    /// What came of the lessor's proposals, since it was last told; none where they were applied.
    pub(super) ended: Vec<(Act, Option<Refusal>)>,
}

struct Ask {
    query: LeaseQuery,
    deadline: Duration,
}

impl Asks {
    pub(super) fn want_barrier(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn join_barrier(&mut self) {
        self.under_way.append(&mut self.waiting);
    }

    /// Those that wait for a barrier are in the order of their deadlines.
    fn next_deadline(&self) -> Option<Duration> {
        let first = self.under_way.first().or(self.waiting.first());
        first.map(|ask| ask.deadline)
    }
}

impl Member {
    /// Takes questions in. A list is answered from what this member knows, all else by the leader alone.
    pub(super) fn ask_leases(&mut self, queries: Vec<LeaseQuery>) {
        let deadline = self.now + self.settings.request_timeout;
        let published = &self.published;
        for query in queries {
            let ask = Ask { query, deadline };
            if query.question == LeaseQuestion::List || published.reads_need_no_quorum {
                self.asks.ready.push(ask);
            } else if published.leader == Some(self.id) {
                self.asks.waiting.push(ask);
            } else {
                let leader = published.leader;
                self.outputs.push_back(Output::LeaseAnswer {
                    token: query.token,
                    answer: Err(Refusal::NotLeader { leader }),
                });
            }
        }
    }

    /// The barrier that questions waited for has ended.
    pub(super) fn finish_asks(&mut self, result: &Result<(), Refusal>) {
        for ask in std::mem::take(&mut self.asks.under_way) {
            match result {
                Ok(()) => self.asks.ready.push(ask),
                Err(refusal) => self.refuse_ask(&ask, refusal.clone()),
            }
        }
    }

    /// When leases need attention next.
    pub(super) fn leases_alarm(&self) -> Option<Duration> {
        let ended = (!self.asks.ended.is_empty()).then_some(self.now);
        self.lessor
            .next_alarm()
            .into_iter()
            .chain(self.asks.next_deadline())
            .chain(ended)
            .min()
    }

    /// Tells the lessor what happened, asks what is due, and answers; tells whether anything was proposed.
    pub(super) fn tend_leases(&mut self) -> bool {
        self.inform_lessor();
        for ask in std::mem::take(&mut self.asks.ready) {
            self.answer_ask(&ask);
        }
        self.expire_asks();
        let proposals = self.lessor.proposals(self.now);
        let proposed = !proposals.is_empty();
        for (act, request) in proposals {
            self.propose_internally(Asker::Lessor(act), request);
        }
        let answers = self.lessor.answers(self.now);
        self.outputs
            .extend(answers.map(|(token, answer)| Output::LeaseAnswer { token, answer }));
        proposed
    }

    fn inform_lessor(&mut self) {
        let mut replica = self.replica.borrow_mut();
        let touched = std::mem::take(&mut replica.leases_touched);
        let leases = replica.state.kv().leases();
        let term = self.published.term;
        // Entries of earlier terms may bring leases and records of them: the countdown begins after those.
        let caught_up = replica
            .last_applied
            .is_some_and(|id| id.committed_leader_id().term == term);
        let leads = caught_up && self.published.leader == Some(self.id);
        self.lessor.lead(leads.then_some(term), leases, self.now);
        for id in touched {
            self.lessor.touch(id, leases, self.now);
        }
        for (act, failure) in self.asks.ended.drain(..) {
            self.lessor.ended(act, failure.as_ref(), self.now);
        }
    }

    fn answer_ask(&mut self, ask: &Ask) {
        let token = ask.query.token;
        if ask.query.question == LeaseQuestion::List {
            let answer = Ok(LeaseAnswer::List(self.list_leases()));
            return self
                .outputs
                .push_back(Output::LeaseAnswer { token, answer });
        }
        if !self.lessor.leads() {
            let leader = self.published.leader.filter(|leader| *leader != self.id);
            return self.refuse_ask(ask, Refusal::NotLeader { leader });
        }
        match ask.query.question {
            LeaseQuestion::Renew(id) => {
                let deadline = ask.deadline;
                self.lessor.renew(id, Waiting { token, deadline }, self.now);
            }
            LeaseQuestion::TimeToLive(id) => {
                let answer = Ok(LeaseAnswer::TimeToLive(self.lease_status(id)));
                self.outputs
                    .push_back(Output::LeaseAnswer { token, answer });
            }
            LeaseQuestion::List => {}
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

    fn lease_status(&self, id: i64) -> Option<LeaseStatus> {
        let replica = self.replica.borrow();
        let lease = replica.state.kv().leases().get(id)?;
        Some(LeaseStatus {
            ttl_seconds: lease.ttl_seconds,
            remaining_seconds: self.lessor.remaining_seconds(id, self.now)?,
            keys: lease.keys.clone(),
        })
    }

    fn expire_asks(&mut self) {
        let now = self.now;
        if self.asks.next_deadline().is_none_or(|at| at > now) {
            return;
        }
        let late = |asks: &mut Vec<Ask>| -> Vec<Ask> {
            asks.extract_if(.., |ask| ask.deadline <= now).collect()
        };
        let mut expired = late(&mut self.asks.under_way);
        expired.extend(late(&mut self.asks.waiting));
        for ask in expired {
            self.refuse_ask(&ask, Refusal::TimedOut);
        }
    }

    fn refuse_ask(&mut self, ask: &Ask, refusal: Refusal) {
        self.outputs.push_back(Output::LeaseAnswer {
            token: ask.query.token,
            answer: Err(refusal),
        });
    }
}
