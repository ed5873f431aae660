//! Who knows of which leader, and for how long.

use super::*;
use crate::raft::following;

impl World {
    /// The leaders that a member named one after the other, from a time on.
    fn named(&self, id: u64, since: Duration) -> Vec<Option<u64>> {
        let named = self.leaders[&id].iter();
        let named = named.filter(|(at, ..)| *at >= since);
        named.map(|(.., leader)| *leader).collect()
    }
}

fn elected(size: u64) -> (World, u64, u64) {
    let mut world = World::new(size);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=size).find(|id| *id != leader).expect("a follower");
    (world, leader, follower)
}

#[test]
fn a_follower_that_hears_nothing_for_an_election_timeout_knows_no_leader() {
    let (mut world, leader, follower) = elected(3);
    world.cut_off = vec![follower];
    world.pass(Duration::from_millis(890));
    let known = |world: &World| world.members[&follower].published().leader;
    assert_eq!(known(&world), Some(leader));
    world.pass(Duration::from_millis(111));
    assert_eq!(known(&world), None);
    world.pass(Duration::from_secs(10));
    assert_eq!(known(&world), None);
    assert_eq!(world.leader(), Some(leader), "the others have one");
    let healed = world.now;
    world.cut_off.clear();
    world.pass(Duration::from_millis(300));
    assert_eq!(known(&world), Some(leader));
    assert_eq!(world.named(follower, healed), [Some(leader)]);
}

#[test]
fn a_leader_that_no_quorum_answers_for_an_election_timeout_knows_no_leader() {
    let (mut world, leader, follower) = elected(3);
    world.cut_off = vec![leader];
    world.pass(Duration::from_millis(890));
    let known = |world: &World| world.members[&leader].published().leader;
    assert_eq!(known(&world), Some(leader));
    world.pass(Duration::from_millis(111));
    assert_eq!(known(&world), None);
    world.pass(Duration::from_secs(5));
    let next = world.members[&follower].published().leader;
    assert!(next.is_some_and(|next| next != leader));
    world.cut_off.clear();
    world.pass(Duration::from_millis(300));
    assert_eq!(known(&world), next);
}

#[test]
fn a_leader_whose_followers_come_back_before_another_is_elected_leads_on() {
    let (mut world, leader, _) = elected(3);
    let term = world.members[&leader].published().term;
    world.cut_off = (1..=3).filter(|id| *id != leader).collect();
    world.pass(Duration::from_secs(6));
    assert_eq!(world.members[&leader].published().leader, None);
    world.put(leader, 1, "asked of a leader that nobody follows");
    assert_eq!(world.answers.get(&1), None);
    world.cut_off.clear();
    world.pass(Duration::from_millis(300));
    for member in world.members.values() {
        let published = member.published();
        assert_eq!((published.leader, published.term), (Some(leader), term));
    }
    assert!(matches!(world.answers.get(&1), Some(Ok(_))));
}

#[test]
fn what_is_asked_of_a_member_without_a_leader_goes_on_when_there_is_one() {
    let (mut world, leader, follower) = elected(3);
    world.cut_off = vec![follower];
    world.pass(Duration::from_secs(2));
    world.put(follower, 1, "a");
    let tokens = vec![2];
    world.handle(follower, Input::Barrier { tokens });
    world.pass(Duration::from_secs(2));
    assert_eq!(world.answers.get(&1), None);
    assert_eq!(world.barriers.get(&2), None);
    world.cut_off.clear();
    world.pass(Duration::from_millis(300));
    assert!(matches!(world.answers.get(&1), Some(Ok(_))));
    assert_eq!(world.barriers.get(&2), Some(&Ok(())));
    assert_eq!(world.leader(), Some(leader));
}

#[test]
fn a_restarted_member_knows_no_leader_before_it_hears_from_one() {
    let (mut world, leader, follower) = elected(3);
    world.cut_off = vec![follower];
    world.members.remove(&follower);
    let started = world.now;
    world.start(follower, 3, 1);
    world.pass(Duration::from_millis(500));
    assert_eq!(world.members[&follower].published().leader, None);
    world.cut_off.clear();
    world.pass(Duration::from_millis(300));
    assert_eq!(world.members[&follower].published().leader, Some(leader));
    let named = world.named(follower, started);
    assert!(named.iter().flatten().eq([&leader]), "{named:?}");
}

#[test]
fn a_lone_voter_and_its_readers_never_lose_their_leader() {
    let mut world = World::new(1);
    let named = world.leaders[&1].clone();
    world.pass(Duration::from_secs(100));
    assert_eq!(world.leaders[&1], named);
    assert_eq!(world.leader(), Some(1));
    assert!(world.members[&1].published().reads_need_no_quorum);
}

#[test]
fn a_quiet_cluster_publishes_nothing_and_a_fresh_leader_is_never_in_doubt() {
    for size in [2, 3, 5] {
        let (mut world, leader, _) = elected(size);
        for (id, named) in &world.leaders {
            let term = world.members[id].published().term;
            let named = named.iter().filter(|(_, of, _)| *of == term);
            let named: Vec<_> = named.skip_while(|(.., it)| it.is_none()).collect();
            assert!(
                matches!(named[..], [(.., Some(it))] if *it == leader),
                "{named:?}"
            );
        }
        let before = world.publications.clone();
        world.pass(Duration::from_secs(30));
        assert_eq!(world.publications, before);
    }
}

#[test]
fn a_request_that_came_while_a_leader_was_being_lost_says_so_when_it_times_out() {
    let (mut world, leader, _) = elected(3);
    world.cut_off = vec![leader];
    world.lost_forwards = true;
    world.pass(Duration::from_millis(1_200));
    let left: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    for id in &left {
        assert_eq!(world.members[id].published().leader, None);
        world.put(*id, *id, "a");
    }
    world.pass(Duration::from_secs(5));
    let next = world.leader().expect("another leader");
    let other = left[usize::from(left[0] == next)];
    assert!(matches!(world.answers.get(&next), Some(Ok(_))));
    assert_eq!(world.answers.get(&other), None, "its letter is lost");
    world.put(other, 10, "a");
    world.pass(Duration::from_millis(2_100));
    let lost = Err(Refusal::TimedOutLeaderLost);
    assert_eq!(world.answers.get(&other), Some(&lost));
    world.pass(Duration::from_secs(5));
    assert_eq!(world.answers.get(&10), Some(&Err(Refusal::TimedOut)));
}

/// Cuts the ways between these members, in both directions.
fn cut(world: &mut World, ways: &[(u64, u64)]) {
    let back = ways.iter().map(|(from, to)| (*to, *from));
    world.cut_ways = ways.iter().copied().chain(back).collect();
}

#[test]
fn a_leader_that_reaches_a_minority_leaves_the_others_to_elect_one() {
    let (mut world, leader, _) = elected(5);
    let others: Vec<u64> = (1..=5).filter(|id| *id != leader).collect();
    let [helper, third, fourth, alone] = others[..] else {
        panic!("there are four others");
    };
    // The helper hears the leader, and is needed for a quorum without it.
    let lost = [third, fourth, alone].map(|id| (leader, id));
    let far = [helper, third, fourth].map(|id| (alone, id));
    cut(&mut world, &[lost, far].concat());
    world.put(leader, 1, "appended by a leader without a quorum");
    world.pass(Duration::from_secs(5));
    let next = world.members[&helper].published().leader;
    assert!(next.is_some_and(|next| next != leader), "{next:?}");
    world.put(helper, 2, "agreed on by the others");
    world.pass(Duration::from_millis(500));
    assert!(matches!(world.answers.get(&2), Some(Ok(_))));
    world.cut_ways.clear();
    world.pass(Duration::from_secs(3));
    for member in world.members.values() {
        assert_eq!(member.published().leader, next, "who leads goes on");
    }
}

#[test]
fn a_leader_that_is_heard_but_hears_nobody_leaves_the_others_to_elect_one() {
    let (mut world, leader, follower) = elected(3);
    let others = (1..=3).filter(|id| *id != leader);
    world.cut_ways = others.map(|id| (id, leader)).collect();
    world.put(leader, 1, "appended by a leader that hears nobody");
    world.pass(Duration::from_secs(5));
    let next = world.members[&follower].published().leader;
    assert!(next.is_some_and(|next| next != leader), "{next:?}");
    world.put(follower, 2, "agreed on by the others");
    world.pass(Duration::from_millis(500));
    assert!(matches!(world.answers.get(&2), Some(Ok(_))));
    world.cut_ways.clear();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leader(), next);
}

#[test]
fn a_leader_that_hears_the_others_and_is_heard_by_one_leaves_them_to_elect_one() {
    let (mut world, leader, _) = elected(5);
    let others: Vec<u64> = (1..=5).filter(|id| *id != leader).collect();
    world.cut_ways = others[1..].iter().map(|id| (leader, *id)).collect();
    world.pass(Duration::from_secs(5));
    for id in others {
        let next = world.members[&id].published().leader;
        assert!(next.is_some_and(|next| next != leader), "{id}: {next:?}");
    }
}

#[test]
fn a_leader_that_alone_can_lead_does_so_again_after_its_silence() {
    let (mut world, leader, follower) = elected(2);
    let term = world.members[&leader].published().term;
    world.cut_off = vec![follower];
    world.put(leader, 1, "what the follower lacks, so that it cannot lead");
    world.pass(Duration::from_millis(2_300));
    assert_eq!(world.members[&leader].published().leader, None);
    world.cut_off.clear();
    world.pass(Duration::from_millis(2_000));
    let published = world.members[&follower].published();
    assert_eq!((published.leader, published.term), (Some(leader), term));
    assert!(matches!(world.answers.get(&1), Some(Ok(_))));
}

#[test]
fn a_leader_that_nobody_answers_rests_and_speaks_by_turns() {
    let (mut world, leader, _) = elected(3);
    world.cut_off = (1..=3).filter(|id| *id != leader).collect();
    world.pass(Duration::from_millis(1_100));
    let spoken = |world: &mut World, time| {
        let before = world.appends;
        world.pass(Duration::from_millis(time));
        world.appends - before
    };
    assert!(spoken(&mut world, 800) > 4);
    spoken(&mut world, 200);
    assert_eq!(spoken(&mut world, 1_800), 0);
    assert!(spoken(&mut world, 3_900) > 20);
    spoken(&mut world, 300);
    assert_eq!(spoken(&mut world, 1_600), 0);
}

#[test]
fn followers_that_are_slow_to_answer_do_not_cost_a_leader_its_office() {
    let (mut world, leader, _) = elected(3);
    let term = world.members[&leader].published().term;
    world.cut_ways = (1..=3)
        .filter(|id| *id != leader)
        .map(|id| (id, leader))
        .collect();
    world.put(leader, 1, "answered late");
    world.pass(Duration::from_millis(1_700));
    assert_eq!(world.members[&leader].published().leader, None);
    world.cut_ways.clear();
    world.pass(Duration::from_millis(400));
    assert!(matches!(world.answers.get(&1), Some(Ok(_))));
    let published = world.members[&leader].published();
    assert_eq!((published.leader, published.term), (Some(leader), term));
}

#[test]
fn a_follower_whose_disk_went_back_is_given_again_what_it_lost() {
    let (mut world, leader, follower) = elected(3);
    world.put(leader, 1, "before");
    world.pass(Duration::from_millis(200));
    let older = world.disks[&follower].clone();
    world.put(leader, 2, "lost by the follower");
    world.pass(Duration::from_millis(200));
    world.members.remove(&follower);
    world.disks.insert(follower, older);
    world.start(follower, 3, 1);
    let appends = world.appends;
    world.put(leader, 3, "after");
    world.pass(Duration::from_secs(2));
    assert_eq!(world.leader(), Some(leader));
    let revision = |id: u64| world.members[&id].published().view.revision();
    assert_eq!(revision(follower), revision(leader));
    assert!(
        world.appends - appends < 200,
        "nothing is sent over and over"
    );
}

#[test]
fn a_letter_of_a_term_that_no_elections_led_to_uses_up_none() {
    let (mut world, leader, follower) = elected(3);
    let term = world.members[&leader].published().term;
    for body in Body::telling(Vote::new_committed(u64::MAX, follower)) {
        // The calls that are under way are among these.
        for call in 0..2_000 {
            let message = PeerMessage {
                call,
                body: body.clone(),
            };
            let from = follower;
            world.handle(leader, Input::Peer { from, message });
        }
    }
    world.pass(Duration::from_secs(3));
    let published = world.members[&leader].published();
    assert_eq!((published.leader, published.term), (Some(leader), term));
    world.cut_off = vec![leader];
    world.pass(Duration::from_secs(5));
    assert!(world.leader().is_some_and(|next| next != leader));
}

#[test]
fn a_letter_whose_entries_leave_a_gap_is_written_by_nobody() {
    let (mut world, leader, follower) = elected(3);
    let vote = following::vote(&world.members[&leader].raft);
    let last = world.members[&follower].replica.borrow().last_applied;
    let end = world.members[&follower].published().applied;
    for (last, indexes) in [
        (last, vec![end + 2]),
        (last, vec![end + 1, end + 3]),
        (None, vec![end + 2]),
    ] {
        let message = PeerMessage {
            call: 1,
            body: Body::appending(vote, last, &indexes),
        };
        let from = leader;
        world.handle(follower, Input::Peer { from, message });
        world.pass(Duration::from_secs(1));
    }
    world.put(follower, 7, "k");
    world.pass(Duration::from_secs(1));
    assert!(world.answers[&7].is_ok(), "the log goes on");
}
