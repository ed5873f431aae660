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
mod sockets;
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
    let first_seed = seed_of_this_run();
    let wanted = number_from_environment("METASTORE_TEST_CHAOS_SECONDS").unwrap_or(20);
    let members = number_from_environment("METASTORE_TEST_MEMBERS").unwrap_or(3);
    let members = usize::try_from(members).expect("a number of members");
    let mut done = 0;
    for seed in first_seed.. {
        let length = (wanted - done).min(ROUND_SECONDS);
        println!("seed {seed}: {members} members, faults for {length} s");
        round(seed, members, Duration::from_secs(length));
        done += length;
        if done >= wanted {
            break;
        }
    }
    println!("{done} seconds of faults");
}

/// A new cluster, its load and its faults. A history of a minute is one that the search for an order can read.
fn round(seed: u64, count: usize, length: Duration) {
    let plan = Plan::draw(seed, count, length);
    LocalSet::new().block_on(&single_threaded_runtime(), async {
        let run = Run::new(seed, Members::new(count));
        if let Err(failure) = verdict::acts(&run, plan, length).await {
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

const ROUND_SECONDS: u64 = 60;
