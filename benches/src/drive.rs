//! Drives a workload against a server: one thread, a few connections, many requests in flight.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::conversation::Site;
use crate::http2::{Reply, WINDOW_BYTES_MAX};
use crate::links::Links;
use crate::measurement::{Counts, Measurement, Meter, Tally};
use crate::process;
use crate::schedule::{Due, Schedule, Until};
use crate::status::Failure;
use crate::workload::Workload;

/// How a workload is driven.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Where the connections lead, in turns; at least one.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// The processes whose consumption is to be read.
    pub(crate) server_pids: Vec<u32>,
    /// Without any word of the servers for this long, a run has failed.
    pub(crate) patience: Duration,
    pub(crate) connections: usize,
    /// Most requests in flight, spread evenly over the connections.
    pub(crate) clients: usize,
    pub(crate) until: Until,
    /// Requests per second at fixed times; without it, each client asks anew as soon as it is answered.
    pub(crate) rate: Option<f64>,
    /// Load before the measurement begins, not counted.
    pub(crate) warmup: Duration,
}

impl Plan {
    /// One request to the server of `site`: where other plans begin.
    pub(crate) fn at(site: Site) -> Self {
        Self {
            endpoints: vec![site.endpoint],
            server_pids: site.server_pid.into_iter().collect(),
            patience: site.patience,
            connections: 1,
            clients: 1,
            until: Until::Total(1),
            rate: None,
            warmup: Duration::ZERO,
        }
    }
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
    let mut tally = Tally::new(Instant::now());
    if !plan.warmup.is_zero() {
        let schedule = Schedule::new(Instant::now(), plan.rate, Until::Elapsed(plan.warmup));
        driver.work(schedule, workload, &mut tally, &GOES_ON)?;
    }
    let meter = Meter::begin(plan.server_pids.iter().copied())?;
    // A failure of the warm-up is a failure: it must not pass unseen.
    let warm_up_failures = std::mem::take(&mut tally.failures);
    tally.restart(meter.start);
    driver.work(
        Schedule::new(meter.start, plan.rate, plan.until),
        workload,
        &mut tally,
        &GOES_ON,
    )?;
    for (failure, count) in warm_up_failures {
        *tally.failures.entry(failure).or_default() += count;
    }
    meter.end(tally, Counts::REQUESTS)
}

/// Connects and puts on load until `stop` is set or the plan is over; what came of it, with its timeline.
pub(crate) fn run_until(
    plan: &Plan,
    workload: &mut Workload,
    stop: &AtomicBool,
) -> io::Result<Tally> {
    let _yielding = plan
        .rate
        .is_none()
        .then(process::Yielding::begin)
        .transpose()?;
    let mut driver = Driver::connect(plan)?;
    let start = Instant::now();
    let mut tally = Tally::new(start);
    tally.timeline = Some(Vec::new());
    let schedule = Schedule::new(start, plan.rate, plan.until);
    driver.work(schedule, workload, &mut tally, stop)?;
    Ok(tally)
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
        let endpoints = plan.endpoints.iter().cycle().take(connections);
        let ends: Vec<_> = endpoints.map(|end| (*end, WINDOW_BYTES_MAX)).collect();
        let links = Links::spread(&ends, plan.patience, &mut replies)?;
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

    /// Sends what the schedule asks for until it is over, or `stop` is set, and every request has ended.
    fn work(
        &mut self,
        mut schedule: Schedule,
        workload: &mut Workload,
        tally: &mut Tally,
        stop: &AtomicBool,
    ) -> io::Result<()> {
        let mut heard = Instant::now();
        let mut missed_counted = false;
        loop {
            let now = Instant::now();
            if stop.load(Ordering::Relaxed) {
                schedule.close(now);
            }
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
                    let latency = now.saturating_duration_since(self.clients[client].since);
                    tally.succeed(now, latency);
                    tally.response_bytes += reply.data_bytes;
                }
                Err(failure) => tally.fail(failure),
            }
            self.in_flight -= 1;
            self.free.push_back(client);
        }
    }
}

/// The end of runs that only their plan ends.
static GOES_ON: AtomicBool = AtomicBool::new(false);

#[cfg(test)]
mod tests;
