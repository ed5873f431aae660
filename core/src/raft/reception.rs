//! What arrives at consensus from outside: peers' requests and reads that need the quorum's word.

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;

use super::network::{Reply, Request};
use super::types::Raft;
use crate::output::Refusal;

/// Serves one request of a peer.
pub(crate) async fn serve(raft: &Raft, request: Request) -> Reply {
    let served = match request {
        Request::Append(rpc) | Request::AppendInOrder(rpc) => raft
            .append_entries(rpc)
            .await
            .map(Reply::Append)
            .map_err(|e| e.to_string()),
        Request::Vote(rpc) => raft
            .vote(rpc)
            .await
            .map(Reply::Vote)
            .map_err(|e| e.to_string()),
        Request::PreVote(rpc) => raft
            .pre_vote(rpc)
            .await
            .map(Reply::Vote)
            .map_err(|e| e.to_string()),
        Request::Transfer(rpc) => raft
            .handle_transfer_leader(rpc)
            .await
            .map(Reply::Transfer)
            .map_err(|e| e.to_string()),
        Request::Chunk(_) | Request::Farewell | Request::Compare(_) => {
            Err("consensus does not know this request".into())
        }
    };
    served.unwrap_or_else(Reply::Failed)
}

/// The index that a state must have reached to hold every write that this leader had acknowledged before this call, in
/// any term: all that it knows to be committed, and the entry with which its term began. That it still leads has to be
/// confirmed *afterwards* (raft's read index, §6.4 of the raft dissertation).
pub(crate) async fn read_index(raft: &Raft) -> Result<u64, Refusal> {
    // The lease is no proof, and here it only spares a round of heartbeats: whoever lacks it waits for a regular one.
    let within_lease = LinearizerOption::new(None, false);
    match raft.get_read_linearizer(within_lease).await {
        Ok(linearizer) => Ok(linearizer.read_log_id().index()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Err(Refusal::NotLeader {
                leader: forward.leader_id,
            })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            Err(Refusal::LeaderChanged)
        }
        Err(RaftError::Fatal(_)) => Err(Refusal::Stopped),
    }
}
