//! A handler's way to the member: propose, pass a barrier, see what is published.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use arc_swap::{ArcSwap, Guard};
use metastore_core::command::Command;
use metastore_core::lease::{LeaseAnswer, LeaseQuestion};
use metastore_core::membership::MembershipChange;
use metastore_core::output::{MemberInfo, Outcome, Published, Refusal};
use metastore_core::raft::PeerMessage;

use crate::inbox::{Inbox, Rejected};
use crate::waiting::{Answer, Token, Wait};

/// What reaches the member thread.
pub(crate) enum Call {
    /// Propose a command.
    Propose(Token, Command),
    /// Tell when a linearizable read may take the published view.
    Barrier(Token),
    /// Ask the lessor.
    AskLease(Token, LeaseQuestion),
    /// Change the membership.
    ChangeMembership(Token, MembershipChange),
    /// Hand leadership to this member.
    TransferLeader(Token, u64),
    /// Hand leadership to whoever can take it, because this process is about to end; then say so here.
    StepDown(Sender<()>),
    /// Another member's letters have come.
    Letters {
        /// The sender.
        from: u64,
        /// In their order.
        letters: Vec<PeerMessage>,
    },
    /// Letters did not leave, or may not have arrived; each with the reason.
    Undelivered(Vec<(PeerMessage, String)>),
    /// The log thread confirms writes.
    Written {
        /// The last ticket confirmed.
        up_to: u64,
        /// Why the log cannot be written any more.
        result: Result<(), String>,
    },
    /// The checkpoint thread is done.
    Checkpointed {
        /// The index of the checkpoint.
        index: u64,
        /// Bytes of its file.
        result: Result<u64, String>,
    },
    /// Stop after what is under way.
    Stop,
}

impl Call {
    /// Whether to wake the member thread for it while the disk is busy; a proposal has to wait for the disk anyway.
    pub(crate) fn is_urgent(&self) -> bool {
        !matches!(self, Self::Propose(..))
    }
}

/// The member as the connection threads see it; cloning copies pointers.
#[derive(Clone)]
pub(crate) struct Node {
    inbox: Inbox,
    published: Arc<ArcSwap<Published>>,
}

impl Node {
    pub(crate) fn new(inbox: Inbox, published: Arc<ArcSwap<Published>>) -> Self {
        Self { inbox, published }
    }

    /// Replicates a command and returns what came of it.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, Refusal> {
        let wait = self.send(|token| Call::Propose(token, command))?;
        match wait.await? {
            Answer::Proposed(result) => result,
            other => unreachable!("a proposal is answered as one: {other:?}"),
        }
    }

    /// Returns when the published view holds every write acknowledged, anywhere, before this call.
    pub(crate) async fn barrier(&self) -> Result<(), Refusal> {
        if self.published.load().reads_need_no_quorum {
            return Ok(());
        }
        match self.send(Call::Barrier)?.await? {
            Answer::Barrier(result) => result,
            other => unreachable!("a barrier is answered as one: {other:?}"),
        }
    }

    /// Asks the lessor; what only a leader can answer is refused elsewhere.
    pub(crate) async fn ask_lease(&self, question: LeaseQuestion) -> Result<LeaseAnswer, Refusal> {
        match self.send(|token| Call::AskLease(token, question))?.await? {
            Answer::Lease(result) => result,
            other => unreachable!("a question is answered as one: {other:?}"),
        }
    }

    /// Changes the membership and returns all members after the change.
    pub(crate) async fn change_membership(
        &self,
        change: MembershipChange,
    ) -> Result<Arc<[MemberInfo]>, Refusal> {
        match self
            .send(|token| Call::ChangeMembership(token, change))?
            .await?
        {
            Answer::Membership(result) => result,
            other => unreachable!("a change of the membership is answered as one: {other:?}"),
        }
    }

    /// Hands leadership to another member and returns when it leads.
    pub(crate) async fn transfer_leader(&self, to: u64) -> Result<(), Refusal> {
        match self.send(|token| Call::TransferLeader(token, to))?.await? {
            Answer::Transfer(result) => result,
            other => unreachable!("a transfer is answered as one: {other:?}"),
        }
    }

    /// What this member shows now.
    pub(crate) fn published(&self) -> Guard<Arc<Published>> {
        self.published.load()
    }

    /// How often the member has taken anything from its inbox.
    pub(crate) fn takes(&self) -> u64 {
        self.inbox.takes()
    }

    fn send(&self, call: impl FnOnce(Token) -> Call) -> Result<Wait, Refusal> {
        let wait = Wait::new();
        match self.inbox.offer(call(wait.token())) {
            Ok(()) => Ok(wait),
            Err(error) => {
                wait.forget();
                Err(match error {
                    Rejected::Full => Refusal::TooManyRequests,
                    Rejected::Closed => Refusal::Stopped,
                })
            }
        }
    }
}
