//! A leader has the quorum confirm that it still leads.
//!
//! It asks the other voters, and who has voted in no later term says so. A leader of a later term needs the votes of a
//! quorum, and every quorum shares a member with the one that confirmed, which gave such a vote after it had confirmed.
//! So when the first of them confirmed, nobody had been elected later, and whatever was agreed on by then the asking
//! leader had agreed on. Nothing depends on clocks, on how long letters take, or on whether the leader still leads when
//! the answers come.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Member;
use crate::raft::following;
use crate::raft::message::Forwarded;
use crate::raft::types::StoredMembership;

/// One round of questions.
pub(super) struct Round {
    /// What the leader knew to be committed before it asked.
    pub(super) index: u64,
    membership: Arc<StoredMembership>,
    confirmed: BTreeSet<u64>,
}

impl Round {
    /// Whether a quorum of every set of voters in force has confirmed.
    fn has_quorum(&self) -> bool {
        let mut configs = self.membership.membership().get_joint_config().iter();
        configs.all(|voters| 2 * voters.intersection(&self.confirmed).count() > voters.len())
    }

    /// The voters that have yet to confirm.
    fn missing(&self) -> Vec<u64> {
        let voters: BTreeSet<u64> = self.membership.membership().voter_ids().collect();
        voters.difference(&self.confirmed).copied().collect()
    }
}

impl Member {
    /// A round for what this leader knows to be committed in a term.
    pub(super) fn new_round(&self, term: u64, index: u64) -> Round {
        // It counts itself as it counts the others: another vote may be on its way to the disk.
        let own = (self.log.voted_term() <= term).then_some(self.id);
        Round {
            index,
            membership: following::newest_membership(&self.raft),
            confirmed: own.into_iter().collect(),
        }
    }

    /// Asks all who have yet to confirm; answers whether there is no need to, since a quorum has.
    pub(super) fn ask_voters(&mut self, term: u64, number: u64, round: &Round) -> bool {
        if round.has_quorum() {
            return true;
        }
        let own = self.id;
        for voter in round.missing().into_iter().filter(|id| *id != own) {
            self.send_forwarded(voter, number, Forwarded::AskConfirmation { term });
        }
        false
    }

    /// The leader of a term asks.
    pub(super) fn confirm(&mut self, leader: u64, number: u64, term: u64) {
        if self.log.voted_term() <= term {
            self.send_forwarded(leader, number, Forwarded::Confirmation { term });
        }
    }

    /// A voter confirms: the barrier of this number and term may be through.
    pub(super) fn take_confirmation(&mut self, from: u64, number: u64, term: u64) {
        let id = self.id;
        let through = self.barriers.running.take_if(|running| {
            let asked = running.number == number && running.sight.is(term, id);
            let Some(round) = running.round.as_mut().filter(|_| asked) else {
                return false;
            };
            round.confirmed.insert(from);
            round.has_quorum()
        });
        if let Some(mut running) = through
            && let Some(round) = running.round.take()
        {
            self.confirmed(running, round.index);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raft::reconfiguration::Roster;
    use crate::raft::types::Peer;

    fn round(configs: &[&[u64]], confirmed: &[u64]) -> Round {
        let configs: Vec<BTreeSet<u64>> = configs
            .iter()
            .map(|voters| voters.iter().copied().collect())
            .collect();
        let peer = |id: u64| {
            (
                id,
                Peer {
                    urls: Vec::new(),
                    joins: true,
                },
            )
        };
        let nodes: BTreeMap<u64, Peer> = (1..=9).map(peer).collect();
        let membership = Roster::new(configs, nodes).expect("every voter is there");
        Round {
            index: 1,
            membership: Arc::new(StoredMembership::new(None, membership)),
            confirmed: confirmed.iter().copied().collect(),
        }
    }

    #[test]
    fn a_quorum_is_more_than_half_of_every_set_of_voters_and_learners_count_nowhere() {
        for (configs, confirmed, enough) in [
            (&[&[1][..]][..], &[1][..], true),
            (&[&[1, 2]], &[1], false),
            (&[&[1, 2]], &[1, 2], true),
            (&[&[1, 2, 3]], &[1, 9], false),
            (&[&[1, 2, 3]], &[1, 3], true),
            (&[&[2, 3, 4]], &[1, 2], false),
            (&[&[2, 3, 4]], &[1, 2, 4], true),
            (&[&[1, 2, 3], &[1, 2, 3, 4]], &[1, 2], false),
            (&[&[1, 2, 3], &[1, 2, 3, 4]], &[2, 3, 4], true),
            (&[&[1, 2, 3], &[1, 4, 5]], &[1, 2, 3], false),
            (&[&[1, 2, 3], &[1, 4, 5]], &[1, 2, 5], true),
        ] {
            let round = round(configs, confirmed);
            assert_eq!(round.has_quorum(), enough, "{configs:?} {confirmed:?}");
            let missing = round.missing();
            assert!(missing.iter().all(|id| !confirmed.contains(id)));
            let voters: BTreeSet<u64> = configs.concat().into_iter().collect();
            assert!(
                voters
                    .iter()
                    .all(|id| confirmed.contains(id) || missing.contains(id))
            );
        }
    }
}
