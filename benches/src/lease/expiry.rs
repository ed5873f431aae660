//! Puts at a steady rate beside very many leases that expire at about the same time, each with one key.

use std::io;
use std::time::{Duration, Instant};

use super::{Granting, connect, invalid};
use crate::answer;
use crate::ask::Ask;
use crate::conversation::{Next, Party, Site, converse};
use crate::histogram::Histogram;
use crate::http2::{Receiver, Reply};
use crate::links::Links;
use crate::measurement::{Counts, Figure, Measurement, Meter, Tally};
use crate::message::{PUT_PATH, RANGE_PATH, headers, write_key};
use crate::random::Random;
use crate::schedule::{Due, Schedule, Until};
use crate::status::Failure;
use crate::watch::WATCH_PATH;

/// How many leases expire beside how many puts; data, so that tables of runs can be written down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    pub(crate) leases: usize,
    /// Of every lease; the grants and the keys must take less time than this.
    pub(crate) ttl_seconds: u64,
    pub(crate) connections: usize,
    /// Puts per second, of other keys than the leases have.
    pub(crate) rate: f64,
}

/// A run against one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) site: Site,
    pub(crate) shape: Shape,
    /// How long puts go on when all keys are gone, as comparison.
    pub(crate) after: Duration,
    pub(crate) value_bytes: usize,
    pub(crate) seed: u64,
}

/// Measures the puts before, during and after the expiry; every key must go, and be told to a watcher as gone.
pub(crate) fn run(plan: &Plan) -> io::Result<Measurement> {
    if plan.shape.leases == 0
        || plan.shape.connections == 0
        || !(plan.shape.rate.is_finite() && plan.shape.rate > 0.0)
    {
        return Err(invalid("leases, connections and rate must be above zero"));
    }
    let mut links = connect(&plan.site, plan.shape.connections)?;
    let authority = plan.site.endpoint.to_string();
    let begun = Instant::now();
    let mut granting = Granting::new(
        &authority,
        plan.shape.connections,
        plan.shape.leases,
        plan.shape.ttl_seconds,
    );
    converse(&mut links, &mut granting, plan.site.patience)?;
    let granted = Instant::now();
    let mut party = Expiry::new(plan, &authority, &mut links, granting.leases)?;
    party.tally.failures = granting.tally.failures;
    converse(&mut links, &mut party, plan.site.patience)?;
    let ready = Instant::now();
    // No lease may end before: it was granted, at the earliest, when the first was asked for.
    let first_end = begun + Duration::from_secs(plan.shape.ttl_seconds);
    if ready + QUIET_MIN > first_end && party.tally.failures.is_empty() {
        let what = format!(
            "grants and keys took {:.1} s: give the leases more time to live",
            (ready - begun).as_secs_f64()
        );
        return Err(invalid(&what));
    }
    let meter = Meter::begin(plan.site.server_pid)?;
    party.tally.restart(meter.start);
    party.begin(plan, meter.start, first_end);
    converse(&mut links, &mut party, plan.site.patience)?;
    let tally = std::mem::replace(&mut party.tally, Tally::new(meter.start));
    let mut measurement = meter.end(tally, Counts::REQUESTS)?;
    measurement.figures = figures(plan, &party, granted - begun, first_end);
    let left = party.left(&mut links, plan)?;
    measurement
        .failures
        .extend(std::mem::take(&mut party.tally.failures));
    if left > 0 {
        let what = format!("{left} keys of expired leases are still there");
        measurement.failures.insert(Failure::Wrong(what), 1);
    }
    Ok(measurement)
}

fn figures(plan: &Plan, party: &Expiry, granting: Duration, first_end: Instant) -> Vec<Figure> {
    let leases = Figure::count("", "", plan.shape.leases as u64).value;
    let mut figures = vec![Figure::new(
        "leases granted",
        "/s",
        leases / granting.as_secs_f64(),
    )];
    let names = [
        (
            "put p50 before",
            "put p99 before",
            "put p99.9 before",
            "put max before",
        ),
        (
            "put p50 during",
            "put p99 during",
            "put p99.9 during",
            "put max during",
        ),
        (
            "put p50 after",
            "put p99 after",
            "put p99.9 after",
            "put max after",
        ),
    ];
    for (names, histogram) in names.into_iter().zip(&party.puts) {
        figures.extend([
            Figure::milliseconds(names.0, histogram.quantile(0.5)),
            Figure::milliseconds(names.1, histogram.quantile(0.99)),
            Figure::milliseconds(names.2, histogram.quantile(0.999)),
            Figure::milliseconds(names.3, histogram.max()),
        ]);
    }
    if let (Some(first), Some(last)) = (party.first_gone, party.last_gone) {
        let since_end = |time: Instant| time.saturating_duration_since(first_end).as_secs_f64();
        figures.extend([
            Figure::new(
                "first key gone after the first lease's end",
                "s",
                since_end(first),
            ),
            Figure::new(
                "all keys gone after the first lease's end",
                "s",
                since_end(last),
            ),
        ]);
    }
    figures
}

/// Gives each lease its key, then puts at a rate, and watches the keys go.
struct Expiry {
    tally: Tally,
    /// Latencies of the puts before, during and after the expiry.
    puts: [Histogram; 3],
    /// Leases that have no key yet.
    leases: Vec<u64>,
    keys: usize,
    gone: usize,
    first_gone: Option<Instant>,
    last_gone: Option<Instant>,
    first_end: Instant,
    schedule: Option<Schedule>,
    after: Duration,
    /// When the keys must be gone or be going.
    deadline: Instant,
    patience: Duration,
    /// Since when each put is under way; a put is known by its place.
    pending: Vec<Instant>,
    free: Vec<usize>,
    /// Whether only the answer is awaited how many keys are left.
    asking: bool,
    left: Option<u64>,
    watching: bool,
    connections: usize,
    sent: usize,
    headers: Vec<u8>,
    key: Vec<u8>,
    value: Vec<u8>,
    ask: Ask,
    random: Random,
    now: Instant,
}

impl Expiry {
    /// Begins to watch the keys of the leases.
    fn new(plan: &Plan, authority: &str, links: &mut Links, leases: Vec<u64>) -> io::Result<Self> {
        let now = Instant::now();
        let mut ask = Ask::default();
        let link = links.connection(0);
        let stream = link
            .open_stream(&headers(authority, WATCH_PATH), WATCH)
            .ok_or_else(|| invalid("the server allows no stream"))?;
        link.send(stream, ask.watch(PREFIX, PREFIX_END));
        Ok(Self {
            tally: Tally::new(now),
            puts: [(); 3].map(|()| Histogram::new()),
            keys: leases.len(),
            leases,
            gone: 0,
            first_gone: None,
            last_gone: None,
            first_end: now,
            schedule: None,
            after: plan.after,
            deadline: now,
            patience: plan.site.patience,
            pending: vec![now; IN_FLIGHT],
            free: (0..IN_FLIGHT).collect(),
            asking: false,
            left: None,
            watching: false,
            connections: plan.shape.connections,
            sent: 0,
            headers: headers(authority, PUT_PATH),
            key: Vec::new(),
            value: vec![b'.'; plan.value_bytes],
            ask,
            random: Random::new(plan.seed),
            now,
        })
    }

    fn begin(&mut self, plan: &Plan, start: Instant, first_end: Instant) {
        self.schedule = Some(Schedule::new(
            start,
            Some(plan.shape.rate),
            Until::Elapsed(FOREVER),
        ));
        self.first_end = first_end;
        self.deadline = first_end + self.patience;
    }

    /// Asks how many keys of leases there still are.
    fn left(&mut self, links: &mut Links, plan: &Plan) -> io::Result<u64> {
        let range = headers(&plan.site.endpoint.to_string(), RANGE_PATH);
        let body = self.ask.range(PREFIX, PREFIX_END, true);
        if links.accepts(0) {
            links.connection(0).query(&range, body, LEFT);
            self.asking = true;
            converse(links, self, plan.site.patience)?;
        }
        Ok(self.left.unwrap_or_default())
    }

    fn put(&mut self, since: Instant, lease: Option<u64>, links: &mut Links) {
        let Some(place) = self.free.pop() else {
            return;
        };
        self.pending[place] = since;
        self.key.clear();
        let number = match lease {
            Some(_) => {
                self.key.extend_from_slice(PREFIX);
                self.leases.len() as u64
            }
            None => self.random.below(PUT_KEYS),
        };
        let prefix = self.key.len();
        self.key.resize(prefix + KEY_DIGITS, 0);
        write_key(&mut self.key[prefix..], number);
        let body = self
            .ask
            .put(&self.key, &self.value, lease.unwrap_or_default());
        let link = links.connection(self.sent % self.connections);
        link.request(&self.headers, body, place as u64);
        self.sent += 1;
    }

    /// Which of the three times a put belongs to that was due at `since`.
    fn phase(&self, since: Instant) -> usize {
        let last = self.last_gone.filter(|_| self.gone >= self.keys);
        match last {
            _ if since < self.first_end => 0,
            Some(last) if since > last => 2,
            _ => 1,
        }
    }

    fn watched(&mut self, message: &[u8]) -> Result<(), &'static str> {
        let unreadable = |_| "a message that is no watch response";
        let watched = answer::watched(message).map_err(unreadable)?;
        if watched.canceled {
            return Err("the watcher was cancelled");
        }
        self.watching |= watched.created;
        for event in answer::events(message) {
            let event = event.map_err(unreadable)?;
            if !event.record.key.starts_with(PREFIX) {
                return Err("an event of a key that is not watched");
            }
            if event.deleted {
                if self.now < self.first_end {
                    return Err("a key went before its lease could end");
                }
                self.gone += 1;
                self.first_gone.get_or_insert(self.now);
                self.last_gone = Some(self.now);
                self.deadline = self.now + self.patience;
            }
        }
        Ok(())
    }
}

impl Receiver for Expiry {
    fn arrived(&mut self, now: Instant) {
        self.now = now;
    }

    fn message(&mut self, tag: u64, message: &[u8]) {
        if tag == LEFT {
            self.left = answer::ranged(message).ok().map(|(_, count)| count);
            return;
        }
        if let Err(what) = self.watched(message) {
            self.fail(Failure::Wrong(what.to_owned()));
        }
    }

    fn reply(&mut self, reply: Reply) {
        match reply.outcome {
            Ok(()) if reply.tag == WATCH => {
                self.fail(Failure::Incomplete("the watch stream ended"));
            }
            Ok(()) if reply.tag == LEFT => {}
            Ok(()) => {
                let place = usize::try_from(reply.tag).expect("the tag is the place of a put");
                let since = self.pending[place];
                let latency = self.now.saturating_duration_since(since);
                self.tally.succeed(self.now, latency);
                self.tally.response_bytes += reply.data_bytes;
                if self.schedule.is_some() {
                    let phase = self.phase(since);
                    self.puts[phase].record(latency);
                }
                self.free.push(place);
            }
            Err(failure) => self.fail(failure),
        }
    }
}

impl Party for Expiry {
    fn act(&mut self, now: Instant, links: &mut Links) -> io::Result<Next> {
        if !self.tally.failures.is_empty() || self.left.is_some() {
            return Ok(Next::Over);
        }
        if self.asking {
            return Ok(Next::Heard);
        }
        let idle = self.free.len() == self.pending.len();
        while self.watching && !self.free.is_empty() {
            let Some(lease) = self.leases.pop() else {
                break;
            };
            self.put(now, Some(lease), links);
        }
        let Some(schedule) = &self.schedule else {
            let over = self.watching && idle && self.leases.is_empty();
            return Ok(if over { Next::Over } else { Next::Heard });
        };
        let all_gone = self.gone >= self.keys;
        let end = self
            .last_gone
            .filter(|_| all_gone)
            .map(|last| last + self.after);
        if end.is_some_and(|end| now >= end) {
            return Ok(if idle { Next::Over } else { Next::Heard });
        }
        if !all_gone && now >= self.deadline {
            let what = format!("{} of {} keys did not go", self.keys - self.gone, self.keys);
            self.fail(Failure::Wrong(what));
            return Ok(Next::Over);
        }
        match schedule.due(now) {
            Due::Now(_) if self.free.is_empty() => Ok(Next::Heard),
            Due::Now(since) => {
                self.schedule.as_mut().map(Schedule::issue);
                self.put(since, None, links);
                Ok(Next::At(now))
            }
            Due::At(time) => Ok(Next::At(time)),
            Due::Over => Ok(Next::Heard),
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.tally.fail(failure);
    }
}

/// Marks the watch stream; puts have their places as tags.
const WATCH: u64 = 1 << 63;
/// Marks the question how many keys are left.
const LEFT: u64 = 1 << 62;
/// Puts under way.
const IN_FLIGHT: usize = 1000;
const PREFIX: &[u8] = b"leased/";
/// The first key behind all those that begin with the prefix.
const PREFIX_END: &[u8] = b"leased0";
const KEY_DIGITS: usize = 16;
const PUT_KEYS: u64 = 10_000;
/// There must be some time before the expiry to compare with.
const QUIET_MIN: Duration = Duration::from_secs(3);
const FOREVER: Duration = Duration::from_secs(1 << 20);
