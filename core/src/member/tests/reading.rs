//! Linearizable reads on every member.

use super::*;

impl World {
    fn read(&mut self, at: u64, token: u64) {
        let tokens = vec![token];
        self.handle(at, Input::Barrier { tokens });
    }

    /// Hands a barrier to a member without delivering any letter.
    fn read_quietly(&mut self, at: u64, tokens: Vec<u64>) {
        let now = self.now;
        let member = self.members.get_mut(&at).expect("it runs");
        member.handle(now, Input::Barrier { tokens });
        self.drain(at);
    }

    fn has_passed(&self, token: u64) -> bool {
        self.barriers.get(&token) == Some(&Ok(()))
    }
}

fn led() -> (World, u64, u64) {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    (world, leader, follower)
}

#[test]
fn a_barrier_passes_on_every_member() {
    let (mut world, _, _) = led();
    for id in 1..=3 {
        world.read(id, id);
    }
    world.pass(Duration::from_millis(500));
    assert!((1..=3).all(|token| world.has_passed(token)));
}

#[test]
fn a_read_on_a_follower_sees_every_write_that_was_acknowledged_before_it() {
    let (mut world, leader, follower) = led();
    for token in 0..50 {
        world.put(leader, token, "k");
        assert!(matches!(world.answers.get(&token), Some(Ok(_))));
        world.read(follower, 1000 + token);
        world.pass(Duration::from_millis(200));
        assert!(world.has_passed(1000 + token));
        let seen = world.visible_when_answered[&(1000 + token)];
        assert!(seen >= i64::try_from(token).expect("small") + 2);
    }
}

#[test]
fn all_barriers_of_one_step_share_one_question_to_the_leader() {
    let (mut world, leader, follower) = led();
    world.read_quietly(follower, (0..1000).collect());
    let letters: Vec<u64> = world.wire.iter().map(|(_, to, _)| *to).collect();
    assert_eq!(letters, [leader]);
    world.read_quietly(follower, (1000..2000).collect());
    assert_eq!(world.wire.len(), 1, "the next barrier waits for this one");
    world.pass(Duration::from_millis(500));
    assert!((0..2000).all(|token| world.has_passed(token)));
}

#[test]
fn reads_on_followers_see_every_acknowledged_write_through_a_change_of_leaders() {
    let (mut world, first, follower) = led();
    world.put(first, 1, "a");
    world.pass(Duration::from_millis(200));
    world.cut_off = vec![first];
    world.read(follower, 100);
    world.pass(Duration::from_secs(5));
    let second = world.leader().expect("another leader");
    assert_ne!(first, second);
    assert!(world.has_passed(100), "it went on to the new leader");
    world.put(second, 2, "b");
    let acknowledged = world.visible_when_answered[&2];
    for id in [follower, second] {
        world.read(id, 200 + id);
    }
    world.pass(Duration::from_secs(1));
    for id in [follower, second] {
        assert!(world.has_passed(200 + id));
        assert!(world.visible_when_answered[&(200 + id)] >= acknowledged);
    }
    // The old leader must not pass one from what it knows; it hears of the new leader, and then may.
    world.read(first, 300);
    world.pass(Duration::from_secs(3));
    assert_eq!(world.barriers.get(&300), None);
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    assert!(world.has_passed(300));
    assert!(world.visible_when_answered[&300] >= acknowledged);
}

#[test]
fn barriers_on_a_cut_off_member_end_by_their_deadline() {
    let (mut world, leader, follower) = led();
    for id in [leader, follower] {
        world.cut_off = vec![id];
        let tokens = [id * 10, id * 10 + 1];
        world.read(id, tokens[0]);
        world.pass(Duration::from_secs(3));
        world.read(id, tokens[1]);
        world.pass(Duration::from_millis(3_999));
        assert_eq!(world.barriers.get(&tokens[0]), None);
        world.pass(Duration::from_millis(1));
        let timed_out = Some(Err(Refusal::TimedOut));
        assert_eq!(world.barriers.get(&tokens[0]).cloned(), timed_out);
        assert_eq!(world.barriers.get(&tokens[1]), None);
        world.pass(Duration::from_secs(3));
        assert_eq!(world.barriers.get(&tokens[1]).cloned(), timed_out);
        world.cut_off.clear();
        world.pass(Duration::from_secs(5));
    }
}

#[test]
fn no_more_reads_wait_than_may() {
    let mut world = World::new(3);
    world.cut_off = vec![1, 2, 3];
    world.read_quietly(1, (0..65_536).collect());
    assert!(world.barriers.is_empty());
    world.read_quietly(1, vec![70_000]);
    let refused = Some(Err(Refusal::TooManyRequests));
    assert_eq!(world.barriers.get(&70_000).cloned(), refused);
    world.pass(Duration::from_secs(7));
    assert_eq!(world.barriers.len(), 65_537);
}

#[test]
fn a_barrier_waits_for_a_leader_until_its_deadline() {
    let mut world = World::new(3);
    world.read(1, 1);
    world.pass(Duration::from_secs(5));
    assert!(world.has_passed(1), "a leader came in time");

    let mut world = World::new(3);
    world.cut_off = vec![1, 2, 3];
    world.read(1, 1);
    world.pass(Duration::from_secs(7));
    assert_eq!(world.barriers.get(&1), Some(&Err(Refusal::TimedOut)));
}

#[test]
fn a_lost_question_for_a_read_index_is_asked_once_more() {
    let (mut world, _, follower) = led();
    world.read_quietly(follower, vec![1]);
    world.wire.clear();
    world.pass(Duration::from_secs(1));
    assert!(world.has_passed(1));
}

#[test]
fn a_read_index_of_an_earlier_term_is_not_used() {
    let (mut world, first, _) = led();
    world.cut_off = vec![first];
    world.pass(Duration::from_secs(4));
    let second = world.leader().expect("another leader");
    world.put(second, 2, "a");
    let acknowledged = world.visible_when_answered[&2];
    let follower = 6 - first - second;

    // Only the term in the answer tells that it is an old one.
    world.read_quietly(follower, vec![3]);
    let (_, asked, question) = world.wire.pop_front().expect("a question to the leader");
    assert_eq!(asked, second);
    let answer = |term| PeerMessage {
        call: question.call,
        body: Body::Forwarded(Forwarded::ReadIndex { term, index: 1 }),
    };
    let term = world.members[&follower].published().term;
    for (from, term) in [(second, term - 1), (first, term), (second, term + 1)] {
        let message = answer(term);
        world.handle(follower, Input::Peer { from, message });
        assert_eq!(world.barriers.get(&3), None);
    }
    world.pass(Duration::from_secs(3));
    assert!(world.has_passed(3));
    assert!(world.visible_when_answered[&3] >= acknowledged);
}

#[test]
fn a_barrier_that_a_pause_interrupted_starts_again() {
    let (mut world, first, _) = led();
    world.read_quietly(first, vec![1]);
    // The letters of the barrier reach the others and their answers wait, while the leader is paused.
    let mut answers = Vec::new();
    while let Some((from, to, message)) = world.wire.pop_front() {
        if to == first {
            answers.push((from, message));
            continue;
        }
        let now = world.now;
        let member = world.members.get_mut(&to).expect("it runs");
        member.handle(now, Input::Peer { from, message });
        world.drain(to);
    }
    assert!(!answers.is_empty());
    let paused = world.members.remove(&first).expect("it runs");
    world.pass(Duration::from_secs(5));
    let second = world.leader().expect("another leader");
    world.put(second, 2, "a");
    let acknowledged = world.visible_when_answered[&2];

    world.members.insert(first, paused);
    world.cut_off = vec![first];
    for (from, message) in answers {
        world.handle(first, Input::Peer { from, message });
    }
    world.read(first, 3);
    world.pass(Duration::from_millis(500));
    assert!(!world.has_passed(1) && !world.has_passed(3));
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    for (token, answer) in &world.barriers {
        let seen = world.visible_when_answered[token];
        assert!(answer.is_err() || seen >= acknowledged);
    }
    assert!(world.has_passed(3));
}

/// The questions for confirmations on the wire: to whom, and the letter.
fn questions(world: &World) -> Vec<(u64, PeerMessage)> {
    let letters = world.wire.iter();
    let questions = letters.filter(|(_, _, message)| {
        matches!(
            message.body,
            Body::Forwarded(Forwarded::AskConfirmation { .. })
        )
    });
    questions
        .map(|(_, to, message)| (*to, message.clone()))
        .collect()
}

#[test]
fn who_has_voted_in_a_later_term_confirms_no_earlier_one() {
    let (mut world, first, follower) = led();
    world.read_quietly(first, vec![1]);
    let asked = questions(&world);
    assert_eq!(asked.len(), 2, "both others");
    world.wire.clear();
    world.cut_off = vec![first];
    world.pass(Duration::from_secs(4));
    assert!(world.leader().is_some_and(|second| second != first));
    // The letters come late, and what they bring about gets through.
    for (to, message) in asked {
        let now = world.now;
        let member = world.members.get_mut(&to).expect("it runs");
        member.handle(
            now,
            Input::Peer {
                from: first,
                message: message.clone(),
            },
        );
        while let Some(output) = member.poll_output() {
            let confirms = matches!(&output, Output::Send { message, .. }
                if matches!(message.body, Body::Forwarded(Forwarded::Confirmation { .. })));
            assert!(!confirms, "m{to} has voted since");
        }
    }
    let term = world.members[&follower].published().term;
    let ask = Body::Forwarded(Forwarded::AskConfirmation { term });
    let message = PeerMessage { call: 7, body: ask };
    let member = world.members.get_mut(&follower).expect("it runs");
    member.handle(
        world.now,
        Input::Peer {
            from: first,
            message,
        },
    );
    let answered = std::iter::from_fn(|| member.poll_output()).any(|output| {
        matches!(output, Output::Send { message, .. }
            if matches!(message.body, Body::Forwarded(Forwarded::Confirmation { .. })))
    });
    assert!(answered, "a term that lasts is confirmed");
}

#[test]
fn only_confirmations_of_its_own_round_let_a_barrier_pass() {
    let (mut world, leader, follower) = led();
    let term = world.members[&leader].published().term;
    world.read_quietly(leader, vec![1]);
    let (_, question) = questions(&world).pop().expect("the others are asked");
    world.wire.clear();
    let confirm = |world: &mut World, call, term| {
        let body = Body::Forwarded(Forwarded::Confirmation { term });
        let message = PeerMessage { call, body };
        world.handle(
            leader,
            Input::Peer {
                from: follower,
                message,
            },
        );
    };
    let number = question.call;
    for (number, term) in [
        (number - 1, term),
        (number + 1, term),
        (number, term - 1),
        (number, term + 1),
    ] {
        confirm(&mut world, number, term);
        assert!(!world.has_passed(1));
    }
    confirm(&mut world, number, term);
    assert!(world.has_passed(1), "one of two others is enough");
}

#[test]
fn a_lost_question_to_the_voters_is_asked_once_more() {
    let (mut world, leader, _) = led();
    world.read_quietly(leader, vec![1]);
    assert_eq!(questions(&world).len(), 2);
    world.wire.clear();
    world.pass(Duration::from_millis(101));
    assert!(world.has_passed(1));
}
