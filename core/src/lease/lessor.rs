//! The lessor: the leader's countdown of every lease. It decides nothing that is replicated; it proposes.
//!
//! - Only a leader counts, and only once it has applied all entries of earlier terms. Then every lease starts with
//!   what was last recorded of it, or its full time, and one election timeout more: no lease is ever shortened.
//! - When the time of a lease is over, its end is proposed; a bounded number at a time, so that many leases that
//!   end together hold nothing up. A lease whose end is proposed cannot be renewed any more.
//! - What long leases have left is recorded through the log now and then. A renewal of such a lease takes the
//!   record back through the log before it is answered, or else a new leader would count on from the record. News of
//!   that may come when others lead already, so the renewal is then asked anew, of whoever leads. So is one that waits
//!   when this member ceases to lead, or when what it waits for is refused because that is about to happen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{LeaseAnswer, LeaseAsker, LeaseExpiry, Leases, RemainingTime, RemainingTimes};
use crate::command::Request;
use crate::member::{Settings, Sizes};
use crate::output::Refusal;

/// See the module. Local state only: it is forgotten with the leadership.
pub(crate) struct Lessor {
    /// What a lease gets on top when the countdown begins: the old leader may have answered renewals until then.
    grace: Duration,
    /// How long a lease runs before what it has left is recorded; none to record nothing.
    record_interval: Option<Duration>,
    sizes: Sizes,
    /// The term in which this member leads and counts.
    term: Option<u64>,
    clocks: BTreeMap<i64, Clock>,
    /// When to look at a clock next. A renewal leaves its alarm alone, so an alarm may ring early, never late.
    alarms: BTreeSet<(Duration, i64)>,
    ends_under_way: usize,
    /// After a failed proposal the next ones wait until here.
    pause_until: Duration,
    /// When to record what a lease has left; only leases that live longer than the interval are in here.
    records: BTreeSet<(Duration, i64)>,
    record_under_way: bool,
    /// Leases whose record is to be taken back.
    to_clear: Vec<i64>,
    /// The deadlines of renewals that wait, in order, and the leases they are for.
    deadlines: BTreeSet<(Duration, i64)>,
    /// Renewals whose record was taken back, and their leases.
    to_ask_again: Vec<(i64, Waiting)>,
    /// Those that this lessor cannot answer, because it ceases to lead, and their leases.
    given_back: Vec<(i64, Waiting)>,
    answers: Vec<Answered>,
}

/// Who asked, and the answer.
pub(crate) type Answered = (LeaseAsker, Result<LeaseAnswer, Refusal>);

/// The countdown of one lease.
struct Clock {
    granted_index: u64,
    ttl: Duration,
    /// When its time is over.
    deadline: Duration,
    /// Its entry among the alarms; none once its end is proposed.
    alarm: Option<Duration>,
    /// Its entry among the records.
    record_at: Option<Duration>,
    /// When the time that a new leader would count on from was the true one.
    known_at: Duration,
    /// Whether the log holds, or may hold, a record of what it had left.
    recorded: bool,
    /// Whether taking that record back is under way.
    clearing: bool,
    /// Renewals that wait for the end of the lease, or for its record to be taken back.
    waiting: Vec<Waiting>,
}

/// A renewal that waits.
#[derive(Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) asker: LeaseAsker,
    pub(crate) deadline: Duration,
}

/// What the lessor proposed; comes back to it with the outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act {
    term: u64,
    deed: Deed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Deed {
    End(LeaseExpiry),
    Record,
    Clear(Vec<RemainingTime>),
}

/// Ends of leases are looked at in steps of this, so that many leases do not ring one alarm each.
const GRID: Duration = Duration::from_millis(10);

/// How long no end is proposed after a proposal failed.
const FAILURE_PAUSE: Duration = Duration::from_millis(250);

impl Lessor {
    /// As the member is set up; a lease has one election timeout of grace.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self::new(
            settings.election_timeout,
            settings.lease_record_interval,
            settings.sizes,
        )
    }

    fn new(grace: Duration, record_interval: Option<Duration>, sizes: Sizes) -> Self {
        Self {
            grace,
            record_interval,
            sizes,
            term: None,
            clocks: BTreeMap::new(),
            alarms: BTreeSet::new(),
            ends_under_way: 0,
            pause_until: Duration::ZERO,
            records: BTreeSet::new(),
            record_under_way: false,
            to_clear: Vec::new(),
            deadlines: BTreeSet::new(),
            to_ask_again: Vec::new(),
            given_back: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Whether this member counts.
    pub(crate) fn leads(&self) -> bool {
        self.term.is_some()
    }

    /// Tells in which term this member leads and has applied everything of earlier terms, if so.
    pub(crate) fn lead(&mut self, term: Option<u64>, leases: &Leases, now: Duration) {
        if self.term == term {
            return;
        }
        let forgotten = std::mem::replace(
            self,
            Self::new(self.grace, self.record_interval, self.sizes),
        );
        self.answers = forgotten.answers;
        self.to_ask_again = forgotten.to_ask_again;
        self.given_back = forgotten.given_back;
        for (id, clock) in forgotten.clocks {
            let waiting = clock.waiting.into_iter();
            self.given_back.extend(waiting.map(|it| (id, it)));
        }
        self.term = term;
        if term.is_none() {
            return;
        }
        for (id, lease) in leases.iter() {
            let seconds = match lease.remaining_seconds {
                0 => lease.ttl_seconds,
                recorded => recorded,
            };
            let clock = Clock {
                recorded: lease.remaining_seconds != 0,
                ..self.clock(lease.granted_index, lease.ttl_seconds, now)
            };
            let deadline = now + seconds_of(seconds) + self.grace;
            self.start(id, Clock { deadline, ..clock });
        }
    }

    /// Tells that this lease may have come or gone.
    pub(crate) fn touch(&mut self, id: i64, leases: &Leases, now: Duration) {
        if !self.leads() {
            return;
        }
        let lease = leases.get(id);
        let granted_index = lease.map(|lease| lease.granted_index);
        if self.clocks.get(&id).map(|clock| clock.granted_index) == granted_index {
            return;
        }
        if let Some(gone) = self.clocks.remove(&id) {
            if let Some(at) = gone.alarm {
                self.alarms.remove(&(at, id));
            }
            if let Some(at) = gone.record_at {
                self.records.remove(&(at, id));
            }
            let renewed = LeaseAnswer::Renewed { ttl_seconds: 0 };
            let askers = gone.waiting.iter().map(|waiting| waiting.asker);
            self.answers
                .extend(askers.map(|asker| (asker, Ok(renewed.clone()))));
        }
        if let Some(lease) = lease {
            self.start(id, self.clock(lease.granted_index, lease.ttl_seconds, now));
        }
    }

    /// Gives a lease its full time again. The caller has made sure that this member led when that was asked.
    pub(crate) fn renew(&mut self, id: i64, asked: Waiting, now: Duration) {
        let Some(clock) = self.clocks.get_mut(&id) else {
            let unknown = LeaseAnswer::Renewed { ttl_seconds: 0 };
            self.answers.push((asked.asker, Ok(unknown)));
            return;
        };
        let over = clock.deadline <= now;
        if !over {
            clock.restart(now);
            if !clock.recorded {
                clock.known_at = now;
                self.answers.push((asked.asker, Ok(clock.renewed())));
                return;
            }
            if !clock.clearing {
                clock.clearing = true;
                self.to_clear.push(id);
            }
        }
        clock.waiting.push(asked);
        self.deadlines.insert((asked.deadline, id));
    }

    /// How long a lease still lives, in whole seconds; none if it does not exist.
    pub(crate) fn remaining_seconds(&self, id: i64, now: Duration) -> Option<i64> {
        let left = self.clocks.get(&id)?.deadline.saturating_sub(now);
        Some(i64::try_from(left.as_secs()).unwrap_or(i64::MAX))
    }

    /// All leases, the one that ends soonest first.
    pub(crate) fn ids_by_deadline(&self) -> Vec<i64> {
        let mut all: Vec<(Duration, i64)> = self
            .clocks
            .iter()
            .map(|(id, c)| (c.deadline, *id))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// What is to be proposed now.
    pub(crate) fn proposals(&mut self, now: Duration) -> Vec<(Act, Request)> {
        let Some(term) = self.term else {
            return Vec::new();
        };
        let mut deeds = Vec::new();
        self.end_due(now, &mut deeds);
        self.clear(&mut deeds);
        self.record_due(now, &mut deeds);
        let act = |(deed, request)| (Act { term, deed }, request);
        deeds.into_iter().map(act).collect()
    }

    /// What came of a proposal. That a lease has gone is told by [`Lessor::touch`], and before this.
    pub(crate) fn ended(&mut self, act: Act, failure: Option<&Refusal>, now: Duration) {
        if self.term != Some(act.term) {
            return;
        }
        match act.deed {
            Deed::End(expiry) => {
                self.ends_under_way -= 1;
                self.end_ended(&expiry, failure, now);
            }
            Deed::Record => self.record_under_way = false,
            Deed::Clear(times) => {
                for time in times {
                    self.cleared(&time, failure, now);
                }
            }
        }
    }

    /// Renewals that may be answered now but for one thing: whether this member still leads. The caller asks the quorum,
    /// and then once more.
    pub(crate) fn asked_again(&mut self) -> std::vec::Drain<'_, (i64, Waiting)> {
        self.to_ask_again.drain(..)
    }

    /// Renewals without an answer that whoever leads next has to give.
    pub(crate) fn given_back(&mut self) -> std::vec::Drain<'_, (i64, Waiting)> {
        self.given_back.drain(..)
    }

    /// Answers that are due, those of renewals that waited too long among them.
    pub(crate) fn answers(&mut self, now: Duration) -> std::vec::Drain<'_, Answered> {
        while let Some(&(at, id)) = self.deadlines.first().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            if let Some(clock) = self.clocks.get_mut(&id) {
                let late = clock.waiting.extract_if(.., |w| w.deadline <= now);
                let refused = late.map(|w| (w.asker, Err(Refusal::TimedOut)));
                self.answers.extend(refused);
            }
        }
        self.answers.drain(..)
    }

    /// When to look again.
    pub(crate) fn next_alarm(&self) -> Option<Duration> {
        let end = (self.ends_under_way < self.sizes.lease_ends)
            .then(|| self.alarms.first())
            .flatten()
            .map(|(at, _)| on_grid(self.pause_until.max(*at)));
        let record = (!self.record_under_way)
            .then(|| self.records.first())
            .flatten()
            .map(|(at, _)| *at);
        let wait = self.deadlines.first().map(|(at, _)| *at);
        end.into_iter().chain(record).chain(wait).min()
    }

    /// A clock that gives a lease its full time from now on.
    fn clock(&self, granted_index: u64, ttl_seconds: i64, now: Duration) -> Clock {
        let ttl = seconds_of(ttl_seconds);
        Clock {
            granted_index,
            ttl,
            deadline: now + ttl,
            alarm: None,
            record_at: self
                .record_interval
                .filter(|interval| ttl > *interval)
                .map(|interval| now + interval),
            known_at: now,
            recorded: false,
            clearing: false,
            waiting: Vec::new(),
        }
    }

    fn start(&mut self, id: i64, clock: Clock) {
        self.alarms.insert((clock.deadline, id));
        if let Some(at) = clock.record_at {
            self.records.insert((at, id));
        }
        let alarm = Some(clock.deadline);
        self.clocks.insert(id, Clock { alarm, ..clock });
    }

    fn end_due(&mut self, now: Duration, deeds: &mut Vec<(Deed, Request)>) {
        if self.pause_until > now {
            return;
        }
        for _ in 0..self.sizes.lease_looks {
            let due = self.alarms.first().filter(|(at, _)| *at <= now);
            let Some(&(at, id)) = due.filter(|_| self.ends_under_way < self.sizes.lease_ends)
            else {
                return;
            };
            self.alarms.remove(&(at, id));
            let clock = self.clocks.get_mut(&id).expect("an alarm has its clock");
            if clock.deadline > now {
                clock.alarm = Some(clock.deadline);
                self.alarms.insert((clock.deadline, id));
                continue;
            }
            clock.alarm = None;
            self.ends_under_way += 1;
            let expiry = LeaseExpiry {
                id,
                granted_index: clock.granted_index,
            };
            deeds.push((Deed::End(expiry), Request::LeaseExpire(expiry)));
        }
    }

    fn end_ended(&mut self, expiry: &LeaseExpiry, failure: Option<&Refusal>, now: Duration) {
        if failure.is_some_and(|refusal| !matches!(refusal, Refusal::Lease(_))) {
            self.pause_until = now + FAILURE_PAUSE;
        }
        // A lease that is still there is tried again: nobody knows whether the entry will be committed.
        let clock = self.clocks.get_mut(&expiry.id);
        if let Some(clock) = clock.filter(|c| c.granted_index == expiry.granted_index) {
            clock.alarm = Some(now);
            self.alarms.insert((now, expiry.id));
        }
    }

    fn clear(&mut self, deeds: &mut Vec<(Deed, Request)>) {
        let ids = std::mem::take(&mut self.to_clear);
        let clocks = ids
            .into_iter()
            .filter_map(|id| self.clocks.get(&id).map(|clock| (id, clock)));
        let times: Vec<RemainingTime> = clocks
            .map(|(id, clock)| RemainingTime {
                id,
                granted_index: clock.granted_index,
                seconds: 0,
            })
            .collect();
        for some in times.chunks(self.sizes.lease_looks) {
            let leases = some.to_vec();
            let request = Request::LeaseRemaining(RemainingTimes {
                leases: leases.clone(),
            });
            deeds.push((Deed::Clear(leases), request));
        }
    }

    fn cleared(&mut self, time: &RemainingTime, failure: Option<&Refusal>, now: Duration) {
        let clock = self.clocks.get_mut(&time.id);
        let Some(clock) = clock.filter(|c| c.granted_index == time.granted_index && c.clearing)
        else {
            return;
        };
        clock.clearing = false;
        if clock.deadline <= now {
            // Too late: whoever waits hears of the end.
            return;
        }
        let waiting = clock.waiting.drain(..);
        match failure {
            None => {}
            Some(Refusal::NotLeader { .. } | Refusal::LeaderChanged) => {
                self.given_back.extend(waiting.map(|it| (time.id, it)));
                return;
            }
            Some(refusal) => {
                let refused = waiting.map(|it| (it.asker, Err(refusal.clone())));
                self.answers.extend(refused);
                return;
            }
        }
        self.to_ask_again.extend(waiting.map(|it| (time.id, it)));
        clock.recorded = false;
        clock.restart(now);
        clock.known_at = now;
    }

    fn record_due(&mut self, now: Duration, deeds: &mut Vec<(Deed, Request)>) {
        let Some(interval) = self.record_interval.filter(|_| !self.record_under_way) else {
            return;
        };
        if self.records.first().is_none_or(|(at, _)| *at > now) {
            return;
        }
        // What is nearly due goes along, so that there is one record now and then and not one per lease.
        let soon = now + interval / 8;
        let mut leases = Vec::new();
        for _ in 0..self.sizes.lease_looks {
            let Some(&(at, id)) = self.records.first().filter(|(at, _)| *at <= soon) else {
                break;
            };
            self.records.remove(&(at, id));
            let clock = self.clocks.get_mut(&id).expect("a record has its clock");
            let left = clock.deadline.saturating_sub(now);
            let mut next = now + interval;
            if clock.known_at + interval > soon {
                next = clock.known_at + interval;
            } else if !left.is_zero() && !clock.clearing {
                clock.recorded = true;
                clock.known_at = now;
                leases.push(RemainingTime {
                    id,
                    granted_index: clock.granted_index,
                    seconds: seconds_up(left),
                });
            }
            clock.record_at = Some(next);
            self.records.insert((next, id));
        }
        if !leases.is_empty() {
            self.record_under_way = true;
            let request = Request::LeaseRemaining(RemainingTimes { leases });
            deeds.push((Deed::Record, request));
        }
    }
}

impl Clock {
    /// Gives the full time again, and never takes any: the grace after a change of leaders may still run.
    fn restart(&mut self, now: Duration) {
        self.deadline = self.deadline.max(now + self.ttl);
    }

    fn renewed(&self) -> LeaseAnswer {
        LeaseAnswer::Renewed {
            ttl_seconds: i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX),
        }
    }
}

/// The time itself or the next step of the grid after it.
fn on_grid(at: Duration) -> Duration {
    let beyond = at.as_nanos() % GRID.as_nanos();
    match u64::try_from(beyond) {
        Ok(0) | Err(_) => at,
        Ok(beyond) => at + GRID - Duration::from_nanos(beyond),
    }
}

fn seconds_of(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Whole seconds, rounded up, so that nothing is shortened by being written down.
fn seconds_up(time: Duration) -> i64 {
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
