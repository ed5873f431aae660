//! A renewal of a lease that had been revoked was answered as if it lived, by a leader that had not applied that yet.

use std::collections::BTreeSet;

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::world::{Options, World};
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_revoked_lease_is_not_renewed",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[20615],
};

/// Leases are given back and renewed once more through any member, while leaders change.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 1;
    world.holders = 6;
    world.pause_ms_max = 20;
    world.message_ms_max = 40;
    repeated(world, 2000, 500, What::Transfer);
}

/// Leases were to be renewed after they had been revoked.
fn shows(cluster: &Cluster) -> u64 {
    let history = cluster.history.borrow();
    let mut revoked = BTreeSet::new();
    let mut renewed = 0;
    for record in history.iter() {
        match (&record.op, &record.ended) {
            (Op::Revoke { id }, Some((_, Ending::Wrote(_)))) => drop(revoked.insert(*id)),
            (Op::Renew { id }, Some((_, Ending::Renewed { .. }))) => {
                renewed += u64::from(revoked.contains(id));
            }
            _ => {}
        }
    }
    renewed
}
