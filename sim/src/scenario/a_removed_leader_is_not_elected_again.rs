//! A leader that took itself out and crashed before it knew that this was in force asked for votes again, and got them from
//! members that had applied its removal: they still took it for the leader.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_removed_leader_is_not_elected_again",
    seeds: 1..=60,
    options: Options::default,
    shape,
    shows,
};

/// Members come and go all the time, and crash for a moment.
fn shape(world: &mut World) {
    world.plan.clear();
    world.members = 3;
    world.clients = 2;
    world.changers = 2;
    world.pause_ms_max = 400;
    world.sync_ms_max = 25;
    world.crash_permille = 30;
    world.start_crash_permille = 0;
    world.down_ms_max = 20;
    world.loss_permille = 0;
    world.message_ms_max = 5;
    world.safety_act = Duration::from_secs(30);
}

/// A leader that had taken itself out crashed before that was in force.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::CrashedLeaving)
}
