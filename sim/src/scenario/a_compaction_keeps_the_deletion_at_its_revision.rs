//! A compaction at the revision of a deletion dropped that event.

use metastore_core::watch::promises;
use metastore_proto::mvccpb::event::EventType;

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_compaction_keeps_the_deletion_at_its_revision",
        seeds: 1..=8,
        options: Options::default,
        shape,
    },
    issues: &[18089],
    shows,
};

/// Compactions follow the newest revision closely, and watchers begin at the boundary.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 5;
    world.keys = 4;
    world.resumers = 4;
    world.pause_ms_max = 20;
    world.compaction_back_max = 3;
    world.slow_permille = 500;
}

/// A watcher that began at the boundary heard a deletion of that revision.
fn shows(cluster: &Cluster) -> u64 {
    let streams = cluster.streams.borrow();
    let asked = streams.iter().flat_map(|stream| {
        let watchers = promises::by_watcher(&stream.responses).unwrap_or_default();
        stream.asked.iter().zip(watchers).collect::<Vec<_>>()
    });
    let heard = asked.filter(|(asked, responses)| {
        let start = asked.create.start_revision;
        let events = responses.iter().flat_map(|response| &response.events);
        let mut first = events.filter(|event| {
            let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            at == start && event.r#type == i32::from(EventType::Delete)
        });
        start > 0 && start == asked.compact_revision && first.next().is_some()
    });
    heard.count() as u64
}
