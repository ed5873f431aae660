//! The rows of the comparison that talk over streams or decide by answers, and their turns.

use std::io;
use std::time::Duration;

use super::{Comparison, site};
use crate::arguments::SuiteName;
use crate::conversation::Site;
use crate::drive;
use crate::lease::{self, Renewals, expiry};
use crate::measurement::Measurement;
use crate::message::Message;
use crate::report::shown;
use crate::schedule::Until;
use crate::server::Server;
use crate::suite::{KEY_BYTES, VALUE_BYTES};
use crate::table::Turn;
use crate::workload::Workload;
use crate::{stm, watch};

/// One thing that both servers take turns with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    work: Work,
    turns: Turns,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Work {
    /// Puts to watchers.
    Deliver(watch::Shape),
    /// Creation of watchers.
    Create(watch::Shape),
    /// Creation of watchers that stay, and what they cost.
    Idle(watch::Shape),
    /// Puts beside watchers that do not read.
    Slow(watch::Shape),
    /// Grants by clients over connections.
    Grant {
        clients: usize,
        connections: usize,
    },
    KeepAlive(Renewals),
    Expiry(expiry::Shape),
    Contend(stm::Shape),
}

/// How the servers take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turns {
    /// As often as all rows, on servers that go on.
    Rounds,
    /// Once, on a server just started that has no data, as it is about memory or takes long.
    OnceAlone,
}

/// The scenarios of the suite `name`.
pub(super) fn of(name: SuiteName) -> Vec<Scenario> {
    match name {
        SuiteName::Kv | SuiteName::Cluster => Vec::new(),
        SuiteName::Watch => WATCH.to_vec(),
        SuiteName::Lease => LEASE.to_vec(),
        SuiteName::Stm => STM.to_vec(),
        SuiteName::Streams => [WATCH, LEASE, STM].concat(),
    }
}

const fn rounds(name: &'static str, work: Work) -> Scenario {
    Scenario {
        name,
        work,
        turns: Turns::Rounds,
    }
}

const fn alone(name: &'static str, work: Work) -> Scenario {
    Scenario {
        name,
        work,
        turns: Turns::OnceAlone,
    }
}

const THOUSAND: watch::Shape = watch::Shape::THOUSAND;
const IDLE: watch::Shape = watch::Shape::IDLE;
const FEW: watch::Shape = watch::Shape {
    watchers: 10,
    in_flight: watch::OPEN_LOOP,
    rate: Some(1000.0),
    ..THOUSAND
};

const WATCH: &[Scenario] = &[
    rounds(
        "watch, 1000 watchers of one key, 1 put in flight",
        Work::Deliver(watch::Shape {
            in_flight: 1,
            ..THOUSAND
        }),
    ),
    rounds(
        "watch, 1000 watchers of one key, 100 puts in flight",
        Work::Deliver(watch::Shape {
            in_flight: 100,
            ..THOUSAND
        }),
    ),
    rounds(
        "watch, 1000 watchers of 100 keys",
        Work::Deliver(watch::Shape {
            keys: 100,
            in_flight: 100,
            ..THOUSAND
        }),
    ),
    rounds(
        "watch, 100 watchers of ranges of 10 keys",
        Work::Deliver(watch::Shape {
            watchers: 100,
            keys: 100,
            range_keys: 10,
            ranges: 1.0,
            in_flight: 100,
            ..THOUSAND
        }),
    ),
    rounds(
        "watch-latency, 10 watchers, 1000 puts/s",
        Work::Deliver(FEW),
    ),
    rounds("watch-create", Work::Create(IDLE)),
    alone(
        "watch-idle, 1000000 watchers",
        Work::Idle(watch::Shape {
            watchers: 1_000_000,
            ..IDLE
        }),
    ),
    alone(
        "watch-idle, 100000 watchers of ranges",
        Work::Idle(watch::Shape {
            ranges: 1.0,
            range_keys: 10,
            ..IDLE
        }),
    ),
    alone(
        "slow-watchers, 500 beside 500, 5000 puts/s on 100 keys",
        Work::Slow(watch::Shape {
            watchers: 500,
            slow: 500,
            keys: 100,
            in_flight: watch::OPEN_LOOP,
            rate: Some(5000.0),
            ..THOUSAND
        }),
    ),
];

const RENEWALS: Renewals = Renewals {
    clients: 100,
    connections: 10,
    leases: 10,
    ttl_seconds: TTL_SECONDS,
};

const LEASE: &[Scenario] = &[
    rounds(
        "lease-grant",
        Work::Grant {
            clients: 100,
            connections: 10,
        },
    ),
    rounds("lease-keepalive", Work::KeepAlive(RENEWALS)),
    rounds(
        "lease-keepalive, 1 stream",
        Work::KeepAlive(Renewals {
            clients: 1,
            connections: 1,
            ..RENEWALS
        }),
    ),
    alone(
        "lease-expiry, 100000 leases",
        Work::Expiry(expiry::Shape {
            leases: 100_000,
            ttl_seconds: 60,
            connections: 10,
            rate: 1000.0,
        }),
    ),
];

const STM: &[Scenario] = &[
    rounds(
        "stm, 100 clients, 2 of 100 keys",
        Work::Contend(stm::Shape {
            clients: 100,
            connections: 10,
            keys: 100,
            keys_per_txn: 2,
        }),
    ),
    rounds(
        "stm, 100 clients, 2 of 10000 keys",
        Work::Contend(stm::Shape {
            clients: 100,
            connections: 10,
            keys: 10_000,
            keys_per_txn: 2,
        }),
    ),
];

impl Scenario {
    /// Measures `server`; `seed` chooses the keys, `turn` is how long, `warmup` how long before that.
    fn measure(
        &self,
        site: Site,
        seed: u64,
        turn: Duration,
        warmup: Duration,
    ) -> io::Result<Measurement> {
        let until = Until::Elapsed(turn);
        let watched = |shape| watch::Plan {
            site,
            shape,
            key_bytes: KEY_BYTES,
            value_bytes: VALUE_BYTES,
            seed,
            until,
            warmup,
        };
        match self.work {
            Work::Deliver(shape) => watch::deliver(&watched(shape)),
            Work::Create(shape) => watch::create(&watched(shape), false),
            Work::Idle(shape) => watch::create(&watched(shape), true),
            Work::Slow(shape) => watch::slow(&watched(shape)),
            Work::Grant {
                clients,
                connections,
            } => {
                let message = Message::lease_grant(&site.endpoint.to_string(), TTL_SECONDS);
                let plan = drive::Plan {
                    connections,
                    clients,
                    until,
                    warmup,
                    ..drive::Plan::at(site)
                };
                drive::run(&plan, &mut Workload::fixed(message))
            }
            Work::KeepAlive(renewals) => lease::keep_alive(&lease::Plan {
                site,
                renewals,
                rate: None,
                until,
                warmup,
            }),
            Work::Expiry(shape) => expiry::run(&expiry::Plan {
                site,
                shape,
                after: turn,
                value_bytes: VALUE_BYTES,
                seed,
            }),
            Work::Contend(shape) => stm::run(&stm::Plan {
                site,
                shape,
                key_bytes: KEY_BYTES,
                value_bytes: VALUE_BYTES,
                seed,
                until,
                warmup,
            }),
        }
    }
}

impl Comparison {
    /// Every scenario, each server in its turn.
    pub(super) fn scenarios(&mut self, scenarios: &[Scenario]) -> io::Result<()> {
        let in_rounds = |row: &&Scenario| row.turns == Turns::Rounds;
        let together: Vec<&Scenario> = scenarios.iter().filter(in_rounds).collect();
        if !together.is_empty() {
            let servers = (0..self.contestants.len()).map(|side| self.fresh(side));
            let servers = servers.collect::<io::Result<Vec<Server>>>()?;
            for scenario in together {
                self.in_rounds(scenario, &servers)?;
            }
            servers.into_iter().try_for_each(Server::stop)?;
        }
        for scenario in scenarios.iter().filter(|row| !in_rounds(row)) {
            let mut turns = Vec::new();
            for side in 0..self.contestants.len() {
                let server = self.fresh(side)?;
                let length = self.turn.max(ALONE_MIN);
                let measurement = scenario.measure(site(&server), 1, length, self.warmup)?;
                server.stop()?;
                turns.push(vec![self.note(side, scenario.name, 0, &measurement)]);
            }
            self.results.rows.push((scenario.name, turns));
        }
        Ok(())
    }

    fn in_rounds(&mut self, scenario: &Scenario, servers: &[Server]) -> io::Result<()> {
        let mut turns: Vec<Vec<Turn>> = servers.iter().map(|_| Vec::new()).collect();
        for round in 0..self.rounds {
            for (side, server) in servers.iter().enumerate() {
                let seed = 1 + round as u64;
                let measurement = scenario.measure(site(server), seed, self.turn, self.warmup)?;
                turns[side].push(self.note(side, scenario.name, round, &measurement));
                // The server lets go of what the closed connections had; that is not the other one's load.
                std::thread::sleep(LETTING_GO);
            }
        }
        self.results.rows.push((scenario.name, turns));
        Ok(())
    }

    /// Starts a server without data.
    fn fresh(&self, side: usize) -> io::Result<Server> {
        self.contestants[side].clear()?;
        self.contestants[side].start()
    }

    /// Takes failures and figures over into the results.
    fn note(&mut self, side: usize, row: &str, round: usize, measurement: &Measurement) -> Turn {
        self.note_failures(side, row, measurement);
        eprintln!(
            "{row}, {}, round {}: {:.0}/s, p99 {}",
            self.results.sides[side],
            round + 1,
            measurement.throughput(),
            shown(measurement.latency.quantile(0.99)),
        );
        self.note_figures(side, row, &measurement.figures);
        Turn::from(measurement)
    }
}

const TTL_SECONDS: u64 = 3600;
const ALONE_MIN: Duration = Duration::from_secs(10);
const LETTING_GO: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::of;
    use crate::arguments::SuiteName;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let all = of(SuiteName::Streams);
        let names: BTreeSet<&str> = all.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), all.len());
        let parts = [SuiteName::Watch, SuiteName::Lease, SuiteName::Stm].map(of);
        assert_eq!(parts.concat(), all);
    }
}
