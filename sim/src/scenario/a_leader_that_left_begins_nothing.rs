//! A leader that had taken itself out went on, before it stepped down, to make a voter of a member that had just caught up;
//! consensus broke over it.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_leader_that_left_begins_nothing",
    seeds: 1..=30,
    options: Options::default,
    shape,
    shows,
};

/// Members come and go all the time, and nothing else ails them.
fn shape(world: &mut World) {
    world.plan.clear();
    world.members = 3;
    world.clients = 3;
    world.changers = 2;
    world.pause_ms_max = 100;
    world.sync_ms_max = 4;
    world.crash_permille = 0;
    world.start_crash_permille = 0;
    world.loss_permille = 0;
    world.message_ms_max = 5;
    world.safety_act = Duration::from_secs(30);
}

/// A leader that had taken itself out had a member to make a voter.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::LeftWithJoiner)
}
