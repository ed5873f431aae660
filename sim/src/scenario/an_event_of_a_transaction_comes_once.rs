//! A watcher heard an event of a transaction twice, because it took the transaction up in the middle.

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "an_event_of_a_transaction_comes_once",
        seeds: 1..=6,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[17247],
};

/// Transactions write several keys, responses are cut within them, streams are slow, and members crash.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 3;
    world.movers = 3;
    world.watchers = 3;
    world.resumers = 2;
    world.pause_ms_max = 20;
    world.slow_permille = 500;
    world.fragment_bytes = 64;
    world.crash_permille = 2;
    world.down_ms_max = 500;
}

/// A watcher went on within a transaction of which it had heard a part.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::ResumedWithin)
}
