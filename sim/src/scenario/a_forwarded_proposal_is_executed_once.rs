//! A forwarded proposal was executed twice: a copy of its letter reached a life of the leader that had not taken it and
//! said so, or a copy of such a refusal was taken for the answer to a later sending.

use super::Scenario;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_forwarded_proposal_is_executed_once",
    seeds: 690..=690,
    options,
    shape,
};

fn options() -> Options {
    Options {
        fixed: true,
        ..Options::default()
    }
}

/// The world as it was drawn, crashes, splits and letters that arrive twice included: each of them is needed.
fn shape(world: &mut World) {
    world.start_crash_permille = 0;
    world.standstill_permille = 0;
}
