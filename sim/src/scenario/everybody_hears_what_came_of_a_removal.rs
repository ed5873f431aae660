//! A member that was taken out told everybody who had asked it for its removal that it was done, also those whom the
//! leader had refused; and it listed the members that it knew of.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "everybody_hears_what_came_of_a_removal",
    seeds: 51..=60,
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

/// A member that was taken out answered who had asked it for a change.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::ToldByLeaver)
}
