//! A watcher that began at the compact revision missed what that revision had done.

use metastore_core::watch::promises;

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_watch_from_the_boundary_on_is_complete",
        seeds: 1..=8,
        options: Options::default,
        shape,
    },
    issues: &[19179],
    shows,
};

/// Compactions follow the newest revision closely, members crash and lag, and watchers begin at the boundary.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 5;
    world.keys = 4;
    world.resumers = 4;
    world.pause_ms_max = 20;
    world.compaction_back_max = 3;
    world.slow_permille = 500;
    world.crash_permille = 2;
    world.down_ms_max = 500;
}

/// A watcher that began at the boundary heard an event of that revision.
fn shows(cluster: &Cluster) -> u64 {
    let streams = cluster.streams.borrow();
    let asked = streams.iter().flat_map(|stream| {
        let watchers = promises::by_watcher(&stream.responses).unwrap_or_default();
        stream.asked.iter().zip(watchers).collect::<Vec<_>>()
    });
    let heard = asked.filter(|(asked, responses)| {
        let start = asked.create.start_revision;
        let events = responses.iter().flat_map(|response| &response.events);
        let mut first = events.filter(|event| {
            let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            at == start
        });
        start > 0 && start == asked.compact_revision && first.next().is_some()
    });
    heard.count() as u64
}
