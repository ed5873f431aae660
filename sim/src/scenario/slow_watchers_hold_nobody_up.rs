//! Many watchers that did not read filled the memory, or kept writers waiting.

use std::time::Duration;

use super::{Lesson, Scenario, bare, fell_behind};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "slow_watchers_hold_nobody_up",
        seeds: 1..=12,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[22264, 16839, 18109],
};

/// Many watchers that read slowly, and as much written as clients can.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 6;
    world.watchers = 12;
    world.resumers = 6;
    world.pause_ms_max = 5;
    world.slow_permille = 1000;
    world.message_ms_max = 1;
    // Four ways and two syncs take half of that at most, where a way is slow; slow readers rest for three times as long.
    world.patience = Some(Duration::from_millis(100));
}

/// Watchers fell behind; the judge of fairness says whether anybody waited for them.
fn shows(cluster: &Cluster) -> u64 {
    fell_behind(cluster)
}
