//! Changes of the membership through members that do not lead.

use super::membership::three;
use super::*;
use crate::membership::{MembershipChange, MembershipError};
use crate::raft::message::Forwarded;

fn learner(id: u64) -> MembershipChange {
    MembershipChange::Add {
        id,
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
        learner: true,
    }
}

fn led() -> (World, u64, u64) {
    let world = three();
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    (world, leader, follower)
}

fn ids(members: &[MemberInfo]) -> Vec<u64> {
    members.iter().map(|member| member.id).collect()
}

impl World {
    /// Hands a change to a member; takes the letter to the leader off the wire before anything else happens.
    fn forward_change(&mut self, at: u64, token: u64, change: MembershipChange) -> PeerMessage {
        let now = self.now;
        let member = self.members.get_mut(&at).expect("it runs");
        member.handle(now, Input::ChangeMembership { token, change });
        self.drain(at);
        let (_, _, letter) = self.wire.pop_back().expect("a letter to the leader");
        assert!(self.wire.is_empty());
        letter
    }

    /// The entries of memberships on a disk.
    fn memberships_on_disk(&self, id: u64) -> usize {
        let entries = self.disks[&id].entries.values();
        entries
            .filter(|entry| format!("{entry}").contains("membership"))
            .count()
    }

    fn lists(&self, at: u64) -> Vec<u64> {
        ids(&self.members[&at].published().agreed_members)
    }
}

#[test]
fn a_member_that_does_not_lead_has_the_leader_make_changes_and_shows_them_when_it_answers() {
    let (mut world, leader, follower) = led();
    world.change(follower, 1, learner(4));
    let answer = world.membership_answers[&1].clone().expect("added");
    assert_eq!(ids(&answer), [1, 2, 3, 4]);
    assert_eq!(world.lists(follower), [1, 2, 3, 4]);
    let urls = vec!["http://127.0.0.1:40".to_owned()];
    let update = MembershipChange::Update {
        id: 4,
        peer_urls: urls.clone(),
    };
    world.change(follower, 2, update);
    let answer = world.membership_answers[&2].clone().expect("updated");
    assert_eq!(answer[3].peer_urls, urls);
    world.change(follower, 3, MembershipChange::Promote { id: 4 });
    let not_in_sync = Err(Refusal::Membership(MembershipError::NotInSync));
    assert_eq!(world.membership_answers[&3], not_in_sync);
    world.change(follower, 4, MembershipChange::Remove { id: 4 });
    let answer = world.membership_answers[&4].clone().expect("removed");
    assert_eq!(ids(&answer), [1, 2, 3]);
    assert_eq!(world.lists(leader), [1, 2, 3]);
}

#[test]
fn a_member_can_be_asked_to_take_itself_or_the_leader_out() {
    let (mut world, leader, follower) = led();
    world.change(follower, 1, MembershipChange::Remove { id: leader });
    world.pass(Duration::from_secs(3));
    let answer = world.membership_answers[&1].clone();
    assert!(
        answer.is_ok_and(|left| !ids(&left).contains(&leader)) && world.removed.contains(&leader)
    );
    let leader = world.leader().expect("another leader");
    let follower = 6 - leader - world.removed[0];
    world.change(follower, 2, MembershipChange::Remove { id: follower });
    world.pass(Duration::from_secs(3));
    let left = world.membership_answers[&2].clone().expect("removed");
    assert_eq!(ids(&left), [leader]);
    assert_eq!(world.lists(leader), [leader]);
}

#[test]
fn two_who_want_a_member_out_through_itself_hear_each_what_came_of_it() {
    let (mut world, leader, follower) = led();
    let letters = [1, 2].map(|token| {
        let leave = MembershipChange::Remove { id: follower };
        world.forward_change(follower, token, leave)
    });
    let letters = letters.map(|letter| (follower, leader, letter));
    world.wire.extend(letters);
    world.settle();
    world.pass(Duration::from_secs(3));
    let left = world.membership_answers[&1].as_deref().map(ids);
    assert_eq!(left.map(|left| left.contains(&follower)), Ok(false));
    let gone = Refusal::Membership(MembershipError::NotFound);
    assert_eq!(world.membership_answers[&2], Err(gone));
}

#[test]
fn a_letter_about_a_change_that_comes_twice_changes_once() {
    let (mut world, leader, follower) = led();
    let letter = world.forward_change(follower, 1, MembershipChange::Remove { id: 9 });
    let before = world.memberships_on_disk(leader);
    for _ in 0..2 {
        let message = letter.clone();
        world.handle(
            leader,
            Input::Peer {
                from: follower,
                message,
            },
        );
    }
    let not_found = Err(Refusal::Membership(MembershipError::NotFound));
    assert_eq!(world.membership_answers[&1], not_found);
    let letter = world.forward_change(follower, 2, learner(4));
    for _ in 0..2 {
        let message = letter.clone();
        world.handle(
            leader,
            Input::Peer {
                from: follower,
                message,
            },
        );
    }
    world.pass(Duration::from_secs(1));
    assert!(world.membership_answers[&2].is_ok());
    assert_eq!(world.memberships_on_disk(leader), before + 1);
}

#[test]
fn a_leader_that_stepped_down_says_that_it_did_nothing_and_the_next_one_makes_the_change() {
    let (mut world, leader, follower) = led();
    let letter = world.forward_change(follower, 1, learner(4));
    let to = follower;
    world.handle(leader, Input::TransferLeader { token: 9, to });
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leader(), Some(follower));
    // It is the leader's change now, as far as it knows: nobody has told it of the letter's fate.
    let lost = world.membership_answers.get(&1).cloned();
    assert_eq!(lost, Some(Err(Refusal::LeaderChanged)));
    let from = follower;
    world.handle(
        leader,
        Input::Peer {
            from,
            message: letter,
        },
    );
    world.pass(Duration::from_secs(1));
    assert_eq!(world.lists(follower), [1, 2, 3], "nothing came of it late");
}

#[test]
fn a_refusal_sends_a_change_to_whoever_leads_then() {
    let (mut world, leader, follower) = led();
    let letter = world.forward_change(follower, 1, learner(4));
    let refused = PeerMessage {
        call: letter.call,
        body: Body::Forwarded(Forwarded::Changed {
            index: 1,
            result: Err(Refusal::NotLeader { leader: None }),
        }),
    };
    // Of another letter, or of somebody else: no answer to this one.
    for (from, call) in [
        (leader, letter.call + 1),
        (6 - leader - follower, letter.call),
    ] {
        let message = PeerMessage {
            call,
            ..refused.clone()
        };
        world.handle(follower, Input::Peer { from, message });
        world.pass(Duration::from_millis(50));
        assert_eq!(world.membership_answers.get(&1), None);
    }
    let from = leader;
    world.handle(
        follower,
        Input::Peer {
            from,
            message: refused,
        },
    );
    assert_eq!(world.membership_answers.get(&1), None);
    world.pass(Duration::from_millis(100));
    assert!(world.membership_answers[&1].is_ok());
    // The first letter comes late: the change is there already.
    world.handle(
        leader,
        Input::Peer {
            from: follower,
            message: letter,
        },
    );
    world.pass(Duration::from_millis(100));
    assert_eq!(world.lists(follower), [1, 2, 3, 4]);
}

#[test]
fn a_change_whose_answer_never_comes_ends_at_its_deadline() {
    let (mut world, _, follower) = led();
    world.forward_change(follower, 1, learner(4));
    world.pass(Duration::from_millis(6_900));
    assert_eq!(world.membership_answers.get(&1), None);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.membership_answers[&1], Err(Refusal::TimedOut));
    assert_eq!(world.members[&follower].forwarded_changes.len(), 0);
}

#[test]
fn a_change_asked_of_a_member_without_a_leader_waits_for_one() {
    let (mut world, leader, follower) = led();
    world.cut_off = vec![follower];
    world.pass(Duration::from_secs(2));
    world.change(follower, 1, learner(4));
    world.pass(Duration::from_secs(2));
    assert_eq!(world.membership_answers.get(&1), None);
    world.cut_off.clear();
    world.pass(Duration::from_millis(500));
    assert!(world.membership_answers[&1].is_ok());
    assert_eq!(world.lists(leader), [1, 2, 3, 4]);
    world.cut_off = vec![follower];
    world.change(follower, 2, MembershipChange::Remove { id: 4 });
    world.pass(Duration::from_millis(7_200));
    assert_eq!(
        world.membership_answers[&2],
        Err(Refusal::TimedOutDisconnected)
    );
}

#[test]
fn there_is_a_bound_on_changes_that_wait() {
    let (mut world, _, follower) = led();
    world.cut_off = vec![follower];
    world.pass(Duration::from_secs(2));
    for token in 0..300 {
        world.change(follower, token, MembershipChange::Remove { id: 9 });
    }
    let refused = world.membership_answers.len();
    assert_eq!(refused, 300 - 256);
    let full = Err(Refusal::TooManyRequests);
    assert!(world.membership_answers.values().all(|it| *it == full));
}

#[test]
fn members_that_were_agreed_on_before_a_barrier_are_listed_after_it() {
    let (mut world, leader, follower) = led();
    let third = 6 - leader - follower;
    world.cut_off = vec![third];
    world.change(follower, 1, learner(4));
    assert!(world.membership_answers[&1].is_ok());
    assert_eq!(world.lists(third), [1, 2, 3]);
    world.cut_off.clear();
    for (token, id) in [(2, third), (3, leader), (4, follower)] {
        let tokens = vec![token];
        world.handle(id, Input::Barrier { tokens });
        while !world.barriers.contains_key(&token) {
            world.pass(Duration::from_millis(1));
        }
        assert_eq!(world.barriers.get(&token), Some(&Ok(())));
        assert_eq!(world.lists(id), [1, 2, 3, 4], "{id}");
    }
}

#[test]
fn transfers_are_for_the_leader_alone() {
    let (mut world, leader, follower) = led();
    let to = follower;
    world.handle(follower, Input::TransferLeader { token: 1, to });
    let refused = world.transfer_answers[&1]
        .clone()
        .map_err(|it| it.to_string());
    assert_eq!(refused, Err("etcdserver: not leader".to_owned()));
    assert_eq!(world.leader(), Some(leader));
}

#[test]
fn who_has_nothing_of_the_log_lists_nobody() {
    let joiner = Settings {
        initial_members: BTreeMap::new(),
        ..settings(4, 3, 0)
    };
    let joiner = Member::new(joiner, Recovered::default(), Duration::ZERO);
    let joiner = joiner.expect("nothing to recover");
    assert_eq!(joiner.members_left_behind(7), Err(Refusal::Stopped));
}
