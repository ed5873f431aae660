//! What other members send here: letters, and questions of those who are to join.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::TcpListener;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metastore_proto::peer::{ListMembersResponse, Member, Receipt};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;

use super::dial::{DELIVER, FRAME_BYTES_MAX};
use super::frame::{self, Frames};
use super::introduction::Introduction;
use super::local::{Local, Task};
use super::question::{LIST_MEMBERS, UNKNOWN_YET};
use super::{Me, Office};
use crate::inbox::Inbox;
use crate::listening;
use crate::seldom::Seldom;

/// Room for what is under way on a connection, in bytes.
const WINDOW_BYTES: u32 = 8 << 20;

/// A connection that is silent for so long is asked for a sign of life, and closed without one.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long reading pauses when the member is far behind.
const FLOOD_PAUSE: Duration = Duration::from_millis(5);

/// How long a receipt waits for more to confirm.
const RECEIPT_PAUSE: Duration = Duration::from_millis(10);

/// Takes connections for as long as the thread lives.
pub(super) async fn accept(listener: TcpListener, office: Rc<RefCell<Office>>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            return tracing::error!(error = %error, "cannot accept connections of members");
        }
    };
    let seldom = Rc::<RefCell<Seldom>>::default();
    loop {
        match listener.accept().await {
            Ok((socket, _)) => {
                let serving = serve(socket, Rc::clone(&office), Rc::clone(&seldom));
                tokio::task::spawn_local(serving);
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection of a member");
                // Most likely out of file descriptors: give others time to close theirs.
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, office: Rc<RefCell<Office>>, seldom: Rc<RefCell<Seldom>>) {
    let prepared = socket.set_nodelay(true);
    if let Err(error) = prepared.and_then(|()| listening::notice_death(&socket)) {
        return tracing::debug!(error = %error, "a connection ended before it began");
    }
    let service = service_fn(move |request| {
        let answer = answer(request, &office, &seldom);
        async { Ok::<_, Infallible>(answer) }
    });
    let served = http2::Builder::new(Local)
        .timer(TokioTimer::new())
        .keep_alive_interval(SILENCE_MAX)
        .keep_alive_timeout(SILENCE_MAX)
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(error = %error, "a connection of a member broke");
    }
}

fn answer(
    request: Request<Incoming>,
    office: &RefCell<Office>,
    seldom: &RefCell<Seldom>,
) -> Response<Answer> {
    let answered = match request.uri().path() {
        DELIVER => receive(request, office),
        LIST_MEMBERS => list_members(&office.borrow()),
        path => Err(Status::unimplemented(format!("unknown method {path}"))),
    };
    let answer = answered.unwrap_or_else(|status| {
        if seldom
            .borrow_mut()
            .may_say(status.message(), Instant::now())
        {
            tracing::warn!(
                error = status.message(),
                "refused a connection on a peer URL"
            );
        }
        Answer::Refused(Some(status))
    });
    let mut response = Response::new(answer);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Answer::Refused(status) = response.body_mut()
        && let Some(status) = status.take()
    {
        // A text that a header does not take is left out.
        let _ = status.add_header(response.headers_mut());
    }
    response
}

fn receive(request: Request<Incoming>, office: &RefCell<Office>) -> Result<Answer, Status> {
    let introduction = Introduction::read(request.headers())?;
    let mut office = office.borrow_mut();
    let Me {
        cluster_id,
        member_id,
        ..
    } = office.me;
    introduction.check(cluster_id, member_id)?;
    office.heard_from(introduction.from, &introduction.peer_urls);
    let receipts = SharedReceipts::default();
    let reading = read(
        request.into_body(),
        introduction.from,
        office.inbox.clone(),
        Rc::clone(&receipts),
    );
    Ok(Answer::Receipts(Receipts {
        state: receipts,
        said: 0,
        pause: None,
        _reading: Task::spawn(reading),
    }))
}

/// A member that has started again learns who the members are from its log; before it has read that it says nothing about
/// anybody, rather than that nobody is known.
fn list_members(office: &Office) -> Result<Answer, Status> {
    if office.members.is_empty() {
        return Err(Status::unavailable(UNKNOWN_YET));
    }
    let members = office.members.iter().map(|member| Member {
        id: member.id,
        name: member.name.clone(),
        peer_urls: member.peer_urls.clone(),
        client_urls: member.client_urls.clone(),
        is_learner: member.is_learner,
    });
    Ok(Answer::Message(Some(frame::of(&ListMembersResponse {
        cluster_id: office.me.cluster_id,
        members: members.collect(),
    }))))
}

/// Takes letters in until the sender ends.
async fn read(body: Incoming, from: u64, inbox: Inbox, receipts: SharedReceipts) {
    let ended = take_letters(body, from, &inbox, &receipts).await.err();
    if let Some(status) = &ended {
        tracing::warn!(
            remote_peer_id = format!("{from:x}"),
            error = status.message(),
            "cannot read what a member sends"
        );
    }
    let mut state = receipts.borrow_mut();
    state.ended = Some(ended.unwrap_or_else(|| Status::ok("")));
    state.wake();
}

async fn take_letters(
    mut body: Incoming,
    from: u64,
    inbox: &Inbox,
    receipts: &SharedReceipts,
) -> Result<(), Status> {
    let mut frames = Frames::default();
    // A broken connection shows where it is served.
    while let Some(Ok(piece)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let Ok(data) = piece.into_data() else { break };
        frames.push(&data);
        let mut letters = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        while let Some(message) = frames.next()? {
            bytes += message.len();
            let (readable, unreadable) = frame::letters(message)?;
            if unreadable > 0 {
                tracing::error!(
                    remote_peer_id = format!("{from:x}"),
                    letters = unreadable,
                    "cannot read letters of a member, which count as lost"
                );
            }
            letters.extend(readable);
            messages += 1;
        }
        if !letters.is_empty() && inbox.tell_letters(from, letters, bytes).is_err() {
            break;
        }
        while inbox.is_flooded() {
            sleep(FLOOD_PAUSE).await;
        }
        if messages > 0 {
            let mut state = receipts.borrow_mut();
            state.messages += messages;
            state.wake();
        }
    }
    Ok(())
}

/// How much of a stream has arrived, for whoever says so to the sender.
#[derive(Default)]
struct Arrived {
    messages: u64,
    ended: Option<Status>,
    waker: Option<Waker>,
}

type SharedReceipts = Rc<RefCell<Arrived>>;

impl Arrived {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// The body of an answer.
enum Answer {
    /// The status is in the headers.
    Refused(Option<Status>),
    /// One message.
    Message(Option<Bytes>),
    /// Receipts for as long as letters come.
    Receipts(Receipts),
}

/// See [`Answer::Receipts`].
struct Receipts {
    state: SharedReceipts,
    said: u64,
    pause: Option<Pin<Box<Sleep>>>,
    _reading: Task,
}

impl Receipts {
    fn poll_receipt(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        let mut state = self.state.borrow_mut();
        if let Some(status) = state.ended.take() {
            let mut trailers = HeaderMap::new();
            // A text that a header does not take is left out.
            let _ = status.add_header(&mut trailers);
            return Poll::Ready(Some(Frame::trailers(trailers)));
        }
        state.waker = Some(cx.waker().clone());
        if state.messages == self.said {
            return Poll::Pending;
        }
        let pause = self
            .pause
            .get_or_insert_with(|| Box::pin(sleep(RECEIPT_PAUSE)));
        if pin!(pause).poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pause = None;
        self.said = state.messages;
        let messages = state.messages;
        Poll::Ready(Some(Frame::data(frame::of(&Receipt { messages }))))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let frame = match this {
            Self::Refused(_) => Poll::Ready(None),
            Self::Receipts(receipts) => receipts.poll_receipt(cx),
            Self::Message(message) => match message.take() {
                Some(message) => Poll::Ready(Some(Frame::data(message))),
                None => {
                    *this = Self::Refused(None);
                    let mut trailers = HeaderMap::new();
                    // No text, so nothing a header does not take.
                    let _ = Status::ok("").add_header(&mut trailers);
                    Poll::Ready(Some(Frame::trailers(trailers)))
                }
            },
        };
        frame.map(|frame| frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}
