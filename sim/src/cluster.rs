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
use metastore_core::output::Checkpoint;
use metastore_core::raft::PeerMessage;
use metastore_core::raft::types::Vote;

use crate::clock::Clock;
use crate::dice::Dice;
use crate::disk::{CUT_HALFWAY, Disk, Rot};
use crate::driver::{self, Call};
use crate::faults::Ills;
use crate::machines::{Machines, Standing};
use crate::mailbox::Mailbox;
use crate::moments::Moments;
use crate::network::{Arrival, Network, Way};
use crate::noticing::{self, Noticing};
use crate::plan::{DiskError, Fault};
use crate::plant::Plant;
use crate::sometimes::{Situation, Sometimes};
use crate::storage;
use crate::trace::{Trace, now};
use crate::watching::{self, Views, Watches};
use crate::workload::{leases, members};
use crate::world::World;
use metastore_judges::bounds::Bounds;
use metastore_judges::claims::{Look, Tenure};
use metastore_judges::history::{Ending, Moment, Record};
use metastore_judges::memberships::{Configuration, Seen};
use metastore_judges::model::Op;
use metastore_judges::monotonic::Shown;
use metastore_judges::states::Examined;
use metastore_judges::watches::{Stream, Stretch};
use metastore_judges::{Bench, Failure};

/// Everything of one run, shared by its tasks, which all are on one thread.
pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) trace: Trace,
    pub(crate) judges: RefCell<Bench>,
    pub(crate) bounds: Bounds,
    pub(crate) history: RefCell<Vec<Record>>,
    pub(crate) stretches: RefCell<Vec<Stretch>>,
    pub(crate) streams: RefCell<Vec<Stream>>,
    pub(crate) looks: RefCell<Vec<Look>>,
    pub(crate) tenures: RefCell<Vec<Tenure>>,
    /// Whether anything may still break.
    pub(crate) faulty: Cell<bool>,
    /// Whether everything is at rest, so that watchers stop when they have everything.
    pub(crate) at_rest: Cell<bool>,
    /// How many rounds there were before this one, and when it began.
    pub(crate) round: Cell<u64>,
    pub(crate) round_began: Cell<Duration>,
    /// Clients that are not done.
    pub(crate) at_work: Cell<u64>,
    pub(crate) faults: RefCell<Dice>,
    pub(crate) ills: RefCell<BTreeMap<u64, Ills>>,
    pub(crate) network: RefCell<Network>,
    pub(crate) counts: Counts,
    /// Which situations came about, and what it takes to recognise them.
    pub(crate) sometimes: Sometimes,
    pub(crate) noticing: Noticing,
    pub(crate) moments: Moments,
    /// The first broken promise ends the run.
    pub(crate) failures: Mailbox<Failure>,
    /// The planned faults of a round that is not the first.
    pub(crate) planned: RefCell<Vec<Fault>>,
    /// The newest revision any client was told of.
    pub(crate) acknowledged: Cell<i64>,
    pub(crate) newest_term_shown: Cell<u64>,
    /// When each term was shown first that was the newest then.
    pub(crate) terms: RefCell<Vec<Duration>>,
    /// Since when nothing breaks any more and writes are taken.
    pub(crate) healed: Cell<Duration>,
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
    pub(crate) registers_given_up: Cell<u64>,
    pub(crate) registers_cut: Cell<u64>,
    pub(crate) handed_on: Cell<u64>,
    pub(crate) full: Cell<u64>,
    pub(crate) begun_in_the_future: Cell<u64>,
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
    /// How many lives of the member there were before, and this one.
    pub(crate) incarnation: u32,
    pub(crate) clock: Clock,
    pub(crate) inbox: Mailbox<Call>,
    pub(crate) alive: Cell<bool>,
    pub(crate) published: Views,
    pub(crate) shown: RefCell<Shown>,
    pub(crate) seen: Cell<Seen>,
    pub(crate) examined: Cell<Examined>,
    /// Whether it leads as far as it knows, and the last term in which it did.
    pub(crate) leads: Cell<bool>,
    pub(crate) led: Cell<u64>,
    /// The entry of the newest membership that was applied before the last input.
    pub(crate) applied_before: Cell<u64>,
    /// Who asks for a vote in the letter that is at hand.
    pub(crate) asked_by: Cell<Option<u64>>,
    /// The newest membership in its log.
    pub(crate) newest: RefCell<Option<Configuration>>,
    /// When its process stood still last.
    pub(crate) stood_still: Cell<Option<Duration>>,
    /// Who waits for which token.
    pub(crate) waiting: RefCell<BTreeMap<u64, Waiting>>,
    pub(crate) log: Mailbox<storage::LogOp>,
    pub(crate) checkpoints: Mailbox<Option<Checkpoint>>,
    pub(crate) unwritten_checkpoints: Cell<u64>,
    /// How much longer than usual the next one takes.
    pub(crate) checkpoint_takes_longer: Cell<Duration>,
    /// How a log write fails that comes before a time, until when the member then stays down.
    pub(crate) log_fault: Cell<Option<(DiskError, Duration)>>,
    /// It is to stop in good order, and does nothing more but to finish its log.
    pub(crate) stops: Cell<bool>,
    /// The last entry that its log was handed.
    pub(crate) handed: Cell<u64>,
    /// Up to which revision its checkpoint is compacted, and the last entry of the log behind that.
    pub(crate) replays: Cell<(i64, u64)>,
    pub(crate) watches: Watches,
    /// Says that there is a view for the watchers.
    pub(crate) views: Mailbox<()>,
}

/// A client that waits for an answer.
pub(crate) struct Waiting {
    pub(crate) op: Op,
    pub(crate) answer: Mailbox<Ending>,
    /// Who led when it was asked, as far as the member knew.
    pub(crate) leader: Option<u64>,
    /// The newest revision that the member showed then.
    pub(crate) shown: i64,
}

impl Waiting {
    /// Whoever asks a member now.
    pub(crate) fn new(life: &Life, op: Op, answer: Mailbox<Ending>) -> Self {
        let published = life.published.borrow();
        Self {
            op,
            answer,
            leader: published.leader,
            shown: published.view.revision(),
        }
    }
}

impl Cluster {
    /// A cluster whose disks are empty and whose members do not run yet.
    pub(crate) fn new(world: World, full_trace: bool) -> Rc<Self> {
        let seed = world.seed;
        let operators = world.plan.len() as u64 + 1;
        let clients = world.clients
            + world.movers
            + world.holders
            + world.changers
            + world.contenders
            + world.followers
            + leases::askers(&world)
            + operators;
        Rc::new(Self {
            machines: RefCell::new(Machines::new(&world)),
            changing: Changing::default(),
            starts: RefCell::new(Dice::new(seed, "starts")),
            trace: Trace::new(full_trace),
            judges: RefCell::default(),
            bounds: Bounds::new(world.snapshot_entries, world.catch_up_entries, clients),
            history: RefCell::default(),
            stretches: RefCell::default(),
            streams: RefCell::default(),
            looks: RefCell::default(),
            tenures: RefCell::default(),
            faulty: Cell::new(true),
            at_rest: Cell::new(false),
            round: Cell::new(0),
            round_began: Cell::new(Duration::ZERO),
            at_work: Cell::new(0),
            faults: RefCell::new(Dice::new(seed, "faults")),
            ills: RefCell::default(),
            network: RefCell::new(Network::new(&world)),
            counts: Counts::default(),
            sometimes: Sometimes::default(),
            noticing: Noticing::default(),
            moments: Moments::new(seed),
            failures: Mailbox::new(),
            planned: RefCell::default(),
            acknowledged: Cell::new(1),
            newest_term_shown: Cell::default(),
            terms: RefCell::default(),
            healed: Cell::default(),
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
        let opened = self.disk(id).borrow_mut().open();
        let recovered = match opened {
            Ok(recovered) => recovered,
            Err(fault) => return self.unreadable(id, &fault),
        };
        if self.misses_rot(id) {
            return;
        }
        if let Some(vote) = &recovered.log.vote {
            self.voted(id, vote);
        }
        self.notice_start(id, &recovered);
        self.trace.note(format_args!(
            "m{id} starts, life {incarnation}: checkpoint at {:?}, {} entries",
            recovered.log.purged.as_ref().map(|at| at.index()),
            recovered.log.entries.len()
        ));
        self.run(id, incarnation, recovered);
    }

    fn notice_start(&self, id: u64, recovered: &Recovered) {
        let (some, log) = (&self.sometimes, &recovered.log);
        let disk = self.disk(id);
        let found = disk.borrow().found();
        some.saw_if(found.torn_tail, Situation::TornTailCut);
        some.saw_if(found.closed, Situation::StoppedInOrder);
        some.saw_if(found.checkpoint_ahead, Situation::CheckpointAhead);
        let crashed = self.noticing.crashed_in_start.borrow_mut().remove(&id);
        some.saw_if(crashed, Situation::StartCrashed);
        let behind = log.purged.is_some() && !log.entries.is_empty();
        some.saw_if(behind, Situation::ReplayedBehindCheckpoint);
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
            Ok(_) if self.misses_rot(id) => {}
            Ok(how) => {
                bump(&self.counts.crashes);
                self.noticing.crashed_in_start.borrow_mut().insert(id);
                let halfway = how == CUT_HALFWAY && self.disk(id).borrow().found().torn_tail;
                self.sometimes
                    .saw_if(halfway, Situation::TornTailCutHalfway);
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

    /// The judge of rot: what has a flipped bit is never read as if it had none.
    fn misses_rot(&self, id: u64) -> bool {
        let missed = self.disk(id).borrow().found().missed_rot;
        if missed {
            let story = format!("m{id} has read a flipped bit and noticed nothing");
            self.fail(Failure::new("rot", story));
        }
        missed
    }

    /// A member refuses its disk. It must if that is rotten, and say where; then its machine is of no use any more.
    fn unreadable(self: &Rc<Self>, id: u64, fault: &str) {
        let rotten = self.disk(id).borrow().rotten();
        if let Some(rot) = rotten {
            self.trace
                .note(format_args!("m{id} refuses its disk: {fault}"));
            if !fault.contains(&rot.to_string()) {
                let story = format!("m{id} has a flipped bit in {rot}, and complains of {fault}");
                self.fail(Failure::new("rot", story));
            }
            self.sometimes.saw(match rot {
                Rot::Segment(_) => Situation::RotRefusedLog,
                Rot::Checkpoint(_) => Situation::RotRefusedCheckpoint,
            });
            return self.destroy(id);
        }
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

    /// A member is about to vote; the judge of memberships looks for whom. One that only hears of a vote from those who
    /// gave theirs keeps it too, and gives none.
    pub(crate) fn votes(&self, life: &Life, vote: &Vote) {
        let (candidate, applied) = (vote.leader_id.voted_for, life.applied_before.get());
        let granted = match vote.committed || life.asked_by.get() != Some(candidate) {
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
        let clock = Clock::draw(&mut dice, self.world.clock_rate_ppm_max);
        if self
            .ills
            .borrow()
            .get(&id)
            .is_some_and(|ills| ills.suspensions > 0)
        {
            clock.suspend(now());
        }
        let founds = id <= self.world.members && is_blank(&recovered);
        let settings = self.settings(id, incarnation, seed, founds);
        let compacted = recovered.checkpoint.as_ref();
        let compacted = compacted.map_or(0, |(store, _)| store.compact_revision());
        let last = recovered.log.entries.last();
        let replays = (compacted, last.map_or(0, |entry| entry.log_id.index()));
        let member = match Member::new(settings, recovered, clock.at(now())) {
            Ok(member) => member,
            Err(error) => return self.fail(Failure::new("recovery", error.to_string())),
        };
        member.validate();
        let published = Views::new(Arc::new(member.published().clone()));
        let life = Rc::new(Life {
            id,
            incarnation,
            clock,
            inbox: Mailbox::new(),
            alive: Cell::new(true),
            watches: Watches::new(
                published.clone(),
                self.world.fragment_bytes,
                Plant::in_core(self.world.plant),
            ),
            published,
            shown: RefCell::default(),
            seen: Cell::default(),
            examined: Cell::default(),
            leads: Cell::default(),
            led: Cell::default(),
            applied_before: Cell::default(),
            asked_by: Cell::default(),
            newest: RefCell::default(),
            stood_still: Cell::default(),
            waiting: RefCell::default(),
            log: Mailbox::new(),
            checkpoints: Mailbox::new(),
            unwritten_checkpoints: Cell::default(),
            checkpoint_takes_longer: Cell::default(),
            log_fault: Cell::new(None),
            stops: Cell::default(),
            handed: Cell::default(),
            replays: Cell::new(replays),
            views: Mailbox::new(),
        });
        self.lives.borrow_mut().insert(id, Rc::clone(&life));
        spawn_local(driver::drive(Rc::clone(self), Rc::clone(&life), member));
        spawn_local(storage::write_log(Rc::clone(self), Rc::clone(&life)));
        spawn_local(storage::write_checkpoints(
            Rc::clone(self),
            Rc::clone(&life),
        ));
        if self.world.membership_changes() {
            spawn_local(members::publish(Rc::clone(self), Rc::clone(&life)));
        }
        if self.world.watchers + self.world.resumers + self.world.contenders > 0 {
            spawn_local(watching::tend(Rc::clone(self), life, dice));
        }
    }

    /// Takes the power from a member, in the middle of whatever its disk does, and starts it again later.
    pub(crate) fn crash(self: &Rc<Self>, id: u64, at: &str, down: Duration) {
        let Some(life) = self.life(id) else {
            return;
        };
        noticing::crashes(self, &life);
        let what = self.disk(id).borrow_mut().crash();
        if self.world.plant == Some(Plant::LosesSyncedBatch) {
            self.disk(id).borrow_mut().forget_last_batch();
        }
        bump(&self.counts.crashes);
        self.trace.note(format_args!("m{id} crashes {at}: {what}"));
        self.end_life(id);
        self.start_after(id, down);
    }

    /// Has a member stop in good order: it does nothing more, and when its log holds all that it was handed and is closed,
    /// its life ends. The power may go before that. Starts it again later.
    pub(crate) fn stop(&self, life: &Life, down: Duration) {
        life.stops.set(true);
        life.inbox.push(Call::Nothing);
        life.log.push(storage::LogOp::Stop { down });
    }

    /// The log of a member that stops is written.
    pub(crate) fn stopped(self: &Rc<Self>, life: &Life, down: Duration) {
        let id = life.id;
        let kept = {
            let disk = self.disk(id);
            disk.borrow_mut().close();
            disk.borrow().last_index()
        };
        if kept < life.handed.get() {
            let handed = life.handed.get();
            let story = format!(
                "m{id} stopped in good order with {kept} as its last entry, and had been handed {handed}"
            );
            self.fail(Failure::new("recovery", story));
        }
        self.trace.note(format_args!("m{id} stops in good order"));
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
        let (term, led) = (life.published.borrow().term, life.led.get());
        let some = &self.sometimes;
        some.saw_if(led > 0 && led + 1 >= term, Situation::RemovedLeader);
        let standing = self.machines.borrow().standing(id);
        some.saw_if(standing == Some(Standing::Left), Situation::CameBack);
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

    /// Whether the process of a life stands still, or did at or after this time.
    pub(crate) fn stood_still_since(&self, life: &Life, since: Duration) -> bool {
        let last = life.stood_still.get();
        self.is_paused(life.id) || last.is_some_and(|at| at >= since)
    }

    /// Waits while the process of a life stands still.
    pub(crate) async fn until_it_goes(&self, life: &Life) {
        while life.alive.get() && self.is_paused(life.id) {
            sleep(Duration::from_millis(10)).await;
        }
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

    /// The newest revision any client was told of.
    pub(crate) fn newest(&self) -> i64 {
        self.acknowledged.get()
    }

    /// Whoever leads, of several the one in the newest term.
    pub(crate) fn leader(&self) -> Option<u64> {
        let lives = self.lives.borrow();
        let leaders = lives.values().filter(|life| life.leads.get());
        leaders
            .max_by_key(|life| life.led.get())
            .map(|life| life.id)
    }

    /// Whether any other member believes to lead.
    pub(crate) fn others_lead(&self, id: u64) -> bool {
        let lives = self.lives.borrow();
        let mut others = lives.values().filter(|life| life.id != id);
        others.any(|life| life.leads.get())
    }

    /// Notes an event of a client's and answers its place.
    pub(crate) fn moment(&self, ordinal: u64) -> Moment {
        Moment {
            ordinal,
            time: now(),
        }
    }

    /// Takes a letter to its way.
    pub(crate) fn send(self: &Rc<Self>, from: u64, to: u64, message: PeerMessage) {
        bump(&self.counts.letters);
        let message = match self.world.letters_are_bytes() {
            true => through_the_wire(&message),
            false => message,
        };
        let copies = self.network.borrow_mut().send((from, to), &message);
        // The life that the first of two copies reached.
        let reached = (copies.len() > 1).then(|| Rc::new(Cell::new(None)));
        for (takes, lost) in copies {
            let (cluster, message) = (Rc::clone(self), message.clone());
            let reached = reached.clone();
            spawn_local(async move {
                sleep(takes).await;
                let kind = message.kind();
                let arrived = match lost && cluster.faulty.get() {
                    true => {
                        noticing::loses(&cluster, kind);
                        cluster.lose((from, to));
                        None
                    }
                    false => cluster.deliver((from, to), message),
                };
                if let (Some(reached), Some(arrived)) = (reached, arrived) {
                    let before = reached.replace(Some(arrived));
                    if before.is_some_and(|before| before != arrived) {
                        noticing::comes_twice(&cluster, kind);
                    }
                }
            });
        }
    }

    /// A letter is at the end of its way. Answers which life of its receiver it reached, if it did.
    pub(crate) fn deliver(self: &Rc<Self>, way: Way, message: PeerMessage) -> Option<u32> {
        let Some(life) = self.life(way.1) else {
            self.lose(way);
            return None;
        };
        let arrival = self
            .network
            .borrow_mut()
            .arrive(way, &message, life.incarnation);
        match arrival {
            Arrival::Open => life.inbox.push(Call::Peer {
                from: way.0,
                message,
            }),
            Arrival::Cut => self.lose(way),
            Arrival::HeldBack => {}
        }
        (arrival == Arrival::Open).then_some(life.incarnation)
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

    fn settings(&self, id: u64, incarnation: u32, seed: u64, founds: bool) -> Settings {
        let founders = (1..=self.world.members).filter(|_| founds);
        Settings {
            id,
            initial_members: founders
                .map(|id| (id, vec![format!("http://m{id}")]))
                .collect(),
            heartbeat: Duration::from_millis(self.world.election_ms / 10),
            election_timeout: Duration::from_millis(self.world.election_ms),
            pre_vote: true,
            request_timeout: Duration::from_secs(3),
            snapshot_entries: self.world.snapshot_entries,
            catch_up_entries: self.world.catch_up_entries,
            checkpoint_log_bytes: self.world.checkpoint_log_bytes,
            checkpoint_entries: self.world.checkpoint_entries(),
            auto_compaction: AutoCompaction::Off,
            learners_max: 1,
            strict_reconfiguration: true,
            comparison_interval: Some(Duration::from_secs(5)),
            sizes: self.world.sizes(),
            // Short, so that leases of seconds are recorded, too.
            lease_record_interval: Some(Duration::from_secs(3)),
            seed,
            // As on a server, where starts are not counted.
            incarnation: u32::try_from(Dice::new(seed, "incarnation").between(0, u32::MAX.into()))
                .unwrap_or(incarnation),
            planted: Plant::in_core(self.world.plant),
        }
    }
}

/// The letter as its receiver reads it.
fn through_the_wire(message: &PeerMessage) -> PeerMessage {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    PeerMessage::decode(&bytes).expect("a letter survives its way")
}

/// Whether a disk shows nothing of an earlier start: later ones are not told the founders, as on a server.
fn is_blank(recovered: &Recovered) -> bool {
    let log = &recovered.log;
    recovered.checkpoint.is_none() && log.vote.is_none() && log.entries.is_empty()
}

/// Counts one more.
pub(crate) fn bump(count: &Cell<u64>) {
    count.set(count.get() + 1);
}

/// How long after its end a member may come back that was removed.
const COMES_BACK_MS_MAX: u64 = 5000;
