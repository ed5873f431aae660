//! Lease runs: renewals over streams, and puts beside the expiry of very many leases.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::answer;
use crate::ask::Ask;
use crate::conversation::{Next, Party, Site, converse};
use crate::http2::{Receiver, Reply, WINDOW_BYTES_MAX};
use crate::links::Links;
use crate::measurement::{Counts, Measurement, Meter, Tally};
use crate::message::{GRANT_PATH, headers};
use crate::process::Yielding;
use crate::schedule::{Due, Schedule, Until};
use crate::status::Failure;

pub(crate) mod expiry;

/// Who renews how many leases; data, so that tables of runs can be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Renewals {
    /// Streams, each with one renewal under way.
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    /// Each client renews so many leases of its own in turns.
    pub(crate) leases: usize,
    pub(crate) ttl_seconds: u64,
}

/// A run of renewals against one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) site: Site,
    pub(crate) renewals: Renewals,
    pub(crate) rate: Option<f64>,
    pub(crate) until: Until,
    pub(crate) warmup: Duration,
}

/// Grants the leases, then renews them, and checks that every answer is about the lease asked for, which lives.
pub(crate) fn keep_alive(plan: &Plan) -> io::Result<Measurement> {
    let renewals = &plan.renewals;
    if renewals.clients == 0 || renewals.leases == 0 {
        return Err(invalid("clients and leases must be above zero"));
    }
    if plan
        .rate
        .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
    {
        return Err(invalid("the rate must be above zero"));
    }
    let _yielding = plan.rate.is_none().then(Yielding::begin).transpose()?;
    let connections = renewals.connections.clamp(1, renewals.clients);
    let mut links = connect(&plan.site, connections)?;
    let count = renewals.clients * renewals.leases;
    let authority = plan.site.endpoint.to_string();
    let mut granting = Granting::new(&authority, connections, count, renewals.ttl_seconds);
    converse(&mut links, &mut granting, plan.site.patience)?;
    let mut party = Renewing::new(&mut links, &authority, plan, connections, &granting.leases)?;
    party.tally.failures = granting.tally.failures;
    if !plan.warmup.is_zero() && party.tally.failures.is_empty() {
        let start = Instant::now();
        party.schedule = Schedule::new(start, plan.rate, Until::Elapsed(plan.warmup));
        converse(&mut links, &mut party, plan.site.patience)?;
    }
    let meter = Meter::begin(plan.site.server_pid)?;
    party.tally.restart(meter.start);
    if party.tally.failures.is_empty() {
        party.schedule = Schedule::new(meter.start, plan.rate, plan.until);
        converse(&mut links, &mut party, plan.site.patience)?;
    }
    meter.end(party.tally, Counts::RENEWALS)
}

fn connect(site: &Site, connections: usize) -> io::Result<Links> {
    let windows = vec![WINDOW_BYTES_MAX; connections];
    Links::connect(site.endpoint, &windows, site.patience, &mut Vec::new())
}

/// Grants leases, many at a time, and keeps the ids the server chose.
struct Granting {
    headers: Vec<u8>,
    ask: Ask,
    connections: usize,
    ttl_seconds: u64,
    wanted: usize,
    asked: usize,
    leases: Vec<u64>,
    in_flight: usize,
    tally: Tally,
}

impl Granting {
    fn new(authority: &str, connections: usize, wanted: usize, ttl_seconds: u64) -> Self {
        Self {
            headers: headers(authority, GRANT_PATH),
            ask: Ask::default(),
            connections,
            ttl_seconds,
            wanted,
            asked: 0,
            leases: Vec::with_capacity(wanted),
            in_flight: 0,
            tally: Tally::new(Instant::now()),
        }
    }
}

impl Receiver for Granting {
    fn message(&mut self, _: u64, message: &[u8]) {
        match answer::lease(message) {
            Ok(lease) if lease.id != 0 && lease.ttl_seconds > 0 => self.leases.push(lease.id),
            _ => self.fail(Failure::Wrong("a grant without a lease".to_owned())),
        }
    }

    fn reply(&mut self, reply: Reply) {
        self.in_flight -= 1;
        if let Err(failure) = reply.outcome {
            self.fail(failure);
        }
    }
}

impl Party for Granting {
    fn act(&mut self, _: Instant, links: &mut Links) -> io::Result<Next> {
        let failed = !self.tally.failures.is_empty();
        while !failed && self.asked < self.wanted && self.in_flight < IN_FLIGHT {
            let body = self.ask.lease_grant(self.ttl_seconds);
            let link = links.connection(self.asked % self.connections);
            link.query(&self.headers, body, 0);
            self.asked += 1;
            self.in_flight += 1;
        }
        let over = self.in_flight == 0;
        Ok(if over { Next::Over } else { Next::Heard })
    }

    fn fail(&mut self, failure: Failure) {
        self.tally.fail(failure);
    }
}

/// Renews leases over streams.
struct Renewing {
    tally: Tally,
    schedule: Schedule,
    clients: Vec<Client>,
    free: VecDeque<usize>,
    ask: Ask,
    now: Instant,
}

struct Client {
    link: usize,
    stream: u32,
    leases: Vec<u64>,
    /// Place of the lease under way, or of the next one.
    next: usize,
    since: Instant,
    busy: bool,
}

impl Renewing {
    /// Opens a stream for each client and shares the leases out.
    fn new(
        links: &mut Links,
        authority: &str,
        plan: &Plan,
        connections: usize,
        leases: &[u64],
    ) -> io::Result<Self> {
        let now = Instant::now();
        let headers = headers(authority, KEEP_ALIVE_PATH);
        let mut clients = Vec::new();
        for (client, leases) in leases.chunks(plan.renewals.leases).enumerate() {
            let link = client % connections;
            let stream = links.connection(link).open_stream(&headers, client as u64);
            clients.push(Client {
                link,
                stream: stream
                    .ok_or_else(|| invalid("the server allows no such number of streams"))?,
                leases: leases.to_vec(),
                next: 0,
                since: now,
                busy: false,
            });
        }
        Ok(Self {
            tally: Tally::new(now),
            schedule: Schedule::new(now, None, Until::Total(0)),
            free: (0..clients.len()).collect(),
            clients,
            ask: Ask::default(),
            now,
        })
    }

    fn heard(&mut self, client: usize, message: &[u8]) -> Result<(), &'static str> {
        let lease = answer::lease(message).map_err(|_| "an answer that cannot be read")?;
        let slot = &mut self.clients[client];
        if !slot.busy {
            return Err("a renewal that was not asked for");
        }
        if lease.id != slot.leases[slot.next] {
            return Err("a renewal of another lease than asked for");
        }
        if lease.ttl_seconds <= 0 {
            return Err("a lease that should live is gone");
        }
        slot.busy = false;
        slot.next = (slot.next + 1) % slot.leases.len();
        let latency = self.now.saturating_duration_since(slot.since);
        self.tally.succeed(self.now, latency);
        self.free.push_back(client);
        Ok(())
    }
}

impl Receiver for Renewing {
    fn arrived(&mut self, now: Instant) {
        self.now = now;
    }

    fn message(&mut self, tag: u64, message: &[u8]) {
        self.tally.response_bytes += message.len() as u64 + 5;
        let client = usize::try_from(tag).expect("the tag is the place of a client");
        if let Err(what) = self.heard(client, message) {
            self.fail(Failure::Wrong(what.to_owned()));
        }
    }

    fn reply(&mut self, reply: Reply) {
        let ended = Failure::Incomplete("a stream of renewals ended");
        self.fail(reply.outcome.err().unwrap_or(ended));
    }
}

impl Party for Renewing {
    fn act(&mut self, now: Instant, links: &mut Links) -> io::Result<Next> {
        if !self.tally.failures.is_empty() {
            return Ok(Next::Over);
        }
        let mut due = self.schedule.due(now);
        while let (Due::Now(since), Some(client)) = (due, self.free.front().copied()) {
            self.free.pop_front();
            self.schedule.issue();
            let slot = &mut self.clients[client];
            (slot.since, slot.busy) = (since, true);
            let body = self.ask.keep_alive(slot.leases[slot.next]);
            links.connection(slot.link).send(slot.stream, body);
            due = self.schedule.due(now);
        }
        Ok(match due {
            Due::Over if self.free.len() == self.clients.len() => Next::Over,
            Due::At(time) if !self.free.is_empty() => Next::At(time),
            _ => Next::Heard,
        })
    }

    fn fail(&mut self, failure: Failure) {
        self.tally.fail(failure);
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

const KEEP_ALIVE_PATH: &str = "/etcdserverpb.Lease/LeaseKeepAlive";
/// Grants under way.
const IN_FLIGHT: usize = 500;

#[cfg(test)]
mod tests;
