//! Everything consensus asks of the world, collected in order until the member hands it out.
//!
//! Consensus' storage, network and responders all write here. The member owns the other end: it drains
//! the queues after every input, and brings back confirmations (a write is durable, a peer replied).

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use openraft::errors::{ForwardReason, ForwardToLeader};
use openraft::storage::IOFlushed;
use openraft::type_config::TypeConfigExt;
use openraft::type_config::alias::{OneshotReceiverOf, OneshotSenderOf};
use openraft::type_config::async_runtime::OneshotSender;

use super::message::{Body, PeerMessage};
use super::network::{Reply, Request};
use super::types::TypeConfig;
use crate::apply_error::ApplyError;
use crate::output::{Checkpoint, DiskOp, Outcome, Refusal};
use crate::pending;
use crate::wal::Record;

/// The outbox, shared by consensus' adapters and the member, all on one thread.
pub(crate) type SharedOutbox = Rc<RefCell<Outbox>>;

/// A message and the member it is for.
pub(crate) struct Letter {
    pub(crate) to: u64,
    pub(crate) message: PeerMessage,
}

/// How a proposal ended.
pub(crate) enum Ended {
    /// Applied at this index, with this result.
    Applied(u64, Result<Outcome, ApplyError>),
    /// Consensus has no quorum's word yet for its fresh leadership, or is handing it over: propose again shortly.
    TooEarly,
    /// Refused for good.
    Refused(Refusal),
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outbox {
    disk: VecDeque<DiskOp>,
    /// Letters with entries or pieces of a snapshot, which may take a while on the wire.
    bulk: VecDeque<Letter>,
    /// All others: they go first.
    letters: VecDeque<Letter>,
    ended: VecDeque<(u64, Ended)>,
    /// What apply returned for the entry whose responder is about to run.
    outcome: Option<Result<Outcome, ApplyError>>,
    last_ticket: u64,
    unconfirmed: VecDeque<(u64, Unconfirmed)>,
    /// The index of the snapshot that is to be installed once it is durable, and where to tell that it is.
    checkpoint: Option<(u64, Confirmation)>,
    calls: BTreeMap<u64, OneshotSenderOf<TypeConfig, Result<Reply, String>>>,
    next_call: u64,
}

/// Where consensus hears that something is durable, or why it is not.
type Confirmation = OneshotSenderOf<TypeConfig, Result<(), io::Error>>;

enum Unconfirmed {
    Flushed(IOFlushed<TypeConfig>),
    Awaited(Confirmation),
}

impl Outbox {
    /// `incarnation` keeps the numbers of calls apart from those of an earlier life of this member, whose
    /// replies may still arrive.
    pub(crate) fn new(incarnation: u32) -> Self {
        Self {
            next_call: pending::first_number(incarnation),
            ..Self::default()
        }
    }

    // Towards the disk.

    /// Writes records that need not be durable by any time: they go with the next write that must be.
    pub(crate) fn write_lazily(&mut self, records: Vec<Record>) {
        self.write(records, false);
    }

    /// Writes records and tells consensus when they are durable.
    pub(crate) fn write_flushed(&mut self, records: Vec<Record>, callback: IOFlushed<TypeConfig>) {
        let ticket = self.write(records, true);
        self.unconfirmed
            .push_back((ticket, Unconfirmed::Flushed(callback)));
    }

    /// Writes records; the receiver resolves when they are durable.
    pub(crate) fn write_awaited(
        &mut self,
        records: Vec<Record>,
    ) -> OneshotReceiverOf<TypeConfig, Result<(), io::Error>> {
        let ticket = self.write(records, true);
        let (sender, receiver) = TypeConfig::oneshot();
        self.unconfirmed
            .push_back((ticket, Unconfirmed::Awaited(sender)));
        receiver
    }

    /// Stores a snapshot that a leader sent; the receiver resolves when it is durable, with an error where another takes its
    /// place first.
    pub(crate) fn checkpoint_awaited(
        &mut self,
        mut checkpoint: Checkpoint,
    ) -> OneshotReceiverOf<TypeConfig, Result<(), io::Error>> {
        let (sender, receiver) = TypeConfig::oneshot();
        checkpoint.awaited = true;
        self.checkpoint = Some((checkpoint.index, sender));
        self.disk.push_back(DiskOp::Checkpoint(checkpoint));
        receiver
    }

    fn write(&mut self, records: Vec<Record>, sync: bool) -> u64 {
        self.last_ticket += 1;
        self.disk.push_back(DiskOp::Write {
            ticket: self.last_ticket,
            records,
            sync,
        });
        self.last_ticket
    }

    /// The disk confirms all writes up to and including this ticket, or says why it cannot.
    pub(crate) fn confirm_writes(&mut self, up_to: u64, result: &Result<(), String>) {
        while self
            .unconfirmed
            .front()
            .is_some_and(|(ticket, _)| *ticket <= up_to)
        {
            let Some((_, waiter)) = self.unconfirmed.pop_front() else {
                break;
            };
            let result = result.clone().map_err(io::Error::other);
            match waiter {
                Unconfirmed::Flushed(callback) => callback.io_completed(result),
                // A receiver that is gone belongs to a consensus that has stopped.
                Unconfirmed::Awaited(sender) => drop(sender.send(result)),
            }
        }
    }

    /// Whether a snapshot that a leader sent is being made durable.
    pub(crate) fn awaits_checkpoint(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// The checkpoint at this index is durable, or failed. It may be one that nobody waits for.
    pub(crate) fn confirm_checkpoint(&mut self, index: u64, result: &Result<(), String>) {
        if let Some((_, sender)) = self.checkpoint.take_if(|(awaited, _)| *awaited == index) {
            drop(sender.send(result.clone().map_err(io::Error::other)));
        }
    }

    // Towards the peers.

    /// Sends a request; the receiver resolves with the reply or with why there will be none. The number is for
    /// [`Outbox::forget_call`].
    pub(crate) fn call(
        &mut self,
        to: u64,
        request: Request,
    ) -> (u64, OneshotReceiverOf<TypeConfig, Result<Reply, String>>) {
        let call = self.next_call;
        self.next_call += 1;
        let (sender, receiver) = TypeConfig::oneshot();
        self.calls.insert(call, sender);
        let message = PeerMessage {
            call,
            body: Body::Request(request),
        };
        let lane = match message.is_bulk() {
            true => &mut self.bulk,
            false => &mut self.letters,
        };
        lane.push_back(Letter { to, message });
        (call, receiver)
    }

    /// A number greater than all before, also of earlier lives.
    pub(crate) fn number(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call - 1
    }

    /// Nobody waits for the reply to this call any more.
    pub(crate) fn forget_call(&mut self, call: u64) {
        self.calls.remove(&call);
    }

    #[cfg(test)]
    pub(crate) fn calls_under_way(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn reply(&mut self, to: u64, call: u64, reply: Reply) {
        self.letters.push_back(Letter {
            to,
            message: PeerMessage {
                call,
                body: Body::Reply(reply),
            },
        });
    }

    /// The end of a call; an unknown number is a reply to an earlier incarnation, or a late one.
    pub(crate) fn finish_call(&mut self, call: u64, result: Result<Reply, String>) {
        if let Some(sender) = self.calls.remove(&call) {
            drop(sender.send(result));
        }
    }

    // Towards the clients.

    /// Leaves the outcome of an entry for the responder that consensus runs right after it.
    pub(crate) fn set_outcome(&mut self, outcome: Result<Outcome, ApplyError>) {
        assert!(self.outcome.is_none(), "one entry is applied at a time");
        self.outcome = Some(outcome);
    }

    /// Drops the outcome of an entry that nobody here waits for.
    pub(crate) fn clear_outcome(&mut self) {
        self.outcome = None;
    }

    pub(crate) fn finish_applied(&mut self, proposal: u64, index: u64) {
        let outcome = self
            .outcome
            .take()
            .expect("apply leaves an outcome before it runs the responder");
        self.ended
            .push_back((proposal, Ended::Applied(index, outcome)));
    }

    pub(crate) fn finish_forward(&mut self, proposal: u64, forward: &ForwardToLeader<TypeConfig>) {
        let ended = match forward.reason {
            // While leadership is being handed over nobody takes proposals: they wait for the next leader.
            ForwardReason::LeaseExpired | ForwardReason::LeadershipTransfer => Ended::TooEarly,
            _ => Ended::Refused(Refusal::NotLeader {
                leader: forward.leader_id,
            }),
        };
        self.ended.push_back((proposal, ended));
    }

    /// The entry was appended here and then given up: it may still commit under another leader.
    pub(crate) fn finish_lost(&mut self, proposal: u64) {
        self.ended
            .push_back((proposal, Ended::Refused(Refusal::LeaderChanged)));
    }

    // The member's end.

    pub(crate) fn next_disk(&mut self) -> Option<DiskOp> {
        self.disk.pop_front()
    }

    pub(crate) fn next_letter(&mut self) -> Option<Letter> {
        self.letters.pop_front().or_else(|| self.bulk.pop_front())
    }

    pub(crate) fn next_ended(&mut self) -> Option<(u64, Ended)> {
        self.ended.pop_front()
    }
}
