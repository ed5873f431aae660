//! What only shows below the libraries that clients use: how a status is spelt, and whose patience ends a call.

mod cluster;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::ServerProcess,
};
use http::{HeaderMap, Request, Response};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, RangeRequest,
};
use metastore_proto::v3electionpb::LeaderRequest;
use metastore_proto::v3lockpb::{LockRequest, LockResponse};
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One gRPC message.
struct Once(Option<Bytes>);

impl Body for Once {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}

impl Once {
    fn of(message: &impl Message) -> Self {
        let length = u32::try_from(message.encoded_len()).expect("a short message");
        let mut bytes = vec![0];
        bytes.extend(length.to_be_bytes());
        message.encode(&mut bytes).expect("room");
        Self(Some(bytes.into()))
    }
}

/// The answer to a call, as soon as its headers are there.
async fn open(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    message: &impl Message,
) -> Response<Incoming> {
    let socket = TcpStream::connect(address).await.expect("a ready server");
    let handshake =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = handshake.await.expect("it speaks HTTP/2");
    drop(tokio::spawn(connection));
    let mut request = Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Once::of(message)).expect("a request");
    sender.send_request(request).await.expect("an answer")
}

/// What came of a call: the headers that have the status, and the message before it without its prefix.
async fn call(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    message: &impl Message,
) -> (HeaderMap, Bytes) {
    let (parts, mut body) = open(address, path, headers, message).await.into_parts();
    if parts.headers.contains_key("grpc-status") {
        return (parts.headers, Bytes::new());
    }
    let mut said = Vec::new();
    loop {
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let frame = frame.expect("a status at the end").expect("a whole answer");
        match frame.into_data() {
            Ok(bytes) => said.extend(bytes),
            Err(frame) => {
                let trailers = frame.into_trailers().expect("trailers");
                return (trailers, Bytes::from(said).slice(5..));
            }
        }
    }
}

#[test]
fn a_status_is_spelt_as_etcds_library_spells_it() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let address = server.client_address();
        let range = RangeRequest {
            key: b"k".to_vec(),
            ..RangeRequest::default()
        };
        let (good, _) = call(address, "/etcdserverpb.KV/Range", &[], &range).await;
        assert_eq!(good["grpc-status"], "0");
        assert_eq!(good["grpc-message"], "");
        let revoke = LeaseRevokeRequest { id: 7 };
        let (refused, _) = call(address, "/etcdserverpb.Lease/LeaseRevoke", &[], &revoke).await;
        assert_eq!(refused["grpc-status"], "5");
        assert_eq!(
            refused["grpc-message"],
            "etcdserver: requested lease not found"
        );
        let (unknown, _) = call(address, "/a%20b/C", &[], &revoke).await;
        assert_eq!(unknown["grpc-status"], "12");
        assert_eq!(unknown["grpc-message"], "unknown service a%2520b");
        for service in ["etcdserverpb.KV", "etcdserverpb.Watch"] {
            let path = format!("/{service}/Ask");
            let (unknown, _) = call(address, &path, &[], &revoke).await;
            assert_eq!(unknown["grpc-status"], "12");
            let words = format!("unknown method Ask for service {service}");
            assert_eq!(unknown["grpc-message"], *words);
        }
    });
}

#[test]
fn who_observes_an_election_hears_nothing_before_there_is_a_leader() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let address = server.client_address();
        let observe = LeaderRequest {
            name: b"post".to_vec(),
        };
        let path = "/v3electionpb.Election/Observe";
        let silence = timeout(
            Duration::from_millis(500),
            open(address, path, &[], &observe),
        );
        assert!(silence.await.is_err(), "nobody leads");
    });
}

/// A client that is gone without a word must not stand in line for ever, and own the lock one day.
#[test]
fn a_wait_for_a_lock_ends_with_its_clients_patience() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let address = server.client_address();
        let connection = Connection::open(address).await.expect("a connection");
        let mut leases = Vec::new();
        for _ in 0..2 {
            let request = LeaseGrantRequest { id: 0, ttl: 60 };
            let granted = connection.lease.clone().lease_grant(request).await;
            leases.push(granted.expect("a lease").into_inner().id);
        }
        let path = "/v3lockpb.Lock/Lock";
        let wish = |lease| LockRequest {
            name: b"door".to_vec(),
            lease,
        };
        let (status, owner) = call(address, path, &[], &wish(leases[0])).await;
        assert_eq!(status["grpc-status"], "0");
        let owner = LockResponse::decode(owner).expect("an answer");
        // Making the claim takes a sync, which is not what is tried here.
        let begun = Instant::now();
        let patience = [("grpc-timeout", "3S")];
        let (status, _) = call(address, path, &patience, &wish(leases[1])).await;
        assert_eq!(status["grpc-status"], "4");
        assert_eq!(status["grpc-message"], "context deadline exceeded");
        assert!(begun.elapsed() >= Duration::from_secs(3));
        // The wish is taken back; nobody else's is.
        let kept = [vec![owner.key], Vec::new()];
        for (lease, kept) in leases.into_iter().zip(kept) {
            let request = LeaseTimeToLiveRequest {
                id: lease,
                keys: true,
            };
            let mut asked = connection.lease.clone();
            let deadline = Instant::now() + Duration::from_secs(5);
            loop {
                let told = asked.lease_time_to_live(request).await;
                let keys = told.expect("it lives").into_inner().keys;
                if keys == kept {
                    break;
                }
                assert!(Instant::now() < deadline, "{keys:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    });
}
