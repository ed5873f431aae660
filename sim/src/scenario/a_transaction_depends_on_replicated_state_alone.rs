//! A transaction read at a revision that some members had swept already and others had not, and members came to differ.

use metastore_core::kv_error::KvError;
use metastore_core::output::Refusal;

use super::{Lesson, Scenario, bare};
use crate::cluster::Cluster;
use crate::world::{Options, World};
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_transaction_depends_on_replicated_state_alone",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[18667, 21432],
};

/// Transactions read the past and write, while compactions follow the newest revision closely.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 5;
    world.pause_ms_max = 20;
    world.recall_permille = 400;
    world.compaction_back_max = 10;
    world.crash_permille = 5;
    world.down_ms_max = 500;
}

/// Transactions were refused because what they were to read was compacted.
fn shows(cluster: &Cluster) -> u64 {
    let history = cluster.history.borrow();
    let refused = history.iter().filter(|record| {
        let ending = record.ended.as_ref().map(|(_, ending)| ending);
        let compacted = matches!(
            ending,
            Some(Ending::Refused(Refusal::Kv(KvError::Compacted)))
        );
        compacted && matches!(record.op, Op::Recall { .. })
    });
    refused.count() as u64
}
