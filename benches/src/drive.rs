//! Drives a workload against a server: one thread, a few connections, many requests in flight.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::http2::{Reply, WINDOW_BYTES_MAX};
use crate::links::Links;
use crate::process::{self, Usage};
use crate::schedule::{Due, Schedule, Until};
use crate::status::Failure;
use crate::workload::Workload;

/// How a workload is driven.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) endpoint: SocketAddr,
    pub(crate) connections: usize,
    /// Most requests in flight, spread evenly over the connections.
    pub(crate) clients: usize,
    pub(crate) until: Until,
    /// Requests per second at fixed times; without it, each client asks anew as soon as it is answered.
    pub(crate) rate: Option<f64>,
    /// Load before the measurement begins, not counted.
    pub(crate) warmup: Duration,
    /// The process whose consumption is to be read.
    pub(crate) server_pid: Option<u32>,
    /// Without any answer for this long, what is in flight counts as failed and the run ends.
    pub(crate) patience: Duration,
}

/// What a run measured.
pub(crate) struct Measurement {
    /// Requests that succeeded.
    pub(crate) succeeded: u64,
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// Of the requests that succeeded, and the waits of those that were due and never sent.
    pub(crate) latency: Histogram,
    /// Requests that were due by the rate but found no free client before the end.
    pub(crate) missed: u64,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// Processor time of this load generator.
    pub(crate) own_cpu: Duration,
    /// Consumption of the server before and after.
    pub(crate) server: Option<(Usage, Usage)>,
    /// Length of all successful response messages.
    pub(crate) response_bytes: u64,
}

/// Connects, warms up, measures.
pub(crate) fn run(plan: &Plan, workload: &mut Workload) -> io::Result<Measurement> {
    // With a rate, being late would be charged to the server; without one, the load follows the server anyway.
    let _yielding = plan
        .rate
        .is_none()
        .then(process::Yielding::begin)
        .transpose()?;
    let mut driver = Driver::connect(plan)?;
    let mut warmup = Tally::new();
    if !plan.warmup.is_zero() {
        let schedule = Schedule::new(Instant::now(), plan.rate, Until::Elapsed(plan.warmup));
        driver.work(schedule, workload, &mut warmup)?;
    }
    let usage = || plan.server_pid.map(process::usage).transpose();
    let server_before = usage()?;
    let own_before = process::own_cpu();
    let start = Instant::now();
    let mut tally = Tally::new();
    tally.last_answer = start;
    driver.work(
        Schedule::new(start, plan.rate, plan.until),
        workload,
        &mut tally,
    )?;
    let own_cpu = process::own_cpu() - own_before;
    // A failure of the warm-up is a failure: it must not pass unseen.
    for (failure, count) in warmup.failures {
        *tally.failures.entry(failure).or_default() += count;
    }
    Ok(Measurement {
        succeeded: tally.succeeded,
        failures: tally.failures,
        latency: tally.latency,
        missed: tally.missed,
        elapsed: tally.last_answer - start,
        own_cpu,
        server: server_before.zip(usage()?),
        response_bytes: tally.response_bytes,
    })
}

struct Tally {
    succeeded: u64,
    failures: BTreeMap<Failure, u64>,
    latency: Histogram,
    missed: u64,
    response_bytes: u64,
    last_answer: Instant,
}

impl Tally {
    fn new() -> Self {
        Self {
            succeeded: 0,
            failures: BTreeMap::new(),
            latency: Histogram::new(),
            missed: 0,
            response_bytes: 0,
            last_answer: Instant::now(),
        }
    }

    fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }
}

/// The connections and what is in flight on them.
struct Driver {
    links: Links,
    /// One per client: its connection and the time its present request counts from.
    clients: Vec<Client>,
    free: VecDeque<usize>,
    in_flight: usize,
    replies: Vec<Reply>,
    ready: Vec<usize>,
    patience: Duration,
}

struct Client {
    link: usize,
    since: Instant,
}

impl Driver {
    /// Opens all connections.
    fn connect(plan: &Plan) -> io::Result<Self> {
        let connections = plan.connections.clamp(1, plan.clients.max(1));
        let mut replies = Vec::new();
        let links = Links::connect(
            plan.endpoint,
            &vec![WINDOW_BYTES_MAX; connections],
            plan.patience,
            &mut replies,
        )?;
        let since = Instant::now();
        let clients = (0..plan.clients).map(|client| Client {
            link: client % connections,
            since,
        });
        Ok(Self {
            links,
            clients: clients.collect(),
            free: (0..plan.clients).collect(),
            in_flight: 0,
            replies,
            ready: Vec::new(),
            patience: plan.patience,
        })
    }

    /// Sends what the schedule asks for until it is over and every request has ended.
    fn work(
        &mut self,
        mut schedule: Schedule,
        workload: &mut Workload,
        tally: &mut Tally,
    ) -> io::Result<()> {
        let mut heard = Instant::now();
        let mut missed_counted = false;
        loop {
            let now = Instant::now();
            let mut due = schedule.due(now);
            while let Due::Now(since) = due {
                let Some(client) = self.free_client() else {
                    break;
                };
                self.send(client, since, workload);
                schedule.issue();
                due = schedule.due(now);
            }
            if due == Due::Over && !missed_counted {
                // Their wait so far is the least their latency can be.
                for since in schedule.missed(now) {
                    tally.missed += 1;
                    tally.latency.record(now - since);
                }
                missed_counted = true;
            }
            self.flush(tally)?;
            let idle = self.in_flight == 0;
            if idle && due == Due::Over {
                return Ok(());
            }
            if idle && self.free.is_empty() {
                // A run that ends early has failed, even if every request so far was answered.
                if tally.failures.is_empty() {
                    let reason = "no connection takes requests any more";
                    tally.fail(Failure::ConnectionLost(reason.to_owned()));
                }
                return Ok(());
            }
            let next = match due {
                Due::At(next) if !self.free.is_empty() => Some(next.saturating_duration_since(now)),
                _ => None,
            };
            if idle {
                heard = now;
            }
            let patience = self.patience.saturating_sub(now - heard);
            if self.wait(next.unwrap_or(patience).min(patience), tally)? {
                heard = Instant::now();
            } else if self.in_flight > 0 && heard.elapsed() >= self.patience {
                (0..self.in_flight).for_each(|_| tally.fail(Failure::NoAnswer));
                return Ok(());
            }
        }
    }

    /// A client without a request whose connection takes one. Clients of lost connections are let go.
    fn free_client(&mut self) -> Option<usize> {
        loop {
            let client = self.free.pop_front()?;
            if self.links.accepts(self.clients[client].link) {
                return Some(client);
            }
        }
    }

    fn send(&mut self, client: usize, since: Instant, workload: &mut Workload) {
        let slot = &mut self.clients[client];
        slot.since = since;
        let message = workload.next();
        self.links
            .connection(slot.link)
            .request(message.headers(), message.body(), client as u64);
        self.in_flight += 1;
    }

    /// Writes what the connections have to say.
    fn flush(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.links.flush(&mut self.replies)?;
        self.settle(tally);
        Ok(())
    }

    /// Waits for the sockets, reads what they have; answers whether anything came before `timeout`.
    fn wait(&mut self, timeout: Duration, tally: &mut Tally) -> io::Result<bool> {
        let mut ready = std::mem::take(&mut self.ready);
        let happened = self.links.wait(timeout, &mut ready)?;
        for index in ready.drain(..) {
            self.links.read(index, &mut self.replies)?;
            self.settle(tally);
        }
        self.ready = ready;
        Ok(happened)
    }

    /// Counts the replies and frees their clients.
    fn settle(&mut self, tally: &mut Tally) {
        for loss in self.links.losses() {
            if loss.requests == 0 {
                tally.fail(Failure::ConnectionLost(loss.reason));
            }
        }
        if self.replies.is_empty() {
            return;
        }
        let now = Instant::now();
        tally.last_answer = now;
        for reply in self.replies.drain(..) {
            let client = usize::try_from(reply.tag).expect("the tag is an index of this driver");
            match reply.outcome {
                Ok(()) => {
                    tally.succeeded += 1;
                    tally.response_bytes += reply.data_bytes;
                    tally
                        .latency
                        .record(now.saturating_duration_since(self.clients[client].since));
                }
                Err(failure) => tally.fail(failure),
            }
            self.in_flight -= 1;
            self.free.push_back(client);
        }
    }
}

#[cfg(test)]
mod tests;
