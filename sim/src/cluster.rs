//! The cluster: members that live and die on their disks, and the letters between them.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use madsim::task::spawn_local;
use madsim::time::sleep;
use metastore_core::compactor::AutoCompaction;
use metastore_core::member::{Member, Recovered, Settings};
use metastore_core::output::Published;
use metastore_core::raft::PeerMessage;

use crate::dice::Dice;
use crate::disk::Disk;
use crate::driver::{self, Call};
use crate::history::{Ending, Record};
use crate::judge::{Chronicle, Failure, Shown};
use crate::mailbox::Mailbox;
use crate::model::Op;
use crate::storage;
use crate::trace::{Trace, now};
use crate::world::{Plant, World};

/// Everything of one run, shared by its tasks, which all are on one thread.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) trace: Trace,
    pub(crate) chronicle: RefCell<Chronicle>,
    pub(crate) history: RefCell<Vec<Record>>,
    /// Whether anything may still break.
    pub(crate) faulty: Cell<bool>,
    pub(crate) faults: RefCell<Dice>,
    pub(crate) counts: Counts,
    /// The first broken promise ends the run.
    pub(crate) failures: Mailbox<Failure>,
    /// The newest revision any client was told of.
    acknowledged: Cell<i64>,
    disks: BTreeMap<u64, Rc<RefCell<Disk>>>,
    lives: RefCell<BTreeMap<u64, Rc<Life>>>,
    incarnations: RefCell<BTreeMap<u64, u32>>,
    cut_off: RefCell<BTreeSet<u64>>,
    network: RefCell<Dice>,
    /// What each member sent to each other lately.
    connections: RefCell<BTreeMap<(u64, u64), Recent>>,
}

type Recent = VecDeque<(Duration, PeerMessage)>;

/// What happened how often, for the verdict.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) answers: Cell<u64>,
    pub(crate) crashes: Cell<u64>,
    pub(crate) checkpoints: Cell<u64>,
    pub(crate) letters: Cell<u64>,
}

/// One life of a member, from its start to its crash.
pub(crate) struct Life {
    pub(crate) id: u64,
    pub(crate) inbox: Mailbox<Call>,
    pub(crate) alive: Cell<bool>,
    pub(crate) published: RefCell<Arc<Published>>,
    pub(crate) shown: RefCell<Shown>,
    /// Who waits for which token.
    pub(crate) waiting: RefCell<BTreeMap<u64, Waiting>>,
    pub(crate) log: Mailbox<storage::LogOp>,
    pub(crate) checkpoints: Mailbox<metastore_core::output::Checkpoint>,
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
        let disk = |id: u64| {
            let dice = Dice::new(seed, &format!("disk {id}"));
            (
                id,
                Rc::new(RefCell::new(Disk::new(id, world.segment_bytes, dice))),
            )
        };
        Rc::new(Self {
            disks: (1..=world.members).map(disk).collect(),
            trace: Trace::new(full_trace),
            chronicle: RefCell::new(Chronicle::new()),
            history: RefCell::default(),
            faulty: Cell::new(true),
            faults: RefCell::new(Dice::new(seed, "faults")),
            counts: Counts::default(),
            failures: Mailbox::new(),
            acknowledged: Cell::new(1),
            lives: RefCell::default(),
            incarnations: RefCell::default(),
            cut_off: RefCell::default(),
            network: RefCell::new(Dice::new(seed, "network")),
            connections: RefCell::default(),
            world,
        })
    }

    /// Starts a member from its disk.
    pub(crate) fn start(self: &Rc<Self>, id: u64) {
        if self.life(id).is_some() {
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
            Err(fault) => {
                let story = format!("m{id} refuses what a crash left on its disk: {fault}");
                return self.fail(Failure::new("recovery", story));
            }
        };
        self.trace.note(format_args!(
            "m{id} starts, life {incarnation}: checkpoint at {:?}, {} entries",
            recovered.log.purged.as_ref().map(|at| at.index()),
            recovered.log.entries.len()
        ));
        self.run(id, incarnation, recovered);
    }

    fn run(self: &Rc<Self>, id: u64, incarnation: u32, recovered: Recovered) {
        let member = match Member::new(self.settings(id, incarnation), recovered, now()) {
            Ok(member) => member,
            Err(error) => return self.fail(Failure::new("recovery", error.to_string())),
        };
        member.validate();
        let life = Rc::new(Life {
            id,
            inbox: Mailbox::new(),
            alive: Cell::new(true),
            published: RefCell::new(Arc::new(member.published().clone())),
            shown: RefCell::default(),
            waiting: RefCell::default(),
            log: Mailbox::new(),
            checkpoints: Mailbox::new(),
        });
        self.lives.borrow_mut().insert(id, Rc::clone(&life));
        spawn_local(driver::drive(Rc::clone(self), Rc::clone(&life), member));
        spawn_local(storage::write_log(Rc::clone(self), Rc::clone(&life)));
        spawn_local(storage::write_checkpoints(Rc::clone(self), life));
    }

    /// Takes the power from a member, in the middle of whatever its disk does, and starts it again later.
    pub(crate) fn crash(self: &Rc<Self>, id: u64, at: &str) {
        let Some(life) = self.lives.borrow_mut().remove(&id) else {
            return;
        };
        life.alive.set(false);
        let what = self.disk(id).borrow_mut().crash();
        if self.world.plant == Some(Plant::LosesSyncedBatch) {
            self.disk(id).borrow_mut().forget_last_batch();
        }
        bump(&self.counts.crashes);
        self.trace.note(format_args!("m{id} crashes {at}: {what}"));
        for (_, waiting) in std::mem::take(&mut *life.waiting.borrow_mut()) {
            waiting.answer.push(Ending::Lost);
        }
        self.break_connections(id);
        // Wakes the tasks of this life, which then end.
        life.inbox.push(Call::Nothing);
        life.log.push(storage::LogOp::Nothing);
        let down = self.faults.borrow_mut().between(1, self.world.down_ms_max);
        let cluster = Rc::clone(self);
        spawn_local(async move {
            sleep(Duration::from_millis(down)).await;
            cluster.start(id);
        });
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
        Rc::clone(&self.disks[&id])
    }

    /// A client was told of this revision.
    pub(crate) fn acknowledge(&self, revision: i64) {
        self.acknowledged.set(self.acknowledged.get().max(revision));
    }

    /// Holds what a member shows against the history.
    pub(crate) fn observe(&self, life: &Life, published: &Published) {
        let observed = self.chronicle.borrow_mut().observe(
            &mut life.shown.borrow_mut(),
            published,
            self.acknowledged.get(),
        );
        if let Err(mut failure) = observed {
            failure.story = format!("m{}: {}", life.id, failure.story);
            self.fail(failure);
        }
    }

    /// Cuts a member off from the others, or heals the cut.
    pub(crate) fn cut(&self, id: u64, off: bool) {
        let mut cut_off = self.cut_off.borrow_mut();
        let changed = if off {
            cut_off.insert(id)
        } else {
            cut_off.remove(&id)
        };
        if changed {
            let what = if off {
                "is cut off"
            } else {
                "is connected again"
            };
            self.trace.note(format_args!("m{id} {what}"));
            drop(cut_off);
            if off && !self.world.silent_loss {
                self.break_connections(id);
            }
        }
    }

    /// Takes a letter to its way. If it is lost, the connection breaks, and both ends are told what they cannot know to
    /// have arrived; in a world of silent loss nobody is told.
    pub(crate) fn send(self: &Rc<Self>, from: &Rc<Life>, to: u64, message: PeerMessage) {
        bump(&self.counts.letters);
        let (way, lost) = {
            let mut dice = self.network.borrow_mut();
            let way = Duration::from_millis(dice.between(1, self.world.message_ms_max));
            (way, dice.permille(self.world.loss_permille))
        };
        self.remember(from.id, to, message.clone());
        let (cluster, from) = (Rc::clone(self), Rc::clone(from));
        spawn_local(async move {
            sleep(way).await;
            let lost = lost && cluster.faulty.get();
            match cluster.life(to) {
                Some(life) if !lost && !cluster.is_cut(from.id, to) => {
                    life.inbox.push(Call::Peer {
                        from: from.id,
                        message,
                    });
                }
                Some(_) if cluster.world.silent_loss => {}
                _ => cluster.break_connection(from.id, to),
            }
        });
    }

    fn remember(&self, from: u64, to: u64, message: PeerMessage) {
        let mut connections = self.connections.borrow_mut();
        let recent = connections.entry((from, to)).or_default();
        recent.push_back((now(), message));
        let old = now().saturating_sub(CALL_TIME_MAX);
        while recent.front().is_some_and(|(sent, _)| *sent < old) {
            recent.pop_front();
        }
    }

    /// Both ends learn that whatever they sent lately may not have arrived, nor its answer.
    fn break_connection(&self, one: u64, other: u64) {
        for (from, to) in [(one, other), (other, one)] {
            let recent = self.connections.borrow_mut().remove(&(from, to));
            let Some(life) = self.life(from) else {
                continue;
            };
            for (_, message) in recent.into_iter().flatten() {
                life.inbox.push(Call::Undelivered(message));
            }
        }
    }

    fn break_connections(&self, id: u64) {
        for other in (1..=self.world.members).filter(|other| *other != id) {
            self.break_connection(id, other);
        }
    }

    fn is_cut(&self, one: u64, other: u64) -> bool {
        let cut_off = self.cut_off.borrow();
        cut_off.contains(&one) || cut_off.contains(&other)
    }

    fn settings(&self, id: u64, incarnation: u32) -> Settings {
        Settings {
            id,
            initial_members: (1..=self.world.members)
                .map(|id| (id, vec![format!("http://m{id}")]))
                .collect(),
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
            lease_record_interval: Some(Duration::from_secs(60)),
            seed: Dice::new(self.world.seed, &format!("member {id} {incarnation}")).roll(),
            incarnation,
        }
    }
}

/// Counts one more.
pub(crate) fn bump(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// No call to a peer is under way for longer.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);
