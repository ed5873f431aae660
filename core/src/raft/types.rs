//! What consensus is generic over, filled in: one leader per term, commands as payloads, the stepped
//! executor as runtime, and responders that write straight to the outbox.

use openraft::errors::ClientWriteError;
use openraft::impls::{BoxedErrorSource, InlineBatch, leader_id_std};
use openraft::raft::ClientWriteResult;
use openraft::raft::responder::Responder;
use openraft::type_config::alias;
use openraft::{EntryPayload, OptionalSend, RaftTypeConfig};
use serde::{Deserialize, Serialize};

use super::executor::Stepped;
use super::outbox::SharedOutbox;
use crate::command::Command;

/// The marker that carries every type choice of consensus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

// By hand and not by openraft's macro, which cannot name a responder of our own.
impl RaftTypeConfig for TypeConfig {
    type D = Command;
    // The outcome of a command travels through the outbox, beside openraft: its response type would have
    // to be serialisable, and an outcome never leaves this process.
    type R = ();
    type NodeId = u64;
    type Node = Peer;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = EntryPayload<Command, u64, Peer>;
    type Entry = openraft::Entry<alias::CommittedLeaderIdOf<Self>, Self::Payload>;
    type AsyncRuntime = Stepped;
    type Responder<T>
        = Respond<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// What the membership, which the log agrees on, says of a member beside its id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where the others reach it: the advertised peer URLs, as given.
    pub urls: Vec<String>,
    /// Whether it was added to vote. It is a learner until it has caught up, so that a member that is not even
    /// started yet does not count in the quorum; then the leader makes it a voter.
    pub joins: bool,
}

/// The position of an entry: the term of its leader and its index.
pub type LogId = alias::LogIdOf<TypeConfig>;
/// One log entry.
pub type Entry = alias::EntryOf<TypeConfig>;
/// A member's vote: the term and the candidate it follows.
pub type Vote = alias::VoteOf<TypeConfig>;
/// A membership and the entry that set it.
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
/// The position and membership that a snapshot stands for.
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot in consensus' own frame.
pub type Snapshot = alias::SnapshotOf<TypeConfig, super::machine::Image>;
/// The consensus node of one member.
pub type Raft = openraft::Raft<TypeConfig, super::machine::Machine>;

/// Answers one proposal by writing to the outbox: no task and no channel per proposal.
pub struct Respond<T> {
    outbox: SharedOutbox,
    proposal: u64,
    finish: fn(&SharedOutbox, u64, T),
}

impl Respond<ClientWriteResult<TypeConfig>> {
    /// The responder of the proposal with this number.
    pub(crate) fn new(outbox: SharedOutbox, proposal: u64) -> Self {
        Self {
            outbox,
            proposal,
            finish: finish_proposal,
        }
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Respond<T> {
    fn on_complete(self, result: T) {
        (self.finish)(&self.outbox, self.proposal, result);
    }
}

fn finish_proposal(outbox: &SharedOutbox, proposal: u64, result: ClientWriteResult<TypeConfig>) {
    let mut outbox = outbox.borrow_mut();
    match result {
        Ok(applied) => outbox.finish_applied(proposal, applied.log_id.index()),
        Err(ClientWriteError::ForwardToLeader(forward)) => {
            outbox.finish_forward(proposal, &forward)
        }
        Err(_) => outbox.finish_lost(proposal),
    }
}
