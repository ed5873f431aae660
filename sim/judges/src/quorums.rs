//! What any member shows as applied is durable with a quorum.

use crate::Failure;
use crate::memberships::Configuration;

/// How far the entries are that any member has shown as applied.
#[derive(Debug, Default)]
pub struct Quorums {
    shown: u64,
}

impl Quorums {
    /// Whether no member has shown this entry as applied.
    pub fn is_new(&self, index: u64) -> bool {
        index > self.shown
    }

    /// A member shows that it has applied all entries up to `index`. Each member surely holds the entries up to what
    /// `holds` says; entries that were taken back may count among them.
    ///
    /// Any of the memberships may be the one in force. Only who shows an entry first is judged: later a disk of the
    /// quorum may be gone.
    ///
    /// # Errors
    /// When none of the memberships has a quorum that holds the entry.
    pub fn show<'a>(
        &mut self,
        index: u64,
        mut memberships: impl Iterator<Item = &'a Configuration>,
        holds: impl Fn(u64) -> u64,
    ) -> Result<(), Failure> {
        if !self.is_new(index) {
            return Ok(());
        }
        self.shown = index;
        let mut seen = Vec::new();
        let decided = memberships.any(|membership| {
            let members = membership.members.keys().copied();
            seen = members.map(|id| (id, holds(id))).collect();
            let holding = seen.iter().filter(|(_, held)| *held >= index);
            membership.is_quorum(&holding.map(|(id, _)| *id).collect())
        });
        if decided || seen.is_empty() {
            return Ok(());
        }
        let held = seen.iter().map(|(id, held)| format!("m{id} {held}"));
        let held = held.collect::<Vec<String>>().join(", ");
        let story = format!("entry {index} is shown as applied, and disks hold only: {held}");
        Err(Failure::new("quorum", story))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use metastore_core::raft::types::Peer;

    use super::*;

    fn three() -> Configuration {
        let peer = Peer {
            urls: Vec::new(),
            joins: false,
        };
        Configuration {
            term: 1,
            index: 0,
            voters: vec![BTreeSet::from([1, 2, 3])],
            members: (1..=4).map(|id| (id, peer.clone())).collect(),
        }
    }

    fn show(quorums: &mut Quorums, index: u64, disks: [u64; 4]) -> Result<(), &'static str> {
        let disks: BTreeMap<u64, u64> = (1..).zip(disks).collect();
        let shown = quorums.show(index, [&three()].into_iter(), |id| disks[&id]);
        shown.map_err(|failure| failure.judge)
    }

    #[test]
    fn an_entry_that_a_quorum_of_the_voters_holds_may_be_shown() {
        let mut quorums = Quorums::default();
        assert_eq!(show(&mut quorums, 5, [5, 0, 7, 0]), Ok(()));
        assert_eq!(show(&mut quorums, 5, [0, 0, 0, 0]), Ok(()), "judged before");
    }

    #[test]
    fn an_entry_that_a_leader_and_a_learner_hold_may_not() {
        let mut quorums = Quorums::default();
        assert_eq!(show(&mut quorums, 5, [5, 4, 4, 5]), Err("quorum"));
    }

    #[test]
    fn both_quorums_count_while_voters_come_and_go() {
        let mut joint = three();
        joint.voters.push(BTreeSet::from([3, 4]));
        let holds = |without: u64| move |id: u64| if id == without { 0 } else { 9 };
        let judge = |index, without| {
            let mut quorums = Quorums::default();
            quorums
                .show(index, [&joint].into_iter(), holds(without))
                .is_ok()
        };
        assert!(judge(9, 1));
        assert!(!judge(9, 4));
    }
}
