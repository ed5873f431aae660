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

#[test]
fn a_member_whose_history_differs_says_so_and_takes_no_more_requests() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    world.write_in_batches(leader, 0..600);
    world.pass(Duration::from_secs(12));
    assert_eq!(world.corrupt, [], "equal histories compare as equal");

    let wrong = (1..=3).find(|id| *id != leader).expect("a follower");
    {
        let mut replica = world.members[&wrong].replica.borrow_mut();
        let applied = replica.state.applied().expect("something was applied");
        let mut state = State::from_view(&replica.state.view(), applied - 1);
        state.apply(applied, &put_of(7)).expect("a put too many");
        replica.state = state;
    }
    world.write_in_batches(leader, 1_000..1_600);
    world.pass(Duration::from_secs(12));
    assert_eq!(world.corrupt, [wrong]);
    world.put(wrong, 2_000, "k");
    assert_eq!(world.answers.get(&2_000), Some(&Err(Refusal::Corrupt)));
    world.handle(wrong, Input::Barrier { tokens: vec![1] });
    assert_eq!(world.barriers.get(&1), Some(&Err(Refusal::Corrupt)));
    world.put(leader, 2_001, "k");
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
