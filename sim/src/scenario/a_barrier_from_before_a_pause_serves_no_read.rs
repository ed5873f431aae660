//! A process stood still while others elected a leader, and then answered reads as if it still led.

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_barrier_from_before_a_pause_serves_no_read",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[20418, 21417],
};

/// Processes stand still for seconds, one after the other, while clients read from all of them.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 6;
    world.pause_ms_max = 5;
    repeated(world, 4000, 3000, What::Pause);
}

/// A process stood still while others elected a leader.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::PausedThroughElection)
}
