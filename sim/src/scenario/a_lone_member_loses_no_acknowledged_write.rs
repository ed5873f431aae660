//! A cluster of one member acknowledged a write before it was synced, and a crash took it.

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_lone_member_loses_no_acknowledged_write",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[14370],
};

/// One member, a slow disk, and crashes before, during and after each sync.
fn shape(world: &mut World) {
    bare(world);
    world.members = 1;
    world.clients = 4;
    world.pause_ms_max = 20;
    world.sync_ms_max = 25;
    world.crash_permille = 15;
    world.down_ms_max = 20;
}

/// It crashed with writes in flight.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::CrashedWithWrites)
}
