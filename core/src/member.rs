//! One member of a cluster as a value: the one door of the core.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, Request};
use crate::compactor::Compactor;
use crate::input::Input;
use crate::lease::lessor::Lessor;
use crate::output::{Outcome, Output, Published};
use crate::pending::{Asker, Pending, PendingProposals, Place};
use crate::plant::Plant;
use crate::raft::config::config;
use crate::raft::executor::Executor;
use crate::raft::following;
use crate::raft::installing::Installer;
use crate::raft::log_store::LogStore;
use crate::raft::machine::{BadDescription, Machine, Replica};
use crate::raft::network::Network;
use crate::raft::outbox::{Outbox, SharedOutbox};
use crate::raft::proposer;
use crate::raft::receiving::Assembly;
use crate::raft::retention::SharedRetention;
use crate::raft::spoiling::spoilt;
use crate::raft::trimmer::Trimmer;
use crate::raft::types::{Peer, Raft};

mod answering;
mod checkpointing;
mod compacting;
mod comparing;
mod confirming;
mod forwarding;
mod forwarding_changes;
mod leadership;
mod leasing;
mod letters;
mod memberships;
mod publishing;
mod reading;
mod receiving;
mod reconfiguring;
mod settings;
mod silence;
mod sizes;
mod standing;
mod sweeping;
mod transferring;

pub use settings::{Recovered, Settings};
pub use sizes::Sizes;

use checkpointing::Checkpoints;
use comparing::Comparison;
use forwarding::Forwards;
use forwarding_changes::ForwardedChanges;
use leadership::Leadership;
use leasing::Asks;
use reading::Barriers;
use reconfiguring::Changes;
use silence::Silence;
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
    log: LogStore,
    replica: Rc<RefCell<Replica>>,
    proposer: proposer::Queue,
    pending: PendingProposals,
    forwards: Forwards,
    barriers: Barriers,
    leadership: Leadership,
    silence: Silence,
    lessor: Lessor,
    asks: Asks,
    compactor: Compactor,
    changes: Changes,
    forwarded_changes: ForwardedChanges,
    transfers: Transfers,
    assembly: Assembly,
    installer: Installer,
    standing: Standing,
    comparison: Comparison,
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

/// How often one step lets happen what came up in it; what is left rings at once.
const ROUNDS_MAX: usize = 3;

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
        let (replica, log) = spoilt(settings.planted(), replica, recovered.log);
        let fresh = replica.last_applied.is_none() && log.entries.is_empty();
        let replica = Rc::new(RefCell::new(replica));
        let log_bytes = log.bytes();
        let covered = replica.borrow().last_applied.map_or(0, |id| id.index());
        let log = LogStore::new(log, Rc::clone(&outbox), settings.sizes.read_bytes);
        let retention = SharedRetention::default();
        let trimmer = Trimmer::new(log.clone(), Rc::clone(&retention), &settings);
        let machine = Machine::new(&settings, Rc::clone(&replica), Rc::clone(&outbox));
        let network = Network::new(Rc::clone(&outbox), &settings, retention);
        let config = Arc::new(config(&settings));
        let started = Raft::new(settings.id, config, network, log.clone(), machine);
        let raft = executor
            .block_on(started)
            .expect("consensus starts: its settings are checked and its log is contiguous");
        let proposer = proposer::Queue::default();
        executor.enter(|| proposer.run(&executor, raft.clone(), Rc::clone(&outbox)));
        let state = replica.borrow().state.view();
        let standing = Standing::new(&state.removed);
        let installer = Installer::new(&raft, &outbox, &log, &replica, settings.planted());
        let mut member = Self {
            id: settings.id,
            executor,
            raft,
            proposer,
            pending: PendingProposals::new(settings.incarnation),
            forwards: Forwards::new(settings.incarnation),
            barriers: Barriers::new(settings.incarnation),
            leadership: Leadership::default(),
            silence: Silence::default(),
            lessor: Lessor::of(&settings),
            asks: Asks::new(settings.incarnation),
            compactor: Compactor::new(settings.auto_compaction, now),
            changes: Changes::default(),
            forwarded_changes: ForwardedChanges::default(),
            transfers: Transfers::default(),
            assembly: Assembly::new(settings.election_timeout),
            installer,
            standing,
            comparison: Comparison::default(),
            outputs: VecDeque::new(),
            until_swept: Vec::new(),
            sweep_at: sweeping::at_start(&replica, now),
            checkpoints: Checkpoints::new(log_bytes, covered),
            trimmer,
            published: Published::at_start(state.kv, state.bytes_in_use),
            outbox,
            log,
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
            Input::StepDown { token } => self.step_down(token),
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
            .chain(self.leadership.alarm())
            .chain(self.forwards_alarm())
            .chain(self.barriers_alarm())
            .chain(self.sweep_at)
            .chain(self.leases_alarm())
            .chain(self.compactor.next_alarm())
            .chain(self.changes.alarm(self.now))
            .chain(self.forwarded_changes.alarm(self.now))
            .chain(self.transfers.alarm())
            .chain(self.assembly.alarm())
            .chain(
                self.comparison
                    .alarm(self.now, self.settings.election_timeout),
            )
            .min()
    }

    /// The member's id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What readers see now.
    pub fn published(&self) -> &Published {
        &self.published
    }

    /// Whether, by all that it has applied, this is a member, and votes if it is to: one that joins catches up first.
    pub fn votes_if_it_should(&self) -> bool {
        let replica = self.replica.borrow();
        let membership = replica.membership.membership();
        let mut configs = membership.get_joint_config().iter();
        membership
            .get_node(&self.id)
            .is_some_and(|peer| !peer.joins || configs.all(|voters| voters.contains(&self.id)))
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
        } else if following::is_only_voter(&following::newest_membership(&self.raft), self.id) {
            // Nobody else can lead, so waiting for an election timeout would only be a delay.
            drop(
                self.executor
                    .spawn(async move { raft.trigger().elect(false).await }),
            );
        }
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
        if self.settings.planted().is(Plant::FollowersEndLeases) {
            // By the way that clients' proposals take.
            return self.forwards.wait(number);
        }
        let term = self.published.term;
        self.executor
            .enter(|| self.proposer.push(term, number, command));
    }

    /// Lets everything that can happen at this time happen, and collects what came of it.
    fn turn(&mut self, now: Duration) {
        for _ in 0..ROUNDS_MAX {
            self.go_round(now);
            let proposed = self.tend_leases();
            let proposed = self.tend_compactor() || proposed;
            let started = self.tend_membership();
            let started = self.tend_transfers() || started;
            let leads = following::leads(&self.raft);
            let compared = self.tend_comparison(leads);
            let more =
                self.tend_standing(leads) || compared || started || proposed || self.has_more();
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
        self.beat();
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
}

#[cfg(test)]
mod tests;
