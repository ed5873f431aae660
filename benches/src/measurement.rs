//! What a run measured, and how it is gathered.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::histogram::Histogram;
use crate::process::{self, Usage};
use crate::status::Failure;

/// What a run measured.
pub(crate) struct Measurement {
    pub(crate) counts: Counts,
    /// How many of them succeeded.
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
    /// Consumption of each server process before and after.
    pub(crate) servers: Vec<(Usage, Usage)>,
    /// Length of all successful response messages.
    pub(crate) response_bytes: u64,
    /// What else this kind of run found out.
    pub(crate) figures: Vec<Figure>,
}

/// What a run counts: what was done with it, and what one of it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) done: &'static str,
    pub(crate) each: &'static str,
}

impl Counts {
    pub(crate) const REQUESTS: Self = Self::new("answered", "request");
    pub(crate) const EVENTS: Self = Self::new("events delivered", "event");
    pub(crate) const WATCHERS: Self = Self::new("watchers created", "watcher");
    pub(crate) const RENEWALS: Self = Self::new("leases renewed", "renewal");
    pub(crate) const COMMITS: Self = Self::new("transactions committed", "commit");

    const fn new(done: &'static str, each: &'static str) -> Self {
        Self { done, each }
    }
}

/// A single value with a name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

impl Figure {
    pub(crate) fn new(name: &'static str, unit: &'static str, value: f64) -> Self {
        Self { name, unit, value }
    }

    /// A count; exact up to 2^53.
    #[allow(clippy::cast_precision_loss)]
    pub(crate) fn count(name: &'static str, unit: &'static str, count: u64) -> Self {
        Self::new(name, unit, count as f64)
    }

    /// A duration, shown in milliseconds.
    pub(crate) fn milliseconds(name: &'static str, duration: Duration) -> Self {
        Self::new(name, "ms", duration.as_secs_f64() * 1e3)
    }
}

/// What a run counts while it goes on.
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failures: BTreeMap<Failure, u64>,
    pub(crate) latency: Histogram,
    pub(crate) missed: u64,
    pub(crate) response_bytes: u64,
    pub(crate) last_answer: Instant,
    /// When each success came and how long it took, for who wants to know.
    pub(crate) timeline: Option<Timeline>,
}

/// Successes in the order in which they came: the time of each, and how long it took.
pub(crate) type Timeline = Vec<(Instant, Duration)>;

impl Tally {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            succeeded: 0,
            failures: BTreeMap::new(),
            latency: Histogram::new(),
            missed: 0,
            response_bytes: 0,
            last_answer: start,
            timeline: None,
        }
    }

    /// Counts a success at `now` that took `latency`.
    pub(crate) fn succeed(&mut self, now: Instant, latency: Duration) {
        self.succeeded += 1;
        self.latency.record(latency);
        self.last_answer = now;
        if let Some(timeline) = &mut self.timeline {
            timeline.push((now, latency));
        }
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    /// Begins to count anew at `start`; only failures are kept, as none must pass unseen.
    pub(crate) fn restart(&mut self, start: Instant) {
        let failures = std::mem::take(&mut self.failures);
        *self = Self::new(start);
        self.failures = failures;
    }
}

/// Takes time and consumption from its beginning.
pub(crate) struct Meter {
    server_pids: Vec<u32>,
    servers_before: Vec<Usage>,
    own_before: Duration,
    pub(crate) start: Instant,
}

impl Meter {
    /// Begins to measure; `server_pids` are the processes whose consumption is to be read.
    pub(crate) fn begin(server_pids: impl IntoIterator<Item = u32>) -> io::Result<Self> {
        let server_pids: Vec<u32> = server_pids.into_iter().collect();
        Ok(Self {
            servers_before: usages(&server_pids)?,
            server_pids,
            own_before: process::own_cpu(),
            start: Instant::now(),
        })
    }

    /// What was counted and used since the beginning.
    pub(crate) fn end(self, tally: Tally, counts: Counts) -> io::Result<Measurement> {
        let servers_after = usages(&self.server_pids)?;
        Ok(Measurement {
            counts,
            succeeded: tally.succeeded,
            failures: tally.failures,
            latency: tally.latency,
            missed: tally.missed,
            elapsed: tally.last_answer.saturating_duration_since(self.start),
            own_cpu: process::own_cpu() - self.own_before,
            servers: self.servers_before.into_iter().zip(servers_after).collect(),
            response_bytes: tally.response_bytes,
            figures: Vec::new(),
        })
    }
}

fn usages(pids: &[u32]) -> io::Result<Vec<Usage>> {
    pids.iter().copied().map(process::usage).collect()
}
