//! Many watchers that did not read filled the memory, or kept writers waiting.

use super::{Lesson, Scenario, bare, fell_behind};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "slow_watchers_hold_nobody_up",
        seeds: 1..=6,
        options: Options::default,
        shape,
    },
    issues: &[22264, 16839, 18109],
    shows,
};

/// Many watchers that read slowly, and as much written as clients can.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 6;
    world.watchers = 12;
    world.resumers = 6;
    world.pause_ms_max = 5;
    world.slow_permille = 1000;
}

/// Watchers fell behind, all told.
fn shows(cluster: &Cluster) -> u64 {
    fell_behind(cluster)
}
