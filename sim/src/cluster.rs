//! The cluster: members that live and die on their disks, and the letters between them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use madsim::task::spawn_local;
use madsim::time::sleep;
use metastore_core::compactor::AutoCompaction;
use metastore_core::member::{Member, Recovered, Settings};
use metastore_core::output::{Checkpoint, Published};
use metastore_core::raft::PeerMessage;
use metastore_core::raft::types::Vote;

use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::driver::{self, Call};
use crate::faults::Ills;
use crate::machines::{Machines, Standing};
use crate::mailbox::Mailbox;
use crate::network::{Arrival, Network, Way};
use crate::plan::DiskError;
use crate::plant::Plant;
use crate::storage;
use crate::trace::{Trace, now};
use crate::watching::{self, Watches};
use crate::workload::members;
use crate::world::World;
use metastore_judges::bounds::Bounds;
use metastore_judges::history::{Ending, Moment, Record};
use metastore_judges::memberships::{Configuration, Seen};
use metastore_judges::model::Op;
use metastore_judges::monotonic::Shown;
use metastore_judges::watches::Stretch;
use metastore_judges::{Bench, Failure};

/// Everything of one run, shared by its tasks, which all are on one thread.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) trace: Trace,
    pub(crate) judges: RefCell<Bench>,
    pub(crate) bounds: Bounds,
    pub(crate) history: RefCell<Vec<Record>>,
    pub(crate) stretches: RefCell<Vec<Stretch>>,
    /// Whether anything may still break.
    pub(crate) faulty: Cell<bool>,
    /// Whether everything is at rest, so that watchers stop when they have everything.
    pub(crate) at_rest: Cell<bool>,
    pub(crate) faults: RefCell<Dice>,
    pub(crate) ills: RefCell<BTreeMap<u64, Ills>>,
    pub(crate) network: RefCell<Network>,
    pub(crate) counts: Counts,
    /// The first broken promise ends the run.
    pub(crate) failures: Mailbox<Failure>,
    /// The newest revision any client was told of.
    acknowledged: Cell<i64>,
    pub(crate) machines: RefCell<Machines>,
    pub(crate) changing: Changing,
    starts: RefCell<Dice>,
    lives: RefCell<BTreeMap<u64, Rc<Life>>>,
    incarnations: RefCell<BTreeMap<u64, u32>>,
}

/// What happened how often, for the verdict.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) answers: Cell<u64>,
    pub(crate) crashes: Cell<u64>,
    pub(crate) checkpoints: Cell<u64>,
    pub(crate) letters: Cell<u64>,
    pub(crate) events: Cell<u64>,
    pub(crate) leases_ended: Cell<u64>,
    pub(crate) registers: Cell<u64>,
    pub(crate) removed: Cell<u64>,
}

/// What clients that change the membership must know of each other, to take no more from it than it can lose.
#[derive(Default)]
pub(crate) struct Changing {
    /// One of them has destroyed a machine, or is about to, and nobody else changes anything.
    pub(crate) replacing: Cell<bool>,
    /// Changes asked for and not answered.
    pub(crate) under_way: Cell<u64>,
    /// The members whose removal or promotion was asked for, without an answer that says what came of it.
    pub(crate) doubtful: RefCell<BTreeSet<u64>>,
}

/// One life of a member, from its start to its crash.
pub(crate) struct Life {
    pub(crate) id: u64,
    pub(crate) clock: Clock,
    pub(crate) inbox: Mailbox<Call>,
    pub(crate) alive: Cell<bool>,
    pub(crate) published: RefCell<Arc<Published>>,
    pub(crate) shown: RefCell<Shown>,
    pub(crate) seen: Cell<Seen>,
    /// The entry of the newest membership that was applied before the last input.
    pub(crate) applied_before: Cell<u64>,
    /// The newest membership in its log.
    pub(crate) newest: RefCell<Option<Configuration>>,
    /// Who waits for which token.
    pub(crate) waiting: RefCell<BTreeMap<u64, Waiting>>,
    pub(crate) log: Mailbox<storage::LogOp>,
    pub(crate) checkpoints: Mailbox<Option<Checkpoint>>,
    /// How the next log write fails, and for how long the member then stays down.
    pub(crate) log_fault: Cell<Option<(DiskError, Duration)>>,
    pub(crate) watches: Watches,
    /// Says that there is a view for the watchers.
    pub(crate) views: Mailbox<()>,
}

/// A client that waits for an answer.
pub(crate) struct Waiting {
    pub(crate) op: Op,
    pub(crate) answer: Mailbox<Ending>,
}

impl Cluster {
    /// A cluster whose disks are empty and whose members do not run yet.
    pub(crate) fn new(world: World, full_trace: bool) -> Rc<Self> {
        let seed = world.seed;
        let clients = world.clients + world.movers + world.holders + world.changers;
        Rc::new(Self {
            machines: RefCell::new(Machines::new(&world)),
            changing: Changing::default(),
            starts: RefCell::new(Dice::new(seed, "starts")),
            trace: Trace::new(full_trace),
            judges: RefCell::default(),
            bounds: Bounds::new(world.snapshot_entries, world.catch_up_entries, clients),
            history: RefCell::default(),
            stretches: RefCell::default(),
            faulty: Cell::new(true),
            at_rest: Cell::new(false),
            faults: RefCell::new(Dice::new(seed, "faults")),
            ills: RefCell::default(),
            network: RefCell::new(Network::new(&world)),
            counts: Counts::default(),
            failures: Mailbox::new(),
            acknowledged: Cell::new(1),
            lives: RefCell::default(),
            incarnations: RefCell::default(),
            world,
        })
    }

    /// Starts a member from its disk, unless it runs or has nothing to do here any more.
    pub(crate) fn start(self: &Rc<Self>, id: u64) {
        let serves = self.machines.borrow().standing(id) == Some(Standing::Serves);
        if serves && self.life(id).is_none() {
            self.start_anyway(id);
        }
    }

    /// Starts a member that was removed and has stopped.
    pub(crate) fn revive(self: &Rc<Self>, id: u64) {
        let left = self.machines.borrow().standing(id) == Some(Standing::Left);
        if left && self.life(id).is_none() {
            self.trace.note(format_args!("m{id} comes back"));
            self.start_anyway(id);
        }
    }

    /// A new member's machine is there, with an empty disk, and the member is started.
    pub(crate) fn join(self: &Rc<Self>, id: u64) {
        if self.machines.borrow().standing(id).is_none() {
            self.machines.borrow_mut().bring(id);
            self.start(id);
        }
    }

    fn start_anyway(self: &Rc<Self>, id: u64) {
        if self.crashes_in_start(id) {
            return;
        }
        let incarnation = {
            let mut incarnations = self.incarnations.borrow_mut();
            let next = incarnations.entry(id).or_insert(0);
            *next += 1;
            *next
        };
        let recovered = match self.disk(id).borrow_mut().open() {
            Ok(recovered) => recovered,
            Err(fault) => return self.unreadable(id, &fault),
        };
        if let Some(vote) = &recovered.log.vote {
            self.voted(id, vote);
        }
        self.trace.note(format_args!(
            "m{id} starts, life {incarnation}: checkpoint at {:?}, {} entries",
            recovered.log.purged.as_ref().map(|at| at.index()),
            recovered.log.entries.len()
        ));
        self.run(id, incarnation, recovered);
    }

    /// Perhaps the power goes while a member reads its disk and makes it ready for more.
    fn crashes_in_start(self: &Rc<Self>, id: u64) -> bool {
        let odds = self.world.start_crash_permille;
        if !self.faulty.get() || !self.starts.borrow_mut().permille(odds) {
            return false;
        }
        let crashed = self.disk(id).borrow_mut().crash_in_start();
        match crashed {
            Err(fault) => self.unreadable(id, &fault),
            Ok(how) => {
                bump(&self.counts.crashes);
                let down = Duration::from_millis(
                    self.starts.borrow_mut().between(1, self.world.down_ms_max),
                );
                self.trace
                    .note(format_args!("m{id} crashes as it starts: {how}"));
                self.start_after(id, down);
            }
        }
        true
    }

    fn unreadable(&self, id: u64, fault: &str) {
        let story = format!("m{id} refuses what a crash left on its disk: {fault}");
        self.fail(Failure::new("recovery", story));
    }

    /// A vote is on a member's disk. One that is committed tells who leads, not whom the member elected.
    pub(crate) fn voted(&self, id: u64, vote: &Vote) {
        let candidate = vote.leader_id.voted_for;
        if !vote.committed || candidate == id {
            let mut judges = self.judges.borrow_mut();
            judges.memberships.vote(id, vote.leader_id.term, candidate);
        }
    }

    /// A member is about to vote; the judge of memberships looks for whom.
    pub(crate) fn votes(&self, life: &Life, vote: &Vote) {
        let (candidate, applied) = (vote.leader_id.voted_for, life.applied_before.get());
        let granted = match vote.committed {
            true => Ok(()),
            false => {
                let judges = self.judges.borrow();
                judges.memberships.grants(life.id, candidate, applied)
            }
        };
        if let Err(failure) = granted {
            self.fail(failure);
        }
    }

    fn run(self: &Rc<Self>, id: u64, incarnation: u32, recovered: Recovered) {
        let mut dice = Dice::new(self.world.seed, &format!("member {id} {incarnation}"));
        let seed = dice.roll();
        let clock = Clock::draw(&mut dice);
        let settings = self.settings(id, incarnation, seed);
        let member = match Member::new(settings, recovered, clock.at(now())) {
            Ok(member) => member,
            Err(error) => return self.fail(Failure::new("recovery", error.to_string())),
        };
        member.validate();
        let life = Rc::new(Life {
            id,
            clock,
            inbox: Mailbox::new(),
            alive: Cell::new(true),
            published: RefCell::new(Arc::new(member.published().clone())),
            shown: RefCell::default(),
            seen: Cell::default(),
            applied_before: Cell::default(),
            newest: RefCell::default(),
            waiting: RefCell::default(),
            log: Mailbox::new(),
            checkpoints: Mailbox::new(),
            log_fault: Cell::new(None),
            watches: Watches::new(Plant::in_core(self.world.plant)),
            views: Mailbox::new(),
        });
        self.lives.borrow_mut().insert(id, Rc::clone(&life));
        spawn_local(driver::drive(Rc::clone(self), Rc::clone(&life), member));
        spawn_local(storage::write_log(Rc::clone(self), Rc::clone(&life)));
        spawn_local(storage::write_checkpoints(
            Rc::clone(self),
            Rc::clone(&life),
        ));
        if self.world.changers > 0 {
            spawn_local(members::publish(Rc::clone(self), Rc::clone(&life)));
        }
        if self.world.watchers > 0 {
            spawn_local(watching::tend(life, dice));
        }
    }

    /// Takes the power from a member, in the middle of whatever its disk does, and starts it again later.
    pub(crate) fn crash(self: &Rc<Self>, id: u64, at: &str, down: Duration) {
        if self.life(id).is_none() {
            return;
        }
        let what = self.disk(id).borrow_mut().crash();
        if self.world.plant == Some(Plant::LosesSyncedBatch) {
            self.disk(id).borrow_mut().forget_last_batch();
        }
        bump(&self.counts.crashes);
        self.trace.note(format_args!("m{id} crashes {at}: {what}"));
        self.end_life(id);
        self.start_after(id, down);
    }

    /// The member was told that it was removed: it has answered everybody, and its process ends. Somebody may start it
    /// again who does not know.
    pub(crate) fn leave(self: &Rc<Self>, life: &Life) {
        let id = life.id;
        let told = self.judges.borrow().memberships.told(id);
        if let Err(failure) = told {
            self.fail(failure);
        }
        if !life.waiting.borrow().is_empty() {
            let story = format!("m{id} was removed and left clients without an answer");
            self.fail(Failure::new("answers", story));
        }
        let what = self.disk(id).borrow_mut().crash();
        self.trace
            .note(format_args!("m{id} was removed, and stops: {what}"));
        bump(&self.counts.removed);
        self.machines.borrow_mut().set_standing(id, Standing::Left);
        self.end_life(id);
        let after = {
            let mut starts = self.starts.borrow_mut();
            let after = Duration::from_millis(starts.between(500, COMES_BACK_MS_MAX));
            starts.permille(500).then_some(after)
        };
        if let Some(after) = after {
            let cluster = Rc::clone(self);
            spawn_local(async move {
                sleep(after).await;
                if cluster.faulty.get() {
                    cluster.revive(id);
                }
            });
        }
    }

    /// The machine of a member is gone for good, and its disk with it.
    pub(crate) fn destroy(self: &Rc<Self>, id: u64) {
        self.trace
            .note(format_args!("the machine of m{id} is destroyed"));
        self.machines
            .borrow_mut()
            .set_standing(id, Standing::Destroyed);
        if self.life(id).is_some() {
            self.disk(id).borrow_mut().crash();
            self.end_life(id);
        }
    }

    /// Ends the life of a member, whose disk knows already.
    fn end_life(&self, id: u64) {
        let life = self.lives.borrow_mut().remove(&id);
        let life = life.expect("whoever ends a life has seen it");
        life.alive.set(false);
        for (_, waiting) in std::mem::take(&mut *life.waiting.borrow_mut()) {
            waiting.answer.push(Ending::Lost);
        }
        for other in self.machines.borrow().all() {
            if other != id {
                self.break_connection(id, other);
            }
        }
        // Wakes the tasks of this life, which then end.
        life.inbox.push(Call::Nothing);
        life.log.push(storage::LogOp::Nothing);
        life.checkpoints.push(None);
        life.watches.end();
        life.views.push(());
    }

    fn start_after(self: &Rc<Self>, id: u64, down: Duration) {
        let cluster = Rc::clone(self);
        spawn_local(async move {
            sleep(down).await;
            cluster.start(id);
        });
    }

    /// For how long a member stays down that nobody planned to crash.
    pub(crate) fn down_time(&self) -> Duration {
        let most = self.world.down_ms_max;
        Duration::from_millis(self.faults.borrow_mut().between(1, most))
    }

    /// Reports a broken promise.
    pub(crate) fn fail(&self, failure: Failure) {
        self.trace
            .note(format_args!("the judge of {} objects", failure.judge));
        self.failures.push(failure);
    }

    /// The running life of a member.
    pub(crate) fn life(&self, id: u64) -> Option<Rc<Life>> {
        self.lives.borrow().get(&id).cloned()
    }

    /// Its disk, which survives it.
    pub(crate) fn disk(&self, id: u64) -> Rc<RefCell<Disk>> {
        let disk = self.machines.borrow().disk(id);
        disk.expect("only members that ever ran are asked for their disk")
    }

    /// The members that run, or will run again.
    pub(crate) fn serving(&self) -> Vec<u64> {
        self.machines.borrow().that(Standing::Serves)
    }

    /// Whether a member's process stands still.
    pub(crate) fn is_paused(&self, id: u64) -> bool {
        let ills = self.ills.borrow();
        ills.get(&id).is_some_and(|ills| ills.pauses > 0)
    }

    /// Whether a member belongs to the newest membership.
    pub(crate) fn takes_part(&self, id: u64) -> bool {
        let judges = self.judges.borrow();
        let newest = judges.memberships.newest();
        newest.is_some_and(|newest| newest.members.contains_key(&id))
    }

    /// A client was told of this revision.
    pub(crate) fn acknowledge(&self, revision: i64) {
        self.acknowledged.set(self.acknowledged.get().max(revision));
    }

    /// Notes an event of a client's and answers its place.
    pub(crate) fn moment(&self, ordinal: u64) -> Moment {
        Moment {
            ordinal,
            time: now(),
        }
    }

    /// Holds what a member shows against the history.
    pub(crate) fn observe(&self, life: &Life, published: &Published) {
        let observed = self.judges.borrow_mut().observe(
            life.id,
            &mut life.shown.borrow_mut(),
            published,
            self.acknowledged.get(),
            now(),
        );
        if let Err(mut failure) = observed {
            failure.story = format!("m{}: {}", life.id, failure.story);
            self.fail(failure);
        }
    }

    /// Takes a letter to its way.
    pub(crate) fn send(self: &Rc<Self>, from: u64, to: u64, message: PeerMessage) {
        bump(&self.counts.letters);
        let copies = self.network.borrow_mut().send((from, to), &message);
        for (takes, lost) in copies {
            let (cluster, message) = (Rc::clone(self), message.clone());
            spawn_local(async move {
                sleep(takes).await;
                match lost && cluster.faulty.get() {
                    true => cluster.lose((from, to)),
                    false => cluster.deliver((from, to), message),
                }
            });
        }
    }

    /// A letter is at the end of its way.
    pub(crate) fn deliver(self: &Rc<Self>, way: Way, message: PeerMessage) {
        let Some(life) = self.life(way.1) else {
            return self.lose(way);
        };
        let arrival = self.network.borrow_mut().arrive(way, &message);
        match arrival {
            Arrival::Open => life.inbox.push(Call::Peer {
                from: way.0,
                message,
            }),
            Arrival::Cut => self.lose(way),
            Arrival::HeldBack => {}
        }
    }

    /// A letter is lost. The connection breaks, and both ends are told what they cannot know to have arrived; in a
    /// world of silent loss nobody is told, save of a member that does not run.
    fn lose(&self, way: Way) {
        if !self.world.silent_loss || self.life(way.1).is_none() {
            self.break_connection(way.0, way.1);
        }
    }

    /// Both ends learn that whatever they sent lately may not have arrived, nor its answer.
    pub(crate) fn break_connection(&self, one: u64, other: u64) {
        for (from, to) in [(one, other), (other, one)] {
            let recent = self.network.borrow_mut().forget((from, to));
            let Some(life) = self.life(from) else {
                continue;
            };
            for message in recent {
                life.inbox.push(Call::Undelivered(message));
            }
        }
    }

    fn settings(&self, id: u64, incarnation: u32, seed: u64) -> Settings {
        Settings {
            id,
            initial_members: match id > self.world.members {
                true => BTreeMap::new(),
                false => (1..=self.world.members)
                    .map(|id| (id, vec![format!("http://m{id}")]))
                    .collect(),
            },
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_secs(1),
            pre_vote: true,
            request_timeout: Duration::from_secs(3),
            snapshot_entries: self.world.snapshot_entries,
            catch_up_entries: self.world.catch_up_entries,
            checkpoint_log_bytes: self.world.checkpoint_log_bytes,
            checkpoint_entries: None,
            auto_compaction: AutoCompaction::Off,
            learners_max: 1,
            strict_reconfiguration: true,
            comparison_interval: Some(Duration::from_secs(5)),
            // Short, so that leases of seconds are recorded, too.
            lease_record_interval: Some(Duration::from_secs(3)),
            seed,
            incarnation,
            planted: Plant::in_core(self.world.plant),
        }
    }
}

/// Counts one more.
pub(crate) fn bump(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// How long after its end a member may come back that was removed.
const COMES_BACK_MS_MAX: u64 = 5000;
