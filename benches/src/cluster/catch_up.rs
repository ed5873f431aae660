//! How long a member that missed many writes takes to be back, and what the others' writes suffer from it.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::line;
use super::{Cluster, Findings};
use crate::ask::Ask;
use crate::conversation::Site;
use crate::drive::{self, Plan};
use crate::histogram::Histogram;
use crate::measurement::{Figure, Tally, Timeline};
use crate::message::PUT_PATH;
use crate::schedule::Until;
use crate::status::Failure;
use crate::workload::{Shape, Space, Workload};

/// What the member misses and what goes on meanwhile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gap {
    /// The keys put while it is down, and afterwards.
    pub(crate) space: Space,
    /// Puts per second while it comes back; without it, each of the clients puts as soon as it is answered.
    pub(crate) rate: Option<f64>,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    /// How long the puts are measured before it is started, and after it is back.
    pub(crate) window: Duration,
    /// Load before that.
    pub(crate) warmup: Duration,
}

/// Kills a follower, puts every key of the space once, starts the follower again under load, and awaits it.
///
/// In the end the third member is killed: puts go on only if the one that came back counts in the quorum.
pub(crate) fn measure(cluster: &mut Cluster, gap: &Gap) -> io::Result<Findings> {
    let mut findings = Findings::default();
    let leader = cluster.leader()?;
    let member = (leader + 1) % cluster.members.len();
    cluster.kill(member)?;
    let at_leader = Plan {
        connections: gap.connections,
        clients: gap.clients,
        ..Plan::at(Site {
            endpoint: cluster.endpoints()[leader],
            server_pid: None,
            patience: PATIENCE,
        })
    };
    let missed = Plan {
        until: Until::Total(gap.space.keys),
        ..at_leader.clone()
    };
    let written = drive::run(&missed, &mut puts(gap.space, true)?)?;
    for (failure, count) in &written.failures {
        findings
            .failures
            .push(format!("while the member was down: {count} × {failure}"));
    }
    eprintln!("  {} puts in {:?}", written.succeeded, written.elapsed);
    let steady = Plan {
        until: Until::Total(u64::MAX),
        rate: gap.rate,
        ..at_leader
    };
    let (tally, times) = under_load(&steady, puts(gap.space, false)?, || {
        come_back(cluster, member, gap)
    })?;
    eprintln!("  in sync after {:?}", times.in_sync - times.started);
    for (failure, count) in &tally.failures {
        findings
            .failures
            .push(format!("beside the catch-up: {count} × {failure}"));
    }
    findings.figures.push(Figure::milliseconds(
        "back in sync",
        times.in_sync - times.started,
    ));
    let timeline = tally.timeline.unwrap_or_default();
    findings.figures.extend(suffered(&timeline, &times));
    let quorum = without_the_third(cluster, member)?;
    match quorum {
        Ok(first) => findings.figures.push(Figure::milliseconds(
            "first put after the third member was killed",
            first,
        )),
        Err(failure) => findings.failures.push(format!(
            "the member does not count in the quorum: no put within {QUORUM_PATIENCE:?} without the third ({failure})"
        )),
    }
    Ok(findings)
}

/// When what happened.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// From here on the load is measured.
    measured: Instant,
    started: Instant,
    in_sync: Instant,
    /// The end of the load.
    end: Instant,
}

/// Does `work` while `plan` puts on load.
fn under_load<T>(
    plan: &Plan,
    mut workload: Workload,
    work: impl FnOnce() -> io::Result<T>,
) -> io::Result<(Tally, T)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| drive::run_until(plan, &mut workload, &stop));
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        let tally = load.join().expect("the load does not panic");
        Ok((tally?, worked?))
    })
}

fn come_back(cluster: &mut Cluster, member: usize, gap: &Gap) -> io::Result<Times> {
    std::thread::sleep(gap.warmup);
    let measured = Instant::now();
    std::thread::sleep(gap.window);
    let started = Instant::now();
    cluster.revive(member)?;
    let in_sync = cluster.await_in_sync(member)?;
    std::thread::sleep(gap.window);
    Ok(Times {
        measured,
        started,
        in_sync,
        end: Instant::now(),
    })
}

/// What the puts were like before, while the member caught up, and after.
fn suffered(timeline: &Timeline, times: &Times) -> Vec<Figure> {
    let before = Stretch::of(timeline, times.measured, times.started);
    let during = Stretch::of(timeline, times.started, times.in_sync);
    let after = Stretch::of(timeline, times.in_sync, times.end);
    let mut figures = vec![
        Figure::new("puts before", "/s", before.per_second),
        Figure::new("puts during", "/s", during.per_second),
        Figure::new("puts after", "/s", after.per_second),
        Figure::new(
            "puts during : before",
            "ratio",
            during.per_second / before.per_second,
        ),
        // Before, two members shared the machine; after, three do.
        Figure::new(
            "puts during : after",
            "ratio",
            during.per_second / after.per_second,
        ),
    ];
    for (stretch, p50, p99, longest) in [
        (before, "p50 before", "p99 before", "slowest put before"),
        (during, "p50 during", "p99 during", "slowest put during"),
        (after, "p50 after", "p99 after", "slowest put after"),
    ] {
        let latency = stretch.latency;
        figures.extend([
            Figure::milliseconds(p50, latency.quantile(0.5)),
            Figure::milliseconds(p99, latency.quantile(0.99)),
            Figure::milliseconds(longest, latency.max()),
        ]);
    }
    figures
}

/// Puts that ended within some time.
struct Stretch {
    per_second: f64,
    latency: Histogram,
}

impl Stretch {
    fn of(timeline: &Timeline, from: Instant, to: Instant) -> Self {
        let mut latency = Histogram::new();
        for (_, took) in timeline.iter().filter(|(end, _)| (from..to).contains(end)) {
            latency.record(*took);
        }
        #[allow(clippy::cast_precision_loss)]
        let per_second = latency.count() as f64 / (to - from).as_secs_f64();
        Self {
            per_second,
            latency,
        }
    }
}

/// Kills the member that is neither `member` nor leads; how long it took from then until a put was acknowledged.
fn without_the_third(
    cluster: &mut Cluster,
    member: usize,
) -> io::Result<Result<Duration, Failure>> {
    let leader = cluster.leader()?;
    let mut others = (0..cluster.members.len()).filter(|it| ![leader, member].contains(it));
    let third = others.next().expect("there are three members");
    let killed = Instant::now();
    cluster.kill(third)?;
    Ok(first_put(cluster.endpoints()[leader], QUORUM_PATIENCE).map(|()| killed.elapsed()))
}

/// Puts until that is acknowledged, or `patience` has passed.
fn first_put(endpoint: SocketAddr, patience: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let mut ask = Ask::default();
        let put = ask.put(b"without the third", b"", 0);
        let left = deadline.saturating_duration_since(Instant::now());
        match line::once(endpoint, left.max(LAST_PATIENCE), PUT_PATH, put) {
            Ok(_) => return Ok(()),
            Err(failure) if Instant::now() >= deadline => return Err(failure),
            Err(_) => std::thread::sleep(REST),
        }
    }
}

fn puts(space: Space, sequential: bool) -> io::Result<Workload> {
    let space = Space {
        sequential,
        ..space
    };
    Workload::new("localhost", Shape::Put, space)
        .map_err(|error| io::Error::other(error.to_string()))
}

const PATIENCE: Duration = Duration::from_secs(30);
const QUORUM_PATIENCE: Duration = Duration::from_secs(5);
const LAST_PATIENCE: Duration = Duration::from_millis(1);
const REST: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Times, first_put, suffered, under_load};
    use crate::conversation::Site;
    use crate::drive::Plan;
    use crate::imitation::serve;
    use crate::imitation::store::Store;
    use crate::measurement::Timeline;
    use crate::schedule::Until;
    use crate::status::Failure;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn puts_that_the_catch_up_slows_down_are_seen_in_its_time_alone() {
        let start = Instant::now();
        let times = Times {
            measured: start + 100 * MS,
            started: start + 1100 * MS,
            in_sync: start + 2100 * MS,
            end: start + 3100 * MS,
        };
        // A put each millisecond, but while the member comes back, one each ten milliseconds.
        let timeline: Timeline = (0..3200)
            .filter(|ms| !(1100..2100).contains(ms) || ms % 10 == 0)
            .map(|ms| {
                let slow = (1100..2100).contains(&ms);
                (start + ms * MS, if slow { 10 * MS } else { MS })
            })
            .collect();
        let figures = suffered(&timeline, &times);
        let value = |name: &str| {
            let figure = figures.iter().find(|figure| figure.name == name);
            figure.expect("there is such a figure").value
        };
        assert_eq!([value("puts before"), value("puts after")], [1000.0; 2]);
        for ratio in ["puts during : before", "puts during : after"] {
            assert!((value(ratio) - 0.1).abs() < 1e-9);
        }
        assert!((value("p50 during") - 10.0).abs() < 0.2);
        assert!((value("slowest put before") - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_cluster_without_a_quorum_acknowledges_no_put() {
        let silent = serve(|_| Vec::new());
        assert_eq!(first_put(silent, 50 * MS), Err(Failure::NoAnswer));
        let mut store = Store::default();
        let well = serve(move |call| store.answer(call));
        assert_eq!(first_put(well, Duration::from_secs(5)), Ok(()));
    }

    #[test]
    fn the_load_ends_with_the_work_though_that_fails() {
        let mut store = Store::default();
        let endpoint = serve(move |call| store.answer(call));
        let plan = Plan {
            until: Until::Total(u64::MAX),
            ..Plan::at(Site {
                endpoint,
                server_pid: None,
                patience: Duration::from_secs(5),
            })
        };
        let space = crate::workload::Space {
            key_bytes: 8,
            value_bytes: 8,
            keys: 10,
            sequential: false,
            seed: 1,
        };
        let load = || super::puts(space, false).expect("a good workload");
        let (tally, ()) = under_load(&plan, load(), || {
            std::thread::sleep(20 * MS);
            Ok(())
        })
        .expect("the server is there");
        assert!(tally.succeeded > 0 && tally.failures.is_empty());
        let failed = under_load(&plan, load(), || Err::<(), _>(std::io::Error::other("no")));
        assert!(failed.is_err());
    }
}
