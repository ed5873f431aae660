//! One member of a cluster as a value: the one door of the core.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use openraft::{Config, Membership, SnapshotPolicy};

use crate::command::{Command, MemberAttributes, Request};
use crate::compactor::{AutoCompaction, Compactor};
use crate::input::Input;
use crate::lease::lessor::Lessor;
use crate::mvcc::{Store, Sweep};
use crate::output::{DiskOp, MemberInfo, Outcome, Output, Published, Refusal};
use crate::pending::{Asker, Pending, PendingProposals, Place};
use crate::raft::executor::Executor;
use crate::raft::following::followed;
use crate::raft::log_store::LogStore;
use crate::raft::machine::{BadDescription, Machine, Replica};
use crate::raft::message::{Body, Forwarded, PeerMessage};
use crate::raft::network::{Network, Reply, Request as PeerRequest};
use crate::raft::outbox::{Ended, Outbox, SharedOutbox};
use crate::raft::receiving::Assembly;
use crate::raft::reception;
use crate::raft::retention::SharedRetention;
use crate::raft::trimmer::{Sight, Trimmer};
use crate::raft::types::{Peer, Raft};
use crate::raft::{RecoveredLog, proposer};
use crate::state::StateView;

mod compacting;
mod forwarding;
mod leasing;
mod memberships;
mod reading;
mod receiving;
mod reconfiguring;
mod standing;
mod transferring;

use forwarding::{End, Forwards};
use leasing::Asks;
use reading::Barriers;
use reconfiguring::Changes;
use standing::Standing;
use transferring::Transfers;

/// A cluster member: consensus, the replicated state, and the clients that wait, without any IO.
///
/// The contract, in the order of its use:
/// 1. [`Member::handle`] takes one [`Input`] and the time; time never goes backwards.
/// 2. [`Member::poll_output`] is called until it returns `None`; each [`Output`] is performed in order.
///    Only then comes the next input.
/// 3. [`Member::poll_timeout`] tells when to come back with [`Input::Tick`] if nothing else happens.
///
/// Equal inputs at equal times give equal outputs, in any process.
///
/// A member is not `Send`: it lives on one thread (or in one simulated node) from its creation on.
pub struct Member {
    id: u64,
    settings: Settings,
    executor: Executor,
    raft: Raft,
    outbox: SharedOutbox,
    replica: Rc<RefCell<Replica>>,
    proposer: proposer::Queue,
    pending: PendingProposals,
    forwards: Forwards,
    barriers: Barriers,
    lessor: Lessor,
    asks: Asks,
    compactor: Compactor,
    changes: Changes,
    transfers: Transfers,
    assembly: Assembly,
    standing: Standing,
    outputs: VecDeque<Output>,
    /// Answers to physical compactions, until the sweep is done.
    until_swept: Vec<(u64, Outcome)>,
    /// When the next slice of a sweep is due, while there is one.
    sweep_at: Option<Duration>,
    checkpoints: Checkpoints,
    trimmer: Trimmer,
    published: Published,
    now: Duration,
}

/// What a member is told at its start, for good.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The member's id, unique in the cluster for all time.
    pub id: u64,
    /// All first members with their peer URLs, for a cluster that has no log yet; empty to wait to be added.
    pub initial_members: BTreeMap<u64, Vec<String>>,
    /// The leader's heartbeat.
    pub heartbeat: Duration,
    /// How long a follower waits for a heartbeat; at least five heartbeats.
    pub election_timeout: Duration,
    /// Whether a candidate asks first whether it could win.
    pub pre_vote: bool,
    /// How long a request may take before it is answered with [`Refusal::TimedOut`].
    pub request_timeout: Duration,
    /// Entries between two snapshots in memory, after which the log in memory is cut.
    pub snapshot_entries: u64,
    /// Entries kept in memory behind the snapshot, for followers that lag a little.
    pub catch_up_entries: u64,
    /// Bytes of log that make a new checkpoint on the disk due.
    pub checkpoint_log_bytes: u64,
    /// Entries that make one due, whatever their size; none for no such limit.
    pub checkpoint_entries: Option<u64>,
    /// How long a lease runs before what it has left is recorded, so that a new leader counts on from there;
    /// none to record nothing, and give every lease its full time again.
    pub lease_record_interval: Option<Duration>,
    /// What the member compacts by itself while it leads.
    pub auto_compaction: AutoCompaction,
    /// Learners that the cluster may have at once.
    pub learners_max: usize,
    /// Whether changes of the membership that endanger the quorum are refused.
    pub strict_reconfiguration: bool,
    /// How often a leader has the others compare their history with its own; none for never.
    pub comparison_interval: Option<Duration>,
    /// Seeds the member's dice (election jitter); different per member and per start.
    pub seed: u64,
    /// The number of this start, so that replies to an earlier life are not mistaken.
    pub incarnation: u32,
    /// A fault on purpose: a member that led when it stopped leads the same term again.
    #[cfg(feature = "plant")]
    pub leader_restore: bool,
}

/// What the disk held when the member was started.
#[derive(Default)]
pub struct Recovered {
    /// The newest checkpoint: its keys and its description.
    pub checkpoint: Option<(Store, Vec<u8>)>,
    /// The log after it.
    pub log: RecoveredLog,
}

/// When to write the state to the disk.
#[derive(Default)]
struct Checkpoints {
    /// The index of the one under way that this member takes by itself.
    running: Option<u64>,
    /// What the log holds beyond the last one.
    log_bytes: u64,
    /// The entry that the last one covers.
    covered: u64,
    /// The length of its file.
    last_bytes: u64,
}

/// Proposals that may be under way at once; more are refused at once rather than queued.
pub const PROPOSALS_MAX: usize = 16_384;

/// What a lease counts for in the bytes in use, so that the quota bounds their number.
const LEASE_BYTES: u64 = 64;

/// How often one step lets happen what came up in it; what is left rings at once.
const ROUNDS_MAX: usize = 3;

/// Changes looked at in one slice of the sweep after a compaction.
const SWEEP_CHANGES: usize = 256;

/// The pause between two slices, a few times as long as a slice takes, so that a sweep never has a core for itself.
const SWEEP_PAUSE: Duration = Duration::from_micros(500);

impl Member {
    /// Starts a member from what its disk held.
    ///
    /// # Errors
    /// When the checkpoint cannot be read.
    pub fn new(
        settings: Settings,
        recovered: Recovered,
        now: Duration,
    ) -> Result<Self, BadDescription> {
        let mut executor = Executor::new(settings.seed, now);
        let outbox: SharedOutbox = Rc::new(RefCell::new(Outbox::new(settings.incarnation)));
        let replica = match recovered.checkpoint {
            Some((store, description)) => Replica::restore(store, &description)?,
            None => Replica::new(),
        };
        let fresh = replica.last_applied.is_none() && recovered.log.entries.is_empty();
        let replica = Rc::new(RefCell::new(replica));
        let log_bytes = recovered.log.bytes();
        let covered = replica.borrow().last_applied.map_or(0, |id| id.index());
        let log = LogStore::new(recovered.log, Rc::clone(&outbox));
        let retention = SharedRetention::default();
        let kept = settings.catch_up_entries;
        let trimmer = Trimmer::new(log.clone(), Rc::clone(&retention), kept);
        let machine = Machine::new(Rc::clone(&replica), Rc::clone(&outbox));
        let patience = settings.election_timeout;
        let network = Network::new(Rc::clone(&outbox), patience, retention);
        let config = Arc::new(consensus_config(&settings));
        let id = settings.id;
        let started = executor.block_on(Raft::new(id, config, network, log, machine));
        let raft =
            started.expect("consensus starts: its settings are checked and its log is contiguous");
        let proposer = proposer::Queue::default();
        executor.enter(|| proposer.run(&executor, raft.clone(), Rc::clone(&outbox)));
        let state = replica.borrow().state.view();
        let standing = Standing::new(&state.removed);
        let mut member = Self {
            id,
            executor,
            raft,
            proposer,
            pending: PendingProposals::new(settings.incarnation),
            forwards: Forwards::new(settings.incarnation),
            barriers: Barriers::new(settings.incarnation),
            lessor: Lessor::new(settings.election_timeout, settings.lease_record_interval),
            asks: Asks::new(settings.incarnation),
            compactor: Compactor::new(settings.auto_compaction, now),
            changes: Changes::default(),
            transfers: Transfers::default(),
            assembly: Assembly::default(),
            standing,
            outputs: VecDeque::new(),
            until_swept: Vec::new(),
            sweep_at: None,
            checkpoints: Checkpoints {
                log_bytes,
                covered,
                ..Checkpoints::default()
            },
            trimmer,
            published: first_published(state),
            outbox,
            replica,
            settings,
            now,
        };
        member.executor.run_until_idle(now);
        member.bootstrap(fresh);
        member.turn(now);
        Ok(member)
    }

    /// Takes one input at a time `now`, which counts from an origin of the caller's choice.
    ///
    /// # Panics
    /// If `now` lies before the time of an earlier call.
    pub fn handle(&mut self, now: Duration, input: Input) {
        assert!(now >= self.now, "time never goes backwards");
        self.now = now;
        let Some(input) = self.sift(input) else {
            return;
        };
        match input {
            Input::Tick => {}
            Input::Propose(proposals) => self.propose(proposals),
            Input::Barrier { tokens } => self.await_barrier(tokens),
            Input::AskLeases(queries) => self.ask_leases(queries),
            Input::ChangeMembership { token, change } => self.change_membership(token, change),
            Input::TransferLeader { token, to } => self.transfer_leader(token, to),
            Input::Peer { from, message } => self.receive(from, message),
            Input::PeerUnreachable { message, reason } => self.undelivered(message, reason),
            Input::Written { up_to, result } => {
                self.executor
                    .enter(|| self.outbox.borrow_mut().confirm_writes(up_to, &result));
            }
            Input::Checkpointed { index, result } => self.checkpointed(index, result),
        }
        self.turn(now);
    }

    /// The next thing to do, until there is none.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Member::handle`] again if no input comes before.
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.standing.is_removed() {
            return None;
        }
        let raft = self.executor.next_deadline().map(|at| at.to_epoch());
        let at_once = (!self.executor.is_idle()).then_some(self.now);
        raft.into_iter()
            .chain(at_once)
            .chain(self.pending.deadline())
            .chain(self.forwards_alarm())
            .chain(self.barriers_alarm())
            .chain(self.sweep_at)
            .chain(self.leases_alarm())
            .chain(self.compactor.next_alarm())
            .chain(self.changes.alarm())
            .chain(self.transfers.alarm())
            .chain(self.assembly.alarm())
            .chain(self.standing.alarm())
            .min()
    }

    /// What readers see now.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// The fingerprint of the replicated state, see [`crate::state::State::hash`].
    pub fn state_hash(&self) -> u64 {
        self.replica.borrow().state.hash()
    }

    /// Bytes of the log entries kept in memory, roughly.
    pub fn log_bytes(&self) -> usize {
        self.trimmer.log_bytes()
    }

    /// Checks the invariants of the replicated state.
    ///
    /// # Panics
    /// In words, when one is broken.
    pub fn validate(&self) {
        self.replica.borrow().state.validate();
    }

    fn bootstrap(&mut self, fresh: bool) {
        let raft = self.raft.clone();
        if fresh && !self.settings.initial_members.is_empty() {
            let peer = |urls: &Vec<String>| Peer {
                urls: urls.clone(),
                joins: true,
            };
            let first = self.settings.initial_members.iter();
            let members: BTreeMap<u64, Peer> = first.map(|(id, urls)| (*id, peer(urls))).collect();
            assert!(
                members.contains_key(&self.id),
                "a member starts only a cluster that it belongs to"
            );
            drop(
                self.executor
                    .spawn(async move { raft.initialize(members).await }),
            );
        } else if self.is_only_voter() {
            // Nobody else can lead, so waiting for an election timeout would only be a delay.
            drop(
                self.executor
                    .spawn(async move { raft.trigger().elect(false).await }),
            );
        }
    }

    fn is_only_voter(&self) -> bool {
        let mut voters = self.raft.voter_ids();
        voters.next() == Some(self.id) && voters.next().is_none()
    }

    /// Proposes something that no client asked for. Whoever does bounds how much of it is under way.
    fn propose_internally(&mut self, asker: Asker, request: Request) {
        let command = Command::from(request);
        let number = self.pending.add(Pending {
            asker,
            deadline: self.now + self.settings.request_timeout,
            command: command.clone(),
            place: Place::Here,
        });
        self.executor.enter(|| self.proposer.push(number, command));
    }

    fn receive(&mut self, from: u64, message: PeerMessage) {
        match message.body {
            Body::Reply(reply) => {
                if matches!(reply, Reply::Removed) {
                    self.standing.tell_removed();
                }
                self.executor.enter(|| {
                    self.outbox
                        .borrow_mut()
                        .finish_call(message.call, Ok(reply))
                });
            }
            Body::Request(_) if self.is_stranger(from) => self.refuse_stranger(from, message.call),
            Body::Request(PeerRequest::Chunk(chunk)) => {
                self.receive_chunk(from, message.call, chunk)
            }
            Body::Request(PeerRequest::Compare(marks)) => self.compare(from, &marks),
            Body::Request(PeerRequest::Farewell) => {
                self.standing.tell_removed();
                let mut outbox = self.outbox.borrow_mut();
                outbox.reply(from, message.call, Reply::Taken);
            }
            Body::Request(request) => {
                let (raft, outbox, call) =
                    (self.raft.clone(), Rc::clone(&self.outbox), message.call);
                drop(self.executor.spawn(async move {
                    let reply = reception::serve(&raft, request).await;
                    outbox.borrow_mut().reply(from, call, reply);
                }));
            }
            Body::Forwarded(_) if self.is_stranger(from) => {
                self.refuse_stranger(from, message.call)
            }
            Body::Forwarded(forwarded) => self.receive_forwarded(from, message.call, forwarded),
        }
    }

    fn receive_forwarded(&mut self, from: u64, call: u64, forwarded: Forwarded) {
        match forwarded {
            Forwarded::Proposals { term, proposals } => {
                self.take_proposals(from, call, term, proposals);
            }
            Forwarded::Ended(ends) => self.take_ends(from, ends),
            Forwarded::AskReadIndex => self.serve_read_index(from, call),
            Forwarded::ReadIndex { term, index } => {
                self.take_read_index(from, call, Some((term, index)));
            }
            Forwarded::NoReadIndex => self.take_read_index(from, call, None),
            Forwarded::AskLeases(queries) => self.serve_leases(from, queries),
            Forwarded::LeaseAnswers(answers) => self.take_lease_answers(answers),
        }
    }

    /// A message may not have arrived, though it may have. Forwarded proposals are not sent again, since they must not
    /// be proposed twice; questions are, after a while.
    fn undelivered(&mut self, message: PeerMessage, reason: String) {
        match message.body {
            Body::Request(_) => self.executor.enter(|| {
                self.outbox
                    .borrow_mut()
                    .finish_call(message.call, Err(reason));
            }),
            Body::Forwarded(Forwarded::AskReadIndex) => self.read_index_lost(message.call),
            Body::Reply(_) | Body::Forwarded(_) => {}
        }
    }

    fn checkpointed(&mut self, index: u64, result: Result<u64, String>) {
        self.checkpoints.running.take_if(|at| *at == index);
        let confirmed = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.executor.enter(|| {
            self.outbox
                .borrow_mut()
                .confirm_checkpoint(index, &confirmed)
        });
        if let Ok(bytes) = result {
            self.checkpoints.last_bytes = bytes;
            self.checkpoints.covered = self.checkpoints.covered.max(index);
            self.outputs
                .push_back(Output::Disk(DiskOp::DropCovered { index }));
        }
    }

    /// Lets everything that can happen at this time happen, and collects what came of it.
    fn turn(&mut self, now: Duration) {
        for _ in 0..ROUNDS_MAX {
            self.go_round(now);
            let proposed = self.tend_leases();
            let proposed = self.tend_compactor() || proposed;
            let started = self.tend_membership();
            let started = self.tend_transfers() || started;
            let more = self.tend_standing() || started || proposed || self.has_more();
            if !more {
                break;
            }
        }
        self.assembly.drop_silent(now);
        self.consider_checkpoint();
    }

    /// Whether something that came up in a round can go on at once.
    fn has_more(&self) -> bool {
        let alarms = self
            .forwards_alarm()
            .into_iter()
            .chain(self.barriers_alarm());
        alarms.min().is_some_and(|at| at <= self.now)
    }

    fn go_round(&mut self, now: Duration) {
        self.route();
        self.start_barrier();
        // Before anything is applied: what a compaction gives up stays until a view with its boundary is published, so
        // that watchers who have everything up to the view before still find what follows.
        if self.sweep_at.is_some_and(|at| at <= now) {
            self.sweep();
        }
        self.executor.run_until_idle(now);
        let ended = self.collect_ended();
        self.collect_messages();
        self.publish();
        self.answer(ended);
        self.finish_forwards();
        self.finish_barriers();
        self.expire();
        self.send_ends();
    }

    fn collect_messages(&mut self) {
        loop {
            let disk = self.outbox.borrow_mut().next_disk();
            let Some(op) = disk else { break };
            if let DiskOp::Write { records, .. } = &op {
                self.checkpoints.log_bytes +=
                    records.iter().map(|r| r.encoded_len() as u64).sum::<u64>();
            }
            self.outputs.push_back(Output::Disk(op));
        }
        while let Some(letter) = { self.outbox.borrow_mut().next_letter() } {
            self.outputs.push_back(Output::Send {
                to: letter.to,
                message: letter.message,
            });
        }
    }

    fn collect_ended(&mut self) -> Vec<End> {
        let mut ends = Vec::new();
        loop {
            let next = self.outbox.borrow_mut().next_ended();
            let Some((number, ended)) = next else {
                return ends;
            };
            let (index, result) = match ended {
                // What the member does by itself is not tried again: it must keep its order.
                Ended::TooEarly if self.try_again(number, true) => continue,
                Ended::TooEarly => (0, Err(Refusal::NotLeader { leader: None })),
                Ended::Refused(Refusal::NotLeader { .. }) if self.try_again(number, false) => {
                    continue;
                }
                Ended::Refused(refusal) => (0, Err(refusal)),
                Ended::Applied(index, result) => {
                    self.forwards.leader_is_ready();
                    (index, result.map_err(Refusal::from))
                }
            };
            // A proposal that is not pending any more has been answered as timed out.
            if let Some(Pending { asker, .. }) = self.pending.remove(number) {
                ends.push(End {
                    asker,
                    index,
                    result,
                });
            }
        }
    }

    fn answer(&mut self, ended: Vec<End>) {
        for End {
            asker,
            index,
            result: answer,
        } in ended
        {
            let token = match asker {
                Asker::Client(token) => token,
                Asker::Peer {
                    member,
                    letter,
                    number,
                } => {
                    self.return_end(member, (letter, number), index, answer);
                    continue;
                }
                Asker::Lessor(act) => {
                    self.asks.ended.push((act, answer.err()));
                    continue;
                }
                Asker::Compactor => {
                    self.compaction_ended(&answer);
                    continue;
                }
            };
            // One that came back from a leader may find the sweep here over.
            let sweeps = self.sweep_at.is_some();
            if sweeps && matches!(answer, Ok(Outcome::Compact { physical: true, .. })) {
                self.until_swept
                    .extend(answer.ok().map(|outcome| (token, outcome)));
                continue;
            }
            self.outputs.push_back(Output::Answer { token, answer });
        }
    }

    fn sweep(&mut self) {
        match self.replica.borrow_mut().state.sweep(SWEEP_CHANGES) {
            Sweep::More => self.sweep_at = Some(self.now + SWEEP_PAUSE),
            Sweep::Done => {
                self.sweep_at = None;
                let revision = self.published.view.compact_revision();
                self.outputs.push_back(Output::Compacted { revision });
                for (token, outcome) in self.until_swept.drain(..) {
                    self.outputs.push_back(Output::Answer {
                        token,
                        answer: Ok(outcome),
                    });
                }
            }
        }
    }

    fn expire(&mut self) {
        while let Some(pending) = self.pending.take_expired(self.now) {
            // Another member's client has a deadline there.
            if !matches!(pending.asker, Asker::Peer { .. }) {
                self.answer(vec![End {
                    asker: pending.asker,
                    index: 0,
                    result: Err(Refusal::TimedOut),
                }]);
            }
        }
    }

    /// Publishes what has changed since the last time.
    fn publish(&mut self) {
        let metrics = self.raft.metrics();
        let metrics = openraft::async_runtime::watch::WatchReceiver::borrow_watched(&metrics);
        let replica = self.replica.borrow();
        let applied = replica.last_applied.map_or(0, |id| id.index());
        let sight = Sight {
            applied,
            snapshot: metrics.snapshot.map(|id| id.index()),
            followed: followed(&metrics, self.now, 2 * self.settings.election_timeout),
            state_bytes: replica.state.kv().bytes_in_use(),
        };
        self.trimmer.look(&self.executor, &self.raft, sight);
        let term = metrics.current_term;
        let leader = metrics.current_leader;
        let committed = metrics
            .local_committed
            .map_or(0, |id| id.index())
            .max(applied);
        let membership = metrics.membership_config.membership();
        let only_voter = {
            let mut voters = membership.voter_ids();
            voters.next() == Some(self.id) && voters.next().is_none()
        };
        let caught_up = replica
            .last_applied
            .is_some_and(|id| id.committed_leader_id().term == term);
        let reads_need_no_quorum =
            only_voter && leader == Some(self.id) && caught_up && !self.standing.is_corrupt();
        let old = &self.published;
        if replica.state.kv().compact_revision() != old.view.compact_revision() {
            self.sweep_at = Some(self.now);
        }
        let revision_moved = replica.state.kv().revision() != old.view.revision()
            || replica.state.kv().compact_revision() != old.view.compact_revision();
        // What a sweep has freed counts against no quota any more.
        let bytes_in_use = counted_bytes(replica.state.kv());
        let swept = self.sweep_at.is_none() && bytes_in_use != old.bytes_in_use;
        if !revision_moved
            && !swept
            && (applied, committed, term, leader, reads_need_no_quorum)
                == (
                    old.applied,
                    old.committed,
                    old.term,
                    old.leader,
                    old.reads_need_no_quorum,
                )
        {
            return;
        }
        let view = replica.state.view();
        let members = list_members(membership, &view.members);
        let members = if *members == *old.members {
            Arc::clone(&old.members)
        } else {
            members.into()
        };
        self.published = Published {
            view: view.kv,
            bytes_in_use,
            applied,
            committed,
            term,
            leader,
            reads_need_no_quorum,
            members,
        };
        self.outputs
            .push_back(Output::Publish(Arc::new(self.published.clone())));
    }

    fn consider_checkpoint(&mut self) {
        let checkpoints = &self.checkpoints;
        let entries = self.published.applied.saturating_sub(checkpoints.covered);
        let bytes_due = self
            .settings
            .checkpoint_log_bytes
            .max(checkpoints.last_bytes / 4);
        let due = checkpoints.log_bytes >= bytes_due
            || self
                .settings
                .checkpoint_entries
                .is_some_and(|due| entries >= due);
        // A snapshot that is being installed is a checkpoint, and a newer one.
        if checkpoints.running.is_some() || !due || self.outbox.borrow().awaits_checkpoint() {
            return;
        }
        if let Some(checkpoint) = self.replica.borrow().checkpoint() {
            self.checkpoints.running = Some(checkpoint.index);
            self.checkpoints.log_bytes = 0;
            self.checkpoints.covered = checkpoint.index;
            self.outputs
                .push_back(Output::Disk(DiskOp::Checkpoint(checkpoint)));
        }
    }
}

/// What counts against the quota.
fn counted_bytes(kv: &Store) -> u64 {
    kv.bytes_in_use() + LEASE_BYTES * kv.leases().len() as u64
}

/// What readers see before consensus has said anything.
fn first_published(state: StateView) -> Published {
    Published {
        view: state.kv,
        bytes_in_use: state.bytes_in_use,
        applied: 0,
        committed: 0,
        term: 0,
        leader: None,
        reads_need_no_quorum: false,
        members: Arc::new([]),
    }
}

/// The members with what they published of themselves, by id.
fn list_members(
    membership: &Membership<u64, Peer>,
    published: &BTreeMap<u64, MemberAttributes>,
) -> Vec<MemberInfo> {
    membership
        .nodes()
        .map(|(id, peer)| {
            let attributes = published.get(id);
            MemberInfo {
                id: *id,
                name: attributes.map(|a| a.name.clone()).unwrap_or_default(),
                peer_urls: peer.urls.clone(),
                client_urls: attributes
                    .map(|a| a.client_urls.clone())
                    .unwrap_or_default(),
                is_learner: !peer.joins && !membership.voter_ids().any(|voter| voter == *id),
            }
        })
        .collect()
}

#[cfg(feature = "plant")]
fn leader_restore(settings: &Settings) -> bool {
    settings.leader_restore
}

#[cfg(not(feature = "plant"))]
fn leader_restore(_: &Settings) -> bool {
    false
}

fn consensus_config(settings: &Settings) -> Config {
    let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
    let election = millis(settings.election_timeout);
    let config = Config {
        cluster_name: "metastore".into(),
        heartbeat_interval: millis(settings.heartbeat),
        election_timeout_min: election,
        election_timeout_max: election * 2,
        install_snapshot_timeout: 60_000,
        max_payload_entries: 4096,
        replication_lag_threshold: settings.snapshot_entries.max(1) + settings.catch_up_entries,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(settings.snapshot_entries.max(1)),
        // The trimmer alone decides what goes.
        max_in_snapshot_log_to_keep: u64::MAX,
        enable_pre_vote: Some(settings.pre_vote),
        backoff: "50ms,100ms,200ms".into(),
        // A leader that lost its unsynced tail in a crash would come back as leader of the same term and
        // write other entries at the indexes its followers already hold.
        enable_leader_restore: Some(leader_restore(settings)),
        ..Config::default()
    };
    config
        .validate()
        .expect("the settings were checked by whoever made them")
}

#[cfg(test)]
mod tests;
