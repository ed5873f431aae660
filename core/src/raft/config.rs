//! How consensus is set up.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::member::Settings;
use crate::plant::Plant;

/// The part of an election timeout that a heartbeat may take, there and back. Operators are told to have ten such ways in
/// an election timeout.
const HEARTBEAT_SHARE: u64 = 4;

/// How long a peer may take to install a snapshot once it has it, in milliseconds. Writing a large one to a slow disk
/// takes minutes, and giving up means to send all of it again; that the peer still has it is asked for meanwhile, and a
/// peer that has it no more says so.
const INSTALL_PATIENCE: u64 = 60 * 60 * 1000;

/// Consensus' own settings.
pub(crate) fn config(settings: &Settings) -> Config {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let election = millis(settings.election_timeout);
    let heartbeat = (election / HEARTBEAT_SHARE).max(millis(settings.heartbeat));
    // This version of consensus looks at its timers every so often, and so finds that they are over half as much later in
    // the mean.
    let late = heartbeat * 13 / 64 / 2;
    let config = Config {
        cluster_name: "metastore".into(),
        // Consensus gives a heartbeat up after this time and sends no other meanwhile, so it is the longest way to a
        // member and back over which a leader without writes still hears that it leads. The member lets them go out
        // more often (`leadership.rs`).
        heartbeat_interval: heartbeat,
        enable_heartbeat: false,
        // A follower that hears nothing first lets the leader's lease run out, which is the longest timeout, and
        // then its own: between them they are one and a quarter to one and a half of what was asked for.
        election_timeout_min: election / 2 - late,
        election_timeout_max: election * 3 / 4 - late,
        install_snapshot_timeout: INSTALL_PATIENCE,
        max_payload_entries: 4096,
        replication_lag_threshold: settings.snapshot_entries.max(1) + settings.catch_up_entries,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries.max(1)),
        // The trimmer alone decides what goes.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(settings.pre_vote),
        // A follower that came back without entries that it had, since its disk lied or was not asked to sync, is given
        // them again. Without this it would be sent the same ones for ever, without a pause.
        allow_log_reversion: Some(true),
        // A leader that lost its unsynced tail in a crash would come back as leader of the same term and
        // write other entries at the indexes its followers already hold.
        enable_leader_restore: Some(settings.planted().is(Plant::LeaderRestore)),
        ..Config::default()
    };
    config
        .validate()
        .expect("the settings were checked by whoever made them")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(heartbeat: u64, election: u64) -> Settings {
        Settings {
            heartbeat: Duration::from_millis(heartbeat),
            election_timeout: Duration::from_millis(election),
            ..Settings::usual(1)
        }
    }

    #[test]
    fn whatever_times_an_operator_may_choose_consensus_takes() {
        for heartbeat in (1..=50).chain([99, 100, 101, 500, 5_000, 10_000]) {
            for election in [5 * heartbeat, 5 * heartbeat + 1, 10 * heartbeat, 50_000] {
                let config = config(&settings(heartbeat, election));
                assert!(config.heartbeat_interval >= heartbeat);
                assert!(config.heartbeat_interval < config.election_timeout_min);
                assert!(config.election_timeout_max < election);
            }
        }
    }

    #[test]
    fn with_the_usual_times_a_heartbeat_has_a_quarter_of_a_second() {
        let config = config(&settings(100, 1000));
        assert_eq!(config.heartbeat_interval, 250);
        let (least, most) = (config.election_timeout_min, config.election_timeout_max);
        assert_eq!((least, most), (475, 725));
    }
}
