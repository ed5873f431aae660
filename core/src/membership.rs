//! Which changes of the membership are allowed: the questions a leader asks before it proposes one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::output::MemberInfo;

/// One change of the membership; ids are chosen by whoever proposes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipChange {
    /// Bring a member in. One that is to vote counts in the quorum only once it has caught up.
    Add {
        /// Never used before.
        id: u64,
        /// Where the others reach it.
        peer_urls: Vec<String>,
        /// Whether it is never to vote by itself.
        learner: bool,
    },
    /// Take a member out, for good: its id never comes back.
    Remove {
        /// The member.
        id: u64,
    },
    /// Replace the peer URLs of a member.
    Update {
        /// The member.
        id: u64,
        /// Where the others reach it from now on.
        peer_urls: Vec<String>,
    },
    /// Make a learner a voter.
    Promote {
        /// The learner.
        id: u64,
    },
}

/// Why a change of the membership was refused.
///
/// `Display` is the exact text of the wire: clients turn it back into a typed error by looking the text up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MembershipError {
    /// There is a member with this id.
    IdExists,
    /// Another member has one of the peer URLs.
    UrlExists,
    /// There is no member with this id, or there was one once.
    NotFound,
    /// Only learners can be promoted.
    NotLearner,
    /// The learner lags too far behind the leader.
    NotInSync,
    /// There are as many learners as there may be.
    TooManyLearners,
    /// Too few of the voters would ever have started.
    NotEnoughStarted,
    /// Too few of the voters are in touch with the leader.
    Unhealthy,
}

impl fmt::Display for MembershipError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IdExists => "etcdserver: member ID already exist",
            Self::UrlExists => "etcdserver: Peer URLs already exists",
            Self::NotFound => "etcdserver: member not found",
            Self::NotLearner => "etcdserver: can only promote a learner member",
            Self::NotInSync => {
                "etcdserver: can only promote a learner member which is in sync with leader"
            }
            Self::TooManyLearners => "etcdserver: too many learner members in cluster",
            Self::NotEnoughStarted => {
                "etcdserver: re-configuration failed due to not enough started members"
            }
            Self::Unhealthy => "etcdserver: unhealthy cluster",
        })
    }
}

impl std::error::Error for MembershipError {}

/// What the cluster allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Learners there may be at once.
    pub learners_max: usize,
    /// Whether changes that endanger the quorum are refused.
    pub strict: bool,
}

/// What the leader knows when it is asked.
#[derive(Clone, Copy)]
pub struct Sight<'a> {
    /// All members, by id; one that was added to vote shows as a voter from the beginning.
    pub members: &'a [MemberInfo],
    /// The ids of those that vote in consensus: not of those that were added to vote and have yet to catch up.
    pub voting: &'a BTreeSet<u64>,
    /// The ids of all members that ever left.
    pub removed: &'a BTreeSet<u64>,
    /// The last entry that each member is known to hold, the leader among them.
    pub matched: &'a BTreeMap<u64, u64>,
    /// The members in touch with the leader, itself among them.
    pub active: &'a BTreeSet<u64>,
    /// The leader.
    pub leader: u64,
}

impl Sight<'_> {
    fn member(&self, id: u64) -> Result<&MemberInfo, MembershipError> {
        let found = self.members.iter().find(|member| member.id == id);
        found.ok_or(MembershipError::NotFound)
    }

    fn voters(&self) -> impl Iterator<Item = &MemberInfo> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    /// Whether a member holds nine tenths of what the leader holds.
    pub(crate) fn in_sync(&self, id: u64) -> bool {
        let matched = |id| u128::from(self.matched.get(&id).copied().unwrap_or_default());
        matched(id) * 10 >= matched(self.leader) * 9
    }

    fn url_is_taken(&self, id: u64, urls: &[String]) -> bool {
        let mut others = self.members.iter().filter(|member| member.id != id);
        others.any(|other| urls.iter().any(|url| other.peer_urls.contains(url)))
    }
}

/// Whether a change may be proposed now.
pub fn check(
    change: &MembershipChange,
    sight: &Sight<'_>,
    rules: Rules,
) -> Result<(), MembershipError> {
    match change {
        MembershipChange::Add {
            id,
            peer_urls,
            learner,
        } => {
            if rules.strict {
                may_add(sight, *learner)?;
            }
            if sight.removed.contains(id) {
                return Err(MembershipError::NotFound);
            }
            if sight.member(*id).is_ok() {
                return Err(MembershipError::IdExists);
            }
            if sight.url_is_taken(*id, peer_urls) {
                return Err(MembershipError::UrlExists);
            }
            let learners = sight.members.iter().filter(|member| member.is_learner);
            if *learner && learners.count() >= rules.learners_max {
                return Err(MembershipError::TooManyLearners);
            }
            Ok(())
        }
        MembershipChange::Remove { id } => {
            let member = sight.member(*id)?;
            if rules.strict && !member.is_learner {
                may_remove(sight, *id)?;
            }
            Ok(())
        }
        MembershipChange::Update { id, peer_urls } => {
            sight.member(*id)?;
            if sight.url_is_taken(*id, peer_urls) {
                return Err(MembershipError::UrlExists);
            }
            Ok(())
        }
        MembershipChange::Promote { id } => {
            if !sight.member(*id)?.is_learner {
                return Err(MembershipError::NotLearner);
            }
            if !sight.in_sync(*id) {
                return Err(MembershipError::NotInSync);
            }
            let voters = sight.voters().count();
            if rules.strict && started(sight.voters()) + 1 < quorum(voters + 1) {
                return Err(MembershipError::NotEnoughStarted);
            }
            Ok(())
        }
    }
}

/// Whether a change that may be proposed has to wait for a member that was added to vote and is catching up.
///
/// A removal takes effect among those that vote by now. Where too few of them would be in touch without the one that
/// goes, consensus could neither finish it nor take it back. With the new member's vote there are enough, as
/// [`check`] has found.
pub fn must_wait(change: &MembershipChange, sight: &Sight<'_>) -> bool {
    let MembershipChange::Remove { id } = change else {
        return false;
    };
    let rest = || sight.voting.iter().filter(|voter| *voter != id);
    let in_touch = rest().filter(|voter| sight.active.contains(voter)).count();
    let mut voters = sight.voters();
    let joins = |it: &MemberInfo| !sight.voting.contains(&it.id) && sight.active.contains(&it.id);
    sight.voting.contains(id) && in_touch < quorum(rest().count()) && voters.any(joins)
}

/// A quorum must remain if the new member never starts; a cluster of one may always grow.
fn may_add(sight: &Sight<'_>, learner: bool) -> Result<(), MembershipError> {
    let voters = sight.voters().count();
    if voters <= 1 {
        return Ok(());
    }
    if !learner && started(sight.voters()) < quorum(voters + 1) {
        return Err(MembershipError::NotEnoughStarted);
    }
    let active = sight.voters().filter(|v| sight.active.contains(&v.id));
    if active.count() < quorum(voters + 1) {
        return Err(MembershipError::Unhealthy);
    }
    Ok(())
}

/// A quorum of what is left must have started, and be in touch unless the member is gone already.
fn may_remove(sight: &Sight<'_>, id: u64) -> Result<(), MembershipError> {
    let rest = || sight.voters().filter(|voter| voter.id != id);
    let needed = quorum(rest().count());
    if started(rest()) < needed {
        return Err(MembershipError::NotEnoughStarted);
    }
    let active = rest().filter(|voter| sight.active.contains(&voter.id));
    if sight.active.contains(&id) && active.count() < needed {
        return Err(MembershipError::Unhealthy);
    }
    Ok(())
}

/// A member that has a name has published itself, so it has started once.
fn started<'a>(members: impl Iterator<Item = &'a MemberInfo>) -> usize {
    members.filter(|member| !member.name.is_empty()).count()
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

#[cfg(test)]
mod tests;
