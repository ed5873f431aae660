//! How consensus is set up.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::member::Settings;
use crate::plant::Plant;

/// Consensus' own settings.
pub(crate) fn config(settings: &Settings) -> Config {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let election = millis(settings.election_timeout);
    let config = Config {
        cluster_name: "metastore".into(),
        heartbeat_interval: millis(settings.heartbeat),
        // A follower that hears nothing first lets the leader's lease run out, which is the longest timeout, and
        // then its own: between them they are one and a quarter to one and a half of what was asked for.
        election_timeout_min: election / 2,
        election_timeout_max: election * 3 / 4,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 4096,
        replication_lag_threshold: settings.snapshot_entries.max(1) + settings.catch_up_entries,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries.max(1)),
        // The trimmer alone decides what goes.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(settings.pre_vote),
        // A leader that lost its unsynced tail in a crash would come back as leader of the same term and
        // write other entries at the indexes its followers already hold.
        enable_leader_restore: Some(settings.planted().is(Plant::LeaderRestore)),
        ..Config::default()
    };
    config
        .validate()
        .expect("the settings were checked by whoever made them")
}
