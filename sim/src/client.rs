//! What every client has: a member it talks to, and a record of what it asked and saw.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::kv_error::KvError;
use metastore_core::output::Refusal;

use crate::cluster::{Cluster, bump};
use crate::dice::Dice;
use crate::driver::Call;
use crate::mailbox::Mailbox;
use crate::trace::now;
use metastore_judges::Failure;
use metastore_judges::followers::Follower;
use metastore_judges::history::{Ending, Record};
use metastore_judges::model::Op;

/// One client; it does one operation after the other.
pub(crate) struct Client {
    pub(crate) cluster: Rc<Cluster>,
    pub(crate) number: u64,
    pub(crate) dice: Dice,
    /// The member it talks to.
    pub(crate) member: u64,
    /// The newest revision it has seen.
    pub(crate) seen: i64,
    /// What it saw of the member it asked last.
    follower: Follower,
    operations: u64,
    round: u64,
    standstills: Dice,
}

impl Client {
    /// The oldest revision that it may ask for: what came before is settled.
    pub(crate) fn oldest(&self) -> i64 {
        self.cluster.judges.borrow().chronicle.base()
    }

    /// The client of this number.
    pub(crate) fn new(cluster: Rc<Cluster>, number: u64) -> Self {
        let round = cluster.round.get();
        let seen = cluster.judges.borrow().chronicle.base();
        let stream = |name: &str| match round {
            0 => format!("{name} {number}"),
            _ => format!("{name} {number} round {round}"),
        };
        let mut dice = Dice::new(cluster.world.seed, &stream("client"));
        let member = dice.between(1, cluster.world.members);
        let standstills = Dice::new(cluster.world.seed, &stream("standstills"));
        Self {
            standstills,
            number,
            dice,
            member,
            seen,
            follower: Follower::default(),
            round,
            operations: 0,
            cluster,
        }
    }

    /// Whether faults go on, and with them the work.
    pub(crate) fn goes_on(&self) -> bool {
        self.cluster.faulty.get()
    }

    /// Rests between two operations; sometimes for so long that whatever it holds may be gone.
    pub(crate) async fn pause(&mut self) {
        let pause = self.dice.between(1, self.cluster.world.pause_ms_max);
        let stands = self.cluster.world.standstill_permille;
        let still = match self.standstills.permille(stands) {
            true => self.standstills.between(1000, STANDSTILL_MS_MAX),
            false => 0,
        };
        sleep(Duration::from_millis(pause)).await;
        let over = now() + Duration::from_millis(still);
        while now() < over && self.goes_on() {
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Writes one key until it is acknowledged; answers whether it was within so many tries.
    pub(crate) async fn probe(mut self, tries: u64) -> bool {
        for _ in 0..tries {
            let op = Op::put(b"k00".to_vec(), self.value());
            match self.perform(op).await {
                Ending::Wrote(_) => return true,
                // It may be a member that was removed and has not heard of it, nor of the room there is now.
                Ending::Full => self.go_anywhere(),
                _ => {}
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// Does one operation, and writes down what came of it.
    pub(crate) async fn perform(&mut self, op: Op) -> Ending {
        let (cluster, number) = (Rc::clone(&self.cluster), self.number);
        let member = self.member;
        let ordinal = cluster
            .trace
            .detail(format_args!("client {number} asks m{member}: {op}"));
        let place = cluster.history.borrow().len();
        cluster.history.borrow_mut().push(Record {
            client: number,
            op: op.clone(),
            begun: cluster.moment(ordinal),
            ended: None,
        });
        let asked = now();
        let life = cluster.life(member);
        let incarnation = life.as_ref().map_or(0, |life| life.incarnation);
        let ending = match life {
            None => Ending::Refused(Refusal::NotLeader { leader: None }),
            Some(life) => {
                let answer = Mailbox::new();
                life.inbox.push(Call::Client(op.clone(), answer.clone()));
                // A life that ends tells those it knows of; it may never have looked at this one.
                let ending = answer.recv_until(Some(asked + PATIENCE)).await;
                ending.unwrap_or_else(|| {
                    cluster.never_answered(&life, asked, &op);
                    Ending::Lost
                })
            }
        };
        let ordinal = cluster.trace.detail(format_args!(
            "client {number} hears from m{member}: {ending}"
        ));
        if let Some(revision) = ending.revision() {
            let shown = cluster.judges.borrow().chronicle.last();
            if revision > shown {
                let story = format!(
                    "{op} was answered with revision {revision}, and no member shows more than {shown}"
                );
                cluster.fail(Failure::new("durable", story));
            }
            cluster.acknowledge(revision);
            bump(&cluster.counts.answers);
            self.seen = self.seen.max(revision);
            if let Err(mut failure) = self.follower.hear(member, incarnation, revision) {
                failure.story = format!("client {number}, which asked: {op}\n{}", failure.story);
                cluster.fail(failure);
            }
        }
        if ending.refused_by_state() == Some(KvError::FutureRevision)
            && let Err(mut failure) = self.follower.lacks(member, incarnation, op.reads_at())
        {
            failure.story = format!("client {number}, which asked: {op}\n{}", failure.story);
            cluster.fail(failure);
        }
        self.look_elsewhere(&ending);
        let ended = (cluster.moment(ordinal), ending.clone());
        cluster.history.borrow_mut()[place].ended = Some(ended);
        ending
    }

    fn look_elsewhere(&mut self, ending: &Ending) {
        match ending {
            Ending::Refused(Refusal::NotLeader {
                leader: Some(leader),
            }) => self.member = *leader,
            Ending::Refused(Refusal::Kv(_) | Refusal::Lease(_) | Refusal::Membership(_))
            | Ending::Wrote(_)
            | Ending::Read(_)
            | Ending::Surveyed(_)
            | Ending::Renewed { .. }
            | Ending::Stands(_)
            | Ending::Leases { .. }
            | Ending::Changed(_)
            | Ending::Listed(_)
            | Ending::Transferred
            | Ending::Full => {}
            Ending::Refused(_) | Ending::Lost => self.go_anywhere(),
        }
        // Now and then a member that is not the leader is asked, too.
        if self.dice.permille(10) {
            self.go_anywhere();
        }
    }

    /// Turns to any member that serves, or tries the last one again if none does.
    pub(crate) fn go_anywhere(&mut self) {
        let serving = self.cluster.serving();
        if !serving.is_empty() {
            self.member = serving[self.dice.place(serving.len())];
        }
    }

    /// A value nobody else writes, sometimes longer than a sector of the disk.
    pub(crate) fn value(&mut self) -> Vec<u8> {
        let mut value = self.mark();
        if self.dice.permille(100) {
            let length = usize::try_from(self.dice.between(100, 3000)).unwrap_or(100);
            value.resize(length, b'.');
        }
        value
    }

    /// A word that nobody else writes, and this client only once.
    pub(crate) fn mark(&mut self) -> Vec<u8> {
        self.operations += 1;
        let mark = format!("c{}o{}", self.number, self.operations);
        match self.round {
            0 => mark.into_bytes(),
            round => format!("r{round}{mark}").into_bytes(),
        }
    }
}

/// Longer than a member lets any request wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longer than any lease lives without its holder.
const STANDSTILL_MS_MAX: u64 = 9000;
