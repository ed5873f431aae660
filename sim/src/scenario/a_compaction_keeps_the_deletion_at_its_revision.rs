//! A compaction at the revision of a deletion dropped that event.

use metastore_proto::mvccpb::event::EventType;

use super::{Lesson, Scenario, bare, heard_at_the_boundary};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_compaction_keeps_the_deletion_at_its_revision",
        seeds: 1..=16,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[18089],
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
    heard_at_the_boundary(cluster, |event| {
        event.r#type == i32::from(EventType::Delete)
    })
}
