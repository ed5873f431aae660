//! Opening a connection to another member and being accepted there.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Request};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::{Code, Status};

use super::introduction::Introduction;
use super::lane::SharedLane;
use super::local::{Local, Task};
use crate::config::{Endpoint, Url};

/// The path of the method that takes letters.
pub(super) const DELIVER: &str = "/metastore.peer.v1.Peer/Deliver";

/// Frames of HTTP/2 that carry letters, at most.
pub(super) const FRAME_BYTES_MAX: u32 = 1 << 20;

/// A connection on which letters may be sent: the receiver has accepted the sender.
pub(super) struct Conversation {
    /// What the receiver says of what has arrived.
    pub(super) receipts: Incoming,
    /// Opens for the letters when this is the connection to use.
    pub(super) gate: Rc<Gate>,
    _sender: SendRequest<Outgoing>,
    _connection: Task,
}

/// The connection's number once it is in use, 0 before.
#[derive(Default)]
pub(super) struct Gate {
    connection: Cell<u64>,
    waker: Cell<Option<std::task::Waker>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum DialError {
    /// The address is none, or nobody listens there.
    Unreachable(String),
    /// Somebody listens but is not, or not now, the member that is meant.
    Refused(Status),
}

/// The letters of a lane as the body of a request.
pub(super) struct Outgoing {
    lane: SharedLane,
    gate: Rc<Gate>,
}

impl Gate {
    pub(super) fn open(&self, connection: u64) {
        self.connection.set(connection);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.gate.connection.get() {
            0 => {
                self.gate.waker.set(Some(cx.waker().clone()));
                Poll::Pending
            }
            connection => {
                let frame = self.lane.borrow_mut().poll_frame(connection, cx);
                frame.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }
}

/// Introduces the sender on a connection to where `url` points, and waits until it is accepted.
pub(super) async fn introduce(
    stream: TcpStream,
    url: &Url,
    introduction: &Introduction,
    lane: SharedLane,
    patience: Duration,
) -> Result<Conversation, DialError> {
    let introduced = converse(stream, url, introduction, lane);
    let introduced = tokio::time::timeout(patience, introduced).await;
    introduced.unwrap_or_else(|_| {
        Err(DialError::Unreachable(format!(
            "{url}: nobody accepted within {patience:?}"
        )))
    })
}

async fn converse(
    stream: TcpStream,
    url: &Url,
    introduction: &Introduction,
    lane: SharedLane,
) -> Result<Conversation, DialError> {
    let unreachable = |error: String| DialError::Unreachable(format!("{url}: {error}"));
    let (mut sender, connection) = Builder::new(Local)
        .max_send_buf_size(FRAME_BYTES_MAX as usize)
        .handshake::<_, Outgoing>(TokioIo::new(stream))
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    let connection = Task::spawn(async move {
        // What breaks it also ends the receipts, where it is noticed.
        let _ = connection.await;
    });
    let gate = Rc::<Gate>::default();
    let body = Outgoing {
        lane,
        gate: Rc::clone(&gate),
    };
    let mut request = Request::post(format!("{url}{DELIVER}"))
        .body(body)
        .map_err(|error| unreachable(error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    introduction.write(headers);
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| unreachable(error.to_string()))?;
    if !response.status().is_success() {
        return Err(unreachable(format!("HTTP status {}", response.status())));
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() != Code::Ok => Err(DialError::Refused(status)),
        _ => Ok(Conversation {
            receipts: response.into_body(),
            gate,
            _sender: sender,
            _connection: connection,
        }),
    }
}

/// A connection to where a URL points.
pub(super) async fn connect(url: &Url) -> io::Result<TcpStream> {
    let Endpoint::Tcp { host, port } = &url.endpoint else {
        return Err(io::Error::other("members do not speak over unix sockets"));
    };
    let stream = match url.socket_address() {
        Some(address) => TcpStream::connect(address).await?,
        None => TcpStream::connect((host.as_str(), *port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
