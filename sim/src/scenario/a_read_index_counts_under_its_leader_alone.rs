//! A read went on with an index from a leader that had been replaced meanwhile.

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_read_index_counts_under_its_leader_alone",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[21378],
};

/// Leadership is handed over every second, letters are slow, and reads are asked for everywhere.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 6;
    world.pause_ms_max = 5;
    world.message_ms_max = 40;
    repeated(world, 1000, 500, What::Transfer);
}

/// A read asked for under one leader was answered under the next, or its index was refused.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::ReadSurvivedLeaderChange) + some.count(Situation::ReadIndexRefused)
}
