//! One sequence of memberships: members apply prefixes of it, each step keeps the quorums in touch with each other, no id
//! comes back, and whoever leads was elected by a quorum of the membership it leads.
//!
//! A membership counts as agreed from the moment on in which any member has applied it. The leader that goes on from it
//! has applied it first, in a step of its own; so none is missed by looking at every member after every input.

use std::collections::{BTreeMap, BTreeSet};

use metastore_core::output::MemberInfo;
use metastore_core::raft::types::{LogId, Peer, StoredMembership};

use crate::Failure;

/// A membership and the entry that set it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configuration {
    /// The term of the entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Two sets while one is on the way to the other.
    pub voters: Vec<BTreeSet<u64>>,
    /// All members, those who only learn among them.
    pub members: BTreeMap<u64, Peer>,
}

impl Configuration {
    /// None of a log that says nothing of members.
    pub fn of(stored: &StoredMembership) -> Option<Self> {
        let at = (*stored.log_id())?;
        let membership = stored.membership();
        Some(Self {
            term: at.committed_leader_id().term,
            index: at.index(),
            voters: membership.get_joint_config().clone(),
            members: membership.nodes().map(|(id, p)| (*id, p.clone())).collect(),
        })
    }

    /// Whether it votes, for now or for good.
    pub fn is_voter(&self, id: u64) -> bool {
        self.voters.iter().any(|set| set.contains(&id))
    }

    /// Whether these are enough to decide.
    pub(crate) fn is_quorum(&self, of: &BTreeSet<u64>) -> bool {
        let more_than_half = |set: &BTreeSet<u64>| 2 * set.intersection(of).count() > set.len();
        self.voters.iter().all(more_than_half)
    }

    /// Whether the member list says the same.
    pub fn is_listed_as(&self, list: &[MemberInfo]) -> bool {
        let says = |info: &MemberInfo| {
            self.members.get(&info.id).is_some_and(|peer| {
                let is_learner = !peer.joins && !self.is_voter(info.id);
                (&peer.urls, is_learner) == (&info.peer_urls, info.is_learner)
            })
        };
        list.len() == self.members.len() && list.iter().all(says)
    }
}

/// What one step from a membership to the next did, as a client may have asked for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// A member came in.
    Added {
        /// Its id.
        id: u64,
        /// What the membership says of it.
        peer: Peer,
    },
    /// A member left.
    Removed {
        /// Its id.
        id: u64,
    },
    /// A member has other addresses.
    Updated {
        /// Its id.
        id: u64,
        /// Its addresses from then on.
        urls: Vec<String>,
    },
    /// A learner votes.
    Promoted {
        /// Its id.
        id: u64,
    },
    /// Nothing that a client asks for: the way of a voter in or out.
    ByItself,
}

/// An agreed membership.
#[derive(Debug)]
pub struct Agreed {
    /// The membership.
    pub configuration: Configuration,
    /// What led to it.
    pub act: Act,
    /// The ordinal at which the first member had applied it.
    pub shown: u64,
    /// The lowest term in which a member had.
    term: u64,
}

/// What one life of a member was seen to have.
#[derive(Debug, Default, Clone, Copy)]
pub struct Seen {
    applied: Option<LogId>,
    newest: Option<LogId>,
    /// The term it was seen to lead last.
    led: Option<u64>,
}

/// What one look at a member finds.
pub struct Look<'a> {
    /// The member.
    pub id: u64,
    /// Its term.
    pub term: u64,
    /// Whether it leads.
    pub leads: bool,
    /// The last entry it has applied.
    pub applied_index: u64,
    /// The newest membership it has applied.
    pub applied: &'a StoredMembership,
    /// The newest membership in its log.
    pub newest: &'a StoredMembership,
    /// The place in the history.
    pub ordinal: u64,
}

/// See the module.
#[derive(Default)]
pub struct Memberships {
    agreed: BTreeMap<u64, Agreed>,
    /// Who ever left, and the entry with which.
    left: BTreeMap<u64, u64>,
    /// Whose durable votes a candidate had in a term.
    votes: BTreeMap<(u64, u64), BTreeSet<u64>>,
}

impl Seen {
    /// The entry of the newest membership that was applied; 0 without any.
    pub fn applied(&self) -> u64 {
        self.applied.map_or(0, |at| at.index())
    }

    /// Whether there is something to look at.
    pub fn is_old(&self, at: (Option<LogId>, Option<LogId>), term: u64, leads: bool) -> bool {
        (self.applied, self.newest) == at && (!leads || self.led == Some(term))
    }
}

impl Memberships {
    /// All agreed memberships, in order.
    pub fn agreed(&self) -> impl DoubleEndedIterator<Item = &Agreed> {
        self.agreed.values()
    }

    /// The newest one.
    pub fn newest(&self) -> Option<&Configuration> {
        self.agreed()
            .next_back()
            .map(|agreed| &agreed.configuration)
    }

    /// Forgets what led to the newest membership, with which everybody agrees, and the votes of terms long past.
    pub fn forget(&mut self) {
        if let Some((index, mut newest)) = self.agreed.pop_last() {
            newest.act = Act::ByItself;
            self.agreed.clear();
            self.agreed.insert(index, newest);
        }
        if let Some(((newest, _), _)) = self.votes.last_key_value() {
            let oldest = newest.saturating_sub(TERMS_KEPT);
            self.votes = self.votes.split_off(&(oldest, 0));
        }
    }

    /// A vote for a candidate is durable on a member's disk.
    pub fn vote(&mut self, member: u64, term: u64, candidate: u64) {
        let votes = self.votes.entry((term, candidate)).or_default();
        votes.insert(member);
    }

    /// A member votes for a candidate. `applied` is the entry of the newest membership that it had applied before.
    ///
    /// # Errors
    /// When it knew that the candidate has left.
    pub fn grants(&self, member: u64, candidate: u64, applied: u64) -> Result<(), Failure> {
        match self.left.get(&candidate) {
            Some(left) if *left <= applied && member != candidate => {
                let story = format!(
                    "m{member} votes for m{candidate}, which left at {left}, and it has applied {applied}"
                );
                Err(Failure::new("membership", story))
            }
            _ => Ok(()),
        }
    }

    /// A member says that it was removed.
    ///
    /// # Errors
    /// When nobody removed it.
    pub fn told(&self, id: u64) -> Result<(), Failure> {
        if self.left.contains_key(&id) {
            return Ok(());
        }
        let story = format!("m{id} was told that it was removed, and nobody removed it");
        Err(Failure::new("membership", story))
    }

    /// Looks at a member. `holds` tells the last entry that is durable on a member's disk.
    ///
    /// # Errors
    /// When a promise is broken.
    pub fn look(
        &mut self,
        seen: &mut Seen,
        look: &Look<'_>,
        holds: impl Fn(u64) -> u64,
    ) -> Result<(), Failure> {
        let before = std::mem::replace(
            seen,
            Seen {
                applied: *look.applied.log_id(),
                newest: *look.newest.log_id(),
                led: if look.leads {
                    Some(look.term)
                } else {
                    seen.led
                },
            },
        );
        if before.applied != seen.applied
            && let Some(configuration) = Configuration::of(look.applied)
        {
            self.agree(configuration, look)?;
        }
        let newest = Configuration::of(look.newest);
        let Some(newest) = newest.filter(|_| look.leads) else {
            return Ok(());
        };
        if before.led != Some(look.term) {
            return self.elected(look, &newest);
        }
        if before.newest == seen.newest {
            return Ok(());
        }
        let settled = seen.applied.map(|at| at.index()) >= before.newest.map(|at| at.index());
        if !settled {
            let story = format!(
                "m{} began {newest:?} before {:?} was in force",
                look.id, before.newest
            );
            return Err(Failure::new("membership", story));
        }
        self.caught_up(look, &newest, holds)
    }

    /// Somebody has applied this membership.
    fn agree(&mut self, configuration: Configuration, look: &Look<'_>) -> Result<(), Failure> {
        let broken = |why: String| {
            let story = format!("m{} applied {configuration:?}: {why}", look.id);
            Err(Failure::new("membership", story))
        };
        if let Some(known) = self.agreed.get_mut(&configuration.index) {
            known.term = known.term.min(look.term);
            if known.configuration == configuration {
                return Ok(());
            }
            return broken(format!("others applied {:?}", known.configuration));
        }
        let act = match self.newest() {
            None => Ok(Act::ByItself),
            Some(newest) if newest.index > configuration.index => {
                return broken(format!("nobody went through it to {newest:?}"));
            }
            Some(newest) => step(newest, &configuration),
        };
        let act = match act {
            Ok(act) => act,
            Err(why) => return broken(format!("{why}, after {:?}", self.newest())),
        };
        if let Some(id) = configuration
            .members
            .keys()
            .find(|id| self.left.contains_key(id))
        {
            return broken(format!("m{id} has left"));
        }
        if let Act::Removed { id } = act {
            self.left.insert(id, configuration.index);
        }
        let agreed = Agreed {
            act,
            shown: look.ordinal,
            term: look.term,
            configuration,
        };
        self.agreed.insert(agreed.configuration.index, agreed);
        Ok(())
    }

    /// A member leads a term from now on.
    fn elected(&self, look: &Look<'_>, newest: &Configuration) -> Result<(), Failure> {
        let (id, term) = (look.id, look.term);
        let none = BTreeSet::new();
        let votes = self.votes.get(&(term, id)).unwrap_or(&none);
        let earlier = self.agreed().rev().find(|agreed| agreed.term < term);
        let stale = earlier.filter(|it| it.configuration.index > newest.index);
        // That it leaves may be in its log without its knowing that this is in force: then it can still be needed (Ongaro's
        // thesis, 4.2.2). Who votes for it must not know that either, which is judged with each vote.
        let has_left = look.applied_index >= newest.index;
        let why = if !newest.is_voter(id) && has_left {
            "it has applied that it left".to_owned()
        } else if !newest.is_quorum(votes) {
            format!("only {votes:?} voted for it")
        } else if let Some(stale) = stale {
            format!("it does not know of {:?}", stale.configuration)
        } else {
            return Ok(());
        };
        let story = format!("m{id} leads term {term} under {newest:?}, but {why}");
        Err(Failure::new("membership", story))
    }

    /// A leader made voters only of members that hold nine tenths of what it holds.
    fn caught_up(
        &self,
        look: &Look<'_>,
        newest: &Configuration,
        holds: impl Fn(u64) -> u64,
    ) -> Result<(), Failure> {
        let before = self.agreed.range(..newest.index).next_back();
        let Some((_, before)) = before else {
            return Ok(());
        };
        let voters = newest.voters.iter().flatten();
        for id in voters.filter(|id| !before.configuration.is_voter(**id)) {
            let (has, leader) = (holds(*id), look.applied_index);
            if has * 10 < leader * 9 {
                let story =
                    format!("m{id} was made a voter at entry {has}, its leader at {leader}");
                return Err(Failure::new("membership", story));
            }
        }
        Ok(())
    }
}

/// Nobody who takes part lags by more terms than this when everybody agrees.
const TERMS_KEPT: u64 = 8;

/// What leads from one membership to the next.
///
/// # Errors
/// In words, where nothing that is allowed does.
fn step(from: &Configuration, to: &Configuration) -> Result<Act, String> {
    let ids: BTreeSet<u64> = from
        .members
        .keys()
        .chain(to.members.keys())
        .copied()
        .collect();
    let changed = |id: &u64| from.members.get(id) != to.members.get(id);
    let mut changed = ids.iter().copied().filter(changed);
    let (first, second) = (changed.next(), changed.next());
    if second.is_some() {
        return Err("two members differ".into());
    }
    if !always_meet(from, to) {
        return Err("a quorum of each decides alone".into());
    }
    if let Some(id) = to
        .voters
        .iter()
        .flatten()
        .find(|id| !to.members.contains_key(id))
    {
        return Err(format!("m{id} votes and is no member"));
    }
    let demoted = |id: &&u64| from.is_voter(**id) && !to.is_voter(**id);
    if let Some(id) = to.members.keys().find(demoted) {
        return Err(format!("m{id} voted and does no more"));
    }
    if let Some(id) = first {
        return Ok(match (from.members.get(&id), to.members.get(&id)) {
            (_, None) => Act::Removed { id },
            (None, Some(peer)) => Act::Added {
                id,
                peer: peer.clone(),
            },
            (Some(_), Some(peer)) => Act::Updated {
                id,
                urls: peer.urls.clone(),
            },
        });
    }
    let promoted = |id: &&u64| !from.is_voter(**id) && !from.members[*id].joins;
    let mut promoted = to.voters.iter().flatten().filter(promoted);
    let act = promoted.next().map(|id| Act::Promoted { id: *id });
    Ok(act.unwrap_or(Act::ByItself))
}

/// Whether each quorum of one has a member in common with each of the other. They are few enough to try all.
fn always_meet(one: &Configuration, other: &Configuration) -> bool {
    let both = one.voters.iter().chain(&other.voters).flatten();
    let both: BTreeSet<u64> = both.copied().collect();
    (0..1_u64 << both.len()).all(|mask| {
        let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
        for (place, id) in both.iter().enumerate() {
            let side = if mask >> place & 1 == 1 {
                &mut inside
            } else {
                &mut outside
            };
            side.insert(*id);
        }
        !(one.is_quorum(&inside) && other.is_quorum(&outside))
    })
}

#[cfg(test)]
pub(crate) mod tests;
