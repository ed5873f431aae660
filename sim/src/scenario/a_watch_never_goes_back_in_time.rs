//! A watcher that went on at a member that lagged behind a partition heard old events once more.

use super::{Lesson, Scenario, bare, repeated};
use crate::cluster::Cluster;
use crate::plan::What;
use crate::world::{Options, World};

pub(super) const LESSON: Lesson = Lesson {
    scenario: Scenario {
        name: "a_watch_never_goes_back_in_time",
        seeds: 1..=8,
        options: Options::default,
        shape,
        shows,
    },
    issues: &[15271],
};

/// Members are cut off one after the other, and watchers move from one to the other all the time.
fn shape(world: &mut World) {
    bare(world);
    world.clients = 4;
    world.watchers = 3;
    world.resumers = 2;
    world.pause_ms_max = 20;
    repeated(world, 3500, 2500, |place| What::Split(vec![place]));
}

/// A watcher went on where the member was not yet.
fn shows(cluster: &Cluster) -> u64 {
    let stretches = cluster.stretches.borrow();
    let ahead = stretches.iter().filter(|stretch| {
        let first = stretch.responses.first();
        let header = first.and_then(|first| first.header.as_ref());
        header.is_some_and(|header| header.revision + 1 < stretch.create.start_revision)
    });
    ahead.count() as u64
}
