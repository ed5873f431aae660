//! The rows of the comparison on clusters of three members, and their turns.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use super::{Comparison, FILL_OPERATIONS, PATIENCE, SETTLE, per_key, programs};
use crate::arguments::Compare;
use crate::cluster::catch_up::Gap;
use crate::cluster::{Cluster, Findings, catch_up, failover, transfer};
use crate::conversation::Site;
use crate::drive::{self, Plan};
use crate::measurement::{Figure, Measurement};
use crate::process;
use crate::report::shown;
use crate::schedule::Until;
use crate::suite::{KEY_BYTES, LINEARIZABLE, SERIALIZABLE, SMALL_KEYS, VALUE_BYTES};
use crate::table::Turn;
use crate::workload::{Shape, Space, Workload};

/// Load on a cluster that holds ten thousand keys, each in its turn.
#[derive(Debug, Clone, Copy)]
struct Row {
    name: &'static str,
    shape: Shape,
    clients: usize,
    connections: usize,
    asked: Asked,
}

/// The members that are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Leader,
    /// One of the followers.
    Follower,
    /// All members, by as many connections each.
    All,
}

/// What is done once, on a cluster just started that has no data.
#[derive(Debug, Clone, Copy)]
enum Work {
    Failover,
    Transfer,
    CatchUp { rate: Option<f64> },
    Memory,
}

const PUT: Row = Row {
    name: "put at the leader",
    shape: Shape::Put,
    clients: 100,
    connections: 10,
    asked: Asked::Leader,
};
const GET: Shape = Shape::Range {
    keys: 1,
    options: LINEARIZABLE,
};

const ROWS: &[Row] = &[
    PUT,
    Row {
        name: "put spread over all members",
        asked: Asked::All,
        // So that each member has as many.
        connections: 12,
        ..PUT
    },
    Row {
        name: "put at the leader, 1 client",
        clients: 1,
        connections: 1,
        ..PUT
    },
    Row {
        name: "range of one key at the leader, linearizable",
        shape: GET,
        ..PUT
    },
    Row {
        name: "range of one key at a follower, linearizable",
        shape: GET,
        asked: Asked::Follower,
        ..PUT
    },
    Row {
        name: "range of one key at a follower, serializable",
        shape: Shape::Range {
            keys: 1,
            options: SERIALIZABLE,
        },
        asked: Asked::Follower,
        ..PUT
    },
];

const ALONE: &[(&str, Work)] = &[
    ("failover", Work::Failover),
    ("transfer", Work::Transfer),
    (
        "catch-up beside 1000 puts/s",
        Work::CatchUp { rate: Some(1000.0) },
    ),
    (
        "catch-up beside puts of 100 clients",
        Work::CatchUp { rate: None },
    ),
    ("memory", Work::Memory),
];

impl Comparison {
    /// Every row whose name is `asked` for.
    pub(super) fn clusters(
        &mut self,
        options: &Compare,
        directory: &Path,
        asked: impl Fn(&str) -> bool,
    ) -> io::Result<()> {
        let mut clusters = Vec::new();
        for (name, binary, arguments) in programs(options)? {
            let directory = directory.join(name).join("cluster");
            clusters.push(Cluster::new(binary, arguments, &directory)?);
        }
        let rows: Vec<Row> = ROWS.iter().copied().filter(|row| asked(row.name)).collect();
        if !rows.is_empty() {
            self.cluster_rounds(&rows, &mut clusters)?;
        }
        for (name, work) in ALONE.iter().filter(|(name, _)| asked(name)) {
            for (side, cluster) in clusters.iter_mut().enumerate() {
                eprintln!("{name}, {}", self.results.sides[side]);
                cluster.start()?;
                // A cluster that does not come back must not take the other rows with it.
                let findings = self.alone(*work, cluster).unwrap_or_else(Findings::of);
                cluster.stop()?;
                self.note_figures(side, name, &findings.figures);
                let failures = findings.failures.into_iter();
                let sides = &self.results.sides;
                let failures = failures.map(|what| format!("{}, {name}: {what}", sides[side]));
                self.results.failures.extend(failures.collect::<Vec<_>>());
            }
        }
        Ok(())
    }

    /// Rows in rounds. Each side has the machine for itself in its turn, with all rows on one cluster.
    fn cluster_rounds(&mut self, rows: &[Row], clusters: &mut [Cluster]) -> io::Result<()> {
        let mut turns: Vec<Vec<Vec<Turn>>> = vec![vec![Vec::new(); clusters.len()]; rows.len()];
        for round in 0..self.rounds {
            for (side, cluster) in clusters.iter_mut().enumerate() {
                cluster.start()?;
                let filled = fill(cluster, SMALL_KEYS)?;
                self.note_failures(side, "fill", &filled);
                for (row, turns) in rows.iter().zip(&mut turns) {
                    let measurement = self.cluster_turn(side, row, cluster, 1 + round as u64)?;
                    eprintln!(
                        "{}, {}, round {}: {:.0}/s, {:.1} µs, p99 {}",
                        row.name,
                        self.results.sides[side],
                        round + 1,
                        measurement.throughput(),
                        measurement.server_cpu_us().unwrap_or_default(),
                        shown(measurement.latency.quantile(0.99)),
                    );
                    turns[side].push(Turn::from(&measurement));
                }
                cluster.stop()?;
            }
        }
        let rows = rows.iter().map(|row| row.name).zip(turns);
        self.results.rows.extend(rows);
        Ok(())
    }

    fn cluster_turn(
        &mut self,
        side: usize,
        row: &Row,
        cluster: &mut Cluster,
        seed: u64,
    ) -> io::Result<Measurement> {
        let endpoints = cluster.endpoints();
        (0..endpoints.len()).try_for_each(|member| cluster.await_in_sync(member).map(drop))?;
        let leader = cluster.leader()?;
        let follower = (leader + 1) % endpoints.len();
        let asked = match row.asked {
            Asked::Leader => vec![leader],
            Asked::Follower => vec![follower],
            Asked::All => (0..endpoints.len()).collect(),
        };
        let plan = Plan {
            endpoints: asked.iter().map(|member| endpoints[*member]).collect(),
            server_pids: cluster.pids(),
            connections: row.connections,
            clients: row.clients,
            until: Until::Elapsed(self.turn),
            warmup: self.warmup,
            ..Plan::at(site(endpoints[leader]))
        };
        let measurement = drive::run(&plan, &mut workload(row.shape, SMALL_KEYS, false, seed)?)?;
        self.note_failures(side, row.name, &measurement);
        if cluster.leader()? != leader {
            let what = format!(
                "{}, {}: the leader changed meanwhile",
                self.results.sides[side], row.name
            );
            self.results.failures.push(what);
        }
        if let [member] = asked[..] {
            let cpu = measurement.cpu_us(measurement.servers[member]);
            let figure = Figure::new("CPU of the asked member", "µs/op", cpu);
            self.note_figures(side, row.name, &[figure]);
        }
        Ok(measurement)
    }

    fn alone(&self, work: Work, cluster: &mut Cluster) -> io::Result<Findings> {
        match work {
            Work::Failover => failover::measure(cluster, self.trials),
            Work::Transfer => transfer::measure(cluster, self.trials),
            Work::CatchUp { rate } => {
                let gap = Gap {
                    space: space(self.large_keys, false, 1),
                    rate,
                    clients: PUT.clients,
                    connections: PUT.connections,
                    window: self.turn,
                    warmup: self.warmup,
                };
                catch_up::measure(cluster, &gap)
            }
            Work::Memory => memory(cluster, self.large_keys),
        }
    }
}

/// Puts every key once and asks what that cost each member.
fn memory(cluster: &mut Cluster, keys: u64) -> io::Result<Findings> {
    let usages = |cluster: &Cluster| -> io::Result<Vec<process::Usage>> {
        cluster.pids().into_iter().map(process::usage).collect()
    };
    let before = usages(cluster)?;
    let filled = fill(cluster, keys)?;
    (0..before.len()).try_for_each(|member| cluster.await_in_sync(member).map(drop))?;
    // What was garbage of the fill alone may be given back now.
    std::thread::sleep(SETTLE);
    let after = usages(cluster)?;
    let leader = cluster.leader()?;
    let mut findings = Findings::default();
    let failures = filled.failures.iter();
    let failures = failures.map(|(failure, count)| format!("{count} × {failure}"));
    findings.failures.extend(failures);
    for (place, [resident, anonymous, files, whole]) in MEMORY.iter().enumerate() {
        let member = (leader + place) % before.len();
        let (before, after) = (before[member], after[member]);
        let mib = Figure::count(whole, "MiB", after.rss_bytes >> 20);
        findings.figures.extend([
            Figure::new(
                resident,
                "bytes",
                per_key(after.rss_bytes, before.rss_bytes, keys),
            ),
            Figure::new(
                anonymous,
                "bytes",
                per_key(after.anonymous_bytes, before.anonymous_bytes, keys),
            ),
            Figure::new(
                files,
                "bytes",
                per_key(cluster.data_bytes(member)?, 0, keys),
            ),
            mib,
        ]);
    }
    Ok(findings)
}

/// Puts every key once at the leader.
fn fill(cluster: &mut Cluster, keys: u64) -> io::Result<Measurement> {
    let leader = cluster.leader()?;
    let plan = Plan {
        connections: 4,
        clients: 16,
        until: Until::Total(keys.div_ceil(FILL_OPERATIONS)),
        ..Plan::at(site(cluster.endpoints()[leader]))
    };
    let shape = Shape::TxnPut {
        operations: FILL_OPERATIONS,
    };
    drive::run(&plan, &mut workload(shape, keys, true, 1)?)
}

fn site(endpoint: SocketAddr) -> Site {
    Site {
        endpoint,
        server_pid: None,
        patience: PATIENCE,
    }
}

fn space(keys: u64, sequential: bool, seed: u64) -> Space {
    Space {
        key_bytes: KEY_BYTES,
        value_bytes: VALUE_BYTES,
        keys,
        sequential,
        seed,
    }
}

fn workload(shape: Shape, keys: u64, sequential: bool, seed: u64) -> io::Result<Workload> {
    Workload::new("localhost", shape, space(keys, sequential, seed))
        .map_err(|error| io::Error::other(error.to_string()))
}

/// Figures of the leader and of its followers.
const MEMORY: [[&str; 4]; 3] = [
    [
        "leader, resident per key",
        "leader, anonymous per key",
        "leader, data directory per key",
        "leader, resident",
    ],
    [
        "follower, resident per key",
        "follower, anonymous per key",
        "follower, data directory per key",
        "follower, resident",
    ],
    [
        "other follower, resident per key",
        "other follower, anonymous per key",
        "other follower, data directory per key",
        "other follower, resident",
    ],
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ALONE, Asked, ROWS};

    #[test]
    fn rows_have_names_of_their_own() {
        let names = ROWS.iter().map(|row| row.name);
        let names = names.chain(ALONE.iter().map(|(name, _)| *name));
        assert_eq!(
            names.collect::<BTreeSet<_>>().len(),
            ROWS.len() + ALONE.len()
        );
    }

    #[test]
    fn members_are_asked_by_as_many_connections_each() {
        for row in ROWS {
            assert!(
                row.asked != Asked::All || row.connections % 3 == 0,
                "{}",
                row.name
            );
        }
    }
}
