//! A damaged page was read long after it was damaged, and crashed the server somewhere else.

use std::time::Duration;

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "damage_is_named_where_it_is_found",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[20271],
};

/// Bits flip in what members wrote long ago, and members are started again.
fn shape(world: &mut World) {
    bare(world);
    world.members = 5;
    world.clients = 4;
    world.pause_ms_max = 20;
    world.crash_permille = 5;
    world.down_ms_max = 500;
    world.safety_act = Duration::from_secs(30);
    repeated(world, 6000, 1000, What::Rot);
}

/// A start refused a log or a checkpoint with a flipped bit.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::RotRefusedLog) + some.count(Situation::RotRefusedCheckpoint)
}
