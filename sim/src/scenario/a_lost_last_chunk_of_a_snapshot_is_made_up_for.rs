//! The leader waited a minute for the answer to the last chunk of a snapshot; if the chunk or its answer was lost without
//! a word, the member stayed behind so long.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::plan::{Fault, What};
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_lost_last_chunk_of_a_snapshot_is_made_up_for",
    seeds: 1..=8,
    options,
    shape,
    shows,
};

fn options() -> Options {
    Options {
        silent_loss: true,
        members: Some(3),
        ..Options::default()
    }
}

/// A network that loses much without a word, and a member that was cut off for so long that it needs a snapshot just
/// before everything heals.
fn shape(world: &mut World) {
    let lasts = Duration::from_millis(8_000);
    world.plan = vec![Fault {
        number: 1,
        at: world.safety_act - lasts - Duration::from_millis(600),
        lasts,
        what: What::Split(vec![2]),
    }];
    world.crash_permille = 0;
    world.loss_permille = 40;
    world.message_ms_max = 5;
    world.pause_ms_max = 5;
    world.sync_ms_max = 4;
    world.clients = 6;
    world.snapshot_entries = 20;
    world.catch_up_entries = 5;
}

/// Pieces of snapshots were lost without a word, and snapshots were installed nevertheless.
fn shows(cluster: &Cluster) -> u64 {
    let some = &cluster.sometimes;
    some.count(Situation::PieceLost)
        .min(some.count(Situation::Installed))
}
