//! The others are lost for good: one member goes on with its data.

use super::*;
use crate::codec;
use crate::raft::end_alone;
use crate::raft::types::Vote;
use crate::wal::Record;

/// Starts member 1 from what its disk holds, with a log that ends in a membership of its own.
fn go_on_alone(world: &mut World) {
    let mut recovered = world.disks[&1].recovered();
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let records = end_alone(&mut recovered.log, 1, urls);
    world.disks.get_mut(&1).expect("a disk").write(records);
    world.members.clear();
    let mut alone = settings(1, 3, 9);
    alone.initial_members.clear();
    world.start_with(alone);
    world.pass(Duration::from_secs(1));
}

fn check_alone(world: &mut World, token: u64) {
    assert_eq!(world.leader(), Some(1));
    let published = world.members[&1].published();
    let ids: Vec<u64> = published
        .agreed_members
        .iter()
        .map(|member| member.id)
        .collect();
    assert_eq!(ids, [1]);
    world.put(1, token, "new");
    assert!(matches!(world.answers.get(&token), Some(Ok(_))));
}

#[test]
fn a_member_goes_on_alone_with_everything_it_has_also_after_another_start() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    for token in 0..20 {
        world.put(leader, token, &format!("k{token}"));
    }
    world.pass(Duration::from_secs(1));
    go_on_alone(&mut world);
    check_alone(&mut world, 100);
    assert_eq!(world.members[&1].published().view.revision(), 22);
    world.members.clear();
    let mut again = settings(1, 3, 10);
    again.initial_members.clear();
    world.start_with(again);
    world.pass(Duration::from_secs(1));
    check_alone(&mut world, 101);
    assert_eq!(world.members[&1].published().view.revision(), 23);
}

#[test]
fn a_member_that_never_took_part_or_only_voted_begins_alone() {
    let vote = Record::Vote(codec::encode(&Vote::new(3, 2)));
    for records in [vec![], vec![vote]] {
        let mut world = World::new(0);
        world.disks.entry(1).or_default().write(records);
        go_on_alone(&mut world);
        check_alone(&mut world, 100);
    }
}

#[test]
fn those_left_behind_are_told_that_they_were_removed() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let others = [2, 3].map(|id| world.members.remove(&id).expect("a member"));
    go_on_alone(&mut world);
    check_alone(&mut world, 100);
    for (id, member) in [2, 3].into_iter().zip(others) {
        world.members.insert(id, member);
    }
    world.pass(Duration::from_secs(10));
    assert_eq!(world.leader(), Some(1));
    world.removed.sort_unstable();
    assert_eq!(world.removed, [2, 3]);
}
