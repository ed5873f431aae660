//! How long a cluster takes no writes after its leader was killed.

use std::io;
use std::time::{Duration, Instant};

use super::rovers::{Ack, Habits, Rovers};
use super::trials::{self, Names};
use super::{Cluster, Findings};
use crate::measurement::Figure;

/// Kills the leader `trials` times beside a few clients, each time with all members in sync before.
///
/// Writes have resumed with the first acknowledged put that was begun after the kill, at a member that was not killed.
pub(crate) fn measure(cluster: &mut Cluster, trials: usize) -> io::Result<Findings> {
    let rovers = Rovers::begin(&cluster.endpoints(), HABITS);
    let mut findings = Findings::default();
    let (mut gaps, mut returns) = (Vec::new(), Vec::new());
    for trial in 1..=trials {
        std::thread::sleep(SETTLE);
        let leader = cluster.leader()?;
        let before = Instant::now();
        if rovers
            .await_ack(before, PATIENCE, |ack| ack.begun >= before)
            .is_none()
        {
            return Err(io::Error::other(
                "the cluster takes no writes before the kill",
            ));
        }
        let killed = Instant::now();
        cluster.kill(leader)?;
        let resumed = rovers.await_ack(killed, PATIENCE, |ack| resumes(ack, leader, killed));
        let gap = resumed.map_or(PATIENCE, |ack| ack.ended - killed);
        if resumed.is_none() {
            findings.failures.push(format!(
                "trial {trial}: no write within {PATIENCE:?} after the kill"
            ));
        }
        gaps.push(gap);
        let revived = Instant::now();
        cluster.revive(leader)?;
        returns.push(cluster.await_in_sync(leader)? - revived);
        eprintln!("  trial {trial}: writes resumed after {gap:?}");
    }
    let within = trials::within(&gaps, GOAL);
    findings.figures = trials::figures(gaps, &RESUMED);
    findings.figures.extend([
        Figure::count("resumed within 2 s", "trials", within),
        Figure::count("trials", "trials", trials as u64),
    ]);
    findings.figures.extend(trials::figures(returns, &RETURNED));
    findings.add(rovers.judge()?);
    Ok(findings)
}

fn resumes(ack: &Ack, killed_member: usize, killed: Instant) -> bool {
    ack.member != killed_member && ack.begun >= killed
}

/// A light load: about 200 puts a second while all is well.
const HABITS: Habits = Habits {
    clients: 6,
    pace: Duration::from_millis(30),
    patience: Duration::from_millis(300),
};
/// Before each kill, so that it meets a cluster that has found its routine again.
const SETTLE: Duration = Duration::from_secs(1);
const GOAL: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
const RESUMED: Names = Names {
    fastest: "writes resumed, fastest",
    median: "writes resumed, median",
    p95: "writes resumed, p95",
    slowest: "writes resumed, slowest",
};
const RETURNED: Names = Names {
    fastest: "killed member back in sync, fastest",
    median: "killed member back in sync, median",
    p95: "killed member back in sync, p95",
    slowest: "killed member back in sync, slowest",
};

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::resumes;
    use crate::cluster::rovers::Ack;

    #[test]
    fn writes_have_not_resumed_with_what_the_killed_leader_still_did() {
        let killed = Instant::now();
        let ms = Duration::from_millis(1);
        let ack = |member, begun| Ack {
            member,
            begun,
            ended: killed + 10 * ms,
        };
        assert!(resumes(&ack(1, killed + ms), 0, killed));
        // Begun before: it may have been replicated already.
        assert!(!resumes(&ack(1, killed - ms), 0, killed));
        // At the killed member, while its process was ending.
        assert!(!resumes(&ack(0, killed + ms), 0, killed));
    }
}
