//! Members so far from each other that an answer takes longer than the interval of heartbeats.

use super::*;

fn far_apart(distance: Duration) -> (World, u64) {
    let mut world = World::new(0);
    world.distance = distance;
    for id in 1..=3 {
        world.start(id, 3, 0);
    }
    world.pass(Duration::from_secs(30));
    let leader = world.leader().expect("three members elect a leader");
    (world, leader)
}

#[test]
fn an_idle_leader_far_from_the_others_leads_on_and_serves() {
    for millis in [10, 49, 60, 100, 120] {
        let distance = Duration::from_millis(millis);
        let (mut world, leader) = far_apart(distance);
        let idle = world.now;
        world.pass(Duration::from_secs(30));
        for id in 1..=3 {
            assert_eq!(world.members[&id].published().leader, Some(leader));
            let doubts = world.leaders[&id].iter().filter(|it| it.0 > idle);
            assert_eq!(doubts.count(), 0, "m{id}, {millis} ms away");
        }
        world.put(leader, 1, "a");
        world.pass(2 * distance + Duration::from_millis(1));
        assert!(matches!(world.answers.get(&1), Some(Ok(_))));
        world.pass(Duration::from_secs(30));
        world.handle(leader, Input::Barrier { tokens: vec![2] });
        world.pass(2 * distance + Duration::from_millis(1));
        assert_eq!(world.barriers.get(&2), Some(&Ok(())), "{millis} ms away");
    }
}

#[test]
fn a_leader_sends_heartbeats_at_their_interval() {
    let (mut world, leader) = far_apart(Duration::from_millis(1));
    let before = world.appends;
    world.pass(Duration::from_secs(10));
    assert_eq!(world.leader(), Some(leader));
    let heartbeats = world.appends - before;
    // To each of two others, every hundred milliseconds.
    assert!((198..=202).contains(&heartbeats), "{heartbeats}");
}

#[test]
fn a_leader_of_nobody_sends_none() {
    let mut world = World::new(1);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.leader(), Some(1));
    assert_eq!(world.appends, 0);
}
