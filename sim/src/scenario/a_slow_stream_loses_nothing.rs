//! Events of a stream that was not read for long were lost.

use super::{Lesson, Scenario, bare, fell_behind};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_slow_stream_loses_nothing",
        seeds: 1..=16,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[17529],
};

/// All watchers read slowly, and more is written than a stream keeps for its reader.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 8;
    world.movers = 3;
    world.watchers = 10;
    world.resumers = 2;
    world.pause_ms_max = 5;
    world.slow_permille = 1000;
}

/// Watchers that heard what happened as it did fell behind and read on from the history.
fn shows(cluster: &Cluster) -> u64 {
    fell_behind(cluster)
}
