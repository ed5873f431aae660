//! Members compare histories, and letters may overtake one another.

use super::*;
use crate::state::State;

impl World {
    fn write_in_batches(&mut self, at: u64, tokens: std::ops::Range<u64>) {
        let tokens: Vec<u64> = tokens.collect();
        for tokens in tokens.chunks(7) {
            let proposal = |token: &u64| Proposal {
                token: *token,
                command: put_of(*token),
            };
            let proposals = tokens.iter().map(proposal).collect();
            self.handle(at, Input::Propose(proposals));
            self.pass(Duration::from_millis(1));
        }
    }
}

fn put_of(token: u64) -> Command {
    Request::Put(PutRequest {
        key: (token % 50).to_be_bytes().to_vec(),
        value: token.to_be_bytes().to_vec(),
        ..PutRequest::default()
    })
    .into()
}

impl World {
    /// Three members that have compared equal histories; then one of them is given another state.
    fn with_one_that_differs(pick: impl Fn(&World, u64) -> u64) -> (Self, u64, u64) {
        let mut world = World::new(3);
        world.pass(Duration::from_secs(5));
        let leader = world.leader().expect("a leader");
        world.write_in_batches(leader, 0..600);
        world.pass(Duration::from_secs(12));
        assert_eq!(world.corrupt, [], "equal histories compare as equal");
        let wrong = pick(&world, leader);
        {
            let mut replica = world.members[&wrong].replica.borrow_mut();
            let applied = replica.state.applied().expect("something was applied");
            let mut state = State::from_view(&replica.state.view(), applied - 1);
            state.apply(applied, &put_of(7)).expect("a put too many");
            replica.state = state;
        }
        (world, leader, wrong)
    }

    fn assert_refused(&mut self, at: u64) {
        self.put(at, 2_000, "k");
        assert_eq!(self.answers.get(&2_000), Some(&Err(Refusal::Corrupt)));
        self.handle(at, Input::Barrier { tokens: vec![1] });
        assert_eq!(self.barriers.get(&1), Some(&Err(Refusal::Corrupt)));
    }
}

fn a_follower(_: &World, leader: u64) -> u64 {
    (1..=3).find(|id| *id != leader).expect("a follower")
}

#[test]
fn a_member_whose_history_differs_says_so_and_takes_no_more_requests() {
    let (mut world, leader, wrong) = World::with_one_that_differs(a_follower);
    world.write_in_batches(leader, 1_000..1_600);
    world.pass(Duration::from_secs(12));
    assert_eq!(world.corrupt, [wrong]);
    world.assert_refused(wrong);
    world.put(leader, 2_001, "k");
    assert!(matches!(world.answers.get(&2_001), Some(Ok(_))));
}

#[test]
fn a_leader_whose_history_differs_says_so_and_lets_another_lead() {
    let (mut world, leader, wrong) = World::with_one_that_differs(|_, leader| leader);
    // So much that nobody remembers what was told a while ago.
    for round in 0..12 {
        let at = world.leader().unwrap_or(leader);
        world.write_in_batches(at, 10_000 + 2_000 * round..12_000 + 2_000 * round);
        world.pass(Duration::from_secs(1));
    }
    assert_eq!(world.corrupt, [wrong], "a majority knows better");
    let next = world.leader().expect("a leader");
    assert_ne!(next, wrong);
    world.assert_refused(wrong);
    world.put(next, 2_001, "k");
    assert!(matches!(world.answers.get(&2_001), Some(Ok(_))));
}

#[test]
fn a_member_whose_history_differs_is_not_elected() {
    let (mut world, leader, wrong) = World::with_one_that_differs(a_follower);
    world.write_in_batches(leader, 1_000..1_600);
    world.pass(Duration::from_secs(12));
    assert_eq!(world.corrupt, [wrong]);
    let since = world.now;
    world.cut_off = vec![leader];
    world.pass(Duration::from_secs(20));
    let next = world.leader().expect("the other one is elected");
    assert!(next != wrong && next != leader);
    let mut named = world.leaders.values().flatten();
    assert!(!named.any(|(at, _, whom)| *at > since && *whom == Some(wrong)));
    world.write_in_batches(next, 3_000..3_600);
    world.cut_off.clear();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.corrupt, [wrong], "nobody is told otherwise by it");
}

#[test]
fn where_no_majority_speaks_a_follower_gives_way_to_the_leader_after_a_while() {
    let (mut world, leader, wrong) = World::with_one_that_differs(a_follower);
    let third = (1..=3).find(|id| *id != leader && *id != wrong);
    world.cut_off = third.into_iter().collect();
    world.write_in_batches(leader, 1_000..1_600);
    let interval = world.members[&wrong].settings.comparison_interval;
    let interval = interval.expect("states are compared");
    world.pass(interval * 2);
    assert_eq!(world.corrupt, [], "the third may tell who is right");
    world.pass(interval * 2);
    assert_eq!(world.corrupt, [wrong]);
    assert_eq!(world.leader(), Some(leader));
}

#[test]
fn who_gave_way_serves_again_when_a_majority_has_the_same_and_the_leader_goes() {
    let (mut world, leader, wrong) = World::with_one_that_differs(|_, leader| leader);
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    let (second, third) = (others[0], others[1]);
    world.mute = Some(third);
    world.write_in_batches(leader, 1_000..1_600);
    world.pass(Duration::from_secs(30));
    assert_eq!(
        world.corrupt,
        [second],
        "it is the leader's word against its own"
    );
    world.mute = None;
    world.pass(Duration::from_secs(30));
    assert_eq!(world.corrupt, [second, wrong]);
    assert_eq!(world.acquitted, [second]);
    let next = world.leader().expect("a leader");
    assert_ne!(next, wrong);
    for (token, at) in [(2_001, second), (2_002, third)] {
        world.put(at, token, "k");
        world.pass(Duration::from_secs(1));
        assert!(matches!(world.answers.get(&token), Some(Ok(_))));
    }
}

#[test]
fn a_member_whose_history_differs_stands_where_nobody_else_can_be_elected_and_hands_over() {
    let (mut world, leader, wrong) = World::with_one_that_differs(a_follower);
    let third = (1..=3).find(|id| *id != leader && *id != wrong);
    let third = third.expect("another follower");
    world.write_in_batches(leader, 1_000..1_600);
    world.pass(Duration::from_secs(12));
    assert_eq!(world.corrupt, [wrong]);
    // It alone has the last entries of a leader that is gone.
    world.cut_off = vec![third];
    world.put(leader, 2_000, "last");
    world.cut_off = vec![leader];
    world.pass(Duration::from_secs(15));
    assert_eq!(world.leader(), Some(third));
    world.put(third, 2_001, "next");
    world.pass(Duration::from_secs(1));
    assert!(matches!(world.answers.get(&2_001), Some(Ok(_))));
}

#[test]
fn letters_that_overtake_one_another_do_no_harm() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    for round in 0..10 {
        world.shuffled = true;
        world.dice = round + 1;
        let leader = world.leader().expect("a leader");
        world.write_in_batches(leader, round * 1_000..round * 1_000 + 500);
        world.pass(Duration::from_secs(2));
        world.shuffled = false;
        world.pass(Duration::from_secs(2));
    }
    let acknowledged = world.answers.values().filter(|a| a.is_ok()).count();
    assert!(acknowledged > 4_900, "{acknowledged} of 5000");
    let hashes: Vec<u64> = world.members.values().map(Member::state_hash).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:x?}");
    assert!(world.corrupt.is_empty());
}
