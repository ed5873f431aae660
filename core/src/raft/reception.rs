//! What arrives at consensus from outside: peers' requests and reads that need the quorum's word.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};

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

/// The index that a state must have reached to hold every write acknowledged before this call (raft's read index, §6.4
/// of the raft dissertation): the commit index, once the quorum has confirmed that this member still leads.
pub(crate) async fn read_index(raft: &Raft) -> Result<u64, Refusal> {
    match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
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
