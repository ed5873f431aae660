//! A snapshot on its way to a peer: a few bounded chunks under way at once, each acknowledged.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::raft::SnapshotResponse;

use super::call::Call;
use super::machine::describe;
use super::network::{Reply, Request, mismatched, unreachable_peer};
use super::outbox::SharedOutbox;
use super::types::{Snapshot, TypeConfig, Vote};
use crate::snapshot::Encoder;

/// Chunks that may wait for their acknowledgement at once.
pub(crate) const CHUNKS_MAX: usize = 4;

/// How many times longer than a small request a chunk may take: it is half a megabyte, and the peer decodes it.
const CHUNK_PATIENCE: u32 = 5;

/// A piece of a snapshot.
#[derive(Clone)]
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
    pub(super) frame: Arc<[u8]>,
}

impl Chunk {
    /// The leader that sends it.
    pub(crate) fn vote(&self) -> Vote {
        self.vote
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
}

/// Sends a snapshot and waits until it is installed. After any failure nothing more is sent of it.
pub(super) async fn send(
    way: &Way,
    vote: Vote,
    snapshot: Snapshot,
    cancel: impl Future<Output = ReplicationClosed>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let mut cancel = pin!(cancel);
    let transfer = way.outbox.borrow_mut().number();
    let index = snapshot.meta.last_log_id.map_or(0, |id| id.index());
    let checkpoint = describe(&snapshot.meta, *snapshot.snapshot.view, index);
    let about = checkpoint.description.encode();
    let mut frames = Encoder::new(checkpoint.view, &about).peekable();
    let mut under_way = VecDeque::new();
    let mut number = 0;
    loop {
        while under_way.len() < CHUNKS_MAX
            && let Some(frame) = frames.next()
        {
            let last = frames.peek().is_none();
            let time = match last {
                true => way.install_patience,
                false => way.patience * CHUNK_PATIENCE,
            };
            let chunk = Chunk {
                vote,
                transfer,
                number,
                last,
                frame: frame.into(),
            };
            number += 1;
            let request = Request::Chunk(chunk);
            under_way.push_back(Call::start(&way.outbox, way.target, request, time));
        }
        let Some(first) = under_way.pop_front() else {
            return Err(
                unreachable_peer("the peer took a snapshot and installed none".into()).into(),
            );
        };
        let reply = match select(first, cancel.as_mut()).await {
            Either::Left((reply, _)) => reply,
            Either::Right((closed, _)) => return Err(closed.into()),
        };
        match reply {
            Ok(Reply::Taken) => {}
            Ok(Reply::Snapshot(response)) => return Ok(response),
            Ok(_) => return Err(mismatched().into()),
            Err(reason) => return Err(unreachable_peer(reason).into()),
        }
    }
}
