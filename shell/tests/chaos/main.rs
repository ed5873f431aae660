//! A cluster of real processes under load, with faults drawn from a seed: killed, paused, restarted and replaced
//! members, links that are cut, late or narrow. Every call of every client is written down, and the judges of the
//! simulator read it at the end.
//!
//! `METASTORE_TEST_SEED` draws the same faults again, `METASTORE_TEST_CHAOS_SECONDS` says how long they go on, and
//! `METASTORE_TEST_MEMBERS` how many members there are. Threads and processes run as they please, so a seed is the same
//! schedule, not the same run.

#[path = "../cluster/mod.rs"]
mod cluster;

mod client;
mod faults;
mod links;
mod members;
mod plan;
mod run;
mod verdict;
mod watchers;
mod workload;

use std::time::Duration;

use cluster::connection::single_threaded_runtime;
use cluster::random::{number_from_environment, seed_of_this_run};
use members::Members;
use plan::Plan;
use run::Run;
use tokio::task::LocalSet;

#[test]
fn a_cluster_of_processes_keeps_every_promise_whatever_happens_to_it() {
    let seed = seed_of_this_run();
    let seconds = number_from_environment("METASTORE_TEST_CHAOS_SECONDS").unwrap_or(20);
    let count = number_from_environment("METASTORE_TEST_MEMBERS").unwrap_or(3);
    println!("seed {seed}: {count} members, {seconds} seconds of faults");
    let count = usize::try_from(count).expect("a number of members");
    let plan = Plan::draw(seed, count, Duration::from_secs(seconds));
    LocalSet::new().block_on(&single_threaded_runtime(), async {
        let run = Run::new(seed, Members::new(count).await);
        let verdict = verdict::acts(&run, plan, Duration::from_secs(seconds)).await;
        if let Err(failure) = verdict {
            let kept = run.members.keep();
            panic!(
                "{}: {}\nseed {seed}; the members' files are kept in {}",
                failure.judge,
                failure.story,
                kept.display()
            );
        }
    });
}
