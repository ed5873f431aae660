//! Watch runs: delivering puts to many watchers, creating watchers, and watchers that do not read for a while.

use std::io;
use std::time::{Duration, Instant};

use crate::conversation::{Site, converse};
use crate::http2::{WINDOW_BYTES_DEFAULT, WINDOW_BYTES_MAX};
use crate::links::Links;
use crate::measurement::{Counts, Figure, Measurement, Meter, Tally};
use crate::message::{headers, keys_max};
use crate::process::{self, Usage, Yielding};
use crate::schedule::{Schedule, Until};
use crate::status::Failure;

use ledger::{Ledger, Watcher};
use watching::{Memory, Puts, STAMP_BYTES, Stream, Watching};

mod ledger;
mod watching;

/// Who watches what, and how it is put; all of it is data, so that tables of runs can be written down.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Watchers that read all the time.
    pub(crate) watchers: usize,
    /// Watchers that do not read for a while, on streams and connections of their own, as many as the others have.
    pub(crate) slow: usize,
    /// The watchers take turns with the streams, the streams with the connections.
    pub(crate) streams: usize,
    pub(crate) connections: usize,
    /// The watchers take turns with the keys; puts choose keys at random. 0 for as many as there are watchers.
    pub(crate) keys: u64,
    /// How many consecutive keys a watcher on a range watches.
    pub(crate) range_keys: u64,
    /// Share of the watchers that are on a range, 0 to 1; the others watch one key.
    pub(crate) ranges: f64,
    /// Create requests under way on each stream.
    pub(crate) creating: usize,
    pub(crate) put_connections: usize,
    /// Most puts that are not answered, or not received by every watcher that reads all the time.
    pub(crate) in_flight: usize,
    /// Puts per second at fixed times; without it, the next put follows as soon as one in flight has arrived.
    pub(crate) rate: Option<f64>,
}

/// A watch run against one server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) site: Site,
    pub(crate) shape: Shape,
    pub(crate) key_bytes: usize,
    /// Below eight, values have eight bytes all the same: the number of the put.
    pub(crate) value_bytes: usize,
    pub(crate) seed: u64,
    pub(crate) until: Until,
    pub(crate) warmup: Duration,
}

impl Shape {
    /// A thousand watchers of one key.
    pub(crate) const THOUSAND: Self = Self {
        watchers: 1000,
        slow: 0,
        streams: 10,
        connections: 10,
        keys: 1,
        range_keys: 1,
        ranges: 0.0,
        creating: 100,
        put_connections: 1,
        in_flight: 10,
        rate: None,
    };

    /// Watchers that have a key each, to be created; a few puts at a rate find out whether they work.
    pub(crate) const IDLE: Self = Self {
        watchers: 100_000,
        keys: 0,
        in_flight: OPEN_LOOP,
        rate: Some(1000.0),
        ..Self::THOUSAND
    };

    /// How many keys there are: as many as said, or as there are watchers.
    fn keys(&self) -> u64 {
        match self.keys {
            0 => self.watchers as u64,
            keys => keys,
        }
    }

    fn check(&self, key_bytes: usize) -> Result<(), &'static str> {
        let end = self.keys().checked_add(self.range_keys);
        if self.keys() == 0 || self.range_keys == 0 || self.creating == 0 || self.in_flight == 0 {
            return Err("keys, creations and puts in flight must be above zero");
        }
        if self.streams == 0 || self.connections == 0 || self.put_connections == 0 {
            return Err("streams and connections must be above zero");
        }
        if end.is_none_or(|end| end > keys_max(key_bytes)) {
            return Err("the key size is too small for that many keys");
        }
        if !(0.0..=1.0).contains(&self.ranges) {
            return Err("the share of ranges must be between 0 and 1");
        }
        if self
            .rate
            .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
        {
            return Err("the rate must be above zero");
        }
        Ok(())
    }

    /// Watcher `number` of the prompt or the slow ones.
    fn watcher(&self, number: usize, prompt: bool) -> Watcher {
        let count = if prompt { self.watchers } else { self.slow };
        #[allow(clippy::cast_precision_loss)]
        let ranged = (number as f64 + 0.5) < self.ranges * count as f64;
        let keys = if ranged { self.range_keys } else { 1 };
        Watcher::new(number as u64 % self.keys(), keys, prompt)
    }
}

/// Puts as the shape says, and counts every delivered event.
pub(crate) fn deliver(plan: &Plan) -> io::Result<Measurement> {
    let _yielding = yielding(plan)?;
    let (mut links, mut party) = connected(plan)?;
    let patience = plan.site.patience;
    converse(&mut links, &mut party, patience)?;
    if !plan.warmup.is_zero() && !party.broken() {
        let start = Instant::now();
        let schedule = Schedule::new(start, plan.shape.rate, Until::Elapsed(plan.warmup));
        party.begin(Some(schedule), true, start);
        converse(&mut links, &mut party, patience)?;
    }
    puts(plan, &mut links, &mut party)
}

/// Creates the watchers and counts them; with `idle`, tells what memory they take and whether they work.
pub(crate) fn create(plan: &Plan, idle: bool) -> io::Result<Measurement> {
    let yielding = Yielding::begin()?;
    let (mut links, mut party) = connected(plan)?;
    let usage = || plan.site.server_pid.map(process::usage).transpose();
    let before = usage()?;
    let meter = Meter::begin(plan.site.server_pid)?;
    party.tally.restart(meter.start);
    converse(&mut links, &mut party, plan.site.patience)?;
    let start = Instant::now();
    let tally = std::mem::replace(&mut party.tally, Tally::new(start));
    let mut created = meter.end(tally, Counts::WATCHERS)?;
    drop(yielding);
    if !idle || !created.failures.is_empty() {
        return Ok(created);
    }
    std::thread::sleep(SETTLE);
    if let Some((before, after)) = before.zip(usage()?) {
        created.figures = memory_per_watcher(before, after, created.succeeded);
    }
    let probed = puts(plan, &mut links, &mut party)?;
    created.figures.extend([
        Figure::milliseconds("delivery p50 beside them", probed.latency.quantile(0.5)),
        Figure::milliseconds("delivery p99 beside them", probed.latency.quantile(0.99)),
        Figure::new(
            "server CPU per event",
            "µs",
            probed.server_cpu_us().unwrap_or(f64::NAN),
        ),
    ]);
    created.failures = probed.failures;
    Ok(created)
}

/// Puts while some watchers do not read, and then lets them: they must receive everything.
pub(crate) fn slow(plan: &Plan) -> io::Result<Measurement> {
    let Until::Elapsed(length) = plan.until else {
        return Err(invalid("a run beside slow watchers has a duration"));
    };
    let (mut links, mut party) = connected(plan)?;
    converse(&mut links, &mut party, plan.site.patience)?;
    let slow_links = plan.shape.connections..2 * plan.shape.connections;
    slow_links.clone().try_for_each(|link| links.pause(link))?;
    let meter = Meter::begin(plan.site.server_pid)?;
    party.memory = plan.site.server_pid.map(|server_pid| Memory {
        server_pid,
        every: length / MEMORY_READINGS,
        next: meter.start,
        rss_bytes: Vec::new(),
    });
    let schedule = Schedule::new(meter.start, plan.shape.rate, plan.until);
    party.begin(Some(schedule), false, meter.start);
    converse(&mut links, &mut party, plan.site.patience)?;
    let rss_bytes = party.memory.take().map(|memory| memory.rss_bytes);
    let puts = party.puts.quantile(0.99);
    let start = Instant::now();
    let tally = std::mem::replace(&mut party.tally, Tally::new(start));
    let mut measurement = meter.end(tally, Counts::EVENTS)?;
    if !measurement.failures.is_empty() {
        return Ok(measurement);
    }
    slow_links.clone().try_for_each(|link| links.resume(link))?;
    party.begin(None, true, start);
    converse(&mut links, &mut party, plan.site.patience)?;
    settle(&mut party);
    measurement
        .failures
        .extend(std::mem::take(&mut party.tally.failures));
    let figures = &mut measurement.figures;
    figures.push(Figure::milliseconds("put p99", puts));
    let caught_up = party.tally.last_answer.saturating_duration_since(start);
    figures.push(Figure::milliseconds("slow ones caught up after", caught_up));
    figures.push(Figure::milliseconds(
        "slow ones' longest delay",
        party.slow.max(),
    ));
    if let (Some(rss_bytes), Some(pid)) = (rss_bytes, plan.site.server_pid) {
        let last = process::usage(pid)?.rss_bytes;
        figures.extend(memory_over_time(&rss_bytes, last));
    }
    Ok(measurement)
}

/// Puts until the end of the plan and until all of it has arrived everywhere.
fn puts(plan: &Plan, links: &mut Links, party: &mut Watching) -> io::Result<Measurement> {
    let meter = Meter::begin(plan.site.server_pid)?;
    if !party.broken() {
        let schedule = Schedule::new(meter.start, plan.shape.rate, plan.until);
        party.begin(Some(schedule), true, meter.start);
        converse(links, party, plan.site.patience)?;
        settle(party);
    }
    let tally = std::mem::replace(&mut party.tally, Tally::new(meter.start));
    let mut measurement = meter.end(tally, Counts::EVENTS)?;
    let count = party.puts.count();
    let per_second = Figure::count("puts", "/s", count).value / measurement.elapsed.as_secs_f64();
    measurement.figures = vec![
        Figure::new("puts", "/s", per_second),
        Figure::milliseconds("put to answer p50", party.puts.quantile(0.5)),
        Figure::milliseconds("put to answer p99", party.puts.quantile(0.99)),
        Figure::milliseconds("answer to event p50", party.after_answer.quantile(0.5)),
        Figure::milliseconds("answer to event p99", party.after_answer.quantile(0.99)),
        Figure::milliseconds("answer to event p99.9", party.after_answer.quantile(0.999)),
    ];
    Ok(measurement)
}

/// Counts the watchers that did not receive exactly what was put.
fn settle(party: &mut Watching) {
    let unequal = party.ledger.unequal();
    if unequal > 0 {
        let what = format!("{unequal} watchers without exactly the events of their puts");
        party.tally.fail(Failure::Wrong(what));
    }
}

/// Opens the connections and streams and shares the watchers out among them; nothing is created yet.
fn connected(plan: &Plan) -> io::Result<(Links, Watching)> {
    let shape = &plan.shape;
    shape.check(plan.key_bytes).map_err(invalid)?;
    let groups = if shape.slow > 0 { 2 } else { 1 };
    let mut windows = vec![WINDOW_BYTES_MAX; shape.connections];
    if shape.slow > 0 {
        windows.extend(vec![WINDOW_BYTES_DEFAULT; shape.connections]);
    }
    let put_links = windows.len()..windows.len() + shape.put_connections;
    windows.extend(vec![WINDOW_BYTES_MAX; shape.put_connections]);
    let authority = plan.site.endpoint.to_string();
    let mut replies = Vec::new();
    let mut links = Links::connect(
        plan.site.endpoint,
        &windows,
        plan.site.patience,
        &mut replies,
    )?;
    let headers = headers(&authority, WATCH_PATH);
    let mut streams = Vec::new();
    for number in 0..groups * shape.streams {
        let group = number / shape.streams;
        let link = group * shape.connections + number % shape.streams % shape.connections;
        let opened = links
            .connection(link)
            .open_stream(&headers, number as u64)
            .ok_or_else(|| invalid("the server allows no such number of streams"))?;
        streams.push(Stream::new(link, opened));
    }
    let mut watchers = Vec::with_capacity(shape.watchers + shape.slow);
    for (group, count) in [shape.watchers, shape.slow].into_iter().enumerate() {
        for number in 0..count {
            streams[group * shape.streams + number % shape.streams].add(watchers.len());
            watchers.push(shape.watcher(number, group == 0));
        }
    }
    let ledger = Ledger::new(plan.key_bytes, shape.keys(), watchers);
    let puts = Puts {
        authority: &authority,
        links: put_links,
        keys: shape.keys(),
        value_bytes: plan.value_bytes.max(STAMP_BYTES),
        in_flight: shape.in_flight,
        seed: plan.seed,
    };
    let party = Watching::new(ledger, streams, shape.creating, puts);
    Ok((links, party))
}

/// With a rate, being late would be charged to the server.
fn yielding(plan: &Plan) -> io::Result<Option<Yielding>> {
    plan.shape.rate.is_none().then(Yielding::begin).transpose()
}

fn memory_per_watcher(before: Usage, after: Usage, watchers: u64) -> Vec<Figure> {
    let per_watcher = |after: u64, before: u64| {
        let bytes = Figure::count("", "", after.saturating_sub(before)).value;
        bytes / Figure::count("", "", watchers.max(1)).value
    };
    vec![
        Figure::count(
            "server memory before, resident",
            "MiB",
            before.rss_bytes >> 20,
        ),
        Figure::count(
            "server memory after, resident",
            "MiB",
            after.rss_bytes >> 20,
        ),
        Figure::new(
            "server memory per watcher, resident",
            "bytes",
            per_watcher(after.rss_bytes, before.rss_bytes),
        ),
        Figure::new(
            "server memory per watcher, anonymous",
            "bytes",
            per_watcher(after.anonymous_bytes, before.anonymous_bytes),
        ),
    ]
}

fn memory_over_time(rss_bytes: &[u64], last: u64) -> Vec<Figure> {
    let at = |place: usize| rss_bytes.get(place).copied().unwrap_or_default() >> 20;
    let end = rss_bytes.len().saturating_sub(1);
    vec![
        Figure::count("server memory at the start", "MiB", at(0)),
        Figure::count("server memory in the middle", "MiB", at(end / 2)),
        Figure::count("server memory at the end of the puts", "MiB", at(end)),
        Figure::count("server memory when all has arrived", "MiB", last >> 20),
    ]
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Puts in flight at a rate: so many that only a server far behind holds up the next.
pub(crate) const OPEN_LOOP: usize = 1000;
pub(crate) const WATCH_PATH: &str = "/etcdserverpb.Watch/Watch";
/// What was garbage of the creation alone may be given back in this time.
const SETTLE: Duration = Duration::from_secs(3);
const MEMORY_READINGS: u32 = 20;

#[cfg(test)]
mod tests;
