//! The Watch service: one stream per call, with any number of watchers on it.

use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use futures_util::Stream;
use http::Request as HttpRequest;
use hyper::body::Incoming;
use metastore_core::watch::{Ended, Response as Told};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{ResponseHeader, WatchRequest};
use tonic::body::Body;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::Context;
use crate::breathing::Breathing;
use crate::status;
use crate::watching::OpenStream;

/// See the module. It is not the generated service, because its responses are encoded before they get here.
#[derive(Clone)]
pub(crate) struct WatchService {
    context: Context,
    frame_max: usize,
}

/// The one method of the service.
pub(crate) const METHOD: &str = "/etcdserverpb.Watch/Watch";

impl WatchService {
    pub(crate) fn new(context: Context, frame_max: usize) -> Self {
        Self { context, frame_max }
    }

    pub(crate) async fn call(&self, request: HttpRequest<Incoming>) -> http::Response<Body> {
        if request.uri().path() != METHOD {
            return Status::unimplemented("").into_http();
        }
        Grpc::new(WatchCodec)
            .apply_max_message_size_config(Some(self.frame_max), Some(usize::MAX))
            .streaming(self.clone(), request)
            .await
    }
}

impl StreamingService<WatchRequest> for WatchService {
    type Response = Outgoing;
    type ResponseStream = Breathing<WatchStream>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<WatchRequest>>) -> Self::Future {
        let stream = WatchStream {
            context: self.context.clone(),
            requests: Some(request.into_inner()),
            open: OpenStream::open(),
            unheard: 0,
        };
        std::future::ready(Ok(Response::new(Breathing::new(stream, weight))))
    }
}

/// One call: what the client says and what it is told, in one task, so that a client that does not listen is not
/// listened to either.
pub(crate) struct WatchStream {
    context: Context,
    /// None when the client has said all it will say; it may still listen.
    requests: Option<Streaming<WatchRequest>>,
    open: OpenStream,
    /// Responses in a row before which no request was looked for.
    unheard: u32,
}

/// After so many responses a request is heard, whatever else there is to tell. A stream with history takes turns
/// between that and what waits for the reader, so two responses make room for the answer: answers never pile up.
const RESPONSES_PER_REQUEST: u32 = 2;

/// Requests that are heard before the other streams of the thread have their turn: not all have an answer, and of those a
/// client can send many.
const REQUESTS_PER_TURN: u32 = 32;

impl WatchStream {
    fn hear(&self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.open.create(&create),
            Some(RequestUnion::CancelRequest(cancel)) => self.open.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.open.request_progress(),
            // Of a client newer than this server, or a mistake: nobody waits for an answer.
            None => {}
        }
    }

    /// The next request; pending also when there will be none.
    fn poll_request(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<WatchRequest, Status>> {
        let Some(requests) = &mut self.requests else {
            return Poll::Pending;
        };
        match ready!(Pin::new(requests).poll_next(cx)) {
            Some(request) => Poll::Ready(request.map_err(status::of_requests)),
            None => {
                self.requests = None;
                Poll::Pending
            }
        }
    }
}

impl Stream for WatchStream {
    type Item = Result<Outgoing, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        for _ in 0..REQUESTS_PER_TURN {
            let its_turn = self.unheard >= RESPONSES_PER_REQUEST;
            if !its_turn {
                match self.open.poll_next(cx) {
                    Poll::Ready(Ok((response, term))) => {
                        self.unheard += 1;
                        let stamp = self.context.identity.header(0, term);
                        return Poll::Ready(Some(Ok(Outgoing { response, stamp })));
                    }
                    Poll::Ready(Err(Ended)) => {
                        return Poll::Ready(Some(Err(status::server_stopped())));
                    }
                    Poll::Pending => {}
                }
            }
            self.unheard = 0;
            match self.poll_request(cx) {
                Poll::Ready(Ok(request)) => self.hear(request),
                Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                Poll::Pending if its_turn => {}
                Poll::Pending => return Poll::Pending,
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

fn weight(item: &Result<Outgoing, Status>) -> usize {
    item.as_ref()
        .map_or(0, |it| it.response.encoded_len(&it.stamp))
}

/// A response and the header that goes on it.
pub(crate) struct Outgoing {
    response: Told,
    stamp: ResponseHeader,
}

/// Requests as messages, responses as bytes that are mostly there already.
struct WatchCodec;

struct OutgoingEncoder;

impl Codec for WatchCodec {
    type Encode = Outgoing;
    type Decode = WatchRequest;
    type Encoder = OutgoingEncoder;
    type Decoder = <ProstCodec<WatchRequest, WatchRequest> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        OutgoingEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<WatchRequest, WatchRequest>::default().decoder()
    }
}

impl Encoder for OutgoingEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(item.response.encoded_len(&item.stamp));
        item.response.encode(&item.stamp, buffer);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Waker;
    use std::time::Duration;

    use arc_swap::ArcSwap;
    use metastore_core::mvcc::Store;
    use metastore_core::output::Published;
    use metastore_core::watch::Settings;

    use super::*;
    use crate::feed::Feed;
    use crate::watching;

    /// So many requests that ask for nothing, and the end; each is an empty message in a frame.
    fn nothings(count: usize) -> Streaming<WatchRequest> {
        let frames = String::from_utf8(vec![0; 5 * count]).expect("zeros are text");
        Streaming::new_request(WatchCodec.decoder(), Body::new(frames), None, None)
    }

    #[test]
    fn requests_without_an_answer_leave_others_their_turn() {
        let shown = Published::at_start(Store::new().view(), 0);
        let (context, _calls) = Context::showing(&Arc::new(ArcSwap::from_pointee(shown)));
        let settings = Settings::new(Duration::from_secs(600), 1 << 20);
        watching::begin(context.node.clone(), Feed::default(), settings);
        let mut stream = WatchStream {
            context,
            requests: Some(nothings(100)),
            open: OpenStream::open(),
            unheard: 0,
        };
        let mut turns = 0;
        while stream.requests.is_some() {
            let cx = &mut TaskContext::from_waker(Waker::noop());
            assert!(Pin::new(&mut stream).poll_next(cx).is_pending());
            turns += 1;
        }
        assert_eq!(turns, 4, "thirty-two in a turn");
    }
}
