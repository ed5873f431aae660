//! What readers see, and when they are to see something else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Member;
use crate::command::MemberAttributes;
use crate::mvcc::Store;
use crate::output::{MemberInfo, Output, Published};
use crate::plant::Plant;
use crate::raft::following::Look;
use crate::raft::machine::Replica;
use crate::raft::reconfiguration::Roster;
use crate::raft::trimmer::Sight;
use crate::raft::types::StoredMembership;
use crate::state::StateView;

/// What a lease counts for in the bytes in use, so that the quota bounds their number.
pub(super) const LEASE_BYTES: u64 = 64;

/// Where the member stands, apart from its state.
#[derive(PartialEq, Eq)]
struct Place {
    applied: u64,
    committed: u64,
    term: u64,
    leader: Option<u64>,
    reads_need_no_quorum: bool,
}

impl Place {
    fn of(published: &Published) -> Self {
        Self {
            applied: published.applied,
            committed: published.committed,
            term: published.term,
            leader: published.leader,
            reads_need_no_quorum: published.reads_need_no_quorum,
        }
    }
}

impl Member {
    /// Publishes what has changed since the last time.
    pub(super) fn publish(&mut self) {
        let in_touch = 2 * self.settings.election_timeout;
        let look = Look::at(&self.raft, self.now, in_touch);
        let leader = self.believed_leader(&look);
        let replica = self.replica.borrow();
        let place = self.place(&look, leader, &replica);
        let sight = Sight {
            applied: place.applied,
            snapshot: look.snapshot,
            followed: look.followed,
            state_bytes: replica.state.kv().bytes_in_use(),
        };
        self.trimmer.look(&self.executor, &self.raft, sight);
        let (kv, old) = (replica.state.kv(), &self.published);
        let compacted = kv.compact_revision() != old.view.compact_revision();
        if compacted {
            self.sweep_at = Some(self.now);
        }
        let revision_moved = compacted || kv.revision() != old.view.revision();
        // What a sweep has freed counts against no quota any more.
        let bytes_in_use = self.counted_bytes(kv);
        let swept = self.sweep_at.is_none() && bytes_in_use != old.bytes_in_use;
        if !revision_moved && !swept && place == Place::of(old) {
            return;
        }
        let view = self.shown(&replica);
        let list = |it: &StoredMembership| list_members(it.membership(), &view.members);
        let members = same_or_new(&old.members, list(&look.membership));
        let agreed_members = match replica.membership.log_id() {
            // Nearly always: nothing is under way that is not agreed on.
            at @ Some(_) if at == look.membership.log_id() => Arc::clone(&members),
            Some(_) => same_or_new(&old.agreed_members, list(&replica.membership)),
            None if is_first(&look.membership) => Arc::clone(&members),
            None => same_or_new(&old.agreed_members, Vec::new()),
        };
        self.published = Published {
            view: view.kv,
            bytes_in_use,
            applied: place.applied,
            committed: place.committed,
            term: place.term,
            leader: place.leader,
            reads_need_no_quorum: place.reads_need_no_quorum,
            members,
            agreed_members,
        };
        self.outputs
            .push_back(Output::Publish(Arc::new(self.published.clone())));
    }

    /// What counts against the quota.
    fn counted_bytes(&self, kv: &Store) -> u64 {
        let counted = kv.bytes_in_use() + LEASE_BYTES * kv.leases().len() as u64;
        match self.settings.planted().is(Plant::CountsWhatIsSwept) {
            true => counted.max(self.published.bytes_in_use),
            false => counted,
        }
    }

    /// The state that readers see.
    fn shown(&self, replica: &Replica) -> StateView {
        match (replica.last_applied, self.settings.planted()) {
            (Some(last), planted) if planted.is(Plant::ShowsUncommitted) => {
                let entries = self.trimmer.entries_after(last.index());
                replica.with_entries(last.index(), &entries).view()
            }
            _ => replica.state.view(),
        }
    }

    fn place(&self, look: &Look, leader: Option<u64>, replica: &Replica) -> Place {
        let applied = replica.last_applied.map_or(0, |id| id.index());
        let term = look.term;
        let caught_up = replica
            .last_applied
            .is_some_and(|id| id.committed_leader_id().term == term);
        Place {
            applied,
            committed: look.committed.max(applied),
            term,
            leader,
            reads_need_no_quorum: look.is_only_voter(self.id)
                && leader == Some(self.id)
                && caught_up
                && !self.standing.is_corrupt(),
        }
    }
}

/// Whether this is what a cluster begins with, which nobody has to agree on.
fn is_first(membership: &StoredMembership) -> bool {
    membership.log_id().is_some_and(|at| at.index() == 0)
}

/// The old list where the new one says the same, so that nobody has to compare them again.
fn same_or_new(old: &Arc<[MemberInfo]>, new: Vec<MemberInfo>) -> Arc<[MemberInfo]> {
    match *new == **old {
        true => Arc::clone(old),
        false => new.into(),
    }
}

/// The members with what they published of themselves, by id.
pub(super) fn list_members(
    roster: &Roster,
    published: &BTreeMap<u64, MemberAttributes>,
) -> Vec<MemberInfo> {
    roster
        .nodes()
        .map(|(id, peer)| {
            let attributes = published.get(id);
            MemberInfo {
                id: *id,
                name: attributes.map(|a| a.name.clone()).unwrap_or_default(),
                peer_urls: peer.urls.clone(),
                client_urls: attributes
                    .map(|a| a.client_urls.clone())
                    .unwrap_or_default(),
                is_learner: !peer.joins && !roster.voter_ids().any(|voter| voter == *id),
            }
        })
        .collect()
}
