//! The memberships that a member knows, for those who judge it from outside.

use super::Member;
use crate::raft::following;
use crate::raft::types::{LogId, StoredMembership};

impl Member {
    /// Whether it leads, which is more than that it knows of no later leader than itself.
    pub fn leads(&self) -> bool {
        following::leads(&self.raft)
    }

    /// The entries that set the newest membership it has applied, and the newest one in its log, which may not be
    /// committed; cheap enough to be asked after each input.
    pub fn memberships_at(&self) -> (Option<LogId>, Option<LogId>) {
        let newest = *following::newest_membership(&self.raft).log_id();
        (*self.replica.borrow().membership.log_id(), newest)
    }

    /// The newest membership it has applied, and the newest one in its log.
    pub fn memberships(&self) -> (StoredMembership, StoredMembership) {
        let newest = StoredMembership::clone(&following::newest_membership(&self.raft));
        (self.replica.borrow().membership.clone(), newest)
    }
}
