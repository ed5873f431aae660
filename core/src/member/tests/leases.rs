//! Leases of whole members: granted, renewed, ended, and kept over restarts and changes of leaders.

use metastore_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};

use super::*;
use crate::lease::{LeaseError, LeaseQuery, LeaseQuestion};
use crate::member::publishing::LEASE_BYTES;

impl World {
    fn propose(&mut self, at: u64, token: u64, request: Request) {
        let command = request.into();
        self.handle(at, Input::Propose(vec![Proposal { token, command }]));
    }

    fn grant(&mut self, at: u64, token: u64, id: i64, ttl: i64) {
        self.propose(
            at,
            token,
            Request::LeaseGrant(LeaseGrantRequest { id, ttl }),
        );
    }

    fn put_leased(&mut self, at: u64, token: u64, key: &str, lease: i64) {
        let put = PutRequest {
            key: key.into(),
            lease,
            ..PutRequest::default()
        };
        self.propose(at, token, Request::Put(put));
    }

    fn ask(&mut self, at: u64, token: u64, question: LeaseQuestion) {
        self.handle(at, Input::AskLeases(vec![LeaseQuery { token, question }]));
    }

    /// Seconds left, as the lessor says.
    fn remaining(&mut self, at: u64, token: u64, id: i64) -> Option<i64> {
        self.ask(at, token, LeaseQuestion::TimeToLive { id, keys: true });
        match self.lease_answers.get(&token) {
            Some(Ok(LeaseAnswer::TimeToLive(status))) => {
                status.as_ref().map(|status| status.remaining_seconds)
            }
            other => panic!("a question was answered {other:?}"),
        }
    }

    fn keys(&self, at: u64) -> Vec<String> {
        let all = RangeRequest {
            key: vec![0],
            range_end: vec![0],
            ..RangeRequest::default()
        };
        let answer = self.members[&at].published().view.range(&all);
        let kvs = answer.expect("a plain range").kvs;
        kvs.iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect()
    }

    fn restart(&mut self, id: u64, of: u64, incarnation: u32) {
        self.members.remove(&id);
        self.start(id, of, incarnation);
    }
}

fn renewed(ttl_seconds: i64) -> Option<Result<LeaseAnswer, Refusal>> {
    Some(Ok(LeaseAnswer::Renewed { ttl_seconds }))
}

#[test]
fn a_lease_takes_its_keys_along_in_one_revision_when_its_time_is_over() {
    let mut world = World::new(1);
    world.grant(1, 1, 7, 10);
    assert!(matches!(
        world.answers.get(&1),
        Some(Ok(Outcome::LeaseGranted(granted))) if granted.ttl == 10
    ));
    world.put_leased(1, 2, "b", 7);
    world.put_leased(1, 3, "a", 7);
    world.put(1, 4, "c");
    world.pass(Duration::from_millis(9_900));
    assert_eq!(world.keys(1), ["a", "b", "c"]);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.keys(1), ["c"]);
    let view = world.members[&1].published().view.clone();
    assert_eq!(view.revision(), 5, "three puts and one end");
    let events = view.events(5, 1).expect("nothing is compacted");
    let deleted: Vec<Vec<u8>> = events
        .flat_map(|revision| revision.changes)
        .map(|change| change.record.key().to_vec())
        .collect();
    assert_eq!(deleted, [b"a", b"b"], "in byte order");
    world.members[&1].validate();
}

#[test]
fn an_id_in_use_a_long_time_and_an_unknown_lease_are_refused() {
    let mut world = World::new(1);
    world.grant(1, 1, -7, 10);
    world.grant(1, 2, -7, 10);
    world.grant(1, 3, 8, 9_000_000_001);
    world.propose(1, 4, Request::LeaseRevoke(LeaseRevokeRequest { id: 9 }));
    let refusal = |token| world.answers.get(&token).cloned();
    let in_use = world.members[&1].published().bytes_in_use;
    assert_eq!(in_use, LEASE_BYTES, "one lease counts against the quota");
    assert_eq!(refusal(2), Some(Err(Refusal::Lease(LeaseError::Exists))));
    assert_eq!(
        refusal(3),
        Some(Err(Refusal::Lease(LeaseError::TtlTooLarge)))
    );
    assert_eq!(refusal(4), Some(Err(Refusal::Lease(LeaseError::NotFound))));
}

#[test]
fn a_revoked_lease_deletes_its_keys_and_one_without_keys_makes_no_revision() {
    let mut world = World::new(1);
    world.grant(1, 1, 7, 10);
    world.grant(1, 2, 8, 10);
    world.put_leased(1, 3, "a", 7);
    for (token, id) in [(4, 8), (5, 7)] {
        world.propose(1, token, Request::LeaseRevoke(LeaseRevokeRequest { id }));
    }
    let revision = |token| match world.answers.get(&token) {
        Some(Ok(Outcome::LeaseRevoked(response))) => response.header.as_ref().map(|h| h.revision),
        other => panic!("a revocation answered {other:?}"),
    };
    assert_eq!((revision(4), revision(5)), (Some(2), Some(3)));
    assert!(world.keys(1).is_empty());
    world.ask(1, 6, LeaseQuestion::Renew(7));
    assert_eq!(world.lease_answers.get(&6).cloned(), renewed(0));
}

#[test]
fn a_restart_keeps_leases_keys_and_what_long_ones_have_left() {
    let mut world = World::new(1);
    world.grant(1, 1, 7, 100);
    world.put_leased(1, 2, "a", 7);
    world.pass(Duration::from_secs(70));
    let hash = world.members[&1].state_hash();
    world.restart(1, 1, 1);
    assert_eq!(world.members[&1].state_hash(), hash);
    assert_eq!(
        world.remaining(1, 3, 7),
        Some(41),
        "40 s were left when that was recorded, and one election timeout is added"
    );
    world.ask(1, 4, LeaseQuestion::Renew(7));
    assert_eq!(world.lease_answers.get(&4).cloned(), renewed(100));
    world.restart(1, 1, 2);
    assert_eq!(
        world.remaining(1, 5, 7),
        Some(101),
        "a renewal gives all of it again"
    );
    world.pass(Duration::from_secs(102));
    assert!(world.keys(1).is_empty());
    world.members[&1].validate();
}

#[test]
fn a_checkpoint_keeps_leases_and_their_keys() {
    let mut world = World::new(1);
    let start = |world: &mut World, incarnation| {
        let recovered = world.disks[&1].recovered();
        let settings = Settings {
            checkpoint_entries: Some(5),
            ..settings(1, 1, incarnation)
        };
        let member = Member::new(settings, recovered, world.now).expect("a good checkpoint");
        world.members.insert(1, member);
        world.settle();
    };
    start(&mut world, 1);
    world.grant(1, 1, 7, 100);
    world.put_leased(1, 2, "a", 7);
    world.pass(Duration::from_secs(70));
    for token in 3..12 {
        world.put(1, token, "b");
    }
    assert!(world.disks[&1].checkpoint.is_some());
    let hash = world.members[&1].state_hash();
    start(&mut world, 2);
    assert_eq!(world.members[&1].state_hash(), hash);
    world.members[&1].validate();
    assert_eq!(world.remaining(1, 20, 7), Some(41));
    world.pass(Duration::from_secs(42));
    assert_eq!(world.keys(1), ["b"]);
}

#[test]
fn a_new_leader_never_ends_a_lease_early() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let first = world.leader().expect("a leader");
    world.grant(first, 1, 7, 20);
    world.put_leased(first, 2, "a", 7);
    world.pass(Duration::from_secs(10));
    world.ask(first, 3, LeaseQuestion::Renew(7));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.lease_answers.get(&3).cloned(), renewed(20));
    let renewed_at = world.now;

    world.cut_off = vec![first];
    world.pass(Duration::from_secs(8));
    let second = world.leader().expect("another leader");
    assert_ne!(first, second);
    let elected_by = world.now;
    while world.keys(second) == ["a"] {
        world.pass(Duration::from_millis(100));
        assert!(
            world.now < elected_by + Duration::from_secs(22),
            "it ends at last"
        );
    }
    assert!(world.now >= renewed_at + Duration::from_secs(20));
}

#[test]
fn a_leader_that_was_replaced_answers_no_renewal_and_ends_no_lease() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let first = world.leader().expect("a leader");
    world.grant(first, 1, 7, 5);
    world.put_leased(first, 2, "a", 7);
    world.cut_off = vec![first];
    world.ask(first, 3, LeaseQuestion::Renew(7));
    world.pass(Duration::from_secs(4));
    let second = world.leader().expect("another leader");
    for token in 10..20 {
        world.ask(second, token, LeaseQuestion::Renew(7));
        world.pass(Duration::from_secs(1));
        assert_eq!(world.lease_answers.get(&token).cloned(), renewed(5));
    }
    assert!(matches!(
        world.lease_answers.get(&3),
        Some(Err(Refusal::TimedOut
            | Refusal::LeaderChanged
            | Refusal::NotLeader { .. }))
    ));
    world.cut_off.clear();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.keys(second), ["a"]);
    assert_eq!(world.keys(first), ["a"]);
    world.pass(Duration::from_secs(10));
    assert!(world.keys(first).is_empty() && world.keys(second).is_empty());
}

#[test]
fn a_renewal_that_is_committed_late_is_not_confirmed_by_who_led_before() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let first = world.leader().expect("a leader");
    world.grant(first, 1, 7, 100);
    world.put_leased(first, 2, "a", 7);
    world.pass(Duration::from_secs(70));
    // What it has left is recorded by now. The leader proposes to take that back, and is suspended with its clock while
    // the others confirm it.
    world.distance = Duration::from_millis(10);
    let others_have = |world: &World| -> Vec<u64> {
        let others = world.disks.iter().filter(|(id, _)| **id != first);
        others
            .filter_map(|(_, disk)| Some(*disk.entries.last_key_value()?.0))
            .collect()
    };
    let before = others_have(&world);
    world.ask(first, 3, LeaseQuestion::Renew(7));
    while others_have(&world) == before {
        world.pass(Duration::from_millis(1));
        assert_eq!(world.lease_answers.get(&3), None);
    }
    let mut asleep = world.members.remove(&first).expect("it runs");
    let asleep_since = world.now;
    let (confirmations, rest): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut world.under_way)
        .into_iter()
        .partition(|letter| letter.2 == first);
    assert!(!confirmations.is_empty());
    world.under_way = rest;
    world.distance = Duration::ZERO;
    world.pass(Duration::from_secs(110));
    let second = world.leader().expect("another leader");
    assert!(world.keys(second).is_empty(), "the lease is over");

    for (_, from, _, message) in confirmations {
        asleep.handle(asleep_since, Input::Peer { from, message });
    }
    asleep.handle(asleep_since + Duration::from_millis(1), Input::Tick);
    while let Some(output) = asleep.poll_output() {
        if let Output::LeaseAnswer { answer, .. } = output {
            panic!("a lease that is over was answered {answer:?}");
        }
    }
}

#[test]
fn a_renewal_at_a_leader_that_hands_over_is_answered_by_the_next() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let first = world.leader().expect("a leader");
    let second = (1..=3).find(|id| *id != first).expect("a follower");
    world.grant(first, 1, 7, 100);
    world.pass(Duration::from_secs(70));
    // What it has left is recorded by now. When the quorum has confirmed that it leads, the leader takes no proposals
    // any more, so it cannot take the record back.
    world.distance = Duration::from_millis(10);
    world.ask(first, 3, LeaseQuestion::Renew(7));
    world.pass(Duration::from_millis(10));
    let to = second;
    world.handle(first, Input::TransferLeader { token: 4, to });
    world.pass(Duration::from_millis(300));
    assert_eq!(world.leader(), Some(second));
    assert_eq!(world.lease_answers.get(&3).cloned(), renewed(100));
}

#[test]
fn a_follower_lists_what_it_knows_and_a_leader_by_the_time_left() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    world.grant(leader, 1, 9, 30);
    world.grant(leader, 2, 7, 60);
    world.pass(Duration::from_millis(500));
    world.ask(follower, 4, LeaseQuestion::List);
    world.ask(leader, 5, LeaseQuestion::List);
    assert_eq!(
        world.lease_answers.get(&4),
        Some(&Ok(LeaseAnswer::List([7, 9].into())))
    );
    assert_eq!(
        world.lease_answers.get(&5),
        Some(&Ok(LeaseAnswer::List([9, 7].into())))
    );
}

#[test]
fn leases_are_listed_once_for_all_who_ask_together() {
    let mut world = World::new(1);
    world.pass(Duration::from_secs(1));
    world.grant(1, 1, 9, 30);
    let ask = |token| LeaseQuery {
        token,
        question: LeaseQuestion::List,
    };
    world.handle(1, Input::AskLeases(vec![ask(4), ask(5)]));
    let lists = [4, 5].map(|token| match world.lease_answers.get(&token) {
        Some(Ok(LeaseAnswer::List(ids))) => Arc::clone(ids),
        other => panic!("{other:?}"),
    });
    assert_eq!(*lists[0], [9]);
    assert!(Arc::ptr_eq(&lists[0], &lists[1]));
}

#[test]
fn a_lease_granted_and_renewed_through_a_follower_lives_as_long_as_elsewhere() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    world.grant(follower, 1, 7, 10);
    world.put_leased(follower, 2, "a", 7);
    world.pass(Duration::from_secs(8));
    world.ask(follower, 3, LeaseQuestion::Renew(7));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.lease_answers.get(&3).cloned(), renewed(10));
    world.pass(Duration::from_secs(9));
    assert_eq!(world.keys(follower), ["a"]);
    world.ask(follower, 4, LeaseQuestion::TimeToLive { id: 7, keys: true });
    world.pass(Duration::from_millis(100));
    assert!(matches!(
        world.lease_answers.get(&4),
        Some(Ok(LeaseAnswer::TimeToLive(Some(status)))) if status.remaining_seconds == 0
    ));
    world.pass(Duration::from_secs(2));
    assert!(world.keys(follower).is_empty() && world.keys(leader).is_empty());
    world.ask(follower, 5, LeaseQuestion::Renew(7));
    world.pass(Duration::from_millis(100));
    assert_eq!(world.lease_answers.get(&5).cloned(), renewed(0));
}

#[test]
fn a_renewal_goes_on_to_the_next_leader_or_ends_without_one() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    world.grant(follower, 1, 7, 60);
    world.pass(Duration::from_millis(500));
    world.cut_off = vec![leader];
    world.ask(follower, 2, LeaseQuestion::Renew(7));
    world.pass(Duration::from_millis(6_900));
    assert_eq!(world.lease_answers.get(&2).cloned(), renewed(60));

    world.cut_off = vec![1, 2, 3];
    world.pass(Duration::from_secs(10));
    world.ask(follower, 3, LeaseQuestion::Renew(7));
    world.pass(Duration::from_millis(6_900));
    assert_eq!(world.lease_answers.get(&3), None);
    world.pass(Duration::from_millis(100));
    assert!(matches!(
        world.lease_answers.get(&3),
        Some(Err(Refusal::TimedOut | Refusal::NotLeader { leader: None }))
    ));
}

#[test]
fn thousands_of_leases_that_end_together_end_one_by_one_and_all() {
    let mut world = World::new(1);
    for id in 1..=3000 {
        world.grant(1, id, i64::try_from(id).expect("small"), 10);
        world.put_leased(
            1,
            10_000 + id,
            &format!("k{id}"),
            i64::try_from(id).expect("small"),
        );
    }
    world.pass(Duration::from_secs(11));
    assert!(world.keys(1).is_empty());
    assert_eq!(world.members[&1].published().view.revision(), 1 + 6000);
}

#[test]
fn where_nothing_changed_nothing_is_published_though_leases_live() {
    let mut world = World::new(1);
    world.pass(Duration::from_secs(1));
    world.grant(1, 1, 7, 60);
    world.pass(Duration::from_secs(1));
    let now = world.now;
    let member = world.members.get_mut(&1).expect("it runs");
    let renew = LeaseQuery {
        token: 2,
        question: LeaseQuestion::Renew(7),
    };
    let mut answered = 0;
    for input in [Input::Tick, Input::AskLeases(vec![renew])] {
        member.handle(now, input);
        while let Some(output) = member.poll_output() {
            answered += usize::from(matches!(output, Output::LeaseAnswer { .. }));
            assert!(!matches!(output, Output::Publish(_)));
        }
    }
    assert_eq!(answered, 1);
}

#[test]
fn a_leader_that_nobody_followed_for_a_while_counts_on_where_it_was() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    world.grant(leader, 1, 7, 10);
    world.grant(leader, 2, 8, 20);
    world.pass(Duration::from_millis(9_900));
    // The end of the one is proposed when nobody hears of it any more.
    world.cut_off = (1..=3).filter(|id| *id != leader).collect();
    world.pass(Duration::from_secs(4));
    assert_eq!(world.members[&leader].published().leader, None);
    world.cut_off.clear();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leader(), Some(leader));
    world.ask(leader, 3, LeaseQuestion::Renew(7));
    assert_eq!(world.lease_answers.get(&3).cloned(), renewed(0));
    let left = world.remaining(leader, 4, 8);
    assert!(left.is_some_and(|left| left <= 5), "{left:?}");
}

#[test]
fn answers_about_leases_with_many_keys_go_in_letters_that_hold_up_no_heartbeat() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    world.grant(leader, 1, 7, 600);
    for key in 0..2_000_u64 {
        world.put_leased(leader, 1_000 + key, &format!("{key:0>200}"), 7);
    }
    world.pass(Duration::from_millis(200));
    let ask = |keys| -> Vec<LeaseQuery> {
        let question = LeaseQuestion::TimeToLive { id: 7, keys };
        let first = if keys { 10_000 } else { 20_000 };
        (first..first + 20)
            .map(|token| LeaseQuery { token, question })
            .collect()
    };
    world.answers_to_leases.clear();
    world.handle(follower, Input::AskLeases(ask(true)));
    world.pass(Duration::from_millis(200));
    let letters = std::mem::take(&mut world.answers_to_leases);
    assert!(letters.len() >= 7, "{} letters", letters.len());
    for letter in letters {
        assert!(letter.weight() < 2 << 20, "{} bytes", letter.weight());
        assert!(letter.is_bulk());
    }
    world.handle(follower, Input::AskLeases(ask(false)));
    world.pass(Duration::from_millis(200));
    let letters = std::mem::take(&mut world.answers_to_leases);
    assert_eq!(letters.len(), 1);
    assert!(!letters[0].is_bulk() && letters[0].weight() < 2_000);
    for (token, keys) in [(10_000, 2_000), (20_000, 0)] {
        match world.lease_answers.get(&token) {
            Some(Ok(LeaseAnswer::TimeToLive(Some(status)))) => {
                assert_eq!(status.keys.iter().count(), keys);
            }
            other => panic!("a question was answered {other:?}"),
        }
    }
}
