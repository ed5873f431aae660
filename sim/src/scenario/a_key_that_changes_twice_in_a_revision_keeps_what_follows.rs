//! A compaction at a revision in which a key had changed twice lost what the key went through later, where the records of
//! the key were divided just within that revision.

use super::{Scenario, bare};
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_key_that_changes_twice_in_a_revision_keeps_what_follows",
    seeds: 1..=8,
    options: Options::default,
    shape,
};

/// Two keys are made and removed in one revision all the time, and compactions follow closely.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 5;
    world.watchers = 2;
    world.pause_ms_max = 5;
    world.recall_permille = 900;
    world.compaction_back_max = 12;
}
