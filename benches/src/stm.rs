//! Optimistic transactions that contend for few keys: read, compare what was read, write, and again after a conflict.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use crate::answer;
use crate::ask::{Ask, Guarded};
use crate::conversation::{Next, Party, Site, converse};
use crate::http2::{Receiver, Reply, WINDOW_BYTES_MAX};
use crate::links::Links;
use crate::measurement::{Counts, Figure, Measurement, Meter, Tally};
use crate::message::{PREFIX_BYTES, PUT_PATH, RANGE_PATH, TXN_PATH, headers, write_key};
use crate::process::Yielding;
use crate::random::Random;
use crate::schedule::{Due, Schedule, Until};
use crate::status::Failure;

/// Who contends for what; data, so that tables of runs can be written down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Each has one transaction under way.
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    /// How many keys there are; few make many conflicts.
    pub(crate) keys: u64,
    /// How many of them one transaction reads and writes.
    pub(crate) keys_per_txn: usize,
}

/// A run against one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) site: Site,
    pub(crate) shape: Shape,
    pub(crate) key_bytes: usize,
    /// Below eight, values have eight bytes all the same: a counter.
    pub(crate) value_bytes: usize,
    pub(crate) seed: u64,
    pub(crate) until: Until,
    pub(crate) warmup: Duration,
}

/// Runs the transactions, and checks in the end that the counters in the keys are as many as were committed.
pub(crate) fn run(plan: &Plan) -> io::Result<Measurement> {
    let shape = &plan.shape;
    let per_txn = shape.keys_per_txn as u64;
    if shape.clients == 0 || per_txn == 0 || per_txn > shape.keys {
        let what =
            "clients and keys per transaction must be above zero, and there must be so many keys";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let _yielding = Yielding::begin()?;
    let connections = shape.connections.clamp(1, shape.clients);
    let windows = vec![WINDOW_BYTES_MAX; connections];
    let mut replies = Vec::new();
    let mut links = Links::connect(
        plan.site.endpoint,
        &windows,
        plan.site.patience,
        &mut replies,
    )?;
    let mut party = Contention::new(plan, connections);
    let counted_before = party.count_all(&mut links, plan)?;
    party.fill(&mut links, plan)?;
    if !plan.warmup.is_zero() {
        party.schedule = Schedule::new(Instant::now(), None, Until::Elapsed(plan.warmup));
        converse(&mut links, &mut party, plan.site.patience)?;
    }
    let meter = Meter::begin(plan.site.server_pid)?;
    party.tally.restart(meter.start);
    party.attempts = 0;
    party.schedule = Schedule::new(meter.start, None, plan.until);
    converse(&mut links, &mut party, plan.site.patience)?;
    let (attempts, commits) = (party.attempts, party.tally.succeeded);
    let tally = std::mem::replace(&mut party.tally, Tally::new(meter.start));
    let mut measurement = meter.end(tally, Counts::COMMITS)?;
    measurement.figures = figures(attempts, commits);
    let counted = party
        .count_all(&mut links, plan)?
        .wrapping_sub(counted_before);
    measurement
        .failures
        .extend(std::mem::take(&mut party.tally.failures));
    let expect = party.commits * per_txn;
    if counted != expect && measurement.failures.is_empty() {
        let what = format!("{expect} counts were committed, and the keys hold {counted}");
        measurement.failures.insert(Failure::Wrong(what), 1);
    }
    Ok(measurement)
}

fn figures(attempts: u64, commits: u64) -> Vec<Figure> {
    let conflicts = Figure::count("", "", attempts.saturating_sub(commits)).value;
    let share = conflicts / Figure::count("", "", attempts.max(1)).value;
    vec![
        Figure::new("conflicts", "% of all attempts", share * 100.0),
        Figure::new(
            "attempts per commit",
            "",
            Figure::count("", "", attempts).value / Figure::count("", "", commits.max(1)).value,
        ),
    ]
}

/// All clients and what they are about to do.
struct Contention {
    tally: Tally,
    schedule: Schedule,
    clients: Vec<Client>,
    /// Clients that have nothing under way.
    free: VecDeque<usize>,
    /// Clients that have something to send, besides new transactions.
    ready: VecDeque<usize>,
    /// Transactions sent.
    attempts: u64,
    /// Transactions that succeeded, of all times.
    commits: u64,
    /// The counters read, if this run of the party is only to read or fill them all.
    counting: Option<u64>,
    /// Keys that were not there when they were counted.
    missing: Vec<u64>,
    keys: u64,
    range_headers: Vec<u8>,
    txn_headers: Vec<u8>,
    ask: Ask,
    random: Random,
    now: Instant,
    broken: bool,
}

struct Client {
    link: usize,
    /// When its transaction began, conflicts included.
    since: Instant,
    keys: Vec<Guarded>,
    /// Reads that are not answered yet.
    reading: usize,
    /// Length of the answers to its last attempt.
    answer_bytes: u64,
    /// What the answer of the last transaction said.
    succeeded: bool,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    Writing,
}

impl Contention {
    fn new(plan: &Plan, connections: usize) -> Self {
        let now = Instant::now();
        let authority = plan.site.endpoint.to_string();
        let guarded = Guarded {
            key: vec![0; plan.key_bytes],
            mod_revision: 0,
            value: vec![b'.'; plan.value_bytes.max(COUNTER_BYTES)],
        };
        let clients = (0..plan.shape.clients).map(|client| Client {
            link: client % connections,
            since: now,
            keys: vec![guarded.clone(); plan.shape.keys_per_txn],
            reading: 0,
            answer_bytes: 0,
            succeeded: false,
            state: State::Reading,
        });
        Self {
            tally: Tally::new(now),
            schedule: Schedule::new(now, None, Until::Total(0)),
            clients: clients.collect(),
            free: (0..plan.shape.clients).collect(),
            ready: VecDeque::new(),
            attempts: 0,
            commits: 0,
            counting: None,
            missing: Vec::new(),
            keys: plan.shape.keys,
            range_headers: headers(&authority, RANGE_PATH),
            txn_headers: headers(&authority, TXN_PATH),
            ask: Ask::default(),
            random: Random::new(plan.seed),
            now,
            broken: false,
        }
    }

    /// Reads every key once and adds up their counters.
    fn count_all(&mut self, links: &mut Links, plan: &Plan) -> io::Result<u64> {
        if self.broken || !links.accept() {
            return Ok(0);
        }
        self.counting = Some(0);
        let mut key = vec![0; plan.key_bytes];
        for number in 0..self.keys {
            write_key(&mut key, number);
            let body = self.ask.range(&key, &[], false);
            let tag = number * SLOTS;
            links
                .connection(0)
                .query(&self.range_headers, body, COUNTING | tag);
        }
        self.clients[0].state = State::Reading;
        self.clients[0].reading = usize::try_from(self.keys).expect("keys fit the memory");
        converse(links, self, plan.site.patience)?;
        Ok(self.counting.take().unwrap_or_default())
    }

    /// Puts the keys that are not there, so that the first transactions find what later ones do.
    fn fill(&mut self, links: &mut Links, plan: &Plan) -> io::Result<()> {
        let put = headers(&plan.site.endpoint.to_string(), PUT_PATH);
        let mut key = vec![0; plan.key_bytes];
        let mut value = self.clients[0].keys[0].value.clone();
        value[..COUNTER_BYTES].fill(0);
        let missing = std::mem::take(&mut self.missing);
        for numbers in missing.chunks(FILLING) {
            if self.broken || !links.accept() {
                break;
            }
            self.counting = Some(0);
            self.clients[0].reading = numbers.len();
            for number in numbers {
                write_key(&mut key, *number);
                let body = self.ask.put(&key, &value, 0);
                links.connection(0).request(&put, body, COUNTING);
            }
            converse(links, self, plan.site.patience)?;
        }
        self.counting = None;
        Ok(())
    }

    /// Chooses other keys for `client`, all different, and begins to read them.
    fn begin(&mut self, client: usize, now: Instant, links: &mut Links) {
        let slot = &mut self.clients[client];
        slot.since = now;
        let mut chosen: Vec<u64> = Vec::with_capacity(slot.keys.len());
        while chosen.len() < slot.keys.len() {
            let key = self.random.below(self.keys);
            if !chosen.contains(&key) {
                write_key(&mut slot.keys[chosen.len()].key, key);
                chosen.push(key);
            }
        }
        self.read(client, links);
    }

    fn read(&mut self, client: usize, links: &mut Links) {
        let slot = &mut self.clients[client];
        slot.state = State::Reading;
        slot.reading = slot.keys.len();
        slot.answer_bytes = 0;
        for (place, guarded) in slot.keys.iter().enumerate() {
            let body = self.ask.range(&guarded.key, &[], false);
            let tag = client as u64 * SLOTS + place as u64;
            links
                .connection(slot.link)
                .query(&self.range_headers, body, tag);
        }
    }

    fn write(&mut self, client: usize, links: &mut Links) {
        let slot = &mut self.clients[client];
        slot.state = State::Writing;
        for guarded in &mut slot.keys {
            let next = counter(&guarded.value).wrapping_add(1);
            guarded.value[..COUNTER_BYTES].copy_from_slice(&next.to_le_bytes());
        }
        let body = self.ask.put_unless_modified(&slot.keys);
        let tag = client as u64 * SLOTS;
        links
            .connection(slot.link)
            .query(&self.txn_headers, body, tag);
        self.attempts += 1;
    }

    fn heard(&mut self, tag: u64, message: &[u8]) -> Result<(), answer::Malformed> {
        if let Some(counted) = &mut self.counting {
            let (record, _) = answer::ranged(message)?;
            match record {
                Some(record) => *counted = counted.wrapping_add(counter(record.value)),
                None => self.missing.push(tag / SLOTS),
            }
            return Ok(());
        }
        let slot = &mut self.clients[place(tag / SLOTS)];
        slot.answer_bytes += message.len() as u64 + PREFIX_BYTES as u64;
        match slot.state {
            State::Reading => {
                let (record, _) = answer::ranged(message)?;
                let record = record.unwrap_or_default();
                let guarded = &mut slot.keys[place(tag % SLOTS)];
                guarded.mod_revision = record.mod_revision;
                let counter = counter(record.value);
                guarded.value[..COUNTER_BYTES].copy_from_slice(&counter.to_le_bytes());
            }
            State::Writing => {
                slot.succeeded = answer::succeeded(message)?;
            }
        }
        Ok(())
    }
}

impl Receiver for Contention {
    fn arrived(&mut self, now: Instant) {
        self.now = now;
    }

    fn message(&mut self, tag: u64, message: &[u8]) {
        if self.heard(tag & !COUNTING, message).is_err() {
            let what = "an answer that cannot be read".to_owned();
            self.fail(Failure::Wrong(what));
        }
    }

    fn reply(&mut self, reply: Reply) {
        if let Err(failure) = reply.outcome {
            return self.fail(failure);
        }
        let counting = reply.tag & COUNTING != 0;
        let client = if counting {
            0
        } else {
            place(reply.tag / SLOTS)
        };
        let slot = &mut self.clients[client];
        match slot.state {
            State::Reading => {
                slot.reading -= 1;
                if slot.reading == 0 && !counting {
                    self.ready.push_back(client);
                }
            }
            State::Writing if slot.succeeded => {
                self.commits += 1;
                let latency = self.now.saturating_duration_since(slot.since);
                self.tally.succeed(self.now, latency);
                self.tally.response_bytes += slot.answer_bytes;
                self.free.push_back(client);
            }
            // After a conflict the same keys are read again.
            State::Writing => self.ready.push_back(client),
        }
    }
}

impl Party for Contention {
    fn act(&mut self, now: Instant, links: &mut Links) -> io::Result<Next> {
        if self.broken {
            return Ok(Next::Over);
        }
        if self.counting.is_some() {
            let over = self.clients[0].reading == 0;
            return Ok(if over { Next::Over } else { Next::Heard });
        }
        while let Some(client) = self.ready.pop_front() {
            match self.clients[client].state {
                State::Reading => self.write(client, links),
                State::Writing => self.read(client, links),
            }
        }
        let mut due = self.schedule.due(now);
        while let (Due::Now(since), Some(client)) = (due, self.free.front().copied()) {
            self.free.pop_front();
            self.schedule.issue();
            self.begin(client, since, links);
            due = self.schedule.due(now);
        }
        let over = due == Due::Over && self.free.len() == self.clients.len();
        Ok(if over { Next::Over } else { Next::Heard })
    }

    fn fail(&mut self, failure: Failure) {
        self.broken = true;
        self.tally.fail(failure);
    }
}

/// The counter in a value; zero for a key that is not there.
fn counter(value: &[u8]) -> u64 {
    value
        .first_chunk::<COUNTER_BYTES>()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("tags hold places")
}

const COUNTER_BYTES: usize = 8;
/// Keys a transaction may have, as tags tell them apart.
const SLOTS: u64 = 1 << 16;
/// Keys put at a time before the run.
const FILLING: usize = 500;
/// Marks the tags of reads that only count, and of the puts before the run.
const COUNTING: u64 = 1 << 63;

#[cfg(test)]
mod tests;
