//! Changes of the membership as consensus makes them.

use std::collections::{BTreeMap, BTreeSet};

use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, Membership};

use super::types::{Peer, Raft};
use crate::membership::{MembershipChange, MembershipError};
use crate::output::Refusal;

/// All members, as consensus has them.
pub(crate) type Roster = Membership<u64, Peer>;

/// What consensus is to do.
pub(crate) struct Step(ChangeMembers<u64, Peer>);

impl Step {
    /// What a client asked for.
    pub(crate) fn of(change: MembershipChange, roster: &Roster) -> Self {
        Self(match change {
            MembershipChange::Add {
                id,
                peer_urls,
                learner,
            } => {
                let peer = Peer {
                    urls: peer_urls,
                    joins: !learner,
                };
                ChangeMembers::AddNodes(BTreeMap::from([(id, peer)]))
            }
            MembershipChange::Remove { id } => {
                let ids = BTreeSet::from([id]);
                match roster.voter_ids().any(|voter| voter == id) {
                    true => ChangeMembers::RemoveVoters(ids),
                    false => ChangeMembers::RemoveNodes(ids),
                }
            }
            MembershipChange::Update { id, peer_urls } => {
                let peer = Peer {
                    urls: peer_urls,
                    joins: roster.get_node(&id).is_some_and(|peer| peer.joins),
                };
                ChangeMembers::SetNodes(BTreeMap::from([(id, peer)]))
            }
            MembershipChange::Promote { id } => ChangeMembers::AddVoterIds(BTreeSet::from([id])),
        })
    }

    /// The second half of a change whose leader did not come to it; none if there is nothing to finish.
    pub(crate) fn unfinished(roster: &Roster) -> Option<Self> {
        let joint = roster.get_joint_config().len() > 1;
        joint.then(|| Self(ChangeMembers::AddVoterIds(BTreeSet::new())))
    }

    /// Takes the step: through a joint membership if voters come or go.
    pub(crate) async fn take(self, raft: Raft) -> Result<(), Refusal> {
        match raft.change_membership(self.0, false).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(_)) => Err(Refusal::Stopped),
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::EmptyMembership(_),
            ))) => Err(Refusal::Membership(MembershipError::NotEnoughStarted)),
            // A change may take two entries, and the first may be in the log.
            Err(RaftError::APIError(_)) => Err(Refusal::LeaderChanged),
        }
    }
}

/// Whether a leader has something left to do about this membership.
pub(crate) fn is_unfinished(roster: &Roster) -> bool {
    Step::unfinished(roster).is_some() || joining(roster).next().is_some()
}

/// The members that were added to vote and do not yet.
pub(crate) fn joining(roster: &Roster) -> impl Iterator<Item = u64> {
    let joins = |id: &u64| roster.get_node(id).is_some_and(|peer| peer.joins);
    roster.learner_ids().filter(joins)
}
