//! The verbs that talk over streams, or decide by answers what they send next.

use std::io;
use std::time::Duration;

use clap::Args;

use super::{Load, Reach, duration};
use crate::lease::{self, Renewals, expiry};
use crate::measurement::Measurement;
use crate::message::Message;
use crate::schedule::Until;
use crate::workload::Workload;
use crate::{stm, watch};

/// How to measure.
#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    reach: Reach,
    /// Length of the keys, bytes
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// Length of the values, bytes, at least 8
    #[arg(long, default_value_t = 256)]
    val_size: usize,
    /// Seed of keys and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long to measure, e.g. 500ms, 10s, 2m
    #[arg(long, value_parser = duration, default_value = "10s")]
    duration: Duration,
    /// How much to do instead of how long
    #[arg(long)]
    total: Option<u64>,
    /// Load before the measurement, not counted, e.g. 2s
    #[arg(long, value_parser = duration, default_value = "0s")]
    warmup: Duration,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How watchers and puts are spread.
#[derive(Args)]
struct Spread {
    /// Watch streams
    #[arg(long, default_value_t = 10)]
    streams: usize,
    /// Connections of the watch streams
    #[arg(long, default_value_t = 10)]
    conns: usize,
    /// Connections of the puts
    #[arg(long, default_value_t = 1)]
    put_conns: usize,
    /// Consecutive keys that a watcher on a range watches
    #[arg(long, default_value_t = 10)]
    range_keys: u64,
    /// Share of the watchers that are on a range instead of one key, 0 to 1
    #[arg(long, default_value_t = 0.0)]
    ranges: f64,
}

#[derive(Args)]
pub(crate) struct Watch {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    spread: Spread,
    /// Watchers
    #[arg(long, default_value_t = 1000)]
    watchers: usize,
    /// Keys that the watchers take turns with
    #[arg(long, default_value_t = 1)]
    keys: u64,
    /// Puts that are not yet received everywhere
    #[arg(long, default_value_t = 10)]
    in_flight: usize,
    /// Puts per second at fixed times; without it, as many as are delivered
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Args)]
pub(crate) struct WatchLatency {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    spread: Spread,
    /// Watchers
    #[arg(long, default_value_t = 10)]
    watchers: usize,
    /// Keys that the watchers take turns with
    #[arg(long, default_value_t = 1)]
    keys: u64,
    /// Puts per second at fixed times
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
}

#[derive(Args)]
pub(crate) struct WatchCreate {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    spread: Spread,
    /// Watchers, each of a key of its own
    #[arg(long, default_value_t = 100_000)]
    watchers: usize,
    /// Create requests under way on each stream
    #[arg(long, default_value_t = 100)]
    creating: usize,
    /// Keep them, read the server's memory, and put at 1,000/s for the duration to see that they work
    #[arg(long)]
    idle: bool,
}

#[derive(Args)]
pub(crate) struct SlowWatchers {
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    spread: Spread,
    /// Watchers that read all the time
    #[arg(long, default_value_t = 500)]
    watchers: usize,
    /// Watchers that do not read while puts go on
    #[arg(long, default_value_t = 500)]
    slow: usize,
    /// Keys that the watchers take turns with
    #[arg(long, default_value_t = 100)]
    keys: u64,
    /// Puts per second at fixed times
    #[arg(long, default_value_t = 5000.0)]
    rate: f64,
}

#[derive(Args)]
pub(crate) struct LeaseGrant {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Time to live, seconds
    #[arg(long, default_value_t = 3600)]
    ttl: u64,
}

#[derive(Args)]
pub(crate) struct LeaseKeepalive {
    #[command(flatten)]
    pub(crate) run: Run,
    /// Streams, each with one renewal under way
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Connections
    #[arg(long, default_value_t = 10)]
    conns: usize,
    /// Leases of each stream
    #[arg(long, default_value_t = 10)]
    leases: usize,
    /// Time to live, seconds
    #[arg(long, default_value_t = 3600)]
    ttl: u64,
    /// Renewals per second at fixed times
    #[arg(long)]
    rate: Option<f64>,
}

#[derive(Args)]
pub(crate) struct LeaseExpiry {
    #[command(flatten)]
    pub(crate) run: Run,
    /// Leases, each with one key
    #[arg(long, default_value_t = 100_000)]
    leases: usize,
    /// Connections
    #[arg(long, default_value_t = 10)]
    conns: usize,
    /// Time to live, seconds; more than granting takes
    #[arg(long, default_value_t = 60)]
    ttl: u64,
    /// Puts per second at fixed times
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
}

#[derive(Args)]
pub(crate) struct Stm {
    #[command(flatten)]
    pub(crate) run: Run,
    /// Clients, each with one transaction under way
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Connections
    #[arg(long, default_value_t = 10)]
    conns: usize,
    /// Keys there are
    #[arg(long, default_value_t = 100)]
    keys: u64,
    /// Keys a transaction reads and writes
    #[arg(long, default_value_t = 2)]
    keys_per_txn: usize,
}

impl Run {
    fn until(&self) -> Until {
        self.total
            .map_or(Until::Elapsed(self.duration), Until::Total)
    }

    fn watch(&self, shape: watch::Shape) -> io::Result<watch::Plan> {
        Ok(watch::Plan {
            site: self.reach.site()?,
            shape,
            key_bytes: self.key_size,
            value_bytes: self.val_size,
            seed: self.seed,
            until: self.until(),
            warmup: self.warmup,
        })
    }
}

impl Spread {
    fn shape(&self, watchers: usize, keys: u64) -> watch::Shape {
        watch::Shape {
            watchers,
            streams: self.streams,
            connections: self.conns,
            keys,
            range_keys: self.range_keys,
            ranges: self.ranges,
            put_connections: self.put_conns,
            ..watch::Shape::THOUSAND
        }
    }
}

impl Watch {
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        let shape = watch::Shape {
            in_flight: self.in_flight,
            rate: self.rate,
            ..self.spread.shape(self.watchers, self.keys)
        };
        watch::deliver(&self.run.watch(shape)?)
    }
}

impl WatchLatency {
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        let shape = watch::Shape {
            in_flight: watch::OPEN_LOOP,
            rate: Some(self.rate),
            ..self.spread.shape(self.watchers, self.keys)
        };
        watch::deliver(&self.run.watch(shape)?)
    }
}

impl WatchCreate {
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        let shape = watch::Shape {
            creating: self.creating,
            in_flight: watch::OPEN_LOOP,
            rate: watch::Shape::IDLE.rate,
            ..self.spread.shape(self.watchers, watch::Shape::IDLE.keys)
        };
        watch::create(&self.run.watch(shape)?, self.idle)
    }
}

impl SlowWatchers {
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        let shape = watch::Shape {
            slow: self.slow,
            in_flight: watch::OPEN_LOOP,
            rate: Some(self.rate),
            ..self.spread.shape(self.watchers, self.keys)
        };
        watch::slow(&self.run.watch(shape)?)
    }
}

impl LeaseGrant {
    pub(crate) fn workload(&self, load: &Load) -> Workload {
        let authority = &load.target.reach.endpoint;
        Workload::fixed(Message::lease_grant(authority, self.ttl))
    }
}

impl LeaseKeepalive {
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        lease::keep_alive(&lease::Plan {
            site: self.run.reach.site()?,
            renewals: Renewals {
                clients: self.clients,
                connections: self.conns,
                leases: self.leases,
                ttl_seconds: self.ttl,
            },
            rate: self.rate,
            until: self.run.until(),
            warmup: self.run.warmup,
        })
    }
}

impl LeaseExpiry {
    /// Measures; the duration is how long puts go on after the expiry.
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        expiry::run(&expiry::Plan {
            site: self.run.reach.site()?,
            shape: expiry::Shape {
                leases: self.leases,
                ttl_seconds: self.ttl,
                connections: self.conns,
                rate: self.rate,
            },
            after: self.run.duration,
            value_bytes: self.run.val_size,
            seed: self.run.seed,
        })
    }
}

impl Stm {
    pub(crate) fn measure(&self) -> io::Result<Measurement> {
        stm::run(&stm::Plan {
            site: self.run.reach.site()?,
            shape: stm::Shape {
                clients: self.clients,
                connections: self.conns,
                keys: self.keys,
                keys_per_txn: self.keys_per_txn,
            },
            key_bytes: self.run.key_size,
            value_bytes: self.run.val_size,
            seed: self.run.seed,
            until: self.run.until(),
            warmup: self.run.warmup,
        })
    }
}
