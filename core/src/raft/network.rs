//! Consensus' network: every call becomes a letter in the outbox, every reply ends a call.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use futures_util::Stream;
use openraft::AsyncRuntime;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{AnyError, RaftNetworkFactory, RaftNetworkV2};
use serde::{Deserialize, Serialize};

use super::append_stream::AppendStream;
use super::executor::Stepped;
use super::machine::{Image, Mark};
use super::outbox::SharedOutbox;
use super::retention::{self, SharedRetention};
use super::sending::{self, Chunk};
use super::types::{Peer, Snapshot, TypeConfig, Vote};
use crate::member::{Settings, Sizes};

/// The longest pause before a peer that cannot be reached is tried again: so late, at most, replication begins once it
/// can.
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What one member asks of another.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    /// An append that must not overtake those before it, also if it has no entries.
    AppendInOrder(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<TypeConfig>),
    PreVote(VoteRequest<TypeConfig>),
    Chunk(Chunk),
    Transfer(TransferLeaderRequest<TypeConfig>),
    /// The receiver was removed from the cluster.
    Farewell,
    /// Does the receiver's history differ from this?
    Compare(Vec<Mark>),
}

/// What the other answers.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) enum Reply {
    Append(AppendEntriesResponse<TypeConfig>),
    Vote(VoteResponse<TypeConfig>),
    Snapshot(SnapshotResponse<TypeConfig>),
    Transfer(TransferLeaderResponse<TypeConfig>),
    /// The peer has it.
    Taken,
    /// The peer serves no member that was removed.
    Removed,
    /// The peer could not serve the request at all.
    Failed(String),
}

/// Makes a link to each peer that consensus names.
pub struct Network {
    outbox: SharedOutbox,
    patience: Duration,
    retention: SharedRetention,
    sizes: Sizes,
}

/// The way to one peer.
pub struct Link {
    target: u64,
    outbox: SharedOutbox,
    patience: Duration,
    retention: SharedRetention,
    sizes: Sizes,
}

/// A call under way. However the wait for its reply ends, nothing of it is left behind.
struct Call {
    number: u64,
    outbox: SharedOutbox,
}

impl Network {
    /// A peer may take an election timeout to reply before it counts as unreachable. That covers the peer's sync of what
    /// it was sent, so it is longer than a heartbeat; a message that was lost without a word costs as much.
    pub(crate) fn new(
        outbox: SharedOutbox,
        settings: &Settings,
        retention: SharedRetention,
    ) -> Self {
        Self {
            outbox,
            patience: settings.election_timeout,
            retention,
            sizes: settings.sizes,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, _node: &Peer) -> Link {
        Link {
            target,
            outbox: Rc::clone(&self.outbox),
            patience: self.patience,
            retention: Rc::clone(&self.retention),
            sizes: self.sizes,
        }
    }
}

impl Link {
    async fn call(&self, request: Request) -> Result<Reply, Unreachable<TypeConfig>> {
        let patience = self.patience;
        let (number, reply) = self.outbox.borrow_mut().call(self.target, request);
        let _call = Call {
            number,
            outbox: Rc::clone(&self.outbox),
        };
        match Stepped::timeout(patience, reply).await {
            Ok(Ok(Ok(Reply::Failed(reason)) | Err(reason))) => Err(unreachable_peer(reason)),
            Ok(Ok(Ok(reply))) => Ok(reply),
            Ok(Err(_)) => Err(unreachable_peer("the member is stopping".into())),
            Err(_) => Err(unreachable_peer(format!("no reply within {patience:?}"))),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.outbox.borrow_mut().forget_call(self.number);
    }
}

pub(super) fn unreachable_peer(reason: String) -> Unreachable<TypeConfig> {
    Unreachable::new(&AnyError::error(reason))
}

pub(super) fn mismatched() -> Unreachable<TypeConfig> {
    unreachable_peer("the peer answered another question".into())
}

/// What comes of a stream of appends, in their order.
type Appended<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::Append(rpc)).await? {
            Reply::Append(reply) => Ok(reply),
            _ => Err(mismatched().into()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::Vote(rpc)).await? {
            Reply::Vote(reply) => Ok(reply),
            _ => Err(mismatched().into()),
        }
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::PreVote(rpc)).await? {
            Reply::Vote(reply) => Ok(reply),
            _ => Err(mismatched().into()),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<Appended<'s>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let stream = AppendStream::new(
            self.target,
            Rc::clone(&self.outbox),
            Rc::clone(&self.retention),
            self.patience,
            self.sizes.append_bytes,
            input,
        );
        let stream: Appended<'s> = Box::pin(stream);
        Box::pin(std::future::ready(Ok(stream)))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let index = snapshot.meta.last_log_id.map_or(0, |id| id.index());
        let _held = retention::hold(&self.retention, self.target, index);
        let way = sending::Way {
            target: self.target,
            outbox: Rc::clone(&self.outbox),
            patience: self.patience,
            install_patience: option.hard_ttl(),
            piece_bytes: self.sizes.piece_bytes,
        };
        sending::send(&way, vote, snapshot, cancel).await
    }

    /// Consensus counts all failures since the last success, and pauses half a second once a series has ended: so this
    /// one never does.
    fn backoff(&self) -> Option<Backoff> {
        let first = PAUSE_MAX / 4;
        let pauses = [first, first * 2].into_iter();
        Some(Backoff::new(pauses.chain(std::iter::repeat(PAUSE_MAX))))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        match self.call(Request::Transfer(req)).await? {
            Reply::Transfer(reply) => Ok(reply),
            _ => Err(mismatched().into()),
        }
    }
}

#[cfg(test)]
mod tests;
