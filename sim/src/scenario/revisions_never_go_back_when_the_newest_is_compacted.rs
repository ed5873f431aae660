//! The newest record was a deletion and was compacted away; after a crash the revision was counted anew from what was left.

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "revisions_never_go_back_when_the_newest_is_compacted",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[17780],
};

/// Compactions go to the newest revision, deletions among them, and everybody crashes.
fn shape(world: &mut World) {
    bare(world);
    world.members = 1;
    world.clients = 4;
    world.keys = 2;
    world.pause_ms_max = 20;
    world.compaction_back_max = 0;
    world.crash_permille = 15;
    world.down_ms_max = 20;
    world.checkpoint_log_bytes = 4096;
}

/// A revision that only deleted became the boundary, and there were crashes.
fn shows(cluster: &Cluster) -> u64 {
    let judges = cluster.judges.borrow();
    let chronicle = &judges.chronicle;
    let boundaries = chronicle
        .boundaries()
        .filter_map(|it| chronicle.revision(it));
    let deletions = boundaries.filter(|it| it.changes.iter().all(|(_, record)| record.is_none()));
    (deletions.count() as u64).min(cluster.counts.crashes.get())
}
