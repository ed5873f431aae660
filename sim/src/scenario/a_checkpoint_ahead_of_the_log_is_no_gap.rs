//! A checkpoint can become durable before the log that leads to it; after two restarts the log was refused for a gap.

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_checkpoint_ahead_of_the_log_is_no_gap",
    seeds: 1..=40,
    options: Options::default,
    shape,
    shows,
};

/// Three members that checkpoint all the time, on slow disks, and crash often.
fn shape(world: &mut World) {
    world.plan.clear();
    world.silent_loss = false;
    world.clients = 4;
    world.pause_ms_max = 20;
    world.sync_ms_max = 25;
    world.crash_permille = 15;
    world.down_ms_max = 500;
    world.message_ms_max = 5;
    world.segment_bytes = 2048;
    world.checkpoint_log_bytes = 4096;
    world.snapshot_entries = 20;
    world.catch_up_entries = 5;
    world.members = 3;
    world.changers = 0;
}

/// A start found its checkpoint ahead of its log.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::CheckpointAhead)
}
