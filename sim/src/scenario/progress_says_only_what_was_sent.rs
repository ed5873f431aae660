//! Progress of a stream ran ahead of events that its watchers had not been sent.

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "progress_says_only_what_was_sent",
        seeds: 1..=6,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[15220],
};

/// Several watchers on each stream, some far behind, are asked how far they are while much is written.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 4;
    world.movers = 1;
    world.resumers = 4;
    world.pause_ms_max = 20;
    world.slow_permille = 500;
}

/// Streams were asked for their progress while a watcher on them lagged, and streams of several were told.
fn shows(cluster: &Cluster) -> u64 {
    let streams = cluster.streams.borrow();
    let several = streams.iter().filter(|stream| stream.asked.len() > 1);
    let told = several.flat_map(|stream| &stream.responses);
    let told = told.filter(|it| it.watch_id == -1 && !it.created);
    let asked = cluster.sometimes.count(Situation::ProgressWhileBehind);
    asked.min(told.count() as u64)
}
