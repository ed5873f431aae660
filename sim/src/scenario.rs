//! Named scenarios: worlds in the shape in which a bug was found once, kept so that it stays away.

use crate::run;
use crate::world::{Options, World};

mod a_checkpoint_ahead_of_the_log_is_no_gap;
mod a_cut_off_leader_rests_between_tries;
mod a_failed_checkpoint_does_not_end_consensus;
mod a_forwarded_proposal_is_executed_once;
mod a_leader_that_left_begins_nothing;
mod a_lost_last_chunk_of_a_snapshot_is_made_up_for;
mod a_lost_message_does_not_stop_replication;
mod a_member_list_shows_what_is_agreed_on;
mod a_removed_leader_is_not_elected_again;
mod everybody_hears_what_came_of_a_removal;
pub(crate) mod source;

/// One fact, and the worlds in which it is tried.
pub(crate) struct Scenario {
    /// The fact, which is also the name.
    pub(crate) name: &'static str,
    /// The seeds of its worlds.
    pub(crate) seeds: std::ops::RangeInclusive<u64>,
    /// What is asked for.
    pub(crate) options: fn() -> Options,
    /// Gives the world of a seed its shape.
    pub(crate) shape: fn(&mut World),
}

/// Every scenario.
pub(crate) const ALL: [Scenario; 10] = [
    a_checkpoint_ahead_of_the_log_is_no_gap::SCENARIO,
    a_cut_off_leader_rests_between_tries::SCENARIO,
    a_failed_checkpoint_does_not_end_consensus::SCENARIO,
    a_forwarded_proposal_is_executed_once::SCENARIO,
    a_lost_last_chunk_of_a_snapshot_is_made_up_for::SCENARIO,
    a_leader_that_left_begins_nothing::SCENARIO,
    a_lost_message_does_not_stop_replication::SCENARIO,
    a_member_list_shows_what_is_agreed_on::SCENARIO,
    a_removed_leader_is_not_elected_again::SCENARIO,
    everybody_hears_what_came_of_a_removal::SCENARIO,
];

/// The scenario of this name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Runs one of its worlds; answers whether every promise was kept.
    pub(crate) fn run(&self, seed: u64, full_trace: bool) -> bool {
        let mut world = World::draw(seed, &(self.options)());
        (self.shape)(&mut world);
        run::run(world, full_trace, &format!("scenario {} {seed}", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_has_a_seed() {
        for scenario in &ALL {
            assert!(named(scenario.name).is_some());
            assert!(!scenario.seeds.is_empty());
        }
        assert!(named("nothing").is_none());
    }
}
