//! A compaction at a revision in which a key had changed twice lost what the key went through later, where the records of
//! the key were divided just within that revision.

use super::{Scenario, bare};
use crate::cluster::Cluster;
use crate::world::{Options, World};
use metastore_judges::model::Key;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "a_key_that_changes_twice_in_a_revision_keeps_what_follows",
    seeds: 1..=8,
    options: Options::default,
    shape,
    shows,
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

/// A revision in which a key had changed twice became the boundary, and the key changed again later.
fn shows(cluster: &Cluster) -> u64 {
    let judges = cluster.judges.borrow();
    let chronicle = &judges.chronicle;
    let twice = |boundary: &i64| {
        let changes = chronicle.revision(*boundary).map(|it| &it.changes);
        let changed = |key: &Key| {
            let all = changes.into_iter().flatten();
            all.filter(|(other, _)| other == key).count()
        };
        let mut keys = changes.into_iter().flatten().map(|(key, _)| key);
        let again = |key: &Key| {
            let mut later =
                (boundary + 1..=chronicle.last()).filter_map(|it| chronicle.revision(it));
            later.any(|it| it.changes.iter().any(|(other, _)| other == key))
        };
        keys.any(|key| changed(key) > 1 && again(key))
    };
    chronicle.boundaries().filter(twice).count() as u64
}
