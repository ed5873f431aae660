//! Who the members are: asked by a process that is to join them and knows only their peer URLs.

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
use tokio::task::LocalSet;
use tonic::{Code, Status};

use super::dial::connect;
use super::frame::{self, Frames};
use super::local::{Local, Task};
use crate::config::Url;

/// The path of the method that answers.
pub(super) const LIST_MEMBERS: &str = "/metastore.peer.v1.Peer/ListMembers";

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a member says of its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownCluster {
    pub(crate) cluster_id: u64,
    /// By id.
    pub(crate) members: Vec<MemberInfo>,
}

/// What the first member that answers says, in the order of these URLs; or each URL with what went wrong there.
///
/// # Errors
/// The outer one is the system's, which refused a runtime.
pub(crate) fn ask_in_turn(urls: &[Url]) -> io::Result<Result<KnownCluster, Vec<String>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(LocalSet::new().block_on(&runtime, async {
        let mut failed = Vec::new();
        for url in urls {
            match tokio::time::timeout(PATIENCE, ask(url)).await {
                Ok(Ok(known)) => return Ok(known),
                Ok(Err(reason)) => failed.push(format!("{url}: {reason}")),
                Err(_) => failed.push(format!("{url}: no answer within {PATIENCE:?}")),
            }
        }
        Err(failed)
    }))
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
