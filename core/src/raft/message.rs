//! What members say to each other, as a value: opaque outside consensus.

use std::fmt;

use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesResponse;
use serde::{Deserialize, Serialize};

use super::network::{Reply, Request};
use super::sending::CHUNKS_MAX;
use crate::command::Command;
use crate::lease::{LeaseAnswer, LeaseQuery};
use crate::membership::MembershipChange;
use crate::output::Refusal;

/// Bytes of answers beyond which a message is too long to go before heartbeats, roughly.
const URGENT_BYTES_MAX: usize = 256 << 10;

/// A request to a peer or a reply to one, with the number that ties the two together.
#[derive(Clone, Serialize, Deserialize)]
pub struct PeerMessage {
    pub(crate) call: u64,
    pub(crate) body: Body,
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Body {
    Request(Request),
    Reply(Reply),
    Forwarded(Forwarded),
}

/// What a message is about, for whoever counts messages or follows one; its contents stay opaque.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Entries of the log, or a heartbeat.
    Append,
    /// A vote is asked for, or it is asked whether asking would succeed.
    Vote,
    /// A piece of a snapshot.
    Chunk,
    /// Clients' proposals on their way to the leader.
    Proposals,
    /// A question for a read index.
    AskReadIndex,
    /// Whoever was asked for a read index does not lead.
    NoReadIndex,
    /// A change of the membership on its way to the leader.
    Change,
    /// The receiver was removed.
    Farewell,
    /// Anything else.
    Other,
}

/// What members ask of the leader for their clients, and what it says. Consensus knows nothing of these.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Forwarded {
    /// Clients' proposals under the sender's numbers, to be taken by the leader of this term alone.
    Proposals {
        term: u64,
        proposals: Vec<(u64, Command)>,
    },
    /// What came of them.
    Ended(Vec<ForwardedEnd>),
    /// How far must a state have got, to hold every write acknowledged before now?
    AskReadIndex,
    /// So far, says the leader of this term.
    ReadIndex { term: u64, index: u64 },
    /// Whoever was asked for a read index does not lead.
    NoReadIndex,
    /// Has the receiver voted in no later term than this, which the sender leads?
    AskConfirmation { term: u64 },
    /// It has not, when it says so.
    Confirmation { term: u64 },
    /// Questions to the lessor, under the sender's numbers as tokens.
    AskLeases(Vec<LeaseQuery>),
    /// What the lessor says.
    LeaseAnswers(LeaseAnswers),
    /// A change of the membership, to be made by the leader of this term alone.
    Change { term: u64, change: MembershipChange },
    /// What came of the change that was asked for in the letter with this number, and how far the leader's state was
    /// then. Where nobody leads, nothing was done.
    Changed {
        index: u64,
        result: Result<(), Refusal>,
    },
}

/// Answers to questions to the lessor, by the asking member's numbers.
pub(crate) type LeaseAnswers = Vec<(u64, Result<LeaseAnswer, Refusal>)>;

/// How a forwarded proposal ended.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ForwardedEnd {
    /// The letter it came in: an answer to an earlier one says nothing about a later one.
    pub(crate) letter: u64,
    /// The number it was sent under.
    pub(crate) number: u64,
    /// The entry it was applied as; 0 if it was not.
    pub(crate) index: u64,
    /// Whether it was applied, with whatever outcome: the member that asked learns that from its own state. Where nobody
    /// leads, nothing was appended.
    pub(crate) result: Result<(), Refusal>,
}

#[cfg(test)]
impl Body {
    /// A heartbeat, a request for a vote and a refusal that tell of this vote.
    pub(crate) fn telling(vote: super::types::Vote) -> [Self; 3] {
        let append = openraft::raft::AppendEntriesRequest {
            vote,
            prev_log_id: None,
            leader_commit: None,
            entries: Vec::new(),
        };
        let ballot = openraft::raft::VoteRequest::new(vote, None);
        [
            Self::Request(Request::Append(append)),
            Self::Request(Request::Vote(ballot)),
            Self::Reply(Reply::Append(AppendEntriesResponse::HigherVote(vote))),
        ]
    }

    /// Blank entries with these indexes, said to follow a position.
    pub(crate) fn appending(
        vote: super::types::Vote,
        prev_log_id: Option<super::types::LogId>,
        indexes: &[u64],
    ) -> Self {
        let blank =
            |index: &u64| openraft::testing::blank_ent::<super::types::TypeConfig>(1, 1, *index);
        Self::Request(Request::Append(openraft::raft::AppendEntriesRequest {
            vote,
            prev_log_id,
            leader_commit: None,
            entries: indexes.iter().map(blank).collect(),
        }))
    }
}

impl PeerMessage {
    /// What it is about.
    pub fn kind(&self) -> MessageKind {
        match &self.body {
            Body::Request(Request::Append(_) | Request::AppendInOrder(_)) => MessageKind::Append,
            Body::Request(Request::Vote(_) | Request::PreVote(_)) => MessageKind::Vote,
            Body::Request(Request::Chunk(_)) => MessageKind::Chunk,
            Body::Request(Request::Farewell) | Body::Reply(Reply::Removed) => MessageKind::Farewell,
            Body::Forwarded(Forwarded::Proposals { .. }) => MessageKind::Proposals,
            Body::Forwarded(Forwarded::AskReadIndex) => MessageKind::AskReadIndex,
            Body::Forwarded(Forwarded::NoReadIndex) => MessageKind::NoReadIndex,
            Body::Forwarded(Forwarded::Change { .. }) => MessageKind::Change,
            Body::Request(_) | Body::Reply(_) | Body::Forwarded(_) => MessageKind::Other,
        }
    }

    /// The term of the vote that it tells, if it tells any.
    pub(crate) fn term(&self) -> Option<u64> {
        let vote = match &self.body {
            Body::Request(Request::Append(rpc) | Request::AppendInOrder(rpc)) => &rpc.vote,
            Body::Request(Request::Vote(rpc) | Request::PreVote(rpc)) => &rpc.vote,
            Body::Request(Request::Chunk(chunk)) => &chunk.vote(),
            Body::Request(Request::Transfer(rpc)) => rpc.from_leader(),
            Body::Reply(Reply::Append(AppendEntriesResponse::HigherVote(vote))) => vote,
            Body::Reply(Reply::Vote(reply)) => &reply.vote,
            Body::Reply(Reply::Snapshot(reply)) => &reply.vote,
            _ => return None,
        };
        Some(vote.leader_id.term)
    }

    /// Whether it has entries that do not follow what they are said to follow, or each other. No member writes such a
    /// letter, and a log has no place for them.
    pub(crate) fn leaves_gaps(&self) -> bool {
        let Body::Request(Request::Append(rpc) | Request::AppendInOrder(rpc)) = &self.body else {
            return false;
        };
        let before = rpc.prev_log_id.as_ref();
        let mut next = before.map_or(Some(0), |id| id.index().checked_add(1));
        !rpc.entries.iter().map(RaftEntry::index).all(|index| {
            let expected = next;
            next = index.checked_add(1);
            Some(index) == expected
        })
    }

    /// Whether it carries a piece of a snapshot that could go only when another one was acknowledged.
    pub fn is_piece_that_waited(&self) -> bool {
        match &self.body {
            Body::Request(Request::Chunk(chunk)) => chunk.number >= CHUNKS_MAX as u64,
            _ => false,
        }
    }

    /// Whether it carries entries, a piece of a snapshot or many answers, or has to stay behind entries. Such a message
    /// must not hold up those that keep a leader in office: give it a way of its own on the wire.
    pub fn is_bulk(&self) -> bool {
        match &self.body {
            Body::Request(Request::Append(rpc)) => !rpc.entries.is_empty(),
            Body::Request(Request::AppendInOrder(_)) => true,
            Body::Request(Request::Chunk(_)) => true,
            Body::Forwarded(Forwarded::LeaseAnswers(_)) => self.weight() > URGENT_BYTES_MAX,
            _ => false,
        }
    }
}

impl fmt::Debug for PeerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.body {
            Body::Request(Request::Append(rpc) | Request::AppendInOrder(rpc)) => {
                return write!(f, "#{} append {rpc}", self.call);
            }
            Body::Request(Request::Vote(rpc)) => return write!(f, "#{} vote {rpc}", self.call),
            Body::Request(Request::PreVote(rpc)) => {
                return write!(f, "#{} pre-vote {rpc}", self.call);
            }
            Body::Request(Request::Chunk(chunk)) => {
                let (transfer, number) = (chunk.transfer, chunk.number);
                return write!(f, "#{} chunk {number} of snapshot {transfer}", self.call);
            }
            Body::Request(Request::Farewell) => "farewell",
            Body::Request(Request::Compare(_)) => "comparison",
            Body::Request(Request::Transfer(_)) => "transfer",
            Body::Reply(Reply::Append(reply)) => {
                return write!(f, "#{} append reply {reply}", self.call);
            }
            Body::Reply(Reply::Vote(reply)) => {
                return write!(f, "#{} vote reply {reply}", self.call);
            }
            Body::Reply(Reply::Snapshot(_)) => "snapshot reply",
            Body::Reply(Reply::Transfer(_)) => "transfer reply",
            Body::Reply(Reply::Taken) => "taken",
            Body::Reply(Reply::Removed) => "removed",
            Body::Reply(Reply::Failed(_)) => "failed",
            Body::Forwarded(forwarded) => return write!(f, "#{} {forwarded}", self.call),
        };
        write!(f, "#{} {kind}", self.call)
    }
}

impl fmt::Display for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proposals { term, proposals } => {
                write!(f, "{} proposals in term {term}", proposals.len())
            }
            Self::Ended(ends) => {
                let at: Vec<u64> = ends.iter().map(|end| end.index).collect();
                write!(f, "ends of proposals at {at:?}")
            }
            Self::AskReadIndex => f.write_str("which read index"),
            Self::ReadIndex { term, index } => write!(f, "read index {index} of term {term}"),
            Self::NoReadIndex => f.write_str("no read index"),
            Self::AskConfirmation { term } => write!(f, "does term {term} last"),
            Self::Confirmation { term } => write!(f, "no vote after term {term}"),
            Self::AskLeases(queries) => write!(f, "{} questions about leases", queries.len()),
            Self::Change { term, change } => write!(f, "change in term {term}: {change:?}"),
            Self::Changed { index, result } => write!(f, "end of a change at {index}: {result:?}"),
            Self::LeaseAnswers(answers) => write!(f, "{} answers about leases", answers.len()),
        }
    }
}
