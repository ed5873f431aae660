//! Opening a connection to another member and being accepted there.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
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
use super::lookup;
use crate::config::{Endpoint, Url};
use crate::listening;

/// The path of the method that takes letters.
pub(super) const DELIVER: &str = "/metastore.peer.v1.Peer/Deliver";

/// Frames of HTTP/2 that carry letters, at most.
pub(super) const FRAME_BYTES_MAX: u32 = 1 << 20;

/// A connection on which letters may be sent: the receiver has accepted the sender.
pub(super) struct Conversation {
    /// What the receiver says of what has arrived.
    pub(super) receipts: Incoming,
    /// Opens for the letters when this is the connection to use.
    pub(super) gate: Gatekeeper,
    _sender: SendRequest<Outgoing>,
    _connection: Task,
}

/// Opens the gate of a connection, and closes it for good when dropped.
///
/// The HTTP/2 layer keeps a connection for as long as a body has not ended, even one whose request nobody remembers.
#[derive(Default)]
pub(super) struct Gatekeeper(Rc<Gate>);

/// What holds back the letters of a connection that is not in use yet.
#[derive(Default)]
struct Gate {
    state: Cell<State>,
    waker: Cell<Option<Waker>>,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    Waiting,
    /// The connection has this number.
    InUse(u64),
    Closed,
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

impl Gatekeeper {
    pub(super) fn open(&self, connection: u64) {
        self.0.turn(State::InUse(connection));
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.0.turn(State::Closed);
    }
}

impl Gate {
    fn turn(&self, state: State) {
        self.state.set(state);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Who is woken when the state changes.
    fn watch(&self, cx: &Context<'_>) {
        let known = self.waker.take();
        let waker = known.filter(|known| known.will_wake(cx.waker()));
        self.waker.set(waker.or_else(|| Some(cx.waker().clone())));
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.gate.watch(cx);
        match self.gate.state.get() {
            State::Waiting => Poll::Pending,
            State::Closed => Poll::Ready(None),
            State::InUse(connection) => {
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
    // From here on: who gives up while the answer is on its way closes the gate, too.
    let gate = Gatekeeper::default();
    let body = Outgoing {
        lane,
        gate: Rc::clone(&gate.0),
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
        None => TcpStream::connect(&lookup::addresses(host, *port).await?[..]).await?,
    };
    stream.set_nodelay(true)?;
    listening::notice_death(&stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;
    use std::pin::pin;

    use hyper::server::conn::http2;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;
    use tokio::task::spawn_local;
    use tokio::time::{sleep, timeout};

    use super::super::lane::Lane;
    use super::super::local::on_one_thread;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// What a receiver that accepts everybody sees of one who calls.
    #[derive(Debug, PartialEq, Eq)]
    enum Seen {
        Accepted,
        Ended,
    }

    async fn receiver() -> (Url, mpsc::UnboundedReceiver<Seen>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (seen, sight) = mpsc::unbounded_channel();
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = seen.clone();
                let accept = service_fn(move |request| accept(request, seen.clone()));
                let server = http2::Builder::new(Local);
                spawn_local(server.serve_connection(TokioIo::new(stream), accept));
            }
        });
        let url = format!("http://{address}").parse().expect("a URL");
        (url, sight)
    }

    async fn accept(
        request: Request<Incoming>,
        seen: mpsc::UnboundedSender<Seen>,
    ) -> io::Result<http::Response<Outgoing>> {
        // Whoever looks may have seen enough.
        let _ = seen.send(Seen::Accepted);
        let mut letters = request.into_body();
        spawn_local(async move {
            let next = poll_fn(|cx| Pin::new(&mut letters).poll_frame(cx)).await;
            assert!(!matches!(next, Some(Ok(_))), "there are no letters");
            let _ = seen.send(Seen::Ended);
        });
        // Its receipts are as silent as letters before the gate opens.
        let lane = Rc::new(RefCell::new(Lane::new()));
        let gate = Rc::default();
        Ok(http::Response::new(Outgoing { lane, gate }))
    }

    async fn attempt(url: &Url) -> Result<Conversation, DialError> {
        attempt_with(url, &Rc::new(RefCell::new(Lane::new()))).await
    }

    async fn attempt_with(url: &Url, lane: &SharedLane) -> Result<Conversation, DialError> {
        let introduction = Introduction {
            cluster_id: 1,
            from: 2,
            to: 3,
            peer_urls: Vec::new(),
        };
        let stream = connect(url).await.expect("a listener");
        introduce(stream, url, &introduction, Rc::clone(lane), PATIENCE).await
    }

    async fn within_a_second(sight: &mut mpsc::UnboundedReceiver<Seen>) -> Option<Seen> {
        timeout(Duration::from_secs(1), sight.recv())
            .await
            .ok()
            .flatten()
    }

    #[test]
    fn an_accepted_connection_that_is_not_used_ends_at_the_receiver_too() {
        on_one_thread(async {
            let (url, mut sight) = receiver().await;
            let _used = attempt(&url).await.expect("accepted");
            let spare = attempt(&url).await.expect("accepted");
            for _ in 0..2 {
                assert_eq!(within_a_second(&mut sight).await, Some(Seen::Accepted));
            }
            drop(spare);
            assert_eq!(within_a_second(&mut sight).await, Some(Seen::Ended));
        });
    }

    #[test]
    fn a_connection_in_use_that_is_given_up_ends_at_the_receiver_too() {
        on_one_thread(async {
            let (url, mut sight) = receiver().await;
            let lane = Rc::new(RefCell::new(Lane::new()));
            let used = attempt_with(&url, &lane).await.expect("accepted");
            assert_eq!(within_a_second(&mut sight).await, Some(Seen::Accepted));
            let number = lane.borrow_mut().connect();
            used.gate.open(number);
            sleep(Duration::from_millis(50)).await;
            drop(used);
            assert_eq!(within_a_second(&mut sight).await, Some(Seen::Ended));
        });
    }

    #[test]
    fn an_attempt_that_was_accepted_unnoticed_ends_at_the_receiver_too() {
        on_one_thread(async {
            let (url, mut sight) = receiver().await;
            {
                let mut attempt = pin!(attempt(&url));
                tokio::select! {
                    biased;
                    seen = sight.recv() => assert_eq!(seen, Some(Seen::Accepted)),
                    _ = attempt.as_mut() => panic!("the receiver was to be heard first"),
                }
                // The answer arrives, and nobody looks at it.
                sleep(Duration::from_millis(200)).await;
            }
            assert_eq!(within_a_second(&mut sight).await, Some(Seen::Ended));
        });
    }
}
