//! Two snapshots in short order crashed the follower that received them.

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "snapshot_after_snapshot_is_installed",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[18055],
};

/// A follower is cut off again and again for so long that it needs a snapshot each time.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 6;
    world.pause_ms_max = 5;
    world.snapshot_entries = 20;
    world.catch_up_entries = 5;
    repeated(world, 4500, 3700, |_| What::Split(vec![2]));
}

/// A member installed two snapshots within seconds.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::InstalledTwice)
}
