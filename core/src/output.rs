//! What a member asks of the world: a closed list, each item to be performed in the order it comes out.

use std::fmt;
use std::sync::Arc;

use metastore_proto::etcdserverpb::{
    CompactionResponse, DeleteRangeResponse, LeaseGrantResponse, LeaseRevokeResponse, PutResponse,
    TxnResponse,
};
use serde::{Deserialize, Serialize};

use crate::apply_error::ApplyError;
use crate::kv_error::KvError;
use crate::lease::{LeaseAnswer, LeaseError};
use crate::membership::MembershipError;
use crate::mvcc::View;
use crate::raft::PeerMessage;
use crate::raft::machine::Description;
use crate::transfer::TransferError;
use crate::wal::Record;

/// One thing to do.
pub enum Output {
    /// Work for the disk, strictly first in, first out.
    Disk(DiskOp),
    /// A message for another member. It may be lost; a send that is known to have failed should come back
    /// as [`crate::input::Input::PeerUnreachable`].
    Send {
        /// The member to send to.
        to: u64,
        /// What to send.
        message: PeerMessage,
    },
    /// The state that readers may see from now on; always before the answers that depend on it.
    Publish(Arc<Published>),
    /// The end of a proposal.
    Answer {
        /// The token it was proposed with.
        token: u64,
        /// What came of it.
        answer: Result<Outcome, Refusal>,
    },
    /// The end of a read barrier: from now on the published view holds every write that was acknowledged
    /// before the barrier was asked for.
    BarrierPassed {
        /// The tokens of all reads that shared the barrier.
        tokens: Vec<u64>,
        /// Whether the quorum confirmed it.
        result: Result<(), Refusal>,
    },
    /// The records that compactions up to this revision gave up are gone from this member.
    Compacted {
        /// The compact revision.
        revision: i64,
    },
    /// What the lessor says to a question.
    LeaseAnswer {
        /// The token of the question.
        token: u64,
        /// The answer, or why there is none.
        answer: Result<LeaseAnswer, Refusal>,
    },
    /// The end of a change of the membership.
    MembershipAnswer {
        /// The token it was asked for with.
        token: u64,
        /// All members after the change, or why it was not made.
        answer: Result<Arc<[MemberInfo]>, Refusal>,
    },
    /// The end of a leader transfer.
    TransferAnswer {
        /// The token it was asked for with.
        token: u64,
        /// Whether the member asked for leads now.
        answer: Result<(), Refusal>,
    },
    /// This member was removed from the cluster: it takes no part any more and should be stopped.
    Removed,
    /// This member's state is not that of the others: it refuses writes and linearizable reads from now on.
    Corrupt {
        /// The entry after which they were compared.
        index: u64,
        /// Whether a majority has another state. Without one it is the leader's word against this member's.
        by_majority: bool,
    },
    /// A majority has the state of this member, which had given way to its leader: it serves again.
    Acquitted,
}

/// Work for the disk.
pub enum DiskOp {
    /// Append records to the log. Confirmed by ticket, in order; one confirmation may cover many tickets.
    Write {
        /// Ascending, without gaps.
        ticket: u64,
        /// What to write.
        records: Vec<Record>,
        /// Whether the records must be durable before they are confirmed. Others go with the next write.
        sync: bool,
    },
    /// Write the state to a file, beside the log, while the log goes on; confirmed on its own.
    Checkpoint(Checkpoint),
    /// A checkpoint at this index is durable: segments of the log that hold nothing later may go.
    DropCovered {
        /// The last entry that is not needed any more.
        index: u64,
    },
}

/// A state to be written to the disk: everything a restart needs but the log after it.
#[derive(Clone)]
pub struct Checkpoint {
    /// The last entry whose effect it holds.
    pub index: u64,
    /// The keys, shared with the living state.
    pub view: View,
    /// All else.
    pub description: Description,
    /// Whether it holds a snapshot that is to be installed once it is durable: others wait for the member to catch up.
    pub awaited: bool,
}

/// What readers see: the keys at one index and where the member stands, published as one value.
#[derive(Clone)]
pub struct Published {
    /// The keys and their history.
    pub view: View,
    /// Bytes that the keys, their history and the leases take, roughly.
    pub bytes_in_use: u64,
    /// The last entry applied, 0 before the first.
    pub applied: u64,
    /// The last entry known to be committed.
    pub committed: u64,
    /// The current term.
    pub term: u64,
    /// The leader, as far as this member knows. It knows of none when it has heard nothing from it for an election
    /// timeout, or when it leads itself and no quorum has answered for as long.
    pub leader: Option<u64>,
    /// Whether this view is itself a linearizable read: this member is the only voter and leads, so no
    /// write can be acknowledged anywhere before it is in a view published here.
    pub reads_need_no_quorum: bool,
    /// The members as the newest membership in the log has them, by id, whether it is committed or not: whom this
    /// member talks to.
    pub members: Arc<[MemberInfo]>,
    /// The members as of the last entry applied, by id: what clients may see. Before anything is applied, those of a
    /// new cluster are all that it was started with.
    pub agreed_members: Arc<[MemberInfo]>,
}

impl Published {
    /// What readers see before consensus has said anything: these keys, and a member that stands nowhere yet.
    pub fn at_start(view: View, bytes_in_use: u64) -> Self {
        Self {
            view,
            bytes_in_use,
            applied: 0,
            committed: 0,
            term: 0,
            leader: None,
            reads_need_no_quorum: false,
            members: Arc::new([]),
            agreed_members: Arc::new([]),
        }
    }
}

/// One member of the cluster, as the member list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started once.
    pub name: String,
    /// Where the others reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started once.
    pub client_urls: Vec<String>,
    /// Whether it does not vote.
    pub is_learner: bool,
}

/// What a committed command answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Of a put.
    Put(PutResponse),
    /// Of a delete.
    DeleteRange(DeleteRangeResponse),
    /// Of a transaction.
    Txn(TxnResponse),
    /// Of a transaction that was executed, where nobody waits for its answer or that has no room.
    TxnUntold {
        /// Whether its compares held.
        succeeded: bool,
    },
    /// Of a compaction.
    Compact {
        /// The answer.
        response: CompactionResponse,
        /// Whether the caller also waits for the old records to be gone.
        physical: bool,
    },
    /// Of what a member says of itself.
    MemberAnnounced,
    /// Of a grant.
    LeaseGranted(LeaseGrantResponse),
    /// Of the end of a lease, asked for or because its time was over.
    LeaseRevoked(LeaseRevokeResponse),
    /// Of a record of what leases have left.
    LeaseRemainingRecorded,
}

/// Why a proposal or a barrier did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The command was applied and refused by the state; nothing changed.
    Kv(KvError),
    /// As above, of a command about a lease.
    Lease(LeaseError),
    /// The membership is not changed so.
    Membership(MembershipError),
    /// Leadership was not handed over.
    Transfer(TransferError),
    /// This member's state is not that of the others.
    Corrupt,
    /// Another member leads, or none; nothing happened.
    NotLeader {
        /// Who does, if known.
        leader: Option<u64>,
    },
    /// Leadership moved while the request was under way; a write may or may not have happened.
    LeaderChanged,
    /// Too many requests are under way; nothing happened.
    TooManyRequests,
    /// No end within the request timeout; a write may or may not have happened.
    TimedOut,
    /// As above, and the request came while the leader before the present one was being lost.
    TimedOutLeaderLost,
    /// As above, and this member has no contact to its leader, or leads itself and has none to a quorum.
    TimedOutDisconnected,
    /// The member is stopping; a write may or may not have happened.
    Stopped,
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Kv(error) => Self::Kv(error),
            ApplyError::Lease(error) => Self::Lease(error),
            ApplyError::Membership(error) => Self::Membership(error),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kv(error) => error.fmt(f),
            Self::Lease(error) => error.fmt(f),
            Self::Membership(error) => error.fmt(f),
            Self::Transfer(error) => error.fmt(f),
            Self::Corrupt => f.write_str("etcdserver: corrupt cluster"),
            Self::NotLeader {
                leader: Some(leader),
            } => write!(f, "not the leader, which is {leader:x}"),
            Self::NotLeader { leader: None } => f.write_str("there is no leader"),
            Self::LeaderChanged => f.write_str("the leader changed"),
            Self::TooManyRequests => f.write_str("too many requests"),
            Self::TimedOut => f.write_str("the request timed out"),
            Self::TimedOutLeaderLost => {
                f.write_str("the request timed out, possibly due to previous leader failure")
            }
            Self::TimedOutDisconnected => {
                f.write_str("the request timed out, possibly due to connection lost")
            }
            Self::Stopped => f.write_str("the member is stopping"),
        }
    }
}
