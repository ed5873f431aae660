//! A forwarded proposal was executed twice: a copy of its letter reached a life of the leader that had not taken it and
//! said so, or a copy of such a refusal was taken for the answer to a later sending.

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_forwarded_proposal_is_executed_once",
    seeds: 681..=700,
    options,
    shape,
    shows,
};

fn options() -> Options {
    Options {
        fixed: true,
        ..Options::default()
    }
}

/// The worlds as they were drawn, crashes and splits included, with many letters that arrive twice, on slow ways, and
/// members that are back soon: each of them is needed.
fn shape(world: &mut World) {
    world.start_crash_permille = 0;
    world.standstill_permille = 0;
    world.members = world.members.max(3);
    world.clients = 6;
    world.duplicate_permille = 200;
    world.message_ms_max = 40;
    world.down_ms_max = 20;
    world.crash_permille = world.crash_permille.max(5);
}

/// Both copies of a letter with proposals arrived, in two lives of their receiver.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::ForwardedTwice)
}
