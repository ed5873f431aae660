//! Members and clients on a queue of events, in virtual time that is exact to the nanosecond.
//!
//! The simulated runtime is not used here: its sleeps have a grain of a millisecond, and the way between two machines of
//! a zone takes a twentieth of one. Members are the same, and driven through the same door.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use metastore_core::command::Request;
use metastore_core::compactor::AutoCompaction;
use metastore_core::input::{Input, Proposal};
use metastore_core::member::{Member, Recovered, Settings, Sizes};
use metastore_core::output::{DiskOp, Output};
use metastore_core::plant::Planted;
use metastore_core::raft::PeerMessage;
use metastore_core::wal::Record;
use metastore_proto::etcdserverpb::PutRequest;

use super::shape::{Shape, WITHIN_ZONE, sync, with_jitter};
use crate::dice::Dice;

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    Put,
    Read,
}

/// One question that was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) client: usize,
    pub(crate) asked: Duration,
    pub(crate) answered: Duration,
    /// Whether it did what was asked for.
    pub(crate) well: bool,
}

/// What happens at a time.
enum Event {
    Arrives(u64, Call),
    /// The member's thread takes what waits for it.
    Step(u64),
    Alarm(u64),
    Synced(u64),
    /// Records that nobody waits for go to the disk.
    Flush(u64),
    Answered(usize, bool),
}

/// What waits for a member.
enum Call {
    Peer(u64, PeerMessage),
    Client(usize, Ask),
    Written(u64),
    Checkpointed(u64),
    Transfer(u64),
    Tick,
}

struct Node {
    member: Member,
    inbox: Vec<Call>,
    /// Until when its thread is busy.
    busy_until: Duration,
    step_at: Option<Duration>,
    alarm: Option<Duration>,
    next_token: u64,
    waiting: BTreeMap<u64, usize>,
    log: Log,
}

/// The log's thread.
#[derive(Default)]
struct Log {
    bytes: u64,
    last_ticket: u64,
    urgent: bool,
    /// The ticket that the sync under way confirms.
    syncing: Option<u64>,
}

/// See the module.
pub(crate) struct Cluster {
    shape: Shape,
    dice: Dice,
    now: Duration,
    next: u64,
    events: BTreeMap<u64, Event>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    nodes: BTreeMap<u64, Node>,
    /// When the last letter of a way has left, and when it arrives: a connection keeps the order.
    ways: BTreeMap<(u64, u64), (Duration, Duration)>,
    /// Where each client asks, and since when.
    clients: Vec<(u64, Duration)>,
    done: Vec<Done>,
    puts: u64,
}

impl Cluster {
    /// A cluster whose first member leads.
    pub(crate) fn new(shape: Shape, members: u64, seed: u64) -> Self {
        let mut cluster = Self {
            shape,
            dice: Dice::new(seed, "performance"),
            now: Duration::ZERO,
            next: 0,
            events: BTreeMap::new(),
            queue: BinaryHeap::new(),
            nodes: BTreeMap::new(),
            ways: BTreeMap::new(),
            clients: Vec::new(),
            done: Vec::new(),
            puts: 0,
        };
        for id in 1..=members {
            let settings = settings(id, members, cluster.dice.roll());
            let member = Member::new(settings, Recovered::default(), Duration::ZERO);
            let member = member.expect("an empty disk can be read");
            let node = Node {
                member,
                inbox: Vec::new(),
                busy_until: Duration::ZERO,
                step_at: None,
                alarm: None,
                next_token: 0,
                waiting: BTreeMap::new(),
                log: Log::default(),
            };
            cluster.nodes.insert(id, node);
            cluster.arrive(id, Call::Tick);
        }
        cluster.first_leads();
        cluster
    }

    fn first_leads(&mut self) {
        for _ in 0..100 {
            self.run_until(self.now + Duration::from_millis(500));
            match self.leader() {
                Some(1) => return,
                Some(leader) => self.arrive(leader, Call::Transfer(1)),
                None => {}
            }
        }
        panic!("nobody comes to lead");
    }

    /// The leader that all members know.
    pub(crate) fn leader(&self) -> Option<u64> {
        let mut known = self.nodes.values().map(|it| it.member.published().leader);
        let first = known.next().flatten();
        known.all(|other| other == first).then_some(first).flatten()
    }

    /// The time.
    pub(crate) fn now(&self) -> Duration {
        self.now
    }

    /// The machine of a member is gone, and nobody is told.
    pub(crate) fn stop(&mut self, id: u64) {
        self.nodes.remove(&id);
    }

    /// A client that talks to this member.
    pub(crate) fn client(&mut self, member: u64) -> usize {
        self.clients.push((member, Duration::ZERO));
        self.clients.len() - 1
    }

    /// A client asks its member.
    pub(crate) fn ask(&mut self, client: usize, ask: Ask) {
        let (member, since) = &mut self.clients[client];
        *since = self.now;
        let (member, takes) = (*member, with_jitter(WITHIN_ZONE, &mut self.dice));
        let call = Call::Client(client, ask);
        self.at(self.now + takes, Event::Arrives(member, call));
    }

    /// Goes on until something is answered, or until this time.
    pub(crate) fn answers_until(&mut self, end: Duration) -> Vec<Done> {
        while self.done.is_empty() && self.happen(end) {}
        std::mem::take(&mut self.done)
    }

    /// Goes on until this time; what is answered meanwhile nobody wants to know.
    pub(crate) fn run_until(&mut self, end: Duration) {
        while self.happen(end) {}
        self.done.clear();
        self.now = self.now.max(end);
    }

    /// Whether all members have come to one state.
    pub(crate) fn agrees(&self) -> bool {
        let state = |node: &Node| (node.member.published().applied, node.member.state_hash());
        let mut all = self.nodes.values().map(state);
        let first = all.next();
        all.all(|other| Some(other) == first)
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.next += 1;
        self.events.insert(self.next, event);
        self.queue.push(Reverse((time, self.next)));
    }

    fn arrive(&mut self, id: u64, call: Call) {
        self.at(self.now, Event::Arrives(id, call));
    }

    /// The next event, if it comes by this time.
    fn happen(&mut self, end: Duration) -> bool {
        let due = self.queue.peek().is_some_and(|it| it.0.0 <= end);
        let Some(Reverse((time, number))) = due.then(|| self.queue.pop()).flatten() else {
            return false;
        };
        self.now = time;
        let event = self.events.remove(&number);
        match event.expect("what is in the queue is there") {
            Event::Arrives(id, call) => {
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.inbox.push(call);
                    self.wake(id);
                }
            }
            Event::Step(id) => self.step(id),
            Event::Alarm(id) => {
                let rings = |node: &Node| node.alarm.is_some_and(|at| at <= time);
                if self.nodes.get(&id).is_some_and(rings) {
                    self.arrive(id, Call::Tick);
                }
            }
            Event::Synced(id) => self.synced(id),
            Event::Flush(id) => self.write(id, true),
            Event::Answered(client, well) => {
                let (_, asked) = self.clients[client];
                self.done.push(Done {
                    client,
                    asked,
                    answered: time,
                    well,
                });
            }
        }
        true
    }

    /// The member's thread goes on as soon as it can. While a sync is under way, proposals alone do not wake it.
    fn wake(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        let waits = |call: &Call| !matches!(call, Call::Client(_, Ask::Put));
        if node.step_at.is_some() || node.log.syncing.is_some() && !node.inbox.iter().any(waits) {
            return;
        }
        let at = node.busy_until.max(self.now);
        node.step_at = Some(at);
        self.at(at, Event::Step(id));
    }

    fn step(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        node.step_at = None;
        let calls = std::mem::take(&mut node.inbox);
        let takes = STEP + PER_CALL * u32::try_from(calls.len()).unwrap_or(u32::MAX);
        let ready = self.now + takes;
        node.busy_until = ready;
        let inputs = inputs(node, calls, &mut self.puts);
        let mut outputs = Vec::new();
        for input in inputs {
            node.member.handle(self.now, input);
            while let Some(output) = node.member.poll_output() {
                outputs.push(output);
            }
        }
        node.alarm = node.member.poll_timeout();
        let alarm = node.alarm;
        for output in outputs {
            self.perform(id, ready, output);
        }
        if let Some(at) = alarm {
            self.at(at.max(ready), Event::Alarm(id));
        }
        self.write(id, false);
    }

    fn perform(&mut self, id: u64, ready: Duration, output: Output) {
        match output {
            Output::Send { to, message } => self.send(id, to, ready, message),
            Output::Answer { token, answer } => self.answer(id, token, ready, answer.is_ok()),
            Output::BarrierPassed { tokens, result } => {
                for token in tokens {
                    self.answer(id, token, ready, result.is_ok());
                }
            }
            Output::Disk(DiskOp::Write {
                ticket,
                records,
                sync,
            }) => {
                let bytes: usize = records.iter().map(Record::encoded_len).sum();
                if let Some(Node { log, .. }) = self.nodes.get_mut(&id) {
                    log.bytes += bytes as u64;
                    log.last_ticket = ticket;
                    log.urgent |= sync;
                }
                if !sync {
                    self.at(ready + LAZY_DELAY, Event::Flush(id));
                }
            }
            Output::Disk(DiskOp::Checkpoint(checkpoint)) => {
                let written = Call::Checkpointed(checkpoint.index);
                self.at(ready + CHECKPOINT, Event::Arrives(id, written));
            }
            Output::Removed | Output::Corrupt { .. } | Output::Acquitted => {
                panic!("m{id} takes no part any more")
            }
            _ => {}
        }
    }

    fn send(&mut self, from: u64, to: u64, ready: Duration, message: PeerMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        let length = bytes.len() as u64 + ENVELOPE;
        let takes = with_jitter(self.shape.one_way(from, to), &mut self.dice);
        let on_the_wire = length * 1_000_000_000 / self.shape.bytes_per_second();
        let (left, arrived) = self.ways.entry((from, to)).or_default();
        *left = ready.max(*left) + Duration::from_nanos(on_the_wire);
        *arrived = (*left + takes).max(*arrived);
        let at = *arrived;
        self.at(at, Event::Arrives(to, Call::Peer(from, message)));
    }

    fn answer(&mut self, id: u64, token: u64, ready: Duration, well: bool) {
        let node = self.nodes.get_mut(&id);
        let client = node.and_then(|node| node.waiting.remove(&token));
        if let Some(client) = client {
            let takes = with_jitter(WITHIN_ZONE, &mut self.dice);
            self.at(ready + takes, Event::Answered(client, well));
        }
    }

    /// Begins to sync whatever waits, unless a sync is under way.
    fn write(&mut self, id: u64, lazy: bool) {
        let Some(Node {
            log, busy_until, ..
        }) = self.nodes.get_mut(&id)
        else {
            return;
        };
        log.urgent |= lazy && log.bytes > 0;
        if log.syncing.is_some() || !log.urgent {
            return;
        }
        let takes = sync(log.bytes, &mut self.dice);
        log.syncing = Some(log.last_ticket);
        (log.bytes, log.urgent) = (0, false);
        let at = (*busy_until).max(self.now) + takes;
        self.at(at, Event::Synced(id));
    }

    fn synced(&mut self, id: u64) {
        let node = self.nodes.get_mut(&id);
        if let Some(up_to) = node.and_then(|node| node.log.syncing.take()) {
            self.arrive(id, Call::Written(up_to));
            self.write(id, false);
        }
    }
}

/// As the server hands them over: confirmations, then letters, then all proposals and all reads at once.
fn inputs(node: &mut Node, calls: Vec<Call>, puts: &mut u64) -> Vec<Input> {
    let (mut inputs, mut letters) = (Vec::new(), Vec::new());
    let (mut proposals, mut tokens) = (Vec::new(), Vec::new());
    for call in calls {
        match call {
            Call::Written(up_to) => inputs.push(Input::Written {
                up_to,
                result: Ok(()),
            }),
            Call::Checkpointed(index) => inputs.push(Input::Checkpointed {
                index,
                result: Ok(1),
            }),
            Call::Peer(from, message) => letters.push(Input::Peer { from, message }),
            Call::Transfer(to) => letters.push(Input::TransferLeader { token: 0, to }),
            Call::Tick => {}
            Call::Client(client, ask) => {
                node.next_token += 1;
                node.waiting.insert(node.next_token, client);
                match ask {
                    Ask::Read => tokens.push(node.next_token),
                    Ask::Put => {
                        *puts += 1;
                        proposals.push(Proposal {
                            token: node.next_token,
                            command: Request::Put(put(*puts)).into(),
                        });
                    }
                }
            }
        }
    }
    inputs.extend(letters);
    inputs.extend((!proposals.is_empty()).then_some(Input::Propose(proposals)));
    inputs.extend((!tokens.is_empty()).then_some(Input::Barrier { tokens }));
    if inputs.is_empty() {
        inputs.push(Input::Tick);
    }
    inputs
}

/// A key of 16 bytes out of ten thousand, and a value of 256.
fn put(number: u64) -> PutRequest {
    PutRequest {
        key: format!("key-{:012}", number % 10_000).into_bytes(),
        value: vec![b'v'; 256],
        ..PutRequest::default()
    }
}

fn settings(id: u64, members: u64, seed: u64) -> Settings {
    let urls = |id: u64| (id, vec![format!("http://m{id}")]);
    Settings {
        id,
        initial_members: (1..=members).map(urls).collect(),
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_secs(1),
        pre_vote: true,
        request_timeout: Duration::from_secs(7),
        snapshot_entries: 10_000,
        catch_up_entries: 5000,
        checkpoint_log_bytes: 256 << 20,
        checkpoint_entries: None,
        auto_compaction: AutoCompaction::Off,
        learners_max: 1,
        strict_reconfiguration: true,
        comparison_interval: None,
        sizes: Sizes::default(),
        lease_record_interval: None,
        seed,
        incarnation: 1,
        planted: Planted::default(),
    }
}

/// What a step of a member's thread costs, and each thing that it takes: as measured of the core, alone on a processor.
const STEP: Duration = Duration::from_micros(5);
const PER_CALL: Duration = Duration::from_micros(1);
/// How long records wait that nobody asked to have synced.
const LAZY_DELAY: Duration = Duration::from_millis(50);
const CHECKPOINT: Duration = Duration::from_millis(50);
/// Bytes of frames and headers around a letter.
const ENVELOPE: u64 = 100;
