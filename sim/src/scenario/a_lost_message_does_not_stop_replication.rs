//! A call to a peer had no deadline: one message lost without a word stopped replication to that peer for good.

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_lost_message_does_not_stop_replication",
    seeds: 1..=5,
    options,
    shape,
    shows,
};

fn options() -> Options {
    Options {
        silent_loss: true,
        ..Options::default()
    }
}

/// Three members that nothing ails but a network that loses letters without a word.
fn shape(world: &mut World) {
    world.plan.clear();
    world.crash_permille = 0;
    world.loss_permille = 30;
    world.message_ms_max = 5;
    world.members = 3;
    world.changers = 0;
}

/// Appends were lost without a word.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::AppendLost)
}
