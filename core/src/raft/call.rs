//! One request to a peer under way, with the time it has.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::type_config::alias::OneshotReceiverOf;

use super::executor::{Sleep, Stepped};
use super::network::{Reply, Request};
use super::outbox::SharedOutbox;
use super::types::TypeConfig;

/// Resolves with the reply or with why there will be none. However the wait ends, nothing of the call is left behind.
pub(super) struct Call {
    number: u64,
    outbox: SharedOutbox,
    reply: OneshotReceiverOf<TypeConfig, Result<Reply, String>>,
    late: Sleep,
}

/// Why a call has no reply.
pub(super) enum Unanswered {
    /// The request or its reply may be lost: it may be sent again.
    Lost(String),
    /// The peer could not serve it, or this member stops.
    Failed(String),
}

impl Call {
    /// Sends a request whose reply is awaited for `time`; within a task of the executor.
    pub(super) fn start(outbox: &SharedOutbox, to: u64, request: Request, time: Duration) -> Self {
        let (number, reply) = outbox.borrow_mut().call(to, request);
        Self {
            number,
            outbox: Rc::clone(outbox),
            reply,
            late: Stepped::sleep(time),
        }
    }
}

impl Future for Call {
    type Output = Result<Reply, Unanswered>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(reply) = Pin::new(&mut self.reply).poll(cx) {
            return Poll::Ready(match reply {
                Ok(Ok(Reply::Failed(reason))) => Err(Unanswered::Failed(reason)),
                Ok(Ok(reply)) => Ok(reply),
                Ok(Err(reason)) => Err(Unanswered::Lost(reason)),
                Err(_) => Err(Unanswered::Failed("the member is stopping".into())),
            });
        }
        let late = Pin::new(&mut self.late).poll(cx);
        late.map(|()| Err(Unanswered::Lost("the peer is silent".into())))
    }
}

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(reason) | Self::Failed(reason)) = self;
        f.write_str(reason)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.outbox.borrow_mut().forget_call(self.number);
    }
}

/// How often a removed member is told.
const FAREWELLS: usize = 10;

/// Tells a member that it was removed, until it says that it knows, or for a while.
pub(crate) async fn bid_farewell(outbox: SharedOutbox, to: u64, patience: Duration) {
    for _ in 0..FAREWELLS {
        let call = Call::start(&outbox, to, Request::Farewell, patience);
        if call.await.is_ok() {
            return;
        }
        Stepped::sleep(patience).await;
    }
}
