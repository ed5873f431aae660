//! A start that replayed a compaction from the log never swept what that had given up, until the next compaction came: it
//! stayed in memory, and counted against the quota of that member alone.

use super::{Scenario, bare};
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "what_a_replayed_compaction_gave_up_goes",
    seeds: 1..=8,
    options: Options::default,
    shape,
    shows,
};

/// Checkpoints are far apart, so that starts replay compactions, and the store is nearly full.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 4;
    world.pause_ms_max = 20;
    world.quota_bytes = Some(40_000);
    world.checkpoint_log_bytes = 131_072;
    world.crash_permille = 5;
    world.down_ms_max = 500;
}

/// A start replayed a compaction from its log.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::CompactionReplayed)
}
