//! A watcher that began at the compact revision missed what that revision had done.

use super::{Lesson, Scenario, bare, heard_at_the_boundary};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_watch_from_the_boundary_on_is_complete",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[19179],
};

/// Compactions follow the newest revision closely, members crash and lag, and watchers begin at the boundary.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 5;
    world.keys = 4;
    world.resumers = 4;
    world.pause_ms_max = 20;
    world.compaction_back_max = 3;
    world.slow_permille = 500;
    world.crash_permille = 2;
    world.down_ms_max = 500;
}

/// A watcher that began at the boundary heard an event of that revision.
fn shows(cluster: &Cluster) -> u64 {
    heard_at_the_boundary(cluster, |_| true)
}
