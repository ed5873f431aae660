//! Checkpoints of whole members: those they take and those that come as snapshots.

use super::*;

impl World {
    fn with_checkpoints(entries: u64) -> Self {
        let mut world = World::new(0);
        for id in 1..=3 {
            let settings = Settings {
                checkpoint_entries: Some(entries),
                ..settings(id, 3, 0)
            };
            let member = Member::new(settings, Recovered::default(), world.now);
            world.members.insert(id, member.expect("no checkpoint"));
        }
        world.pass(Duration::from_secs(5));
        world
    }

    fn confirm_checkpoint(&mut self, id: u64, index: u64) {
        let result = Ok(1);
        self.handle(id, Input::Checkpointed { index, result });
        self.pass(Duration::from_millis(500));
    }
}

#[test]
fn an_older_checkpoint_does_not_pass_for_the_snapshot_that_is_being_installed() {
    let mut world = World::with_checkpoints(20);
    let leader = world.leader().expect("a leader");
    let behind = (1..=3).find(|id| *id != leader).expect("a follower");
    world.slow_checkpoints = Some(behind);
    (0..30).for_each(|token| world.put(leader, token, "k"));
    world.pass(Duration::from_millis(500));
    let own = world.unconfirmed.clone();
    assert_eq!(own.len(), 1, "one under way");

    world.cut_off = vec![behind];
    world.pass(Duration::from_secs(3));
    (30..1000).for_each(|token| world.put(leader, token, "k"));
    world.pass(Duration::from_secs(1));
    world.cut_off.clear();
    world.pass(Duration::from_secs(2));
    let &[_, installed] = world.unconfirmed.as_slice() else {
        panic!("its own and the snapshot: {:?}", world.unconfirmed);
    };
    assert!(installed > own[0]);
    world.confirm_checkpoint(behind, own[0]);
    assert_eq!(world.members[&behind].published().view.revision(), 31);
    world.confirm_checkpoint(behind, installed);
    assert_eq!(world.members[&behind].published().view.revision(), 1001);
}

/// A leader, and a follower that needs a snapshot, whose disk confirms checkpoints by hand.
fn with_one_behind() -> (World, u64, u64) {
    let mut world = World::with_checkpoints(10_000);
    let leader = world.leader().expect("a leader");
    let behind = (1..=3).find(|id| *id != leader).expect("a follower");
    world.slow_checkpoints = Some(behind);
    world.cut_off = vec![behind];
    // Long enough to be out of touch: its entries are not kept for it.
    world.pass(Duration::from_secs(3));
    (0..1000).for_each(|token| world.put(leader, token, "k"));
    world.pass(Duration::from_secs(1));
    world.cut_off.clear();
    (world, leader, behind)
}

#[test]
fn a_snapshot_is_installed_as_soon_as_the_disk_takes_its_checkpoint() {
    let (mut world, _, behind) = with_one_behind();
    world.pass(Duration::from_secs(2));
    let &[index] = world.unconfirmed.as_slice() else {
        panic!("the snapshot alone: {:?}", world.unconfirmed);
    };
    let result = Err("no space left on device".into());
    world.handle(behind, Input::Checkpointed { index, result });
    world.pass(Duration::from_secs(2));
    assert_eq!(world.members[&behind].published().view.revision(), 1);
    let again = *world.unconfirmed.last().expect("it is tried again");
    assert!(world.unconfirmed.len() > 1, "{:?}", world.unconfirmed);
    world.confirm_checkpoint(behind, again);
    assert_eq!(world.members[&behind].published().view.revision(), 1001);
}

#[test]
fn a_snapshot_that_takes_minutes_to_write_is_sent_once_while_clients_write() {
    let (mut world, leader, behind) = with_one_behind();
    for token in 1000..1300 {
        world.put(leader, token, "k");
        world.pass(Duration::from_secs(1));
    }
    let &[index] = world.unconfirmed.as_slice() else {
        panic!("one snapshot: {:?}", world.unconfirmed);
    };
    world.confirm_checkpoint(behind, index);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.members[&behind].published().view.revision(), 1301);
    assert_eq!(world.leader(), Some(leader));
}

#[test]
fn a_checkpoint_says_whether_consensus_waits_for_it() {
    let mut world = World::with_checkpoints(20);
    let leader = world.leader().expect("a leader");
    let behind = (1..=3).find(|id| *id != leader).expect("a follower");
    world.cut_off = vec![behind];
    world.pass(Duration::from_secs(3));
    (0..1000).for_each(|token| world.put(leader, token, "k"));
    world.pass(Duration::from_secs(1));
    assert!(!world.awaited.is_empty() && world.awaited.iter().all(|awaited| !awaited));
    world.awaited.clear();
    world.cut_off.clear();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.awaited, [true], "of the snapshot alone");
}

#[test]
fn a_member_that_is_dropped_leaves_nothing_behind() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(3));
    let member = world.members.remove(&1).expect("it runs");
    let replica = Rc::downgrade(&member.replica);
    let outbox = Rc::downgrade(&member.outbox);
    drop(member);
    assert!(replica.upgrade().is_none(), "its state");
    assert!(outbox.upgrade().is_none(), "its letters");
}
