//! How long writes pause when the leader gives its office over to another member.

use std::io;
use std::time::{Duration, Instant};

use super::rovers::{Ack, Habits, Rovers};
use super::trials::{self, Names};
use super::{Cluster, Findings, standing};
use crate::measurement::Figure;

/// Moves the leader `trials` times under load.
///
/// The pause is the longest time between two acknowledged puts from the call on; the same is measured for as long
/// without a call, as no machine is free of pauses of its own.
pub(crate) fn measure(cluster: &mut Cluster, trials: usize) -> io::Result<Findings> {
    let endpoints = cluster.endpoints();
    let rovers = Rovers::begin(&endpoints, HABITS);
    std::thread::sleep(WINDOW);
    let mut findings = Findings::default();
    let (mut pauses, mut quiet, mut calls, mut slowest) = (vec![], vec![], vec![], vec![]);
    for trial in 1..=trials {
        let leader = cluster.leader()?;
        let target = (leader + 1) % endpoints.len();
        let before = Instant::now();
        std::thread::sleep(WINDOW);
        let asked = Instant::now();
        quiet.push(pause(&rovers.acks_around(before), before, asked));
        let moved = standing::move_leader(endpoints[leader], endpoints[target], PATIENCE);
        let answered = Instant::now();
        calls.push(answered - asked);
        std::thread::sleep(WINDOW);
        let resumed = rovers.await_ack(answered, PATIENCE, |ack| ack.begun >= answered);
        let end = Instant::now();
        let acks = rovers.acks_around(asked);
        pauses.push(pause(&acks, asked, end));
        slowest.extend(acks.iter().map(|ack| ack.ended - ack.begun).max());
        let fault = match (moved, resumed) {
            (Err(failure), _) => Some(failure.to_string()),
            (Ok(()), None) => Some(format!("no write within {PATIENCE:?}")),
            (Ok(()), Some(_)) => {
                let leads = cluster.leader()?;
                (leads != target).then(|| "another member leads than the one named".to_owned())
            }
        };
        findings
            .failures
            .extend(fault.map(|fault| format!("trial {trial}: {fault}")));
        eprintln!("  trial {trial}: no write for {:?}", pauses[trial - 1]);
    }
    let within = trials::within(&pauses, GOAL);
    findings.figures = trials::figures(pauses, &PAUSES);
    findings.figures.extend([
        Figure::count("paused for at most 50 ms", "trials", within),
        Figure::count("trials", "trials", trials as u64),
    ]);
    for (times, names) in [(quiet, &QUIET), (calls, &CALLS), (slowest, &SLOWEST)] {
        findings.figures.extend(trials::figures(times, names));
    }
    findings.add(rovers.judge()?);
    Ok(findings)
}

/// The longest time without the end of a put between `from` and `to`.
///
/// It may have begun before `from`, with the last of `acks` before it; after the last of them it goes on until `to`.
fn pause(acks: &[Ack], from: Instant, to: Instant) -> Duration {
    let mut last = acks.first().map_or(from, |ack| ack.ended.min(from));
    let mut longest = Duration::ZERO;
    for end in acks.iter().map(|ack| ack.ended).chain([to]) {
        longest = longest.max(end.saturating_duration_since(last));
        last = last.max(end);
    }
    longest
}

const HABITS: Habits = Habits {
    clients: 12,
    pace: Duration::ZERO,
    patience: Duration::from_secs(1),
};
const WINDOW: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);
const GOAL: Duration = Duration::from_millis(50);
const PAUSES: Names = Names {
    fastest: "longest pause of writes, least",
    median: "longest pause of writes, median",
    p95: "longest pause of writes, p95",
    slowest: "longest pause of writes, most",
};
const QUIET: Names = Names {
    fastest: "longest pause without a transfer, least",
    median: "longest pause without a transfer, median",
    p95: "longest pause without a transfer, p95",
    slowest: "longest pause without a transfer, most",
};
const CALLS: Names = Names {
    fastest: "call, fastest",
    median: "call, median",
    p95: "call, p95",
    slowest: "call, slowest",
};
const SLOWEST: Names = Names {
    fastest: "slowest acknowledged put, least",
    median: "slowest acknowledged put, median",
    p95: "slowest acknowledged put, p95",
    slowest: "slowest acknowledged put, most",
};

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::pause;
    use crate::cluster::rovers::Ack;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_pause_is_seen_wherever_it_lies() {
        let start = Instant::now();
        let at = |ms: u32| start + ms * MS;
        let pause = |ends: &[u32]| {
            let acks: Vec<Ack> = ends
                .iter()
                .map(|end| Ack {
                    member: 0,
                    begun: start,
                    ended: at(*end),
                })
                .collect();
            pause(&acks, at(100), at(200))
        };
        assert_eq!(pause(&[95, 120, 150, 180]), 30 * MS);
        // Begun before the call.
        assert_eq!(pause(&[60, 120, 150, 180]), 60 * MS);
        // The writes have not come back.
        assert_eq!(pause(&[95, 105]), 95 * MS);
        assert_eq!(pause(&[]), 100 * MS);
        assert_eq!(pause(&[90]), 110 * MS);
        // Already after the end.
        assert_eq!(pause(&[95, 110, 230]), 120 * MS);
    }
}
