//! Compactions: when they are answered, and when what they gave up is gone.

use super::*;

impl World {
    fn compact(&mut self, at: u64, token: u64, request: CompactionRequest) {
        let command = Request::Compact(request).into();
        self.handle(at, Input::Propose(vec![Proposal { token, command }]));
    }

    /// Whether a member has nothing left of what compactions gave up.
    fn is_swept(&self, at: u64) -> bool {
        self.members[&at].replica.borrow().state.kv().is_swept()
    }
}

#[test]
fn a_physical_compaction_is_answered_when_the_old_records_are_gone() {
    let mut world = World::new(1);
    for token in 0..500 {
        world.put(1, token, &format!("k{}", token % 100));
    }
    let compact = CompactionRequest {
        revision: 400,
        physical: true,
    };
    world.compact(1, 900, compact);
    assert_eq!(
        world.answers.get(&900),
        None,
        "a hundred keys take several slices"
    );
    world.pass(Duration::from_millis(10));
    assert!(matches!(
        world.answers.get(&900),
        Some(Ok(Outcome::Compact { .. }))
    ));
    world.members[&1].validate();
}

#[test]
fn what_a_compaction_gave_up_is_gone_after_a_restart_that_replays_it() {
    let mut world = World::new(1);
    world.pass(Duration::from_secs(1));
    (0..50).for_each(|token| world.put(1, token, "k"));
    let compact = CompactionRequest {
        revision: 51,
        physical: true,
    };
    world.compact(1, 100, compact);
    world.pass(Duration::from_secs(1));
    assert!(matches!(world.answers.get(&100), Some(Ok(_))));
    // So that the log says that the compaction is committed.
    world.put(1, 101, "k");
    world.pass(Duration::from_secs(1));
    let before = world.members[&1].published().bytes_in_use;
    let mut recovered = world.disks[&1].recovered();
    recovered.log.committed = world.disks[&1].committed;
    let member = Member::new(settings(1, 1, 1), recovered, world.now);
    let member = member.expect("no checkpoint");
    assert_eq!(member.published().view.compact_revision(), 51, "replayed");
    world.members.insert(1, member);
    world.pass(Duration::from_secs(1));
    let after = world.members[&1].published();
    assert_eq!(after.bytes_in_use, before);
}

#[test]
fn a_leader_compacts_by_itself_and_what_it_compacts_goes_on_every_member() {
    let mut world = World::new(0);
    for id in 1..=3 {
        let settings = Settings {
            auto_compaction: AutoCompaction::Periodic(Duration::from_secs(100)),
            ..settings(id, 3, 0)
        };
        let member = Member::new(settings, Recovered::default(), world.now);
        world.members.insert(id, member.expect("no checkpoint"));
    }
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    for token in 0..100 {
        world.put(leader, token, "k");
    }
    let grown = world.members[&leader].published().bytes_in_use;
    world.pass(Duration::from_secs(220));
    for member in world.members.values() {
        let published = member.published();
        assert_eq!(published.view.compact_revision(), 101);
        member.validate();
    }
    world.put(leader, 200, "k");
    world.pass(Duration::from_secs(1));
    for member in world.members.values() {
        assert!(
            member.published().bytes_in_use < grown / 10,
            "swept everywhere"
        );
    }
}

#[test]
fn a_physical_compaction_waits_for_the_sweep_of_the_one_before() {
    let mut world = World::new(1);
    for token in 0..1000 {
        world.put(1, token, &format!("k{}", token % 100));
    }
    world.put(1, 1000, "fresh");
    let compact = |revision, physical| CompactionRequest { revision, physical };
    world.compact(1, 2000, compact(1001, false));
    assert!(matches!(world.answers.get(&2000), Some(Ok(_))));
    assert!(!world.is_swept(1), "a thousand changes take several slices");
    // Its one change is the first of its key: of the second compaction itself there is nothing to remove.
    world.compact(1, 2001, compact(1002, true));
    let limit = world.now + Duration::from_secs(1);
    while !world.is_swept(1) {
        assert_eq!(world.answers.get(&2001), None, "at {:?}", world.now);
        assert!(world.now < limit, "the sweep comes to its end");
        world.pass(Duration::from_micros(100));
    }
    assert!(matches!(
        world.answers.get(&2001),
        Some(Ok(Outcome::Compact { .. }))
    ));
    world.members[&1].validate();
}
