//! Proposals through members that do not lead.

use metastore_proto::etcdserverpb::request_op::Request as Op;
use metastore_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};

use super::*;
use crate::kv_error::KvError;
use crate::raft::message::ForwardedEnd;

impl World {
    /// A cluster of three that has a leader, and a follower of it.
    fn led() -> (Self, u64, u64) {
        let mut world = World::new(3);
        world.pass(Duration::from_secs(5));
        let leader = world.leader().expect("a leader");
        let follower = (1..=3).find(|id| *id != leader).expect("a follower");
        (world, leader, follower)
    }

    fn revision(&self, id: u64) -> i64 {
        self.members[&id].published().view.revision()
    }

    /// Hands a proposal to a member without delivering any letter.
    fn put_quietly(&mut self, at: u64, token: u64, key: &str) {
        let put = PutRequest {
            key: key.into(),
            ..PutRequest::default()
        };
        let proposal = Proposal {
            token,
            command: Request::Put(put).into(),
        };
        let now = self.now;
        let member = self.members.get_mut(&at).expect("it runs");
        member.handle(now, Input::Propose(vec![proposal]));
        self.drain(at);
    }

    /// Lets one letter arrive, or two of it, and performs what comes of it.
    fn deliver(&mut self, to: u64, copies: usize) {
        let at = self
            .wire
            .iter()
            .position(|(_, addressee, _)| *addressee == to);
        let (from, _, message) = self
            .wire
            .remove(at.expect("a letter is under way"))
            .expect("it is there");
        let now = self.now;
        for _ in 0..copies {
            let message = message.clone();
            let member = self.members.get_mut(&to).expect("it runs");
            member.handle(now, Input::Peer { from, message });
        }
        self.drain(to);
    }

    fn is_answered(&self, token: u64) -> bool {
        matches!(self.answers.get(&token), Some(Ok(_)))
    }
}

#[test]
fn a_write_through_a_follower_happens_once_and_is_visible_there_when_it_is_answered() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    assert_eq!(world.wire.len(), 1, "one letter to the leader");
    assert_eq!(world.visible_when_answered.get(&1), None);
    world.pass(Duration::from_secs(1));
    assert!(world.is_answered(1));
    assert_eq!(world.visible_when_answered.get(&1), Some(&2));
    assert_eq!((world.revision(leader), world.revision(follower)), (2, 2));
}

#[test]
fn an_answer_waits_for_the_state_of_the_member_that_was_asked() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    world.deliver(leader, 1);
    // The third member is the quorum with the leader; what the leader tells the follower of it stays on the way.
    let third = 6 - leader - follower;
    let mut held = Vec::new();
    for _ in 0..20 {
        let (theirs, others) = world.wire.drain(..).partition(|it| it.1 == follower);
        held.extend::<VecDeque<_>>(theirs);
        world.wire = others;
        match world.wire.front().map(|(_, to, _)| *to) {
            Some(to) => world.deliver(to, 1),
            None if world.blink() => {
                for id in 1..=3 {
                    world.drain(id);
                }
            }
            None => break,
        }
    }
    assert_eq!((world.revision(leader), world.revision(follower)), (2, 1));
    let now = world.now;
    let mut ends = Vec::new();
    for (from, to, message) in held {
        match message.body {
            Body::Forwarded(_) => ends.push((from, to, message)),
            _ => world.wire.push_back((from, to, message)),
        }
    }
    assert_eq!(ends.len(), 1, "the leader says what came of it");
    for (from, to, message) in ends {
        let member = world.members.get_mut(&to).expect("it runs");
        member.handle(now, Input::Peer { from, message });
        world.drain(to);
    }
    assert!(!world.is_answered(1), "its own state is not there yet");
    world.pass(Duration::from_secs(1));
    assert!(world.is_answered(1));
    assert_eq!(world.revision(follower), 2);
    assert_eq!(world.revision(third), 2);
}

#[test]
fn a_letter_that_arrives_twice_is_taken_once() {
    let (mut world, leader, follower) = World::led();
    for token in 0..10 {
        world.put_quietly(follower, token, &format!("k{token}"));
    }
    for _ in 0..10 {
        world.deliver(leader, 2);
    }
    world.pass(Duration::from_secs(1));
    assert!((0..10).all(|token| world.is_answered(token)));
    assert_eq!(world.revision(leader), 11);
}

#[test]
fn a_member_that_starts_again_is_heard_whatever_its_lives_are_called() {
    let (mut world, leader, follower) = World::led();
    let mut token = 0;
    for life in [900, 7, 4_000_000_000, 8] {
        world.members.remove(&follower);
        world.start(follower, 3, life);
        world.pass(Duration::from_millis(500));
        assert_eq!(world.leader(), Some(leader));
        // More letters than are remembered one by one.
        for _ in 0..1_100 {
            token += 1;
            world.put(follower, token, "k");
            assert!(world.is_answered(token), "letter {token}, life {life}");
        }
    }
}

#[test]
fn a_letter_of_an_earlier_life_that_comes_late_again_is_not_taken_twice() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    let copy = world.wire.front().cloned().expect("a letter to the leader");
    world.settle();
    assert!(world.is_answered(1));
    world.members.remove(&follower);
    world.start(follower, 3, 5);
    world.pass(Duration::from_millis(500));
    world.put(follower, 2, "b");
    assert!(world.is_answered(2));
    world.wire.push_back(copy);
    world.settle();
    assert_eq!(world.revision(leader), 3);
}

#[test]
fn many_proposals_of_one_step_go_in_one_letter() {
    let (mut world, leader, follower) = World::led();
    let proposals = (0..500).map(|token| Proposal {
        token,
        command: Request::Put(PutRequest {
            key: format!("k{token}").into(),
            ..PutRequest::default()
        })
        .into(),
    });
    let now = world.now;
    let member = world.members.get_mut(&follower).expect("it runs");
    member.handle(now, Input::Propose(proposals.collect()));
    world.drain(follower);
    assert_eq!(world.wire.len(), 1);
    world.pass(Duration::from_secs(1));
    assert!((0..500).all(|token| world.is_answered(token)));
    assert_eq!(world.revision(leader), 501);
}

#[test]
fn what_the_state_refuses_is_refused_through_a_follower_too() {
    let (mut world, _, follower) = World::led();
    let compact = CompactionRequest {
        revision: 100,
        physical: false,
    };
    let command = Request::Compact(compact).into();
    let proposal = Proposal { token: 1, command };
    world.handle(follower, Input::Propose(vec![proposal]));
    world.pass(Duration::from_millis(500));
    assert!(matches!(world.answers.get(&1), Some(Err(Refusal::Kv(_)))));
}

#[test]
fn a_physical_compaction_through_a_follower_ends_when_its_own_records_are_gone() {
    let (mut world, leader, follower) = World::led();
    (0..500).for_each(|token| world.put(leader, token, "k"));
    let grown = world.members[&follower].published().bytes_in_use;
    let compact = CompactionRequest {
        revision: 400,
        physical: true,
    };
    let command = Request::Compact(compact).into();
    let proposal = Proposal {
        token: 900,
        command,
    };
    world.handle(follower, Input::Propose(vec![proposal]));
    world.pass(Duration::from_secs(1));
    assert!(world.is_answered(900), "{:?}", world.answers.get(&900));
    world.put(leader, 901, "k");
    world.pass(Duration::from_secs(1));
    assert!(world.members[&follower].published().bytes_in_use < grown / 2);
}

#[test]
fn a_write_that_died_with_its_leader_is_written_once_by_the_next() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    world.deliver(leader, 1);
    world.wire.clear();
    world.members.remove(&leader);
    world.pass(Duration::from_millis(6_900));
    assert!(world.is_answered(1), "{:?}", world.answers.get(&1));
    assert_eq!(world.revision(follower), 2);
    // It still has the entry, and nobody takes it from there.
    world.start(leader, 3, 1);
    world.pass(Duration::from_secs(3));
    world.put(follower, 2, "b");
    world.pass(Duration::from_secs(1));
    assert!(world.is_answered(2));
    assert!((1..=3).all(|id| world.revision(id) == 3));
}

#[test]
fn a_write_that_was_committed_though_its_leader_died_is_not_written_again() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    world.deliver(leader, 1);
    // What the leader appended reaches the others; nothing that it says afterwards does.
    for id in (1..=3).filter(|id| *id != leader) {
        if world.wire.iter().any(|(_, to, _)| *to == id) {
            world.deliver(id, 1);
        }
    }
    world.wire.clear();
    world.members.remove(&leader);
    world.pass(Duration::from_millis(6_900));
    assert!(world.is_answered(1), "{:?}", world.answers.get(&1));
    assert_eq!(world.revision(follower), 2, "the next leader commits it");
}

#[test]
fn a_write_of_which_a_snapshot_came_instead_ends_as_unknown() {
    let (mut world, leader, follower) = World::led();
    let third = (1..=3).find(|id| ![leader, follower].contains(id));
    let third = third.expect("a third");
    world.put_quietly(follower, 1, "a");
    world.deliver(leader, 1);
    world.cut_off = vec![follower];
    world.pass(Duration::from_secs(1));
    let token = 50;
    world.handle(leader, Input::TransferLeader { token, to: third });
    world.pass(Duration::from_secs(1));
    assert_eq!(world.members[&third].published().leader, Some(third));
    (100..1_100).for_each(|token| world.put(third, token, "b"));
    world.pass(Duration::from_secs(1));
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    assert_eq!(world.snapshots.len(), 1);
    assert_eq!(world.answers.get(&1), Some(&Err(Refusal::LeaderChanged)));
    assert_eq!(world.revision(follower), 1_002, "it had happened");
}

#[test]
fn no_write_through_others_is_lost_or_doubled_when_leadership_is_handed_over() {
    let (mut world, _, follower) = World::led();
    world.distance = Duration::from_millis(3);
    for token in 0..400 {
        if token % 100 == 50 {
            let leader = world.leader().expect("a leader");
            let to = (1..=3).find(|id| ![leader, follower].contains(id));
            let to = to.unwrap_or(follower);
            let token = 1_000 + token;
            world.handle(leader, Input::TransferLeader { token, to });
        }
        world.put(follower, token, "a");
        world.pass(Duration::from_millis(1));
    }
    world.pass(Duration::from_secs(2));
    for token in 0..400 {
        assert!(world.is_answered(token), "{:?}", world.answers.get(&token));
    }
    assert!((1..=3).all(|id| world.revision(id) == 401));
    let handed_over = world.transfer_answers.values();
    assert_eq!(handed_over.filter(|answer| answer.is_ok()).count(), 4);
}

#[test]
fn the_clients_of_a_cut_off_leader_time_out() {
    let (mut world, leader, _) = World::led();
    world.cut_off = vec![leader];
    world.put(leader, 1, "a");
    world.pass(Duration::from_secs(3));
    world.put(leader, 2, "b");
    world.pass(Duration::from_millis(3_900));
    assert!(world.answers.is_empty(), "{:?}", world.answers);
    world.pass(Duration::from_millis(200));
    let timed_out = Some(Err(Refusal::TimedOutDisconnected));
    assert_eq!(world.answers.get(&1).cloned(), timed_out);
    world.pass(Duration::from_millis(3_000));
    assert_eq!(world.answers.get(&2).cloned(), timed_out);
}

#[test]
fn the_clients_of_a_cut_off_follower_time_out() {
    let (mut world, _, follower) = World::led();
    world.cut_off = vec![follower];
    world.put(follower, 1, "a");
    world.pass(Duration::from_millis(6_999));
    assert_eq!(world.answers.get(&1), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(
        world.answers.get(&1),
        Some(&Err(Refusal::TimedOutDisconnected))
    );
    world.cut_off.clear();
    world.pass(Duration::from_secs(3));
    world.put(follower, 2, "b");
    world.pass(Duration::from_secs(1));
    assert!(world.is_answered(2));
}

#[test]
fn no_more_proposals_wait_for_a_leader_than_may() {
    let mut world = World::new(3);
    world.cut_off = vec![1, 2, 3];
    let proposals_max = Sizes::default().proposals_max;
    for token in 0..=proposals_max as u64 {
        world.put_quietly(1, token, "a");
    }
    let last = proposals_max as u64;
    assert_eq!(
        world.answers.get(&last),
        Some(&Err(Refusal::TooManyRequests))
    );
    world.pass(Duration::from_secs(7));
    assert_eq!(world.answers.len(), proposals_max + 1);
}

#[test]
fn what_a_cut_off_leader_was_never_sure_of_goes_to_the_next_leader_in_time() {
    let (mut world, leader, _) = World::led();
    world.cut_off = vec![leader];
    // Its lease is over, so it appends nothing any more.
    world.pass(Duration::from_secs(3));
    world.put(leader, 1, "a");
    world.pass(Duration::from_secs(2));
    world.cut_off.clear();
    world.pass(Duration::from_secs(2));
    assert!(world.is_answered(1), "{:?}", world.answers);
    assert!((1..=3).all(|id| world.revision(id) == 2));
}

#[test]
fn a_proposal_waits_for_a_leader_until_its_deadline() {
    let mut world = World::new(3);
    world.put(1, 1, "a");
    world.pass(Duration::from_secs(5));
    assert!(world.is_answered(1), "a leader came in time");

    let mut world = World::new(3);
    world.cut_off = vec![1, 2, 3];
    world.put(1, 1, "a");
    world.pass(Duration::from_millis(6_999));
    assert_eq!(world.answers.get(&1), None);
    world.pass(Duration::from_millis(1));
    assert_eq!(world.answers.get(&1), Some(&Err(Refusal::TimedOut)));
}

#[test]
fn a_letter_to_the_leader_of_another_term_is_refused_and_nothing_is_appended() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    let late = world.wire.pop_front().expect("a letter to the leader");
    world.cut_off = vec![leader];
    world.pass(Duration::from_secs(5));
    assert!(world.is_answered(1), "the next leader took it");
    world.cut_off.clear();
    world.pass(Duration::from_secs(5));
    let (from, _, message) = late;
    for id in 1..=3 {
        let message = message.clone();
        if id != from {
            world.handle(id, Input::Peer { from, message });
        }
    }
    world.pass(Duration::from_secs(1));
    assert_eq!(world.revision(leader), 2);
}

#[test]
fn a_proposal_is_appended_in_the_term_of_its_letter_or_never() {
    let (mut world, leader, follower) = World::led();
    let now = world.now;
    let member = world.members.get_mut(&leader).expect("it leads");
    // As if this member had been elected again between taking the letter and handing it to consensus.
    let term = member.published().term - 1;
    let command: Command = Request::Put(PutRequest::default()).into();
    let asker = Asker::Peer {
        member: follower,
        term,
        letter: 1,
        number: 7,
    };
    let number = member.pending.add(Pending {
        asker,
        deadline: now + Duration::from_secs(7),
        command: command.clone(),
        place: Place::Here,
    });
    member
        .executor
        .enter(|| member.proposer.push(term, number, command));
    member.handle(now, Input::Tick);
    world.drain(leader);
    let ends = world
        .wire
        .iter()
        .filter_map(|(_, to, letter)| match &letter.body {
            Body::Forwarded(Forwarded::Ended(ends)) if *to == follower => Some(ends),
            _ => None,
        });
    let results: Vec<_> = ends
        .flatten()
        .map(|end| (end.number, &end.result))
        .collect();
    let refused = Err(Refusal::NotLeader {
        leader: Some(leader),
    });
    assert_eq!(results, [(7, &refused)]);
    world.pass(Duration::from_secs(1));
    assert_eq!(world.revision(leader), 1);
}

#[test]
fn only_the_life_that_led_says_that_it_appended_nothing() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    let copy = world.wire.front().cloned().expect("a letter to the leader");
    world.deliver(leader, 1);
    // The next life of the leader has the entry on its disk, but does not know that it came in this letter.
    world.start(leader, 3, 1);
    let (from, _, message) = copy;
    world.handle(leader, Input::Peer { from, message });
    world.pass(Duration::from_secs(10));
    assert!(world.is_answered(1), "{:?}", world.answers.get(&1));
    assert!((1..=3).all(|id| world.revision(id) == 2), "written once");
}

impl World {
    /// Hands a transaction to a member, and lets happen what comes of it.
    fn transact(&mut self, at: u64, token: u64, txn: TxnRequest) {
        let command = Request::Txn(txn).into();
        let proposals = vec![Proposal { token, command }];
        self.handle(at, Input::Propose(proposals));
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

#[test]
fn an_answer_is_as_deep_and_as_large_as_it_is_and_never_travels() {
    let (mut world, leader, follower) = World::led();
    let put = PutRequest {
        key: b"large".to_vec(),
        value: vec![7; 1 << 16],
        ..PutRequest::default()
    };
    let large = Request::Put(put.clone()).into();
    let proposals = vec![Proposal {
        token: 1,
        command: large,
    }];
    world.handle(leader, Input::Propose(proposals));
    // As deep as a decoder takes it, so that the answer is deeper than any takes.
    let mut deep = TxnRequest {
        success: vec![op(Op::RequestPut(put))],
        ..TxnRequest::default()
    };
    for _ in 0..48 {
        deep = TxnRequest {
            success: vec![op(Op::RequestTxn(deep))],
            ..TxnRequest::default()
        };
    }
    world.letter_bytes_max = 0;
    world.transact(follower, 2, deep);
    let reads = |count| -> Vec<RequestOp> {
        let range = RangeRequest {
            key: b"large".to_vec(),
            ..RangeRequest::default()
        };
        vec![op(Op::RequestRange(range)); count]
    };
    let mut wide = TxnRequest {
        success: reads(100),
        ..TxnRequest::default()
    };
    wide.success.push(op(Op::RequestPut(PutRequest {
        key: b"b".to_vec(),
        ..PutRequest::default()
    })));
    world.letter_bytes_max = 0;
    world.transact(follower, 3, wide);
    world.pass(Duration::from_millis(500));
    assert!(world.is_answered(2));
    let Some(Ok(Outcome::Txn(answer))) = world.answers.get(&3) else {
        panic!("{:?}", world.answers.get(&3).map(|it| it.is_ok()));
    };
    assert_eq!(answer.responses.len(), 101);
    let most = world.letter_bytes_max;
    assert!(most < 1 << 15, "a letter had {most} bytes");
}

#[test]
fn what_the_state_refuses_is_refused_where_it_was_asked_for() {
    let (mut world, _, follower) = World::led();
    let unknown = PutRequest {
        key: b"a".to_vec(),
        lease: 77,
        ..PutRequest::default()
    };
    let command = Request::Put(unknown).into();
    let proposals = vec![Proposal { token: 1, command }];
    world.handle(follower, Input::Propose(proposals));
    world.pass(Duration::from_millis(500));
    let refused = Some(&Err(Refusal::Kv(KvError::LeaseNotFound)));
    assert_eq!(world.answers.get(&1), refused);
}

#[test]
fn nobody_knows_the_outcome_of_an_entry_that_came_in_a_snapshot() {
    let (mut world, leader, follower) = World::led();
    world.put_quietly(follower, 1, "a");
    let (_, _, letter) = world.wire.pop_front().expect("a letter to the leader");
    let Body::Forwarded(Forwarded::Proposals { proposals, .. }) = &letter.body else {
        panic!("{letter:?}");
    };
    // The leader applied it as an entry that the follower's state has behind it without having seen it.
    let index = world.members[&follower].published().applied;
    let end = ForwardedEnd {
        letter: letter.call,
        number: proposals[0].0,
        index,
        result: Ok(()),
    };
    let message = PeerMessage {
        call: 0,
        body: Body::Forwarded(Forwarded::Ended(vec![end])),
    };
    world.handle(
        follower,
        Input::Peer {
            from: leader,
            message,
        },
    );
    assert_eq!(world.answers.get(&1), Some(&Err(Refusal::TimedOut)));
    assert_eq!(world.members[&follower].pending.len(), 0);
}

#[test]
fn applied_proposals_are_forgotten_with_their_clients_while_a_state_stands_still() {
    let (mut world, leader, follower) = World::led();
    for round in 0..5 {
        let first = round * 16_000;
        for token in first..first + 16_000 {
            world.put_quietly(follower, token, "a");
        }
        let mut ends = Vec::new();
        while let Some((_, _, letter)) = world.wire.pop_front() {
            if let Body::Forwarded(Forwarded::Proposals { proposals, .. }) = letter.body {
                ends.extend(proposals.iter().map(|(number, _)| ForwardedEnd {
                    letter: letter.call,
                    number: *number,
                    index: 1_000_000,
                    result: Ok(()),
                }));
            }
        }
        assert_eq!(ends.len(), 16_000);
        let body = Body::Forwarded(Forwarded::Ended(ends));
        let message = PeerMessage { call: 0, body };
        world.handle(
            follower,
            Input::Peer {
                from: leader,
                message,
            },
        );
        world.pass(Duration::from_secs(8));
    }
    assert!(world.answers.values().all(|answer| answer.is_err()));
    let kept = &world.members[&follower].forwards;
    assert!(kept.ahead_count < 66_000, "{}", kept.ahead_count);
}

#[test]
fn what_a_transaction_reads_is_read_by_the_member_that_was_asked_alone_and_once() {
    use metastore_proto::etcdserverpb::request_op::Request as Op;
    use metastore_proto::etcdserverpb::{RangeRequest, RequestOp, TxnRequest};

    use crate::txn::tests::READ;

    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let follower = (1..=3).find(|id| *id != leader).expect("a follower");
    let op = |request| RequestOp {
        request: Some(request),
    };
    let put = Op::RequestPut(PutRequest {
        key: b"a".to_vec(),
        ..PutRequest::default()
    });
    let range = Op::RequestRange(RangeRequest {
        key: b"a".to_vec(),
        ..RangeRequest::default()
    });
    let txn = TxnRequest {
        success: vec![op(put), op(range)],
        ..TxnRequest::default()
    };
    let read = READ.get();
    for (token, asked) in [(1, leader), (2, follower)] {
        let command = Request::Txn(txn.clone()).into();
        world.handle(asked, Input::Propose(vec![Proposal { token, command }]));
        world.pass(Duration::from_millis(200));
        let Some(Ok(Outcome::Txn(answer))) = world.answers.get(&token) else {
            panic!("{:?}", world.answers.get(&token));
        };
        assert_eq!(answer.responses.len(), 2);
        assert_eq!(READ.get(), read + usize::try_from(token).expect("small"));
    }
    // A start replays it, and nobody waits for it any more.
    world.members.remove(&follower);
    world.start(follower, 3, 1);
    world.pass(Duration::from_secs(2));
    let shown = |id: u64| world.members[&id].published().view.revision();
    assert_eq!(shown(follower), shown(leader));
    assert_eq!(READ.get(), read + 2);
}
