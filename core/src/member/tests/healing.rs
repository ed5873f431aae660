//! How soon replication goes on once a way between two members is open again.

use super::*;

/// The longest time from the end of a cut to everybody having everything.
const HEALED_WITHIN: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Nothing goes either way between the follower and anybody.
    Whole,
    /// The follower hears nobody, so that it comes to ask for votes.
    Deaf,
    /// Nobody hears the follower.
    Mute,
    /// Only the leader and the follower do not hear each other.
    FromLeader,
}

impl World {
    fn cut(&mut self, cut: Cut, leader: u64, follower: u64) {
        let others = (1..=3).filter(|id| *id != follower);
        match cut {
            Cut::Whole => self.cut_off = vec![follower],
            Cut::Deaf => self.cut_ways = others.map(|id| (id, follower)).collect(),
            Cut::Mute => self.cut_ways = others.map(|id| (follower, id)).collect(),
            Cut::FromLeader => self.cut_ways = vec![(leader, follower), (follower, leader)],
        }
    }
}

/// One cut of a follower while clients write; how long it takes until that follower has everything again.
fn heal(cut: Cut, millis: u64, seed: u64) -> Duration {
    let mut world = World::new(0);
    for id in 1..=3 {
        let seed = seed * 10 + id;
        world.start_with(Settings {
            seed,
            ..settings(id, 3, 0)
        });
    }
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    world.cut(cut, leader, follower);
    for token in 0..20 {
        world.put(leader, token, "k");
        world.pass(Duration::from_millis(millis / 20));
    }
    world.cut_off.clear();
    world.cut_ways.clear();
    let healed = world.now;
    while world.members.values().any(|member| {
        let published = member.published();
        published.view.revision() < 21 || published.leader.is_none()
    }) {
        assert!(world.now < healed + Duration::from_secs(20), "never");
        world.pass(Duration::from_millis(10));
    }
    world.now - healed
}

fn heals_soon(cut: Cut, lengths: &[u64]) {
    for millis in lengths {
        for seed in 1..=5 {
            let took = heal(cut, *millis, seed);
            assert!(
                took <= HEALED_WITHIN,
                "{cut:?}, {millis} ms, seed {seed}: {took:?}"
            );
        }
    }
}

/// Short ones, and long ones that drive pauses to their longest.
const LENGTHS: [u64; 5] = [200, 900, 1_500, 5_000, 31_000];

#[test]
fn a_follower_that_was_cut_off_goes_on_at_once() {
    heals_soon(Cut::Whole, &LENGTHS);
}

#[test]
fn a_follower_that_heard_nobody_goes_on_at_once() {
    heals_soon(Cut::Deaf, &LENGTHS);
}

#[test]
fn a_follower_that_nobody_heard_goes_on_at_once() {
    heals_soon(Cut::Mute, &LENGTHS);
}

#[test]
fn a_follower_that_only_its_leader_lost_goes_on_at_once() {
    heals_soon(Cut::FromLeader, &LENGTHS);
}
