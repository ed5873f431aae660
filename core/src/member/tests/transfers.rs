//! Leadership is handed over.

use super::*;
use crate::transfer::TransferError;

impl World {
    fn transfer(&mut self, at: u64, token: u64, to: u64) {
        self.handle(at, Input::TransferLeader { token, to });
    }
}

fn three() -> (World, u64, u64) {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let other = (1..=3).find(|id| *id != leader).expect("a follower");
    (world, leader, other)
}

#[test]
fn leadership_goes_to_the_member_asked_for_and_then_the_answer_comes() {
    let (mut world, leader, other) = three();
    world.transfer(leader, 1, other);
    world.pass(Duration::from_millis(300));
    assert_eq!(world.transfer_answers.get(&1), Some(&Ok(())));
    assert_eq!(world.leader(), Some(other));
    world.transfer(other, 2, leader);
    world.pass(Duration::from_millis(300));
    assert_eq!(world.transfer_answers.get(&2), Some(&Ok(())));
    assert_eq!(world.leader(), Some(leader), "and back again");
}

#[test]
fn a_leader_that_is_about_to_stop_hands_over_to_whoever_is_in_touch_and_others_have_nothing_to_hand_over()
 {
    let (mut world, leader, other) = three();
    world.handle(other, Input::StepDown { token: 1 });
    assert_eq!(world.transfer_answers.get(&1), Some(&Ok(())));
    assert_eq!(world.leader(), Some(leader));
    world.cut_off = vec![other];
    world.pass(Duration::from_secs(2));
    world.handle(leader, Input::StepDown { token: 2 });
    world.pass(Duration::from_millis(300));
    assert_eq!(world.transfer_answers.get(&2), Some(&Ok(())));
    let third = 6 - leader - other;
    assert_eq!(world.leader(), Some(third));

    let mut alone = World::new(1);
    alone.pass(Duration::from_secs(1));
    alone.handle(1, Input::StepDown { token: 1 });
    assert_eq!(alone.transfer_answers.get(&1), Some(&Ok(())));
    assert_eq!(alone.leader(), Some(1));
}

#[test]
fn what_cannot_lead_is_refused_at_once() {
    let (mut world, leader, other) = three();
    world.transfer(leader, 1, leader);
    assert_eq!(world.transfer_answers.get(&1), Some(&Ok(())));
    world.transfer(leader, 2, 9);
    let bad = Err(Refusal::Transfer(TransferError::BadTransferee));
    assert_eq!(world.transfer_answers.get(&2), Some(&bad));
    world.transfer(other, 3, other);
    let not_leader = Err(Refusal::Transfer(TransferError::NotLeader));
    assert_eq!(world.transfer_answers.get(&3), Some(&not_leader));
}

#[test]
fn a_target_out_of_touch_costs_the_time_of_the_request_and_no_leadership() {
    let (mut world, leader, other) = three();
    world.cut_off = vec![other];
    world.pass(Duration::from_secs(2));
    world.transfer(leader, 1, other);
    world.pass(Duration::from_secs(3));
    world.put(leader, 10, "k");
    assert!(matches!(world.answers.get(&10), Some(Ok(_))));
    world.pass(Duration::from_secs(5));
    let too_long = Err(Refusal::Transfer(TransferError::TooLong));
    assert_eq!(world.transfer_answers.get(&1), Some(&too_long));
    assert_eq!(world.leader(), Some(leader));
}

#[test]
fn a_transfer_under_load_loses_nothing() {
    let (mut world, _, _) = three();
    let mut written = 0;
    let mut token = 0;
    for round in 0..6 {
        let leader = world.leader().expect("a leader");
        let to = leader % 3 + 1;
        for step in 0..40 {
            if step == 20 {
                world.transfer(leader, 1_000_000 + round, to);
            }
            // Clients that hear of another leader, or of none, go elsewhere: nothing happened to their write.
            let at = world.leader().unwrap_or(leader);
            world.put(at, token, &format!("k{token}"));
            token += 1;
            world.pass(Duration::from_millis(1));
        }
        world.pass(Duration::from_secs(1));
        assert_eq!(
            world.transfer_answers.get(&(1_000_000 + round)),
            Some(&Ok(()))
        );
        assert_eq!(world.leader(), Some(to));
    }
    world.pass(Duration::from_secs(2));
    for token in 0..token {
        match world.answers.get(&token) {
            Some(Ok(Outcome::Put(_))) => written += 1,
            Some(Err(Refusal::NotLeader { .. })) => {}
            other => panic!("{token}: {other:?}"),
        }
    }
    assert!(written >= token - 30, "{written} of {token}");
    for member in world.members.values() {
        assert_eq!(member.published().view.revision(), 1 + written as i64);
    }
}

#[test]
fn a_target_that_lacks_much_in_bytes_is_not_handed_leadership_yet() {
    let (mut world, leader, other) = three();
    world.cut_off = vec![other];
    for token in 10..20 {
        let put = PutRequest {
            key: b"large".to_vec(),
            value: vec![b'v'; 1 << 20],
            ..PutRequest::default()
        };
        let command = Request::Put(put).into();
        world.handle(leader, Input::Propose(vec![Proposal { token, command }]));
    }
    // It was heard of a moment ago, and lacks ten entries.
    world.transfer(leader, 1, other);
    world.put(leader, 30, "k");
    assert!(matches!(world.answers.get(&30), Some(Ok(_))));
    world.cut_off.clear();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.transfer_answers.get(&1), Some(&Ok(())));
    assert_eq!(world.leader(), Some(other));
}

#[test]
fn a_large_entry_that_the_target_has_does_not_keep_leadership_from_it() {
    let (mut world, leader, other) = three();
    let put = PutRequest {
        key: b"large".to_vec(),
        value: vec![b'v'; 9 << 20],
        ..PutRequest::default()
    };
    let command = Request::Put(put).into();
    world.handle(
        leader,
        Input::Propose(vec![Proposal { token: 10, command }]),
    );
    world.pass(Duration::from_millis(500));
    world.transfer(leader, 1, other);
    world.pass(Duration::from_millis(300));
    assert_eq!(world.transfer_answers.get(&1), Some(&Ok(())));
}
