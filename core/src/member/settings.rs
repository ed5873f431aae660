//! What a member is started with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Sizes;
use crate::compactor::AutoCompaction;
use crate::mvcc::Store;
use crate::plant::Planted;
use crate::raft::RecoveredLog;

/// What a member is told at its start, for good.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The member's id, unique in the cluster for all time.
    pub id: u64,
    /// All first members with their peer URLs, for a cluster that has no log yet; empty to wait to be added.
    pub initial_members: BTreeMap<u64, Vec<String>>,
    /// How often a leader sends heartbeats. Each may take a quarter of the election timeout, there and back.
    pub heartbeat: Duration,
    /// How long a follower waits for a heartbeat; at least five heartbeats.
    pub election_timeout: Duration,
    /// Whether a candidate asks first whether it could win.
    pub pre_vote: bool,
    /// How long a request may take before it is answered with [`crate::output::Refusal::TimedOut`].
    pub request_timeout: Duration,
    /// Entries between two snapshots in memory, after which the log in memory is cut.
    pub snapshot_entries: u64,
    /// Entries kept in memory behind the snapshot, for followers that lag a little.
    pub catch_up_entries: u64,
    /// Bytes of log that make a new checkpoint on the disk due.
    pub checkpoint_log_bytes: u64,
    /// Entries that make one due, whatever their size; none for no such limit.
    pub checkpoint_entries: Option<u64>,
    /// How long a lease runs before what it has left is recorded, so that a new leader counts on from there;
    /// none to record nothing, and give every lease its full time again.
    pub lease_record_interval: Option<Duration>,
    /// What the member compacts by itself while it leads.
    pub auto_compaction: AutoCompaction,
    /// Learners that the cluster may have at once.
    pub learners_max: usize,
    /// Whether changes of the membership that endanger the quorum are refused.
    pub strict_reconfiguration: bool,
    /// How often members tell each other what their histories came to, and compare; none for never.
    pub comparison_interval: Option<Duration>,
    /// Thresholds, which no server sets.
    pub sizes: Sizes,
    /// Seeds the member's dice (election jitter); different per member and per start.
    pub seed: u64,
    /// Names this start, so that letters to and from an earlier life are not mistaken for this one's: another number at
    /// each, in no order.
    pub incarnation: u32,
    /// A fault on purpose.
    #[cfg(feature = "plant")]
    pub planted: Planted,
}

impl Settings {
    /// What is planted in this member.
    #[cfg(feature = "plant")]
    pub(crate) fn planted(&self) -> Planted {
        self.planted
    }

    /// What is planted in this member.
    #[cfg(not(feature = "plant"))]
    pub(crate) fn planted(&self) -> Planted {
        Planted::default()
    }
}

#[cfg(test)]
impl Settings {
    /// A member of its own with the usual times and bounds.
    pub(crate) fn usual(id: u64) -> Self {
        Self {
            id,
            initial_members: BTreeMap::new(),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            request_timeout: Duration::from_secs(7),
            snapshot_entries: 100,
            catch_up_entries: 50,
            checkpoint_log_bytes: 1 << 30,
            checkpoint_entries: None,
            lease_record_interval: Some(Duration::from_secs(60)),
            auto_compaction: AutoCompaction::Off,
            learners_max: 1,
            strict_reconfiguration: true,
            comparison_interval: Some(Duration::from_secs(5)),
            sizes: Sizes::default(),
            seed: id,
            incarnation: 0,
            #[cfg(feature = "plant")]
            planted: Planted::default(),
        }
    }
}

/// What the disk held when the member was started.
#[derive(Default)]
pub struct Recovered {
    /// The newest checkpoint: its keys and its description.
    pub checkpoint: Option<(Store, Vec<u8>)>,
    /// The log after it.
    pub log: RecoveredLog,
}
