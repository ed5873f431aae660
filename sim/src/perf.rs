//! How fast a cluster is in virtual time: the same members without faults, with the latencies of links and disks
//! modelled, and little else. The figures say what the protocol costs, not what a processor does.

use std::time::Duration;

use cluster::{Ask, Cluster};
use shape::Shape;

mod cluster;
mod shape;

/// What was measured of one cluster.
struct Row {
    shape: Shape,
    members: u64,
    put_at_leader: Latency,
    put_elsewhere: Latency,
    read_at_leader: Latency,
    read_elsewhere: Latency,
    puts_per_second: f64,
    failover: Latency,
}

/// Half of all answers came within the one, all but a hundredth within the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Latency {
    median: Duration,
    p99: Duration,
}

/// Prints the table. Answers whether the members of every cluster agreed in the end.
pub(crate) fn perf(seed: u64) -> bool {
    println!("seed {seed}: median / 99th percentile in milliseconds of virtual time");
    println!(
        "| members | put at the leader | put elsewhere | read at the leader | read elsewhere | puts a second, \
         {CLIENTS} clients | failover, median / worst of {FAILOVERS} |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut all = true;
    for shape in Shape::ALL {
        for members in [3, 5, 7] {
            match measure(shape, members, seed) {
                Some(row) => println!("{}", row.line()),
                None => {
                    all = false;
                    println!("{members} in {}: the members do not agree", shape.name());
                }
            }
        }
    }
    all
}

impl Row {
    fn line(&self) -> String {
        let both = |it: Latency| format!("{} / {}", millis(it.median), millis(it.p99));
        format!(
            "| {} in {} | {} | {} | {} | {} | {:.0} | {} |",
            self.members,
            self.shape.name(),
            both(self.put_at_leader),
            both(self.put_elsewhere),
            both(self.read_at_leader),
            both(self.read_elsewhere),
            self.puts_per_second,
            both(self.failover),
        )
    }
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    match millis {
        ..10.0 => format!("{millis:.2}"),
        ..100.0 => format!("{millis:.1}"),
        _ => format!("{millis:.0}"),
    }
}

/// One cluster after the other, so that no measurement is in the way of the next; none if its members do not agree.
fn measure(shape: Shape, members: u64, seed: u64) -> Option<Row> {
    let mut cluster = Cluster::new(shape, members, seed);
    let mut latency = |member, ask| in_a_row(&mut cluster, member, ask);
    let put_at_leader = latency(vec![1], Ask::Put);
    let put_elsewhere = latency((2..=members).collect(), Ask::Put);
    let read_at_leader = latency(vec![1], Ask::Read);
    let read_elsewhere = latency((2..=members).collect(), Ask::Read);
    let puts_per_second = throughput(&mut cluster, members, put_elsewhere.median);
    cluster.run_until(cluster.now() + Duration::from_secs(2));
    let failovers = (1..=FAILOVERS).map(|number| failover(shape, members, seed + number));
    let failover = Latency::of(failovers.collect());
    cluster.agrees().then_some(Row {
        shape,
        members,
        put_at_leader,
        put_elsewhere,
        read_at_leader,
        read_elsewhere,
        puts_per_second,
        failover,
    })
}

/// One client asks, one question after the other; the members it asks take turns.
fn in_a_row(cluster: &mut Cluster, members: Vec<u64>, ask: Ask) -> Latency {
    let clients: Vec<usize> = members.iter().map(|id| cluster.client(*id)).collect();
    let mut took = Vec::new();
    for number in 0..IN_A_ROW {
        cluster.ask(clients[number % clients.len()], ask);
        let answers = cluster.answers_until(cluster.now() + PATIENCE);
        let answer = answers.first().expect("nothing is broken");
        assert!(answer.well, "nothing is broken");
        took.push(answer.answered - answer.asked);
    }
    Latency::of(took)
}

/// Many clients, each with one put at a time, spread over all members; for many times as long as one put takes.
fn throughput(cluster: &mut Cluster, members: u64, one: Duration) -> f64 {
    for number in 0..CLIENTS {
        let client = cluster.client(1 + number % members);
        cluster.ask(client, Ask::Put);
    }
    let begun = cluster.now() + 5 * one;
    let end = begun + 20 * one;
    let mut count = 0_u64;
    loop {
        let answers = cluster.answers_until(end);
        if answers.is_empty() {
            break;
        }
        for done in answers {
            count += u64::from(done.well && done.answered > begun);
            cluster.ask(done.client, Ask::Put);
        }
    }
    count as f64 / (end - begun).as_secs_f64()
}

/// From the moment in which the leader's machine goes to the first write that is acknowledged. Each other member has a
/// client that tries until then.
fn failover(shape: Shape, members: u64, seed: u64) -> Duration {
    let mut cluster = Cluster::new(shape, members, seed);
    // Somewhere between two heartbeats.
    cluster.run_until(cluster.now() + Duration::from_millis(1000 + seed % 100));
    cluster.stop(1);
    let stopped = cluster.now();
    for id in 2..=members {
        let client = cluster.client(id);
        cluster.ask(client, Ask::Put);
    }
    loop {
        let answers = cluster.answers_until(stopped + Duration::from_secs(60));
        assert!(!answers.is_empty(), "a quorum is there");
        for done in answers {
            if done.well {
                return done.answered - stopped;
            }
            cluster.ask(done.client, Ask::Put);
        }
    }
}

impl Latency {
    fn of(mut all: Vec<Duration>) -> Self {
        assert!(!all.is_empty(), "something was measured");
        all.sort_unstable();
        Self {
            median: all[all.len() / 2],
            p99: all[(all.len() * 99 / 100).min(all.len() - 1)],
        }
    }
}

/// Questions of one client in a row.
const IN_A_ROW: usize = 300;
const CLIENTS: u64 = 100;
const FAILOVERS: u64 = 10;
/// Longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_takes_what_the_model_says_it_must() {
        let mut cluster = Cluster::new(Shape::OneZone, 3, 1);
        let put = in_a_row(&mut cluster, vec![1], Ask::Put);
        // To the leader and back, to a follower and back, and a sync.
        let least = Duration::from_micros(4 * 50 + 150);
        assert!(put.median >= least && put.median < 3 * least, "{put:?}");
        let read = in_a_row(&mut cluster, vec![1], Ask::Read);
        assert!(read.median < put.median, "{read:?}");
        assert!(cluster.agrees());
    }

    #[test]
    fn a_leader_that_rested_is_asked_at_once_wherever_the_others_are() {
        for shape in Shape::ALL {
            let mut cluster = Cluster::new(shape, 3, 1);
            cluster.run_until(cluster.now() + Duration::from_secs(10));
            for ask in [Ask::Put, Ask::Read] {
                let took = in_a_row(&mut cluster, vec![1], ask);
                assert!(
                    took.p99 < Duration::from_secs(1),
                    "{} {took:?}",
                    shape.name()
                );
            }
        }
    }

    #[test]
    fn equal_seeds_give_equal_times() {
        let run = |seed| failover(Shape::ThreeZones, 3, seed);
        assert_eq!(run(3), run(3));
        assert!(run(3) > Duration::from_millis(500));
    }

    #[test]
    fn times_are_written_in_milliseconds() {
        assert_eq!(millis(Duration::from_micros(420)), "0.42");
        assert_eq!(millis(Duration::from_micros(65_432)), "65.4");
        assert_eq!(millis(Duration::from_millis(1400)), "1400");
    }
}
