//! What consensus knows of the members: who leads, what the others hold, when they were last heard of.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;

use super::machine::Replica;
use super::types::{LogId, Raft, StoredMembership, TypeConfig, Vote};

/// What a leader knows of all members; empty where this one does not lead.
pub(crate) struct Following {
    /// The last entry that each member is known to hold, the leader among them.
    pub(crate) matched: BTreeMap<u64, u64>,
    /// The members heard of within some time, the leader among them.
    pub(crate) active: BTreeSet<u64>,
}

impl Following {
    /// What is known `now`; active is who was heard of within `time`.
    pub(crate) fn of(raft: &Raft, now: Duration, time: Duration) -> Self {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let replication = metrics.replication.iter().flatten();
        let mut matched: BTreeMap<u64, u64> = replication
            .filter_map(|(id, at)| Some((*id, at.as_ref()?.index())))
            .collect();
        let mut active: BTreeSet<u64> = heard_within(&metrics, now, time).collect();
        if metrics.replication.is_some() {
            matched.insert(metrics.id, metrics.last_log_index.unwrap_or(0));
            active.insert(metrics.id);
        }
        Self { matched, active }
    }
}

/// What consensus knows of itself and of those that follow it.
pub(crate) struct Look {
    pub(crate) term: u64,
    pub(crate) leader: Option<u64>,
    /// When this leader sent what a quorum has answered last; none where it does not lead or no quorum has yet.
    pub(crate) quorum_answered: Option<Duration>,
    /// The last entry known to be committed.
    pub(crate) committed: u64,
    /// The index that the newest snapshot in memory has reached.
    pub(crate) snapshot: Option<u64>,
    /// The last entry that all followers hold who were heard of lately; none if there are none.
    pub(crate) followed: Option<u64>,
    /// The newest membership, which need not be committed.
    pub(crate) membership: Arc<StoredMembership>,
}

impl Look {
    /// What is known `now`; lately is within `time`.
    pub(crate) fn at(raft: &Raft, now: Duration, time: Duration) -> Self {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        Self {
            term: metrics.current_term,
            leader: metrics.current_leader,
            quorum_answered: metrics.last_quorum_acked.map(|at| at.to_epoch()),
            committed: metrics.local_committed.map_or(0, |id| id.index()),
            snapshot: metrics.snapshot.map(|id| id.index()),
            followed: followed(&metrics, now, time),
            membership: Arc::clone(&metrics.membership_config),
        }
    }

    /// Whether this member is the only one that votes.
    pub(crate) fn is_only_voter(&self, id: u64) -> bool {
        is_only_voter(&self.membership, id)
    }
}

/// Whether a member is the only one that votes.
pub(crate) fn is_only_voter(membership: &StoredMembership, id: u64) -> bool {
    // Asked at every turn: `voter_ids` would make a set of its own each time.
    let configurations = membership.membership().get_joint_config();
    let mut voters = configurations.iter().flatten().peekable();
    voters.peek().is_some() && voters.all(|voter| *voter == id)
}

/// Whether this member leads. One that was removed no longer does once it has stepped down, though it may still be
/// the last leader that it knows of.
pub(crate) fn leads(raft: &Raft) -> bool {
    raft.metrics().borrow_watched().state.is_leader()
}

/// Whom this member follows, or whether it leads itself, as consensus has it.
pub(crate) fn leader(raft: &Raft) -> Option<u64> {
    raft.metrics().borrow_watched().current_leader
}

/// The last entry of this member's log.
pub(crate) fn last_log_index(raft: &Raft) -> Option<u64> {
    raft.metrics().borrow_watched().last_log_index
}

/// The newest membership in the log, which need not be committed.
pub(crate) fn newest_membership(raft: &Raft) -> Arc<StoredMembership> {
    Arc::clone(&raft.metrics().borrow_watched().membership_config)
}

/// The vote that this member last made durable.
pub(crate) fn vote(raft: &Raft) -> Vote {
    raft.metrics().borrow_watched().vote
}

/// Whether the newest membership is committed and applied, and so is everything of earlier terms.
pub(crate) fn membership_is_settled(raft: &Raft, replica: &Replica) -> bool {
    let metrics = raft.metrics();
    let metrics = metrics.borrow_watched();
    let caught_up = replica
        .last_applied
        .is_some_and(|id| id.committed_leader_id().term == metrics.current_term);
    caught_up
        && metrics.membership_config == metrics.committed_membership_config
        && replica.membership.log_id() == metrics.membership_config.log_id()
}

fn followed(metrics: &RaftMetrics<TypeConfig>, now: Duration, time: Duration) -> Option<u64> {
    let replication = metrics.replication.as_ref()?;
    heard_within(metrics, now, time)
        .filter(|id| *id != metrics.id)
        .filter_map(|id| replication.get(&id).copied().flatten())
        .map(|at: LogId| at.index())
        .min()
}

fn heard_within(
    metrics: &RaftMetrics<TypeConfig>,
    now: Duration,
    time: Duration,
) -> impl Iterator<Item = u64> {
    let since = now.saturating_sub(time);
    let heard = metrics.heartbeat.iter().flatten();
    heard
        .filter(move |(_, at)| at.is_some_and(|at| at.to_epoch() >= since))
        .map(|(id, _)| *id)
}
