//! The checkpoint of a snapshot that is installed can fail; consensus then ended, and the member stayed behind for ever.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::plan::{Fault, What};
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_failed_checkpoint_does_not_end_consensus",
    seeds: 1..=5,
    options: Options::default,
    shape,
    shows,
};

/// Three members with short logs; one is cut off, and comes back while its checkpoints fail.
fn shape(world: &mut World) {
    world.members = 3;
    world.changers = 0;
    world.clients = 4;
    world.pause_ms_max = 20;
    world.sync_ms_max = 1;
    world.crash_permille = 0;
    world.loss_permille = 0;
    world.silent_loss = false;
    world.message_ms_max = 5;
    world.safety_act = Duration::from_secs(20);
    world.snapshot_entries = 20;
    world.catch_up_entries = 5;
    let fault = |number, at, lasts, what| Fault {
        number,
        at: Duration::from_secs(at),
        lasts: Duration::from_secs(lasts),
        what,
    };
    world.plan = vec![
        fault(1, 4, 8, What::Split(vec![3])),
        fault(2, 5, 12, What::CheckpointsFail(3)),
    ];
}

/// The checkpoint of a snapshot failed, and snapshots were installed nevertheless.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::InstallFailed)
        .min(some.count(Situation::Installed))
}
