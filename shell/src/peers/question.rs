//! Who the members are: asked by a process that is to join them, or to found a cluster with them, and knows only their
//! peer URLs.

use std::convert::Infallible;
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
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Status};

use super::dial::connect;
use super::frame::{self, Frames};
use super::local::{Local, Task};
use crate::config::Url;

/// The path of the method that answers.
pub(super) const LIST_MEMBERS: &str = "/metastore.peer.v1.Peer/ListMembers";

/// How long answers are waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// In all.
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

/// What is said at each of these URLs, which are all asked at once, or what went wrong there.
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
    let answers = LocalSet::new().block_on(&runtime, async {
        let silent = |url| Err(format!("{url}: no answer within {:?}", patience.longest));
        let mut answers: Vec<_> = urls.iter().map(silent).collect();
        let mut questions = JoinSet::new();
        for (place, url) in urls.iter().cloned().enumerate() {
            questions.spawn_local(async move {
                let answer = ask(&url).await;
                (place, answer.map_err(|reason| format!("{url}: {reason}")))
            });
        }
        let mut end = Instant::now() + patience.longest;
        while let Ok(Some(asked)) = timeout_at(end, questions.join_next()).await {
            let (place, answer) = asked.expect("a question neither panics nor is given up");
            if answer.is_ok() {
                end = end.min(Instant::now() + patience.after_first);
            }
            answers[place] = answer;
        }
        answers
    });
    // A name server may let a look-up hang; nobody waits for its end.
    runtime.shutdown_background();
    Ok(answers)
}

async fn ask(url: &Url) -> Result<KnownCluster, String> {
    let stream = connect(url).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = Builder::new(Local)
        .handshake::<_, Once>(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let _connection = Task::spawn(async move {
        // What breaks it also ends the answer, where it is noticed.
        let _ = connection.await;
    });
    let question = Once(Some(frame::of(&ListMembersRequest {})));
    let mut request = Request::post(format!("{url}{LIST_MEMBERS}"))
        .body(question)
        .map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    let response = sender.send_request(request).await;
    let response = response.map_err(|error| error.to_string())?;
    if let Some(status) = Status::from_header_map(response.headers())
        && status.code() != Code::Ok
    {
        return Err(status.message().to_owned());
    }
    let answer = message(response.into_body()).await?;
    let answer = ListMembersResponse::decode(answer).map_err(|error| error.to_string())?;
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
