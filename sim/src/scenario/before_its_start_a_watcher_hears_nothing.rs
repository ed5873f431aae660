//! A watcher of a revision to come was told of progress before it, or got old events when it moved to another member.

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "before_its_start_a_watcher_hears_nothing",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[20221],
};

/// Watchers begin in the future and move from member to member, some of which lag.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 3;
    world.resumers = 5;
    world.pause_ms_max = 100;
    repeated(world, 5000, 2500, |place| What::Split(vec![place]));
}

/// Watchers began at a revision that their member had not reached.
fn shows(cluster: &Cluster) -> u64 {
    cluster.counts.begun_in_the_future.get()
}
