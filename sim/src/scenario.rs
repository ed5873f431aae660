//! Named scenarios: worlds in the shape in which a bug was found once, kept so that it stays away.

use std::time::Duration;

use metastore_core::watch::promises;
use metastore_proto::etcdserverpb::WatchResponse;
use metastore_proto::mvccpb::Event;

use crate::cluster::Cluster;
use crate::plan::{Fault, What};
use crate::run;
use crate::world::{Options, World};

mod a_barrier_from_before_a_pause_serves_no_read;
mod a_checkpoint_ahead_of_the_log_is_no_gap;
mod a_compaction_keeps_the_deletion_at_its_revision;
mod a_cut_off_leader_rests_between_tries;
mod a_failed_checkpoint_does_not_end_consensus;
mod a_forwarded_proposal_is_executed_once;
mod a_key_that_changes_twice_in_a_revision_keeps_what_follows;
mod a_leader_that_left_begins_nothing;
mod a_lone_member_loses_no_acknowledged_write;
mod a_lost_last_chunk_of_a_snapshot_is_made_up_for;
mod a_lost_message_does_not_stop_replication;
mod a_member_list_shows_what_is_agreed_on;
mod a_read_index_counts_under_its_leader_alone;
mod a_removed_leader_is_not_elected_again;
mod a_revoked_lease_is_not_renewed;
mod a_slow_stream_loses_nothing;
mod a_snapshot_leaves_a_log_that_has_its_last_entry;
mod a_transaction_depends_on_replicated_state_alone;
mod a_watch_from_the_boundary_on_is_complete;
mod a_watch_never_goes_back_in_time;
mod an_event_of_a_transaction_comes_once;
mod before_its_start_a_watcher_hears_nothing;
mod crashes_under_load_leave_members_equal;
mod damage_is_named_where_it_is_found;
mod everybody_hears_what_came_of_a_removal;
mod leases_that_end_together_starve_nobody;
mod progress_says_only_what_was_sent;
mod revisions_never_go_back_when_the_newest_is_compacted;
mod slow_watchers_hold_nobody_up;
mod snapshot_after_snapshot_is_installed;
pub(crate) mod source;
mod what_a_replayed_compaction_gave_up_goes;
mod who_needs_what_goes_is_sent_the_state;

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
    /// How often a run had the situation that it is there for. If none of its worlds has it, they say nothing.
    pub(crate) shows: fn(&Cluster) -> u64,
}

/// Every scenario.
pub(crate) const ALL: [Scenario; 14] = [
    a_checkpoint_ahead_of_the_log_is_no_gap::SCENARIO,
    a_cut_off_leader_rests_between_tries::SCENARIO,
    a_failed_checkpoint_does_not_end_consensus::SCENARIO,
    a_forwarded_proposal_is_executed_once::SCENARIO,
    a_key_that_changes_twice_in_a_revision_keeps_what_follows::SCENARIO,
    a_lost_last_chunk_of_a_snapshot_is_made_up_for::SCENARIO,
    a_leader_that_left_begins_nothing::SCENARIO,
    a_lost_message_does_not_stop_replication::SCENARIO,
    a_member_list_shows_what_is_agreed_on::SCENARIO,
    a_removed_leader_is_not_elected_again::SCENARIO,
    a_snapshot_leaves_a_log_that_has_its_last_entry::SCENARIO,
    everybody_hears_what_came_of_a_removal::SCENARIO,
    what_a_replayed_compaction_gave_up_goes::SCENARIO,
    who_needs_what_goes_is_sent_the_state::SCENARIO,
];

/// A scenario after a bug that etcd had.
pub(crate) struct Lesson {
    pub(crate) scenario: Scenario,
    /// The numbers of etcd's issues.
    pub(crate) issues: &'static [u32],
}

/// Every lesson, in the order of etcd's issues.
pub(crate) const LESSONS: [Lesson; 18] = [
    crashes_under_load_leave_members_equal::LESSON,
    a_lone_member_loses_no_acknowledged_write::LESSON,
    progress_says_only_what_was_sent::LESSON,
    a_watch_never_goes_back_in_time::LESSON,
    an_event_of_a_transaction_comes_once::LESSON,
    a_slow_stream_loses_nothing::LESSON,
    revisions_never_go_back_when_the_newest_is_compacted::LESSON,
    snapshot_after_snapshot_is_installed::LESSON,
    a_compaction_keeps_the_deletion_at_its_revision::LESSON,
    a_transaction_depends_on_replicated_state_alone::LESSON,
    a_watch_from_the_boundary_on_is_complete::LESSON,
    before_its_start_a_watcher_hears_nothing::LESSON,
    damage_is_named_where_it_is_found::LESSON,
    a_barrier_from_before_a_pause_serves_no_read::LESSON,
    a_read_index_counts_under_its_leader_alone::LESSON,
    a_revoked_lease_is_not_renewed::LESSON,
    slow_watchers_hold_nobody_up::LESSON,
    leases_that_end_together_starve_nobody::LESSON,
];

/// The scenario of this name.
pub(crate) fn named(name: &str) -> Option<&'static Scenario> {
    all().find(|scenario| scenario.name == name)
}

/// All there are, the lessons among them.
pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    let lessons = LESSONS.iter().map(|lesson| &lesson.scenario);
    ALL.iter().chain(lessons)
}

/// The lesson of this name.
pub(crate) fn lesson(name: &str) -> Option<&'static Lesson> {
    LESSONS.iter().find(|lesson| lesson.scenario.name == name)
}

impl Scenario {
    /// Runs one of its worlds; answers whether every promise was kept.
    pub(crate) fn run(&self, seed: u64, full_trace: bool) -> bool {
        let options = Options {
            plain: true,
            ..(self.options)()
        };
        let mut world = World::draw(seed, &options);
        (self.shape)(&mut world);
        world.shows = Some(self.shows);
        run::run(world, full_trace, &format!("scenario {} {seed}", self.name))
    }
}

/// How many watchers that began at the revision of a compaction heard such an event of that revision.
fn heard_at_the_boundary(cluster: &Cluster, such: impl Fn(&Event) -> bool) -> u64 {
    let streams = cluster.streams.borrow();
    let asked = streams.iter().flat_map(|stream| {
        let watchers = promises::by_watcher(&stream.responses).unwrap_or_default();
        stream.asked.iter().zip(watchers).collect::<Vec<_>>()
    });
    let heard = asked.filter(|(asked, responses)| {
        let start = asked.create.start_revision;
        let mut events = responses.iter().flat_map(|response| &response.events);
        let at = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        start > 0
            && start == asked.compact_revision
            && events.any(|event| at(event) == start && such(event))
    });
    heard.count() as u64
}

/// Takes everything from a world but three members: no client, no fault, and all at a moderate speed.
fn bare(world: &mut World) {
    world.plan.clear();
    world.members = 3;
    (world.clients, world.movers, world.holders) = (0, 0, 0);
    (world.changers, world.watchers) = (0, 0);
    world.keys = 6;
    world.safety_act = Duration::from_secs(20);
    world.standstill_permille = 0;
    world.sync_ms_max = 4;
    (world.crash_permille, world.start_crash_permille) = (0, 0);
    world.message_ms_max = 5;
    (world.loss_permille, world.duplicate_permille) = (0, 0);
    world.silent_loss = false;
}

/// Plans one kind of fault again and again, every so many milliseconds for so many, at one place after the other.
fn repeated(world: &mut World, every_ms: u64, lasts_ms: u64, what: fn(u64) -> What) {
    let act_ms = u64::try_from(world.safety_act.as_millis()).unwrap_or(u64::MAX);
    let times = act_ms.saturating_sub(lasts_ms) / every_ms;
    let fault = |number| Fault {
        number,
        at: Duration::from_millis(number * every_ms - every_ms / 2),
        lasts: Duration::from_millis(lasts_ms),
        what: what(1 + number % world.members),
    };
    world.plan = (1..=times).map(fault).collect();
}

/// How many watchers heard something as it happened, and later several revisions at once, out of the history.
fn fell_behind(cluster: &Cluster) -> u64 {
    let stretches = cluster.stretches.borrow();
    let behind = stretches.iter().filter(|stretch| {
        let revisions = |response: &WatchResponse| {
            let kvs = response.events.iter().filter_map(|event| event.kv.as_ref());
            let mut revisions = kvs.map(|kv| kv.mod_revision);
            let first = revisions.next();
            first.map(|first| (first, revisions.next_back().unwrap_or(first)))
        };
        let mut heard = stretch.responses.iter().filter_map(|it| {
            let header = it.header.as_ref().map_or(0, |header| header.revision);
            revisions(it).map(|(first, last)| (first, last, header))
        });
        let live = heard.any(|(first, last, header)| first == last && last == header);
        live && heard.any(|(first, last, _)| first < last)
    });
    behind.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_is_found_by_its_name_and_has_a_seed() {
        for scenario in all() {
            assert!(named(scenario.name).is_some());
            assert!(!scenario.seeds.is_empty());
        }
        assert!(named("nothing").is_none());
        assert!(LESSONS.iter().all(|lesson| !lesson.issues.is_empty()));
    }
}
