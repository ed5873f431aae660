//! Members on a pretend wire with a pretend disk: no sockets, no sleeping, the clock jumps to the next alarm.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use metastore_proto::etcdserverpb::{CompactionRequest, PutRequest};

use super::*;
use crate::codec;
use crate::compactor::AutoCompaction;
use crate::input::Proposal;
use crate::lease::LeaseAnswer;
use crate::output::{DiskOp, MemberInfo, Outcome, Refusal};
use crate::raft::message::{Body, Forwarded, MessageKind, PeerMessage};
use crate::raft::network::{Reply, Request as PeerRequest};
use crate::raft::types::{Entry, LogId, Vote};
use crate::raft::{RecoveredLog, position_of};
use crate::snapshot::{self, Encoder};
use crate::wal::Record;

/// What a disk holds durably, as a restart would find it.
#[derive(Default, Clone)]
struct Disk {
    vote: Option<Vote>,
    entries: BTreeMap<u64, Entry>,
    /// As far as the log says.
    committed: Option<LogId>,
    checkpoint: Option<Vec<u8>>,
}

impl Disk {
    fn write(&mut self, records: Vec<Record>) {
        for record in records {
            match record {
                Record::Entry { index, payload } => {
                    self.entries.insert(
                        index,
                        codec::decode(&payload).expect("an entry that this test wrote"),
                    );
                }
                Record::Vote(vote) => {
                    self.vote = Some(codec::decode(&vote).expect("a vote that this test wrote"))
                }
                Record::TruncateFrom { index } => drop(self.entries.split_off(&index)),
                Record::Committed(id) => {
                    self.committed = Some(codec::decode(&id).expect("an id that this test wrote"));
                }
                Record::Purge { .. } | Record::Opened | Record::Closed => {}
            }
        }
    }

    fn recovered(&self) -> Recovered {
        let checkpoint = self
            .checkpoint
            .as_ref()
            .map(|bytes| snapshot::decode(bytes).expect("a checkpoint that this test wrote"));
        let purged = checkpoint
            .as_ref()
            .and_then(|(_, about)| position_of(about).expect("a good description"));
        let first = purged.map_or(0, |id| id.index() + 1);
        Recovered {
            checkpoint,
            log: RecoveredLog {
                vote: self.vote,
                purged,
                entries: self.entries.range(first..).map(|e| e.1.clone()).collect(),
                ..RecoveredLog::default()
            },
        }
    }
}

/// A cluster in one value: members, their disks, the letters between them, and one clock.
struct World {
    now: Duration,
    members: BTreeMap<u64, Member>,
    disks: BTreeMap<u64, Disk>,
    wire: VecDeque<(u64, u64, PeerMessage)>,
    cut_off: Vec<u64>,
    /// Ways on which nothing arrives, from one member to another.
    cut_ways: Vec<(u64, u64)>,
    /// Requests that arrived while ways were cut. A reply that is lost breaks a connection, and that tells both ends.
    requests: BTreeMap<(u64, u64), PeerMessage>,
    /// A member whose checkpoints are durable at once but confirmed by hand, and those of it that are not yet.
    slow_checkpoints: Option<u64>,
    unconfirmed: Vec<u64>,
    /// Of each checkpoint that was asked for, whether consensus waits for it.
    awaited: Vec<bool>,
    answers: BTreeMap<u64, Result<Outcome, Refusal>>,
    /// The revision that each member shows last.
    shown: BTreeMap<u64, i64>,
    /// How often each member has published.
    publications: BTreeMap<u64, usize>,
    /// The leaders that each member named one after the other: when, the term, whom.
    leaders: BTreeMap<u64, Vec<(Duration, u64, Option<u64>)>>,
    /// The revision that a member showed at its answer to a proposal or a barrier.
    visible_when_answered: BTreeMap<u64, i64>,
    barriers: BTreeMap<u64, Result<(), Refusal>>,
    lease_answers: BTreeMap<u64, Result<LeaseAnswer, Refusal>>,
    membership_answers: BTreeMap<u64, Result<Arc<[MemberInfo]>, Refusal>>,
    transfer_answers: BTreeMap<u64, Result<(), Refusal>>,
    /// The members that said they were removed, in that order.
    removed: Vec<u64>,
    corrupt: Vec<u64>,
    acquitted: Vec<u64>,
    /// The snapshots that arrived: transfers, with the chunks of each.
    snapshots: BTreeMap<u64, Vec<u64>>,
    /// Whether what members ask and tell the leader for their clients is lost without a word.
    lost_forwards: bool,
    /// Whose word about states is lost, and who hears none.
    mute: Option<u64>,
    /// Whether chunks wait until a test lets them through.
    slow: bool,
    waiting_chunks: VecDeque<(u64, u64, PeerMessage)>,
    /// So many answers about the end of a snapshot are still to be lost without a word.
    lost_ends: usize,
    /// How long each letter is on its way, and those that are: when they arrive, from whom, to whom.
    distance: Duration,
    under_way: VecDeque<(Duration, u64, u64, PeerMessage)>,
    /// How many letters had entries, or were heartbeats.
    appends: usize,
    /// The longest letter with what came of proposals, and the letters with answers about leases.
    letter_bytes_max: usize,
    answers_to_leases: Vec<PeerMessage>,
    /// Whether letters overtake one another.
    shuffled: bool,
    dice: u64,
}

fn settings(id: u64, of: u64, incarnation: u32) -> Settings {
    Settings {
        initial_members: (1..=of)
            .map(|id| (id, vec![format!("http://127.0.0.1:{id}")]))
            .collect(),
        seed: id * 1000 + u64::from(incarnation),
        incarnation,
        ..Settings::usual(id)
    }
}

impl World {
    fn new(size: u64) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            members: BTreeMap::new(),
            disks: (1..=size).map(|id| (id, Disk::default())).collect(),
            wire: VecDeque::new(),
            cut_off: Vec::new(),
            cut_ways: Vec::new(),
            requests: BTreeMap::new(),
            slow_checkpoints: None,
            unconfirmed: Vec::new(),
            awaited: Vec::new(),
            answers: BTreeMap::new(),
            shown: BTreeMap::new(),
            publications: BTreeMap::new(),
            leaders: BTreeMap::new(),
            visible_when_answered: BTreeMap::new(),
            barriers: BTreeMap::new(),
            lease_answers: BTreeMap::new(),
            membership_answers: BTreeMap::new(),
            transfer_answers: BTreeMap::new(),
            removed: Vec::new(),
            corrupt: Vec::new(),
            acquitted: Vec::new(),
            snapshots: BTreeMap::new(),
            slow: false,
            waiting_chunks: VecDeque::new(),
            lost_ends: 0,
            lost_forwards: false,
            mute: None,
            distance: Duration::ZERO,
            under_way: VecDeque::new(),
            appends: 0,
            letter_bytes_max: 0,
            answers_to_leases: Vec::new(),
            shuffled: false,
            dice: 1,
        };
        for id in 1..=size {
            world.start(id, size, 0);
        }
        world
    }

    fn start(&mut self, id: u64, of: u64, incarnation: u32) {
        self.start_with(settings(id, of, incarnation));
    }

    fn start_with(&mut self, settings: Settings) {
        let id = settings.id;
        let recovered = self.disks.entry(id).or_default().recovered();
        let member = Member::new(settings, recovered, self.now).expect("a good checkpoint");
        self.members.insert(id, member);
        self.settle();
    }

    fn handle(&mut self, id: u64, input: Input) {
        let now = self.now;
        if let Some(member) = self.members.get_mut(&id) {
            member.handle(now, input);
        }
        self.settle();
    }

    /// Performs all outputs and delivers all letters until the world is quiet.
    fn settle(&mut self) {
        loop {
            let mut busy = false;
            for id in self.members.keys().copied().collect::<Vec<u64>>() {
                busy |= self.drain(id);
            }
            let next = match self.shuffled {
                true => self.draw(),
                false => 0,
            };
            let Some((from, to, message)) = self.wire.remove(next) else {
                if busy || self.blink() {
                    continue;
                }
                return;
            };
            let lost = self.cut_off.contains(&from)
                || self.cut_off.contains(&to)
                || self.cut_ways.contains(&(from, to));
            let now = self.now;
            if let (Body::Request(PeerRequest::Chunk(chunk)), false) = (&message.body, lost) {
                let chunks = self.snapshots.entry(chunk.transfer).or_default();
                chunks.push(chunk.number);
            }
            if !self.cut_ways.is_empty() {
                self.note_way(lost, from, to, &message);
            }
            match self.members.get_mut(&to) {
                Some(member) if !lost => member.handle(now, Input::Peer { from, message }),
                _ => self.unreachable(from, message),
            }
        }
    }

    fn note_way(&mut self, lost: bool, from: u64, to: u64, message: &PeerMessage) {
        match &message.body {
            Body::Request(_) if !lost => {
                self.requests.insert((from, message.call), message.clone());
            }
            Body::Reply(_) if lost => {
                if let Some(request) = self.requests.remove(&(to, message.call)) {
                    self.unreachable(to, request);
                }
            }
            _ => {}
        }
    }

    fn unreachable(&mut self, sender: u64, message: PeerMessage) {
        let (now, reason) = (self.now, "cut off".into());
        if let Some(member) = self.members.get_mut(&sender) {
            member.handle(now, Input::PeerUnreachable { message, reason });
        }
    }

    /// Consensus gathers confirmations for a microsecond: lets that alarm ring, and none that is further off.
    fn blink(&mut self) -> bool {
        let soon = self.now + Duration::from_micros(1);
        let next = self
            .members
            .values()
            .filter_map(Member::poll_timeout)
            .filter(|at| *at > self.now)
            .min();
        let Some(next) = next.filter(|at| *at <= soon) else {
            return false;
        };
        self.now = next;
        for member in self.members.values_mut() {
            member.handle(next, Input::Tick);
        }
        true
    }

    fn drain(&mut self, id: u64) -> bool {
        let mut busy = false;
        while let Some(output) = self.members.get_mut(&id).and_then(Member::poll_output) {
            busy = true;
            match output {
                Output::Disk(DiskOp::Write {
                    ticket, records, ..
                }) => {
                    self.disks.entry(id).or_default().write(records);
                    let now = self.now;
                    let written = Input::Written {
                        up_to: ticket,
                        result: Ok(()),
                    };
                    self.members
                        .get_mut(&id)
                        .expect("it has just spoken")
                        .handle(now, written);
                }
                Output::Disk(DiskOp::Checkpoint(checkpoint)) => {
                    let now = self.now;
                    self.awaited.push(checkpoint.awaited);
                    let about = checkpoint.description.encode();
                    let bytes = Encoder::new(checkpoint.view, &about).flatten().collect();
                    self.disks.entry(id).or_default().checkpoint = Some(bytes);
                    if self.slow_checkpoints == Some(id) {
                        self.unconfirmed.push(checkpoint.index);
                        continue;
                    }
                    let durable = Input::Checkpointed {
                        index: checkpoint.index,
                        result: Ok(1),
                    };
                    self.members
                        .get_mut(&id)
                        .expect("it has just spoken")
                        .handle(now, durable);
                }
                Output::Disk(DiskOp::DropCovered { .. }) | Output::Compacted { .. } => {}
                Output::Publish(published) => {
                    self.shown.insert(id, published.view.revision());
                    *self.publications.entry(id).or_default() += 1;
                    let (term, leader) = (published.term, published.leader);
                    let named = self.leaders.entry(id).or_default();
                    if named.last().is_none_or(|it| (it.1, it.2) != (term, leader)) {
                        named.push((self.now, term, leader));
                    }
                }
                Output::Send { to, message } => self.send(id, to, message),
                answer => self.answered(id, answer),
            }
        }
        busy
    }

    fn answered(&mut self, id: u64, output: Output) {
        match output {
            Output::MembershipAnswer { token, answer } => {
                assert!(
                    self.membership_answers.insert(token, answer).is_none(),
                    "one answer per token"
                );
            }
            Output::TransferAnswer { token, answer } => {
                assert!(
                    self.transfer_answers.insert(token, answer).is_none(),
                    "one answer per token"
                );
            }
            Output::Removed => self.removed.push(id),
            Output::Corrupt { .. } => self.corrupt.push(id),
            Output::Acquitted => self.acquitted.push(id),
            Output::Answer { token, answer } => {
                let shown = self.shown.get(&id).copied().unwrap_or(1);
                self.visible_when_answered.insert(token, shown);
                assert!(
                    self.answers.insert(token, answer).is_none(),
                    "one answer per token"
                );
            }
            Output::LeaseAnswer { token, answer } => {
                assert!(
                    self.lease_answers.insert(token, answer).is_none(),
                    "one answer per token"
                );
            }
            Output::BarrierPassed { tokens, result } => {
                let shown = self.shown.get(&id).copied().unwrap_or(1);
                let passed = tokens.iter().map(|token| (*token, shown));
                self.visible_when_answered.extend(passed);
                self.barriers
                    .extend(tokens.into_iter().map(|token| (token, result.clone())));
            }
            Output::Disk(_)
            | Output::Publish(_)
            | Output::Compacted { .. }
            | Output::Send { .. } => {
                unreachable!("no answer")
            }
        }
    }

    /// A letter that is on its way, at random.
    fn draw(&mut self) -> usize {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(self.dice >> 33).unwrap_or(0) % self.wire.len().max(1)
    }

    fn send(&mut self, from: u64, to: u64, message: PeerMessage) {
        if self.lost_ends > 0 && matches!(message.body, Body::Reply(Reply::Snapshot(_))) {
            self.lost_ends -= 1;
            return;
        }
        if self.lost_forwards && matches!(message.body, Body::Forwarded(_)) {
            return;
        }
        let compares = matches!(message.body, Body::Request(PeerRequest::Compare(_)));
        if compares && [Some(from), Some(to)].contains(&self.mute) {
            return;
        }
        self.appends += usize::from(message.kind() == MessageKind::Append);
        if let Body::Forwarded(Forwarded::Ended(_)) = message.body {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            self.letter_bytes_max = self.letter_bytes_max.max(bytes.len());
        }
        if let Body::Forwarded(Forwarded::LeaseAnswers(_)) = message.body {
            self.answers_to_leases.push(message.clone());
        }
        if !self.distance.is_zero() {
            let at = self.now + self.distance;
            return self.under_way.push_back((at, from, to, message));
        }
        let chunk = matches!(message.body, Body::Request(PeerRequest::Chunk(_)));
        let lane = match chunk && self.slow && !self.cut_off.contains(&to) {
            true => &mut self.waiting_chunks,
            false => &mut self.wire,
        };
        lane.push_back((from, to, message));
    }

    /// Lets virtual time pass, alarm by alarm.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        // Whoever rings far more often turns in a circle.
        let mut rings_left = 10_000 + 20_000 * time.as_secs();
        loop {
            rings_left = rings_left.checked_sub(1).expect("alarms are rare");
            let next = self
                .members
                .values()
                .filter_map(Member::poll_timeout)
                .chain(self.under_way.front().map(|letter| letter.0))
                .min()
                .unwrap_or(end);
            self.now = next.min(end).max(self.now);
            let now = self.now;
            let here = |letter: &mut (Duration, u64, u64, PeerMessage)| letter.0 <= now;
            while let Some((_, from, to, message)) = self.under_way.pop_front_if(here) {
                self.wire.push_back((from, to, message));
            }
            for member in self.members.values_mut() {
                if member.poll_timeout().is_some_and(|at| at <= now) {
                    member.handle(now, Input::Tick);
                }
            }
            self.settle();
            if self.now >= end {
                return;
            }
        }
    }

    fn leader(&self) -> Option<u64> {
        let connected = self
            .members
            .iter()
            .filter(|(id, _)| !self.cut_off.contains(id));
        connected
            .filter(|(id, m)| m.published().leader == Some(**id))
            .map(|(id, _)| *id)
            .next()
    }

    fn put(&mut self, at: u64, token: u64, key: &str) {
        let put = PutRequest {
            key: key.into(),
            value: b"v".to_vec(),
            ..PutRequest::default()
        };
        let command = Request::Put(put).into();
        self.handle(at, Input::Propose(vec![Proposal { token, command }]));
    }
}

mod alone;
mod checkpoints;
mod compactions;
mod comparison;
mod forwarding;
mod forwarding_changes;
mod healing;
mod leadership;
mod leases;
mod long_ways;
mod membership;
mod reading;
mod snapshots;
mod transfers;

#[test]
fn a_lone_member_leads_and_answers_within_microseconds() {
    let mut world = World::new(1);
    assert_eq!(world.leader(), Some(1));
    assert!(world.now < Duration::from_micros(10));
    assert!(world.members[&1].published().reads_need_no_quorum);
    world.put(1, 7, "a");
    assert!(matches!(world.answers.get(&7), Some(Ok(Outcome::Put(_)))));
    assert_eq!(world.members[&1].published().view.revision(), 2);
}

#[test]
fn a_restarted_member_has_every_acknowledged_write_and_continues_the_revisions() {
    let mut world = World::new(1);
    for token in 0..250 {
        world.put(1, token, &format!("k{token}"));
    }
    let hash = world.members[&1].state_hash();
    let published = world.members[&1].published().clone();
    world.members.remove(&1);
    world.start(1, 1, 1);
    assert_eq!(world.leader(), Some(1));
    assert_eq!(world.members[&1].state_hash(), hash);
    assert!(world.members[&1].published().term > published.term);
    world.put(1, 1000, "after");
    assert_eq!(
        world.members[&1].published().view.revision(),
        published.view.revision() + 1
    );
}

#[test]
fn nothing_is_answered_before_the_disk_confirms() {
    let mut world = World::new(1);
    let put = PutRequest {
        key: b"a".to_vec(),
        ..PutRequest::default()
    };
    let member = world.members.get_mut(&1).expect("it was started");
    let now = world.now;
    member.handle(
        now,
        Input::Propose(vec![Proposal {
            token: 1,
            command: Request::Put(put).into(),
        }]),
    );
    let mut ticket = None;
    while let Some(output) = member.poll_output() {
        match output {
            Output::Disk(DiskOp::Write {
                ticket: t,
                sync: true,
                ..
            }) => ticket = Some(t),
            Output::Answer { .. } => panic!("an answer before its write was durable"),
            _ => {}
        }
    }
    assert_eq!(member.published().view.revision(), 1);
    let up_to = ticket.expect("a put is written");
    member.handle(
        now,
        Input::Written {
            up_to,
            result: Ok(()),
        },
    );
    member.handle(now + Duration::from_micros(1), Input::Tick);
    let outputs: Vec<Output> = std::iter::from_fn(|| member.poll_output()).collect();
    let publish = outputs
        .iter()
        .position(|o| matches!(o, Output::Publish(_)))
        .expect("a view is published");
    let answer = outputs
        .iter()
        .position(|o| matches!(o, Output::Answer { token: 1, .. }))
        .expect("an answer");
    assert!(
        publish < answer,
        "readers see a write before its writer hears of it"
    );
}

#[test]
fn a_proposal_without_an_end_is_answered_at_its_deadline() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world
        .leader()
        .expect("three connected members elect a leader");
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    world.cut_off = others;
    world.put(leader, 5, "a");
    world.pass(Duration::from_millis(6_900));
    assert_eq!(world.answers.get(&5), None);
    world.pass(Duration::from_millis(200));
    assert_eq!(
        world.answers.get(&5),
        Some(&Err(Refusal::TimedOutDisconnected))
    );
}

#[test]
fn three_members_agree_and_a_cut_off_leader_is_replaced() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let first = world
        .leader()
        .expect("three connected members elect a leader");
    assert!(!world.members[&first].published().reads_need_no_quorum);
    for token in 0..50 {
        world.put(first, token, &format!("k{token}"));
    }
    assert!((0..50).all(|token| matches!(world.answers.get(&token), Some(Ok(Outcome::Put(_))))));

    world.cut_off = vec![first];
    world.pass(Duration::from_secs(8));
    let second = world.leader().expect("the majority elects another leader");
    assert_ne!(first, second);
    world.put(second, 100, "more");
    assert!(matches!(world.answers.get(&100), Some(Ok(_))));

    world.cut_off.clear();
    world.pass(Duration::from_secs(8));
    let hashes: Vec<u64> = world.members.values().map(Member::state_hash).collect();
    assert!(
        hashes.iter().all(|hash| *hash == hashes[0]),
        "members at one index hold one state: {hashes:x?}"
    );
    assert!(
        world
            .members
            .values()
            .all(|m| m.published().view.revision() == 52)
    );
}

#[test]
fn a_member_that_missed_more_than_the_log_holds_catches_up_by_snapshot() {
    let mut world = World::new(3);
    world.pass(Duration::from_secs(5));
    let leader = world.leader().expect("a leader");
    let behind = (1..=3).find(|id| *id != leader).expect("a follower");
    world.cut_off = vec![behind];
    world.pass(Duration::from_secs(3));
    for token in 0..1000 {
        world.put(leader, token, &format!("k{}", token % 10));
    }
    world.pass(Duration::from_secs(1));
    world.cut_off.clear();
    world.pass(Duration::from_secs(5));
    assert_eq!(world.snapshots.len(), 1);
    assert_eq!(world.members[&behind].published().view.revision(), 1001);
    assert_eq!(
        world.members[&behind].state_hash(),
        world.members[&leader].state_hash()
    );
}

#[test]
fn equal_inputs_give_equal_outputs() {
    let run = || {
        let mut world = World::new(3);
        world.pass(Duration::from_secs(3));
        let leader = world.leader();
        for token in 0..20 {
            world.put(leader.unwrap_or(1), token, "k");
        }
        world.pass(Duration::from_secs(1));
        let disks: Vec<String> = world
            .disks
            .values()
            .map(|d| format!("{:?}{:?}", d.vote, d.entries))
            .collect();
        (leader, world.now, disks, world.answers)
    };
    assert_eq!(run(), run());
}

#[test]
fn the_log_in_memory_is_bounded_in_bytes() {
    let mut world = World::new(1);
    for token in 0..100 {
        let put = PutRequest {
            key: b"k".to_vec(),
            value: vec![0; 1 << 20],
            ..PutRequest::default()
        };
        let command = Request::Put(put).into();
        world.handle(1, Input::Propose(vec![Proposal { token, command }]));
        assert!(
            world.members[&1].log_bytes() < 12 << 20,
            "after {token} megabytes"
        );
    }
    assert!(world.members[&1].log_bytes() > 0);
}
