//! Seeded clients: each does one operation after the other and writes down what it saw.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::output::Refusal;

use crate::cluster::{Cluster, bump};
use crate::dice::Dice;
use crate::driver::Call;
use crate::history::{Ending, Record};
use crate::mailbox::Mailbox;
use crate::model::Op;

/// One client.
pub(crate) struct Client {
    cluster: Rc<Cluster>,
    number: u64,
    dice: Dice,
    /// The member it talks to.
    member: u64,
    /// The newest revision it has seen.
    seen: i64,
    /// The newest change it has seen of each key.
    operations: u64,
    compacts: bool,
}

impl Client {
    /// The client of this number.
    pub(crate) fn new(cluster: Rc<Cluster>, number: u64) -> Self {
        let mut dice = Dice::new(cluster.world.seed, &format!("client {number}"));
        let member = dice.between(1, cluster.world.members);
        let compacts = number == 1 || dice.permille(200);
        Self {
            cluster,
            number,
            dice,
            member,
            seen: 1,
            operations: 0,
            compacts,
        }
    }

    /// Works until faults are over.
    pub(crate) async fn run(mut self) {
        while self.cluster.faulty.get() {
            let pause = self.dice.between(1, self.cluster.world.pause_ms_max);
            sleep(Duration::from_millis(pause)).await;
            let op = self.choose();
            self.perform(op).await;
        }
    }

    /// Writes one key until it is acknowledged; answers whether it was within so many tries.
    pub(crate) async fn probe(mut self, tries: u64) -> bool {
        for _ in 0..tries {
            let op = self.put();
            if let Ending::Wrote(_) = self.perform(op).await {
                return true;
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    }

    async fn perform(&mut self, op: Op) -> Ending {
        let (cluster, number) = (Rc::clone(&self.cluster), self.number);
        let member = self.member;
        let begun = cluster
            .trace
            .note(format_args!("client {number} asks m{member}: {op}"));
        let place = cluster.history.borrow().len();
        cluster.history.borrow_mut().push(Record {
            client: number,
            op: op.clone(),
            begun,
            ended: None,
        });
        let ending = match cluster.life(member) {
            None => Ending::Refused(Refusal::NotLeader { leader: None }),
            Some(life) => {
                let answer = Mailbox::new();
                life.inbox.push(Call::Client(op, answer.clone()));
                // A life that ends tells those it knows of; it may never have looked at this one.
                let patience = crate::trace::now() + PATIENCE;
                answer
                    .recv_until(Some(patience))
                    .await
                    .unwrap_or(Ending::Lost)
            }
        };
        let ended = cluster.trace.note(format_args!(
            "client {number} hears from m{member}: {ending}"
        ));
        if let Some(revision) = ending.revision() {
            cluster.acknowledge(revision);
            bump(&cluster.counts.answers);
            self.seen = self.seen.max(revision);
        }
        self.look_elsewhere(&ending);
        cluster.history.borrow_mut()[place].ended = Some((ended, ending.clone()));
        ending
    }

    fn look_elsewhere(&mut self, ending: &Ending) {
        match ending {
            Ending::Refused(Refusal::NotLeader {
                leader: Some(leader),
            }) => self.member = *leader,
            Ending::Refused(Refusal::Kv(_)) | Ending::Wrote(_) | Ending::Read(_) => {}
            Ending::Refused(_) | Ending::Lost => {
                self.member = self.dice.between(1, self.cluster.world.members);
            }
        }
        // Now and then a member that is not the leader is asked, too.
        if self.dice.permille(10) {
            self.member = self.dice.between(1, self.cluster.world.members);
        }
    }

    fn choose(&mut self) -> Op {
        match self.dice.between(0, 99) {
            0..=39 => self.put(),
            40..=49 => {
                let (key, end) = self.interval();
                Op::Delete { key, end }
            }
            50..=64 => self.swap(),
            65..=67 if self.compacts => Op::Compact {
                revision: self.older(),
                physical: self.dice.permille(300),
            },
            65..=91 => {
                let (key, end) = self.interval();
                Op::Read {
                    key,
                    end,
                    revision: 0,
                }
            }
            _ => {
                let (key, end) = self.interval();
                Op::Read {
                    key,
                    end,
                    revision: self.older(),
                }
            }
        }
    }

    fn put(&mut self) -> Op {
        Op::Put {
            key: self.key(),
            value: self.value(),
        }
    }

    /// Guarded by what the history says of a key, which is often right and sometimes outdated.
    fn swap(&mut self) -> Op {
        let (guard, put) = (self.key(), self.key());
        let mut delete = self.key();
        if delete == put {
            // A transaction must not put and delete one key.
            delete = b"other".to_vec();
        }
        let known = self.cluster.chronicle.borrow().keys(self.seen);
        let at = known
            .and_then(|keys| keys.get(&guard).map(|kv| kv.mod_revision))
            .unwrap_or(0);
        let value = self.value();
        Op::Swap {
            guard,
            at,
            put,
            value,
            delete,
        }
    }

    fn key(&mut self) -> Vec<u8> {
        let number = self.dice.between(1, self.cluster.world.keys);
        format!("k{number:02}").into_bytes()
    }

    fn interval(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        let end = match self.dice.between(0, 9) {
            0..=5 => Vec::new(),
            6..=8 => self.key(),
            _ => vec![0],
        };
        (key, end)
    }

    /// A value nobody else writes, sometimes longer than a sector of the disk.
    fn value(&mut self) -> Vec<u8> {
        self.operations += 1;
        let mut value = format!("c{}o{}", self.number, self.operations).into_bytes();
        if self.dice.permille(100) {
            let length = usize::try_from(self.dice.between(100, 3000)).unwrap_or(100);
            value.resize(length, b'.');
        }
        value
    }

    /// A revision that this client knows to exist, rather a recent one.
    fn older(&mut self) -> i64 {
        let back = i64::try_from(self.dice.between(0, 50)).unwrap_or(0);
        (self.seen - back).max(1)
    }
}

/// Longer than a member lets any request wait.
const PATIENCE: Duration = Duration::from_secs(10);
