//! Who the members are: asked by a process that is to join them, or to found a cluster with them, and knows only their
//! peer URLs.

use std::convert::Infallible;
use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Request};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::Builder;
use hyper_util::rt::TokioIo;
use metastore_core::output::MemberInfo;
use metastore_proto::peer::{ListMembersRequest, ListMembersResponse};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};

use super::dial::connect;
use super::frame::{self, Frames};
use super::local::{Local, Task};
use crate::config::Url;

/// The path of the method that answers.
pub(super) const LIST_MEMBERS: &str = "/metastore.peer.v1.Peer/ListMembers";

/// What a member says that has started again and has not read its log yet.
pub(super) const UNKNOWN_YET: &str = "this member does not know yet who the members are";

/// How long answers are waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// In all; more where a member is there that does not know the members yet.
    pub(crate) longest: Duration,
    /// From the first answer on: the others are asked for what the first does not know yet.
    pub(crate) after_first: Duration,
}

/// What a member says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownCluster {
    pub(crate) cluster_id: u64,
    /// By id.
    pub(crate) members: Vec<MemberInfo>,
}

/// Why there is no answer.
#[derive(Debug)]
enum Unanswered {
    /// A member is there that does not know the members yet.
    Starting(String),
    /// Anything else.
    Failed(String),
}

/// How long a question waits before it is asked again: members that start together are not all there at once.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a member may take from its first word to knowing the members: it replays its log in between.
const STARTING_MAX: Duration = Duration::from_secs(30);

/// What is said at each of these URLs, which are all asked at once, and again and again for as long as there is
/// patience; or what went wrong there at last.
///
/// # Errors
/// The outer one is the system's, which refused a runtime.
pub(crate) fn ask_all(
    urls: &[Url],
    patience: Patience,
) -> io::Result<Vec<Result<KnownCluster, String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answers = LocalSet::new().block_on(&runtime, listen(urls, patience));
    // A name server may let a look-up hang; nobody waits for its end.
    runtime.shutdown_background();
    Ok(answers)
}

async fn listen(urls: &[Url], patience: Patience) -> Vec<Result<KnownCluster, String>> {
    let silent = |url| Err(format!("{url}: no answer within {:?}", patience.longest));
    let mut answers: Vec<_> = urls.iter().map(silent).collect();
    let (said, mut hearing) = mpsc::unbounded_channel();
    let questions = urls.iter().cloned().enumerate();
    let _questions: Vec<Task> = questions
        .map(|(place, url)| Task::spawn(insist(place, url, said.clone())))
        .collect();
    let begun = Instant::now();
    let mut end = begun + patience.longest;
    let mut asked = urls.len();
    while asked > 0
        && let Ok(Some((place, answer))) = timeout_at(end, hearing.recv()).await
    {
        let someone_knows = asked < urls.len();
        answers[place] = match answer {
            Ok(cluster) => {
                asked -= 1;
                end = end.min(Instant::now() + patience.after_first);
                Ok(cluster)
            }
            Err(Unanswered::Starting(reason)) => {
                if !someone_knows {
                    end = end.max(begun + STARTING_MAX);
                }
                Err(format!("{}: {reason}", urls[place]))
            }
            Err(Unanswered::Failed(reason)) => Err(format!("{}: {reason}", urls[place])),
        };
    }
    answers
}

/// Asks until there is an answer, and says each time what came of it.
async fn insist(
    place: usize,
    url: Url,
    said: mpsc::UnboundedSender<(usize, Result<KnownCluster, Unanswered>)>,
) {
    loop {
        let answer = ask(&url).await;
        let done = answer.is_ok();
        if said.send((place, answer)).is_err() || done {
            return;
        }
        sleep(PAUSE).await;
    }
}

async fn ask(url: &Url) -> Result<KnownCluster, Unanswered> {
    let stream = connect(url).await.map_err(failed)?;
    let (mut sender, connection) = Builder::new(Local)
        .handshake::<_, Once>(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let _connection = Task::spawn(async move {
        // What breaks it also ends the answer, where it is noticed.
        let _ = connection.await;
    });
    let question = Once(Some(frame::of(&ListMembersRequest {})));
    let mut request = Request::post(format!("{url}{LIST_MEMBERS}"))
        .body(question)
        .map_err(failed)?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let response = sender.send_request(request).await;
    let response = response.map_err(failed)?;
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        let reason = status.message().to_owned();
        // A proxy before a dead member refuses in the same code, but not in these words.
        return Err(match reason == UNKNOWN_YET {
            true => Unanswered::Starting(reason),
            false => Unanswered::Failed(reason),
        });
    }
    let answer = message(response.into_body()).await;
    let answer = answer.map_err(Unanswered::Failed)?;
    let answer = ListMembersResponse::decode(answer).map_err(failed)?;
    let members = answer.members.into_iter().map(|member| MemberInfo {
        id: member.id,
        name: member.name,
        peer_urls: member.peer_urls,
        client_urls: member.client_urls,
        is_learner: member.is_learner,
    });
    Ok(KnownCluster {
        cluster_id: answer.cluster_id,
        members: members.collect(),
    })
}

fn failed(error: impl Display) -> Unanswered {
    Unanswered::Failed(error.to_string())
}

/// The one message of an answer.
async fn message(mut body: Incoming) -> Result<Bytes, String> {
    let mut frames = Frames::default();
    loop {
        if let Some(message) = frames
            .next()
            .map_err(|status| status.message().to_owned())?
        {
            return Ok(message);
        }
        match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
            Some(Ok(piece)) => match piece.into_data() {
                Ok(data) => frames.push(&data),
                Err(_) => return Err("no answer".into()),
            },
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("no answer".into()),
        }
    }
}

/// A body of one message.
struct Once(Option<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
