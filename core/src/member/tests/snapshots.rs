//! Members that lag far behind are sent the state, in chunks.

use super::*;
use crate::raft::sending::CHUNKS_MAX;

impl World {
    /// Many writes at once, with values of two hundred bytes.
    fn write_many(&mut self, at: u64, tokens: std::ops::Range<u64>) {
        let tokens: Vec<u64> = tokens.collect();
        for tokens in tokens.chunks(200) {
            let proposals = tokens.iter().map(|token| Proposal {
                token: *token,
                command: put_of(*token),
            });
            self.handle(at, Input::Propose(proposals.collect()));
        }
    }

    /// Many writes while a member is cut off, until the others keep no log for it.
    fn leave_behind(&mut self, at: u64, tokens: std::ops::Range<u64>) {
        self.write_many(at, tokens);
        self.pass(Duration::from_secs(1));
        self.write_many(
            at,
            2_000_000 + self.answers.len() as u64..2_000_001 + self.answers.len() as u64,
        );
        self.pass(Duration::from_secs(1));
    }

    fn deliver_chunk(&mut self) {
        if let Some(letter) = self.waiting_chunks.pop_front() {
            self.wire.push_back(letter);
            self.settle();
        }
    }

    fn assert_equal(&self, a: u64, b: u64) {
        assert_eq!(
            self.members[&a].published().view.revision(),
            self.members[&b].published().view.revision()
        );
        assert_eq!(self.members[&a].state_hash(), self.members[&b].state_hash());
        self.members[&a].validate();
        assert!(self.corrupt.is_empty());
    }
}

fn put_of(token: u64) -> Command {
    Request::Put(PutRequest {
        key: (token % 20_000).to_be_bytes().to_vec(),
        value: vec![7; 200],
        ..PutRequest::default()
    })
    .into()
}

/// A leader, and a follower that has been out of touch for so long that nobody keeps the log for it.
fn one_behind() -> (World, u64, u64) {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let behind = (1..=3).find(|id| *id != leader).expect("a follower");
    world.cut_off = vec![behind];
    world.pass(Duration::from_secs(3));
    (world, leader, behind)
}

#[test]
fn a_member_far_behind_catches_up_by_chunks_while_clients_write() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..100_000);
    world.slow = true;
    world.cut_off.clear();
    let mut token = 1_000_000;
    for _ in 0..3_000 {
        world.pass(Duration::from_millis(5));
        assert!(world.waiting_chunks.len() <= CHUNKS_MAX);
        world.deliver_chunk();
        world.write_many(leader, token..token + 20);
        token += 20;
        if world.members[&behind].published().applied > 100_000 {
            break;
        }
    }
    world.deliver_chunk();
    world.pass(Duration::from_secs(1));
    assert_eq!(world.leader(), Some(leader), "heartbeats went on");
    assert_eq!(
        world.snapshots.len(),
        1,
        "the log after it was kept meanwhile"
    );
    world.assert_equal(behind, leader);
    let mut chunks = world.snapshots.into_values().next().expect("one transfer");
    assert!(chunks.len() > 20, "{} chunks", chunks.len());
    chunks.sort();
    let last = chunks.len() as u64 - 2;
    assert!(
        chunks.iter().copied().eq((0..=last).chain([last])),
        "each once, and the last to ask for the end: {chunks:?}"
    );
    for token in (0..100_000).chain(1_000_000..token) {
        assert!(matches!(world.answers.get(&token), Some(Ok(_))), "{token}");
    }
}

#[test]
fn an_interrupted_transfer_leaves_nothing_behind_and_the_next_one_succeeds() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..20_000);
    world.slow = true;
    world.cut_off.clear();
    world.pass(Duration::from_secs(1));
    world.deliver_chunk();
    world.deliver_chunk();
    assert!(world.members[&behind].assembly.is_busy());
    let before = world.members[&behind].state_hash();
    world.cut_off = vec![behind];
    world.waiting_chunks.clear();
    world.pass(Duration::from_secs(40));
    assert!(!world.members[&behind].assembly.is_busy());
    assert_eq!(world.members[&behind].state_hash(), before);
    world.slow = false;
    world.waiting_chunks.clear();
    world.cut_off.clear();
    world.pass(Duration::from_secs(15));
    let leader = world.leader().expect("a leader");
    world.assert_equal(behind, leader);
}

#[test]
fn snapshots_follow_one_another() {
    let (mut world, leader, behind) = one_behind();
    for round in 0..4 {
        world.cut_off = vec![behind];
        world.pass(Duration::from_secs(3));
        world.leave_behind(leader, round * 10_000..round * 10_000 + 2_000);
        world.cut_off.clear();
        world.pass(Duration::from_secs(4));
        world.assert_equal(behind, leader);
    }
    assert_eq!(world.snapshots.len(), 4);
}

#[test]
fn a_restart_after_an_installed_snapshot_has_it() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..2_000);
    world.cut_off.clear();
    world.pass(Duration::from_secs(4));
    let hash = world.members[&behind].state_hash();
    world.members.remove(&behind);
    world.start(behind, 3, 1);
    world.pass(Duration::from_secs(4));
    assert_eq!(world.members[&behind].state_hash(), hash);
    world.assert_equal(behind, leader);
}

#[test]
fn a_lost_chunk_is_sent_again() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..20_000);
    world.slow = true;
    world.cut_off.clear();
    world.pass(Duration::from_secs(1));
    world.deliver_chunk();
    assert!(world.waiting_chunks.pop_front().is_some(), "one gets lost");
    world.slow = false;
    while !world.waiting_chunks.is_empty() {
        world.deliver_chunk();
    }
    world.pass(Duration::from_secs(6));
    assert_eq!(world.snapshots.len(), 1);
    world.assert_equal(behind, leader);
}

#[test]
fn a_lost_last_chunk_is_sent_again() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..20_000);
    world.slow = true;
    world.cut_off.clear();
    world.pass(Duration::from_secs(1));
    let last = |(_, _, message): &(u64, u64, PeerMessage)| match &message.body {
        Body::Request(PeerRequest::Chunk(chunk)) => chunk.is_last(),
        _ => false,
    };
    while let Some(letter) = world.waiting_chunks.pop_front() {
        if last(&letter) {
            break;
        }
        world.wire.push_back(letter);
        world.settle();
    }
    assert!(world.waiting_chunks.is_empty(), "all others have arrived");
    world.slow = false;
    world.pass(Duration::from_secs(6));
    assert_eq!(world.snapshots.len(), 1);
    world.assert_equal(behind, leader);
}

#[test]
fn a_leader_asks_for_the_end_of_a_slow_installation_until_there_is_one() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..2_000);
    world.slow_checkpoints = Some(behind);
    world.cut_off.clear();
    world.pass(Duration::from_secs(20));
    let installed = world.unconfirmed.pop().expect("it installs a snapshot");
    let before = world.members[&behind].published().applied;
    assert!(before < installed);
    world.slow_checkpoints = None;
    // The first answers are lost without a word.
    world.lost_ends = 2;
    let (index, result) = (installed, Ok(1));
    world.handle(behind, Input::Checkpointed { index, result });
    assert!(world.members[&behind].published().applied >= installed);
    world.put(leader, 3_000_000, "after");
    world.pass(Duration::from_secs(4));
    assert_eq!(world.lost_ends, 0);
    assert_eq!(world.snapshots.len(), 1);
    world.assert_equal(behind, leader);
}

#[test]
fn a_peer_that_restarts_while_it_installs_is_sent_the_state_anew() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..2_000);
    world.slow_checkpoints = Some(behind);
    let disk = world.disks[&behind].clone();
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    assert!(world.unconfirmed.pop().is_some(), "it installs a snapshot");
    world.slow_checkpoints = None;
    world.members.remove(&behind);
    world.disks.insert(behind, disk);
    world.start(behind, 3, 1);
    world.pass(Duration::from_secs(5));
    assert_eq!(world.snapshots.len(), 2);
    world.assert_equal(behind, leader);
}

#[test]
fn a_member_that_writes_a_snapshot_to_its_disk_goes_on_voting() {
    let (mut world, leader, behind) = one_behind();
    world.leave_behind(leader, 0..2_000);
    world.slow_checkpoints = Some(behind);
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.unconfirmed.len(), 1, "it writes a snapshot");
    world.cut_off = vec![leader];
    world.pass(Duration::from_secs(5));
    let next = world.leader().expect("the third is elected with its vote");
    assert!(next != leader && next != behind);
    world.slow_checkpoints = None;
    // That of the leader before, and that of the new one.
    for index in std::mem::take(&mut world.unconfirmed) {
        let result = Ok(1);
        world.handle(behind, Input::Checkpointed { index, result });
    }
    world.put(next, 3_000_000, "after");
    world.pass(Duration::from_secs(10));
    assert!(world.answers[&3_000_000].is_ok());
    world.assert_equal(behind, next);
    world.members.remove(&behind);
    world.start(behind, 3, 1);
    world.pass(Duration::from_secs(4));
    world.assert_equal(behind, next);
}
