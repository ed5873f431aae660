//! One watch stream of one connection: requests go in, responses are taken when the test asks for them.

use futures_util::{FutureExt, stream};
use metastore_proto::etcdserverpb::{
    WatchCreateRequest, WatchRequest, WatchResponse, watch_request::RequestUnion,
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};
use tonic::{Status, Streaming};

use super::connection::Connection;

pub(crate) struct WatchStream {
    /// `None` once the sending side is closed.
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
}

impl WatchStream {
    /// Opens a stream with its first request, which must be one that is answered: a server may say
    /// nothing, not even that the stream is open, before its first response.
    ///
    /// # Errors
    ///
    /// The server's refusal of the stream.
    pub(crate) async fn open(to: &mut Connection, first: WatchRequest) -> Result<Self, Status> {
        let (requests, mut outgoing) = mpsc::unbounded_channel();
        requests.send(first).expect("the channel is open");
        let outgoing = stream::poll_fn(move |context| outgoing.poll_recv(context));
        let responses = to.watch.watch(outgoing).await?.into_inner();
        Ok(Self {
            requests: Some(requests),
            responses,
        })
    }

    /// Sends a request. False where the stream takes none any more.
    pub(crate) fn say(&mut self, request: WatchRequest) -> bool {
        let requests = self.requests.as_ref();
        requests.is_some_and(|requests| requests.send(request).is_ok())
    }

    pub(crate) fn is_half_closed(&self) -> bool {
        self.requests.is_none()
    }

    /// Closes the sending side; the responses go on.
    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next response; `None` if none has come until `deadline`.
    ///
    /// # Errors
    ///
    /// The status the stream ended with, be it OK.
    pub(crate) async fn next(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<WatchResponse>, Status> {
        match timeout_at(deadline, self.responses.message()).await {
            Ok(Ok(Some(response))) => Ok(Some(response)),
            Ok(Ok(None)) => Err(Status::ok("the server has ended the stream")),
            Ok(Err(status)) => Err(status),
            Err(_) => Ok(None),
        }
    }

    /// The next of the responses that this process has read already; `None` after them.
    pub(crate) async fn next_at_once(&mut self) -> Option<Result<WatchResponse, Status>> {
        // Lets the connection read what the socket holds.
        tokio::task::yield_now().await;
        match self.responses.message().now_or_never()? {
            Ok(Some(response)) => Some(Ok(response)),
            Ok(None) => Some(Err(Status::ok("the server has ended the stream"))),
            Err(status) => Some(Err(status)),
        }
    }
}

pub(crate) fn create(request: WatchCreateRequest) -> WatchRequest {
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    }
}
