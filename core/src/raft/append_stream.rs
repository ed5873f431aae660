//! Appends to one peer, several under way at once, bounded in bytes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::AnyError;
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
};

use super::call::Call;
use super::log_store::entry_bytes;
use super::network::{Reply, Request, mismatched, unreachable_peer};
use super::outbox::SharedOutbox;
use super::retention::SharedRetention;
use super::types::{LogId, TypeConfig};

/// Requests that may wait for replies at once.
const REQUESTS_MAX: usize = 16;

/// Bytes under way that give a peer as much time again.
const BYTES_PER_PATIENCE: usize = 512 << 10;

type Appended = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

/// Sends requests as they come while there is room, and gives their results in their order.
///
/// Nothing is sent after a result that stops the stream: an error, a conflict, a request that was taken in part.
pub(super) struct AppendStream<S> {
    target: u64,
    outbox: SharedOutbox,
    retention: SharedRetention,
    patience: Duration,
    /// What is to be sent; none once the stream is over.
    input: Option<S>,
    under_way: VecDeque<Append>,
    bytes: usize,
    /// Bytes under way that let no further request start. The last one started may go beyond.
    bytes_max: usize,
    /// The last entry that this stream saw acknowledged.
    acknowledged: Option<LogId>,
}

struct Append {
    call: Call,
    prev: Option<LogId>,
    last: Option<LogId>,
    bytes: usize,
}

impl<S> AppendStream<S> {
    pub(super) fn new(
        target: u64,
        outbox: SharedOutbox,
        retention: SharedRetention,
        patience: Duration,
        bytes_max: usize,
        input: S,
    ) -> Self {
        Self {
            target,
            outbox,
            retention,
            patience,
            input: Some(input),
            under_way: VecDeque::new(),
            bytes: 0,
            bytes_max,
            acknowledged: None,
        }
    }

    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) {
        let prev = request.prev_log_id;
        let last = request.entries.last().map(RaftEntry::log_id).or(prev);
        let bytes = request.entries.iter().map(entry_bytes).sum();
        self.bytes += bytes;
        let shares = u32::try_from(self.bytes / BYTES_PER_PATIENCE).unwrap_or(u32::MAX);
        let time = self.patience.saturating_mul(shares.saturating_add(1));
        // Without entries it is a small letter, but one that the peer takes only after what is on its way.
        let request = match self.under_way.is_empty() {
            true => Request::Append(request),
            false => Request::AppendInOrder(request),
        };
        self.under_way.push_back(Append {
            call: Call::start(&self.outbox, self.target, request, time),
            prev,
            last,
            bytes,
        });
    }

    /// What a reply means, and whether the stream goes on after it.
    fn judge(&mut self, append: &Append, reply: Result<Reply, String>) -> (Appended, bool) {
        let response = match reply {
            Ok(Reply::Append(response)) => response,
            Ok(_) => return (Err(mismatched().into()), false),
            Err(reason) => return (Err(unreachable_peer(reason).into()), false),
        };
        let whole = match &response {
            AppendEntriesResponse::PartialSuccess(partial) => *partial == append.last,
            _ => true,
        };
        match response.into_stream_result(append.prev, append.last) {
            // The peer has what it says it lacks: the request overtook the one before it on its way.
            Err(StreamAppendError::Conflict(at)) if self.acknowledged >= Some(at) => {
                let overtaken = AnyError::error("an append overtook the one before it");
                (Err(NetworkError::new(&overtaken).into()), false)
            }
            Err(refused) => (Ok(Err(refused)), false),
            Ok(matching) => {
                self.acknowledged = self.acknowledged.max(matching);
                (Ok(Ok(matching)), whole)
            }
        }
    }
}

impl<S> Stream for AppendStream<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = Appended;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Appended>> {
        let this = &mut *self;
        while this.under_way.len() < REQUESTS_MAX && this.bytes < this.bytes_max {
            let Some(input) = &mut this.input else { break };
            match input.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => this.send(request),
                Poll::Ready(None) => this.input = None,
                Poll::Pending => break,
            }
        }
        let Some(first) = this.under_way.front_mut() else {
            return match this.input {
                Some(_) => Poll::Pending,
                None => Poll::Ready(None),
            };
        };
        let behind = first.last.is_some_and(|last| {
            let retention = this.retention.borrow();
            first.prev != Some(last) && retention.has_given_up(last.index())
        });
        let reply = match Pin::new(&mut first.call).poll(cx) {
            Poll::Ready(reply) => reply.map_err(|unanswered| unanswered.to_string()),
            Poll::Pending if behind => Err("the peer is too far behind the log in memory".into()),
            Poll::Pending => return Poll::Pending,
        };
        let Some(append) = this.under_way.pop_front() else {
            return Poll::Ready(None);
        };
        this.bytes -= append.bytes;
        let (appended, goes_on) = this.judge(&append, reply);
        if !goes_on {
            this.input = None;
            this.under_way.clear();
            this.bytes = 0;
        }
        Poll::Ready(Some(appended))
    }
}

#[cfg(test)]
mod tests;
