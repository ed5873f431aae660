//! While the state was on its way to a member, and then to its disk, the entries came there after all, and more behind
//! them. Consensus then took the snapshot's end for the end of what it had given to the disk.

use super::{Scenario, bare};
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_snapshot_leaves_a_log_that_has_its_last_entry",
    seeds: 1..=24,
    options: Options::default,
    shape,
    shows,
};

/// Many clients write, and little is kept for members that lag.
fn shape(world: &mut World) {
    bare(world);
    world.members = 4;
    world.clients = 8;
    world.pause_ms_max = 5;
    world.sync_ms_max = 4;
    world.message_ms_max = 5;
    world.smallness = 518_322;
}

/// A member was sent the state.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::Installed)
}
