//! What the world tells a member: a closed list.

use crate::command::Command;
use crate::lease::LeaseQuery;
use crate::membership::MembershipChange;
use crate::raft::PeerMessage;

/// One fact or request; each is followed by a full drain of the outputs before the next one.
pub enum Input {
    /// Nothing but the time.
    Tick,
    /// Clients' commands, in the order in which they are to be proposed.
    Propose(Vec<Proposal>),
    /// Reads that must see every write acknowledged before now.
    Barrier {
        /// Chosen by the caller, handed back when the barrier has passed.
        tokens: Vec<u64>,
    },
    /// Questions to the lessor, in the order in which they are to be taken.
    AskLeases(Vec<LeaseQuery>),
    /// A change of the membership; the leader makes one at a time.
    ChangeMembership {
        /// Chosen by the caller, unique among those not yet answered.
        token: u64,
        /// What to change.
        change: MembershipChange,
    },
    /// Leadership is to go to another member.
    TransferLeader {
        /// Chosen by the caller, unique among those not yet answered.
        token: u64,
        /// Who is to lead.
        to: u64,
    },
    /// This member is about to stop: if it leads, leadership goes to the voter that lacks least of the log. Answered
    /// as a transfer, also where there is nothing to hand over.
    StepDown {
        /// Chosen by the caller, unique among those not yet answered.
        token: u64,
    },
    /// A message from another member.
    Peer {
        /// The sender.
        from: u64,
        /// What it sent.
        message: PeerMessage,
    },
    /// A message to this member could not be delivered.
    PeerUnreachable {
        /// The message that came back.
        message: PeerMessage,
        /// Why.
        reason: String,
    },
    /// The log is written up to this ticket, durably as far as asked for; or it failed, for good.
    Written {
        /// The last ticket confirmed.
        up_to: u64,
        /// Why the log cannot be written any more.
        result: Result<(), String>,
    },
    /// A checkpoint is durable, or failed.
    Checkpointed {
        /// The index it was taken at.
        index: u64,
        /// Bytes of its file, or what went wrong.
        result: Result<u64, String>,
    },
}

/// A command and the token its answer will carry.
pub struct Proposal {
    /// Chosen by the caller, unique among those not yet answered.
    pub token: u64,
    /// What to do.
    pub command: Command,
}
