//! A watcher heard an event of a transaction twice, because it took the transaction up in the middle.

use super::{Lesson, Scenario, bare, watched};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "an_event_of_a_transaction_comes_once",
        seeds: 1..=6,
        options: Options::default,
        shape,
    },
    issues: &[17247],
    shows,
};

/// Transactions write several keys, streams are slow and small, and members crash.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 3;
    world.movers = 3;
    world.watchers = 3;
    world.resumers = 2;
    world.pause_ms_max = 20;
    world.slow_permille = 500;
    world.crash_permille = 2;
    world.down_ms_max = 500;
}

/// One response brought several events of one revision.
fn shows(cluster: &Cluster) -> u64 {
    watched(cluster, |_, response| {
        let revisions = response
            .events
            .iter()
            .map(|event| event.kv.as_ref().map(|kv| kv.mod_revision));
        let revisions: Vec<_> = revisions.collect();
        revisions.windows(2).any(|pair| pair[0] == pair[1])
    })
}
