//! Where the log in memory was too much to be kept for those who lagged, they were not waited for any more; but as it was
//! not worth a trim yet it stayed, and they were sent the same entry again and again, and never the state.

use super::Scenario;
use crate::cluster::Cluster;
use crate::sometimes::Situation;
use crate::world::{Options, World};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "who_needs_what_goes_is_sent_the_state",
    seeds: 371_750_292_552..=371_750_292_555,
    options: Options::default,
    shape,
    shows,
};

/// Little is kept for members that lag, and trims are as seldom as on a server.
fn shape(world: &mut World) {
    world.smallness = 185_692;
}

/// A member was sent the state.
fn shows(cluster: &Cluster) -> u64 {
    cluster.sometimes.count(Situation::Installed)
}
