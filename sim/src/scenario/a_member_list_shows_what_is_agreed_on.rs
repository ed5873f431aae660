//! The member list showed changes that were in the log of the asked member and not agreed on; some never came to be.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_member_list_shows_what_is_agreed_on",
    seeds: 1..=10,
    options: Options::default,
    shape,
    shows,
};

/// Members come and go all the time, on slow disks, and crash.
fn shape(world: &mut World) {
    world.plan.clear();
    world.members = 3;
    world.clients = 3;
    world.changers = 2;
    world.pause_ms_max = 100;
    world.sync_ms_max = 25;
    world.crash_permille = 5;
    world.down_ms_max = 500;
    world.start_crash_permille = 0;
    world.loss_permille = 0;
    world.message_ms_max = 5;
    world.safety_act = Duration::from_secs(30);
}

/// Members were listed where a change was in the log and not agreed on.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::ListedInChange)
}
