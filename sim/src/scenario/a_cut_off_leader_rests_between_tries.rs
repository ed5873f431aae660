//! A leader without a quorum tried to make a voter of a member that was in touch, was refused at once, and tried again, for
//! as long as the quorum was away: it kept a whole core busy.

use std::time::Duration;

use super::Scenario;
use crate::cluster::Cluster;
use crate::plan::{Fault, What};
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_cut_off_leader_rests_between_tries",
    seeds: 1..=40,
    options: Options::default,
    shape,
    shows,
};

/// Members come all the time, and each of the first in turn is left alone with whoever comes.
fn shape(world: &mut World) {
    world.members = 3;
    world.clients = 3;
    world.changers = 3;
    world.pause_ms_max = 100;
    world.sync_ms_max = 4;
    world.crash_permille = 0;
    world.start_crash_permille = 0;
    world.loss_permille = 0;
    world.message_ms_max = 5;
    world.safety_act = Duration::from_secs(30);
    let alone = [[2, 3], [1, 3], [1, 2], [2, 3]];
    let splits = (1..).zip(alone).map(|(number, others)| Fault {
        number,
        at: Duration::from_secs(6 * number - 2),
        lasts: Duration::from_secs(4),
        what: What::Split(others.to_vec()),
    });
    world.plan = splits.collect();
}

/// A leader without a quorum had a member to make a voter.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::AloneWithJoiner)
}
