//! When very many leases ended at once, their ends kept everything else waiting.

use std::time::Duration;

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::plan::{Fault, What};
use crate::world::{Options, World};
use metastore_judges::model::Key;

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "leases_that_end_together_starve_nobody",
        seeds: 1..=4,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[12105, 9360],
};

/// Hundreds of leases, whose time begins anew under another leader: so they all end at once.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 4;
    world.pause_ms_max = 20;
    world.sync_ms_max = 1;
    world.message_ms_max = 1;
    world.storm_leases = 120;
    world.safety_act = Duration::from_secs(25);
    world.plan = vec![Fault {
        number: 1,
        at: Duration::from_secs(4),
        lasts: Duration::from_millis(500),
        what: What::RollingRestart,
    }];
}

/// More than a hundred leases ended within a second.
fn shows(cluster: &Cluster) -> u64 {
    let judges = cluster.judges.borrow();
    let chronicle = &judges.chronicle;
    let mut ends = Vec::new();
    for number in chronicle.known() {
        let revision = chronicle.revision(number).expect("it is known");
        let gone = |(key, record): &(Key, _)| key.starts_with(b"h/80") && Option::is_none(record);
        if revision.changes.iter().any(gone) {
            ends.push(revision.shown_at);
        }
    }
    let together = ends
        .windows(100)
        .filter(|it| it[99] - it[0] < Duration::from_secs(1));
    together.count() as u64
}
