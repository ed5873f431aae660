//! What arrives at consensus from outside: peers' requests and reads that need the quorum's word.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};

use super::network::{Reply, Request};
use super::types::Raft;
use crate::output::Refusal;

/// Serves one request of a peer.
pub(crate) async fn serve(raft: &Raft, request: Request) -> Reply {
    let served = match request {
        Request::Append(rpc) => raft
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
        Request::Snapshot { vote, snapshot } => raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map(Reply::Snapshot)
            .map_err(|e| e.to_string()),
        Request::Transfer(rpc) => raft
            .handle_transfer_leader(rpc)
            .await
            .map(Reply::Transfer)
            .map_err(|e| e.to_string()),
    };
    served.unwrap_or_else(Reply::Failed)
}

/// Waits until the state holds every write acknowledged before this call (raft's read index, §6.4 of the
/// raft dissertation): the quorum confirms the leadership, then the state catches up with the commit index.
pub(crate) async fn barrier(raft: &Raft) -> Result<(), Refusal> {
    let linearizer = match raft.get_read_linearizer(ReadPolicy::ReadIndex).await {
        Ok(linearizer) => linearizer,
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            return Err(Refusal::NotLeader {
                leader: forward.leader_id,
            });
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
            return Err(Refusal::LeaderChanged);
        }
        Err(RaftError::Fatal(_)) => return Err(Refusal::Stopped),
    };
    linearizer
        .await_ready(raft)
        .await
        .map(|_| ())
        .map_err(|_| Refusal::Stopped)
}
