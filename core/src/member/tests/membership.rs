//! Members come and go while clients write.

use super::*;
use crate::command::MemberAttributes;
use crate::membership::{MembershipChange, MembershipError};
use crate::raft::following;

impl World {
    pub(super) fn change(&mut self, at: u64, token: u64, change: MembershipChange) {
        self.handle(at, Input::ChangeMembership { token, change });
    }

    fn add(&mut self, token: u64, id: u64, learner: bool) {
        let leader = self.leader().expect("a leader");
        let peer_urls = vec![format!("http://127.0.0.1:{id}")];
        let change = MembershipChange::Add {
            id,
            peer_urls,
            learner,
        };
        self.change(leader, token, change);
    }

    /// Starts a member that waits to be added.
    fn join(&mut self, id: u64) {
        self.start_with(Settings {
            initial_members: BTreeMap::new(),
            ..settings(id, 0, 0)
        });
    }

    /// A member tells its name, as every member does once it runs.
    pub(super) fn publish(&mut self, token: u64, id: u64) {
        let leader = self.leader().expect("a leader");
        let command = Request::Publish(MemberAttributes {
            member_id: id,
            name: format!("m{id}"),
            client_urls: Vec::new(),
        });
        let command = command.into();
        self.handle(leader, Input::Propose(vec![Proposal { token, command }]));
    }

    /// Adds a member that votes, starts it, and lets it catch up while clients write.
    fn grow(&mut self, token: u64, id: u64) {
        self.add(token, id, false);
        self.write(token + 1, 10);
        assert_eq!(
            self.membership_answers[&token]
                .as_deref()
                .map(|m| m.len())
                .ok(),
            Some(self.voters().len() + 1)
        );
        self.join(id);
        self.write(token + 20, 10);
        self.pass(Duration::from_secs(1));
        self.publish(token + 40, id);
        self.pass(Duration::from_millis(500));
        assert!(
            self.voters().contains(&id),
            "{id} votes once it has caught up"
        );
    }

    fn shrink(&mut self, token: u64, id: u64) {
        let leader = self.leader().expect("a leader");
        self.change(leader, token, MembershipChange::Remove { id });
        self.pass(Duration::from_secs(5));
        let members = self.membership_answers[&token].clone().expect("removed");
        assert!(members.iter().all(|member| member.id != id));
        assert!(self.removed.contains(&id), "{id} knows that it was removed");
        self.members.remove(&id);
    }

    /// Clients write at the leader; every write is acknowledged.
    fn write(&mut self, token: u64, count: u64) {
        for token in token..token + count {
            let leader = self.leader().expect("a leader");
            self.put(leader, token, &format!("k{}", token % 17));
            self.pass(Duration::from_millis(2));
            let answer = self.answers.get(&token);
            assert!(
                matches!(answer, Some(Ok(Outcome::Put(_)))),
                "{token}: {answer:?}"
            );
        }
    }

    fn voters(&self) -> Vec<u64> {
        let leader = self.leader().expect("a leader");
        self.members[&leader].raft.voter_ids().collect()
    }

    fn assert_all_agree(&mut self) {
        self.pass(Duration::from_secs(3));
        let hashes: Vec<u64> = self.members.values().map(Member::state_hash).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:x?}");
        for member in self.members.values() {
            member.validate();
        }
        assert!(self.corrupt.is_empty());
    }
}

/// A cluster of one whose member has published itself.
fn one() -> World {
    let mut world = World::new(1);
    world.publish(1_000_000, 1);
    world
}

pub(super) fn three() -> World {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    for id in 1..=3 {
        world.publish(1_000_000 + id, id);
    }
    world.pass(Duration::from_secs(1));
    world
}

#[test]
fn a_cluster_grows_to_five_and_shrinks_to_one_while_clients_write() {
    let mut world = one();
    for id in 2..=5 {
        world.grow(id * 100, id);
    }
    world.assert_all_agree();
    assert_eq!(world.voters(), [1, 2, 3, 4, 5]);
    let leader = world.leader().expect("a leader");
    let others: Vec<u64> = (1..=5).filter(|id| *id != leader).collect();
    for id in others {
        world.shrink(1000 + id * 100, id);
        world.write(1000 + id * 100 + 1, 10);
    }
    assert_eq!(world.voters(), [leader]);
    assert_eq!(world.members[&leader].published().members.len(), 1);
    let names = world.members[&leader].replica.borrow().state.view().members;
    assert_eq!(names.keys().copied().collect::<Vec<u64>>(), [leader]);
}

#[test]
fn a_member_that_is_added_counts_in_the_quorum_only_once_it_has_caught_up() {
    let mut world = one();
    world.add(1, 2, false);
    world.pass(Duration::from_secs(1));
    let members = world.membership_answers[&1].clone().expect("added");
    assert_eq!(members.len(), 2);
    assert!(!members[1].is_learner, "it shows as the voter it will be");
    world.write(10, 20);
    assert_eq!(world.voters(), [1]);
    world.join(2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.voters(), [1, 2]);
    world.write(40, 20);
    world.assert_all_agree();
}

#[test]
fn a_removal_waits_until_the_member_that_takes_the_place_has_caught_up() {
    let mut world = one();
    world.write(1000, 1000);
    world.slow = true;
    world.add(1, 2, false);
    world.pass(Duration::from_secs(1));
    world.join(2);
    world.publish(2000, 2);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.voters(), [1]);
    assert!(!world.waiting_chunks.is_empty(), "a snapshot is on its way");
    world.change(1, 2, MembershipChange::Remove { id: 1 });
    world.pass(Duration::from_secs(2));
    assert_eq!(world.membership_answers.get(&2), None);
    world.slow = false;
    world.wire.append(&mut world.waiting_chunks);
    world.pass(Duration::from_secs(3));
    assert!(world.membership_answers[&2].is_ok());
    assert_eq!(world.removed, [1]);
    world.members.remove(&1);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.leader(), Some(2));
    world.write(3000, 20);
    assert_eq!(world.voters(), [2]);
}

#[test]
fn without_the_rule_the_last_voter_is_still_not_removed() {
    let mut world = World::new(0);
    world.start_with(Settings {
        strict_reconfiguration: false,
        ..settings(1, 1, 0)
    });
    world.pass(Duration::from_secs(1));
    world.change(1, 1, MembershipChange::Remove { id: 1 });
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.membership_answers[&1],
        Err(Refusal::Membership(MembershipError::NotEnoughStarted))
    );
    world.write(10, 20);
}

#[test]
fn the_leader_can_be_removed_and_the_others_go_on() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    world.write(100, 20);
    world.change(leader, 1, MembershipChange::Remove { id: leader });
    world.pass(Duration::from_secs(2));
    assert!(world.membership_answers[&1].is_ok());
    assert_eq!(world.removed, [leader]);
    world.put(leader, 2, "late");
    assert_eq!(world.answers.get(&2), Some(&Err(Refusal::Stopped)));
    world.members.remove(&leader);
    world.write(200, 20);
    assert_eq!(world.voters().len(), 2);
    world.assert_all_agree();
}

#[test]
fn a_member_is_replaced_and_its_id_never_returns() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    let gone = (1..=3).find(|id| *id != leader).expect("a follower");
    world.members.remove(&gone);
    world.pass(Duration::from_secs(2));
    world.change(leader, 1, MembershipChange::Remove { id: gone });
    world.pass(Duration::from_secs(1));
    assert!(world.membership_answers[&1].is_ok());
    world.grow(100, 4);
    for (token, change) in [
        (2, MembershipChange::Remove { id: gone }),
        (3, MembershipChange::Promote { id: gone }),
    ] {
        world.change(leader, token, change);
    }
    world.add(4, gone, false);
    world.add(5, gone, true);
    world.pass(Duration::from_secs(1));
    for token in 2..=5 {
        assert_eq!(
            world.membership_answers[&token],
            Err(Refusal::Membership(MembershipError::NotFound))
        );
    }
    // It comes back with its old disk, campaigns, and is told.
    world.start(gone, 3, 1);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.removed, [gone]);
    assert_eq!(world.leader(), Some(leader), "it disturbed nobody");
    world.members.remove(&gone);
    world.publish(6, gone);
    assert_eq!(
        world.answers.get(&6),
        Some(&Err(Refusal::Membership(MembershipError::NotFound)))
    );
    world.assert_all_agree();
}

#[test]
fn removed_ids_survive_restarts_and_snapshots() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    let gone = (1..=3).find(|id| *id != leader).expect("a follower");
    world.shrink(1, gone);
    world.write(100, 500);
    world.grow(1000, 4);
    assert!(
        !world.snapshots.is_empty(),
        "the new member was sent a snapshot"
    );
    let ids: Vec<u64> = world.members.keys().copied().collect();
    for id in ids {
        world.members.remove(&id);
        world.start(id, 3, 1);
        world.pass(Duration::from_secs(4));
    }
    for member in world.members.values() {
        assert!(member.replica.borrow().state.removed().contains(&gone));
    }
    world.add(2, gone, false);
    world.pass(Duration::from_secs(1));
    assert_eq!(
        world.membership_answers[&2],
        Err(Refusal::Membership(MembershipError::NotFound))
    );
    world.assert_all_agree();
}

#[test]
fn a_learner_is_promoted_only_when_it_is_in_sync() {
    let mut world = three();
    world.write(100, 50);
    world.add(1, 4, true);
    world.pass(Duration::from_secs(1));
    assert!(world.membership_answers[&1].is_ok());
    let leader = world.leader().expect("a leader");
    let promote = MembershipChange::Promote { id: 4 };
    world.change(leader, 2, promote.clone());
    assert_eq!(
        world.membership_answers[&2],
        Err(Refusal::Membership(MembershipError::NotInSync))
    );
    world.join(4);
    world.pass(Duration::from_secs(1));
    assert!(!world.voters().contains(&4), "a learner stays one");
    world.change(leader, 3, promote.clone());
    world.pass(Duration::from_secs(1));
    let members = world.membership_answers[&3].clone().expect("promoted");
    assert!(members.iter().all(|member| !member.is_learner));
    assert!(world.voters().contains(&4));
    world.change(leader, 4, promote);
    assert_eq!(
        world.membership_answers[&4],
        Err(Refusal::Membership(MembershipError::NotLearner))
    );
    world.assert_all_agree();
}

#[test]
fn a_removed_learner_is_told() {
    let mut world = three();
    world.add(1, 4, true);
    world.join(4);
    world.pass(Duration::from_secs(1));
    world.shrink(2, 4);
    world.assert_all_agree();
}

#[test]
fn peer_urls_are_replaced_on_every_member() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    let peer_urls = vec!["http://moved:2380".to_string()];
    let update = MembershipChange::Update {
        id: 2,
        peer_urls: peer_urls.clone(),
    };
    world.change(leader, 1, update);
    world.pass(Duration::from_secs(1));
    assert!(world.membership_answers[&1].is_ok());
    for member in world.members.values() {
        assert_eq!(member.published().members[1].peer_urls, peer_urls);
    }
    world.write(10, 10);
}

#[test]
fn changes_asked_for_at_once_are_made_one_after_another() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    for (token, id) in [(1, 4), (2, 5), (3, 6)] {
        let change = MembershipChange::Add {
            id,
            peer_urls: vec![format!("http://127.0.0.1:{id}")],
            learner: true,
        };
        let member = world.members.get_mut(&leader).expect("it leads");
        member.handle(world.now, Input::ChangeMembership { token, change });
    }
    world.settle();
    world.pass(Duration::from_secs(1));
    assert!(world.membership_answers[&1].is_ok());
    for token in 2..=3 {
        assert_eq!(
            world.membership_answers[&token],
            Err(Refusal::Membership(MembershipError::TooManyLearners)),
            "it saw the change before it"
        );
    }
}

#[test]
fn a_change_without_a_quorum_is_answered_at_its_deadline() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    world.cut_off = (1..=3).filter(|id| *id != leader).collect();
    world.add(1, 4, true);
    world.pass(Duration::from_millis(7_200));
    let answer = &world.membership_answers[&1];
    assert!(
        matches!(answer, Err(Refusal::TimedOutDisconnected)),
        "{answer:?}"
    );
}

#[test]
fn a_leader_that_is_cut_off_rests_before_it_tries_again_to_admit_a_member() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    world.add(1, 4, false);
    world.pass(Duration::from_secs(1));
    // The new member hears the leader, and the quorum does not.
    world.cut_off = (1..=3).filter(|id| *id != leader).collect();
    world.pass(Duration::from_secs(3));
    world.join(4);
    world.pass(Duration::from_secs(5));
    world.cut_off.clear();
    world.pass(Duration::from_secs(8));
    assert_eq!(world.voters(), [1, 2, 3, 4]);
    world.assert_all_agree();
}

#[test]
fn a_leader_that_has_taken_itself_out_begins_nothing_else() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    world.add(1, 4, false);
    world.cut_off = vec![4];
    world.join(4);
    world.pass(Duration::from_secs(1));
    // The new member catches up while the leader takes itself out.
    world.cut_off.clear();
    world.change(leader, 2, MembershipChange::Remove { id: leader });
    world.change(leader, 3, MembershipChange::Remove { id: 4 });
    world.pass(Duration::from_secs(5));
    assert!(world.membership_answers[&2].is_ok());
    assert!(world.membership_answers[&3].is_err());
    world.members.remove(&leader);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.voters().len(), 3);
    assert!(world.voters().contains(&4));
    world.assert_all_agree();
}

#[test]
fn a_change_that_is_not_agreed_on_is_in_no_list() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    world.cut_off = (1..=3).filter(|id| *id != leader).collect();
    world.add(1, 4, true);
    world.pass(Duration::from_millis(100));
    let listed = |world: &World, id: u64| world.members[&id].published().agreed_members.len();
    assert_eq!(listed(&world, leader), 3);
    // A start finds the change in the log, and nothing that says how far the log is agreed on.
    world.start(leader, 3, 1);
    world.pass(Duration::from_millis(100));
    assert_eq!(world.members[&leader].published().members.len(), 4);
    assert_eq!(listed(&world, leader), 0);
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    let settled = listed(&world, leader);
    assert!((1..=3).all(|id| listed(&world, id) == settled));
}

#[test]
fn a_leader_that_was_removed_while_it_was_away_is_not_elected_again() {
    let mut world = three();
    let leader = world.leader().expect("a leader");
    let voter = (1..=3).find(|id| *id != leader).expect("a voter");
    world.change(leader, 1, MembershipChange::Remove { id: leader });
    // It stops when the voter has heard that the removal is in force, before it hands over.
    let knows = |world: &World| {
        let replica = world.members[&voter].replica.borrow();
        replica.state.removed().contains(&leader)
    };
    while !knows(&world) {
        world.pass(Duration::from_millis(1));
    }
    assert_eq!(following::leader(&world.members[&voter].raft), Some(leader));
    // The voter elects nobody by itself, and goes on believing in the leader that it knew, which has its removal in its
    // log and does not know that it is in force.
    world.members.retain(|id, _| *id == voter);
    world.start_with(Settings {
        pre_vote: false,
        ..settings(leader, 3, 1)
    });
    world.pass(Duration::from_secs(10));
    assert_eq!(world.removed.last(), Some(&leader));
    let vote = world.disks[&voter].vote.expect("it has voted before");
    assert!(vote.committed, "the vote is the one that it gave at first");
}
