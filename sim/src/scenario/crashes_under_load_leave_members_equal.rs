//! A member that crashed under load came back with its data and its position in the log from different moments, and showed
//! other revisions than the others.

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "crashes_under_load_leave_members_equal",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[13766],
};

/// Much is written, checkpoints are many, and members crash at disk operations.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 6;
    world.movers = 2;
    world.pause_ms_max = 5;
    world.crash_permille = 15;
    world.start_crash_permille = 300;
    world.down_ms_max = 500;
    world.checkpoint_log_bytes = 4096;
    world.segment_bytes = 2048;
    world.snapshot_entries = 20;
    world.catch_up_entries = 5;
}

/// Leaders crashed with writes in flight, and starts replayed a log behind a checkpoint.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    let crashed = some.count(Situation::CrashedWithWrites);
    crashed.min(some.count(Situation::ReplayedBehindCheckpoint))
}
