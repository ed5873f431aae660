//! Requests that shall not wait where nobody leads: refused at once, and streams end when their leader is gone.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use http::{HeaderMap, Response};
use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;

use super::Context;
use crate::status;

/// Whether the caller wants to be refused rather than wait for a leader.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value.as_bytes() == b"true")
}

/// Ends the call when this member has known of no leader for three election timeouts: while it waits for its answer, and
/// in the midst of it.
pub(super) async fn bind(
    call: impl Future<Output = Response<Body>>,
    context: &Context,
) -> Response<Body> {
    let mut vigil = Vigil::new(context);
    let response = tokio::select! {
        response = call => response,
        () = poll_fn(|cx| vigil.poll_leaderless(cx)) => return status::no_leader().into_http(),
    };
    response.map(|body| {
        Body::new(Bound {
            body,
            vigil,
            over: false,
        })
    })
}

/// How many election timeouts a stream outlives its leader.
const TIMEOUTS: u32 = 3;

struct Bound {
    body: Body,
    vigil: Vigil,
    over: bool,
}

/// Looks whether there is a leader, now and then.
struct Vigil {
    context: Context,
    look: Pin<Box<Sleep>>,
    leaderless_since: Option<Instant>,
}

impl Vigil {
    fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            look: Box::pin(sleep(Duration::ZERO)),
            leaderless_since: None,
        }
    }

    /// Ready when the leader has been gone for too long.
    fn poll_leaderless(&mut self, cx: &mut TaskContext<'_>) -> Poll<()> {
        let timeout = self.context.limits.election_timeout;
        while self.look.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let since = match self.context.published().leader {
                Some(_) => None,
                None => Some(*self.leaderless_since.get_or_insert(now)),
            };
            self.leaderless_since = since;
            if since.is_some_and(|since| now - since >= timeout * TIMEOUTS) {
                return Poll::Ready(());
            }
            self.look.as_mut().reset(now + timeout / 2);
        }
        Poll::Pending
    }
}

impl HttpBody for Bound {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if this.vigil.poll_leaderless(cx).is_ready() {
            this.over = true;
            let mut trailers = HeaderMap::new();
            // The text is plain ASCII, which a header always takes.
            let _ = status::no_leader().add_header(&mut trailers);
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        pin!(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
