//! A snapshot on its way to a peer: a few bounded chunks under way at once, each acknowledged.
//!
//! The last chunk is acknowledged when it arrives, like every other; installing what has arrived takes its own time. So
//! once the peer has everything, the sender asks what came of it by sending the last chunk again, which is a few bytes:
//! the peer answers that when it has an end to tell. A chunk that may be lost, or the answer to it, is sent again.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use openraft::AsyncRuntime;
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::raft::SnapshotResponse;
use openraft::rt::Instant as _;
use serde::{Deserialize, Serialize};

use super::call::{Call, Unanswered};
use super::executor::{Instant, Stepped};
use super::machine::describe;
use super::network::{Reply, Request, mismatched, unreachable_peer};
use super::outbox::SharedOutbox;
use super::types::{Snapshot, TypeConfig, Vote};
use crate::snapshot::Encoder;

/// Chunks that may wait for their acknowledgement at once.
pub(crate) const CHUNKS_MAX: usize = 4;

/// How long a chunk may take that goes to a peer with so long a timeout for a small request: it is half a megabyte, and
/// the peer decodes it.
pub(crate) fn chunk_patience(small: Duration) -> Duration {
    small * 5
}

/// How many such times a chunk is tried for before the transfer is given up.
const CHUNK_TRIES: u32 = 3;

/// The pause before a chunk that is known to be lost is sent again.
const LOSS_PAUSE: Duration = Duration::from_millis(100);

/// A piece of a snapshot.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// The leader that sends it.
    pub(super) vote: Vote,
    /// Tells the transfer from all others of this sender; later ones have greater numbers.
    pub(crate) transfer: u64,
    /// Counts from 0.
    pub(crate) number: u64,
    /// Whether it is the last.
    pub(super) last: bool,
    /// One frame of the snapshot.
    #[serde(with = "crate::codec::shared_bytes")]
    pub(super) frame: Arc<[u8]>,
}

impl Chunk {
    /// A piece of this transfer.
    pub(crate) fn new(
        vote: Vote,
        transfer: u64,
        number: u64,
        last: bool,
        frame: Arc<[u8]>,
    ) -> Self {
        Self {
            vote,
            transfer,
            number,
            last,
            frame,
        }
    }

    /// The leader that sends it.
    pub(crate) fn vote(&self) -> Vote {
        self.vote
    }

    /// Bytes of its frame.
    pub(super) fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Whether it is the last.
    #[cfg(test)]
    pub(crate) fn is_last(&self) -> bool {
        self.last
    }
}

/// The way to a peer.
pub(super) struct Way {
    pub(super) target: u64,
    pub(super) outbox: SharedOutbox,
    /// How long the peer may be silent.
    pub(super) patience: Duration,
    /// How long it may take to install the snapshot once it has it.
    pub(super) install_patience: Duration,
    /// Bytes in a piece, at most.
    pub(super) piece_bytes: usize,
}

/// Sends a snapshot and waits until it is installed. After any failure nothing more is sent of it.
pub(super) async fn send(
    way: &Way,
    vote: Vote,
    snapshot: Snapshot,
    cancel: impl Future<Output = ReplicationClosed>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let transfer = pin!(way.transfer(vote, snapshot));
    match select(transfer, pin!(cancel)).await {
        Either::Left((Ok(Reply::Snapshot(response)), _)) => Ok(response),
        Either::Left((Ok(_), _)) => Err(mismatched().into()),
        Either::Left((Err(reason), _)) => Err(unreachable_peer(reason).into()),
        Either::Right((closed, _)) => Err(closed.into()),
    }
}

impl Way {
    /// Sends all chunks, then asks for the end; gives the first reply that is no acknowledgement.
    async fn transfer(&self, vote: Vote, snapshot: Snapshot) -> Result<Reply, String> {
        let transfer = self.outbox.borrow_mut().number();
        let index = snapshot.meta.last_log_id.map_or(0, |id| id.index());
        let checkpoint = describe(&snapshot.meta, *snapshot.snapshot.view, index);
        let about = checkpoint.description.encode();
        let mut frames = Encoder::with_frames(checkpoint.view, &about, self.piece_bytes).peekable();
        let mut under_way = VecDeque::new();
        let mut number = 0;
        loop {
            while under_way.len() < CHUNKS_MAX
                && let Some(frame) = frames.next()
            {
                let last = frames.peek().is_none();
                let chunk = Chunk::new(vote, transfer, number, last, frame.into());
                number += 1;
                let call = self.start(&chunk, chunk_patience(self.patience));
                under_way.push_back((chunk, call));
            }
            let Some((chunk, call)) = under_way.pop_front() else {
                return Err("a snapshot without chunks".into());
            };
            match self.deliver(&chunk, call).await? {
                Reply::Taken if chunk.last => {
                    // What the chunks were made of would stay in memory for as long as the peer installs them.
                    drop(frames);
                    return self.ask_for_end(&chunk).await;
                }
                Reply::Taken => {}
                other => return Ok(other),
            }
        }
    }

    fn start(&self, chunk: &Chunk, time: Duration) -> Call {
        let request = Request::Chunk(chunk.clone());
        Call::start(&self.outbox, self.target, request, time)
    }

    /// Waits for the reply to a chunk, and sends it again if it may be lost.
    async fn deliver(&self, chunk: &Chunk, call: Call) -> Result<Reply, String> {
        let time = chunk_patience(self.patience);
        self.insist(chunk, call, time, time * CHUNK_TRIES).await
    }

    /// Asks what came of the snapshot, which is all there.
    async fn ask_for_end(&self, last: &Chunk) -> Result<Reply, String> {
        let call = self.start(last, self.patience);
        let reply = self.insist(last, call, self.patience, self.install_patience);
        match reply.await? {
            // It is another life of the peer, which has the last chunk and nothing else.
            Reply::Taken => Err("the peer took a snapshot and has it no more".into()),
            other => Ok(other),
        }
    }

    /// Sends a chunk again each time that no reply came within `time`, until `limit` is over.
    async fn insist(
        &self,
        chunk: &Chunk,
        mut call: Call,
        time: Duration,
        limit: Duration,
    ) -> Result<Reply, String> {
        let end = Instant::now() + limit;
        loop {
            match call.await {
                Ok(reply) => return Ok(reply),
                Err(Unanswered::Lost(_)) if Instant::now() < end => {
                    Stepped::sleep(LOSS_PAUSE).await;
                    call = self.start(chunk, time);
                }
                Err(unanswered) => return Err(unanswered.to_string()),
            }
        }
    }
}
