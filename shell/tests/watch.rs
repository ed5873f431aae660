//! Watch streams over real sockets: what a client of the generated stubs sees.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::ServerProcess,
};
use metastore_proto::etcdserverpb::{
    PutRequest, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest,
    WatchResponse, watch_request::RequestUnion,
};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};

/// One watch stream from its client's side.
struct WatchStream {
    requests: Option<mpsc::Sender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
}

impl WatchStream {
    async fn open(connection: &mut Connection) -> Self {
        let (requests, mut receiver) = mpsc::channel(16);
        let receiver = futures_util::stream::poll_fn(move |cx| receiver.poll_recv(cx));
        let responses = connection.watch.watch(receiver).await;
        Self {
            requests: Some(requests),
            responses: responses.expect("an open stream").into_inner(),
        }
    }

    async fn say(&self, request: RequestUnion) {
        let requests = self.requests.as_ref().expect("not half-closed");
        let request = WatchRequest {
            request_union: Some(request),
        };
        requests.send(request).await.expect("a live stream");
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.say(RequestUnion::CreateRequest(request)).await;
        let created = self.next().await.expect("a live stream");
        assert!(created.created && !created.canceled, "{created:?}");
        created
    }

    async fn next(&mut self) -> Result<WatchResponse, Status> {
        let next = tokio::time::timeout(PATIENCE, self.responses.message());
        let next = next.await.expect("a response in time")?;
        Ok(next.expect("the server does not end a stream by itself"))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn on(key: &[u8]) -> WatchCreateRequest {
    WatchCreateRequest {
        key: key.to_vec(),
        ..WatchCreateRequest::default()
    }
}

/// The revision of the write.
async fn put(connection: &mut Connection, key: &[u8], value: Vec<u8>) -> i64 {
    let request = PutRequest {
        key: key.to_vec(),
        value,
        ..PutRequest::default()
    };
    let put = connection.kv.put(request).await.expect("a fair put");
    revision_of(put.into_inner().header.as_ref())
}

fn revision_of(header: Option<&metastore_proto::etcdserverpb::ResponseHeader>) -> i64 {
    header.expect("every answer has one").revision
}

fn revisions(response: &WatchResponse) -> Vec<i64> {
    let kvs = response.events.iter().filter_map(|it| it.kv.as_ref());
    kvs.map(|kv| kv.mod_revision).collect()
}

/// Runs a story against a started server.
fn with_server(flags: &[&str], story: impl AsyncFnOnce(&mut ServerProcess)) {
    let mut server = ServerProcess::metastore(flags);
    server.start();
    single_threaded_runtime().block_on(story(&mut server));
}

async fn connect(server: &ServerProcess) -> Connection {
    let connection = Connection::open(server.client_address());
    connection.await.expect("a ready server")
}

#[test]
fn a_watch_from_now_hears_the_next_write_and_never_the_one_acknowledged_before() {
    with_server(&[], async |server| {
        let mut connection = connect(server).await;
        let mut stream = WatchStream::open(&mut connection).await;
        for round in 0..300 {
            let before = put(&mut connection, b"k", vec![1]).await;
            let created = stream.create(on(b"k")).await;
            assert_eq!(
                revision_of(created.header.as_ref()),
                before,
                "round {round}"
            );
            let after = put(&mut connection, b"k", vec![2]).await;
            let heard = stream.next().await.expect("an event");
            assert_eq!(revisions(&heard), [after], "round {round}");
            assert_eq!(revision_of(heard.header.as_ref()), after);
            let watch_id = created.watch_id;
            let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
            stream.say(cancel).await;
            let canceled = stream.next().await.expect("an answer");
            assert!(canceled.canceled && canceled.watch_id == watch_id);
        }
    });
}

#[test]
fn a_half_closed_stream_goes_on() {
    with_server(&[], async |server| {
        let mut connection = connect(server).await;
        let mut stream = WatchStream::open(&mut connection).await;
        stream.create(on(b"k")).await;
        stream.requests = None;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let revision = put(&mut connection, b"k", vec![]).await;
        let heard = stream.next().await.expect("an event");
        assert_eq!(revisions(&heard), [revision]);
    });
}

#[test]
fn history_is_watched_across_a_kill_and_joins_the_present() {
    with_server(&[], async |server| {
        let mut connection = connect(server).await;
        for value in 0..100 {
            put(&mut connection, b"k", vec![value]).await;
        }
        server.kill();
        server.start();
        let mut connection = connect(server).await;
        let mut stream = WatchStream::open(&mut connection).await;
        stream
            .create(WatchCreateRequest {
                start_revision: 50,
                ..on(b"k")
            })
            .await;
        let mut heard = revisions(&stream.next().await.expect("history"));
        let last = put(&mut connection, b"k", vec![]).await;
        heard.extend(revisions(&stream.next().await.expect("an event")));
        assert_eq!(heard, (50..=last).collect::<Vec<i64>>());
    });
}

#[test]
fn progress_comes_by_itself_and_on_request() {
    with_server(
        &["--watch-progress-notify-interval=100ms"],
        async |server| {
            let mut connection = connect(server).await;
            let mut stream = WatchStream::open(&mut connection).await;
            let created = stream
                .create(WatchCreateRequest {
                    progress_notify: true,
                    ..on(b"k")
                })
                .await;
            let revision = put(&mut connection, b"other", vec![]).await;
            let mut progress = stream.next().await.expect("progress");
            if revision_of(progress.header.as_ref()) < revision {
                progress = stream.next().await.expect("more progress");
            }
            assert_eq!(progress.watch_id, created.watch_id);
            assert_eq!(revision_of(progress.header.as_ref()), revision);
            assert!(progress.events.is_empty());

            let mut quiet = WatchStream::open(&mut connection).await;
            quiet.create(on(b"k")).await;
            let asked = RequestUnion::ProgressRequest(WatchProgressRequest {});
            quiet.say(asked).await;
            let progress = quiet.next().await.expect("progress");
            let told = revision_of(progress.header.as_ref());
            assert_eq!((progress.watch_id, told), (-1, revision));
        },
    );
}

#[test]
fn a_reader_that_pauses_loses_nothing_and_holds_nobody_up() {
    with_server(&[], async |server| {
        let mut connection = connect(server).await;
        let mut slow_connection = connect(server).await;
        let mut slow = WatchStream::open(&mut slow_connection).await;
        slow.create(on(b"k")).await;
        let mut fast = WatchStream::open(&mut connection).await;
        fast.create(on(b"k")).await;
        let mut written = Vec::new();
        for _ in 0..400 {
            let begin = Instant::now();
            let revision = put(&mut connection, b"k", vec![7; 100_000]).await;
            let heard = fast.next().await.expect("an event");
            assert_eq!(revisions(&heard), [revision]);
            assert!(begin.elapsed() < Duration::from_secs(5));
            written.push(revision);
        }
        let mut heard = Vec::new();
        while heard.len() < written.len() {
            heard.extend(revisions(&slow.next().await.expect("events")));
        }
        assert_eq!(heard, written);
    });
}

#[test]
fn a_client_is_heard_while_there_is_always_something_to_tell_it() {
    with_server(&[], async |server| {
        const WRITES: usize = 400;
        let mut connection = connect(server).await;
        for _ in 0..WRITES {
            put(&mut connection, b"k", vec![7; 100_000]).await;
        }
        let mut stream = WatchStream::open(&mut connection).await;
        let created = stream
            .create(WatchCreateRequest {
                start_revision: 1,
                ..on(b"k")
            })
            .await;
        let watch_id = created.watch_id;
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id });
        stream.say(RequestUnion::CreateRequest(on(b"other"))).await;
        stream.say(cancel).await;
        let mut other = None;
        let mut heard = 0;
        loop {
            // A reader that is slower than the server.
            tokio::time::sleep(Duration::from_millis(5)).await;
            let response = stream.next().await.expect("a live stream");
            heard += response.events.len();
            if response.created {
                other = Some(response.watch_id);
            }
            if response.canceled {
                assert_eq!(response.watch_id, watch_id);
                break;
            }
        }
        assert!(other.is_some_and(|other| other != watch_id), "{other:?}");
        assert!(heard < WRITES / 2, "it heard {heard} of {WRITES} writes");
        let revision = put(&mut connection, b"other", vec![]).await;
        let next = stream.next().await.expect("an event");
        assert_eq!(
            (Some(next.watch_id), revisions(&next)),
            (other, vec![revision])
        );
    });
}

#[test]
fn a_stopping_server_ends_its_streams_so_that_clients_look_for_another() {
    with_server(&[], async |server| {
        let mut connection = connect(server).await;
        let mut stream = WatchStream::open(&mut connection).await;
        stream.create(on(b"k")).await;
        let begin = Instant::now();
        server.stop();
        assert!(begin.elapsed() < Duration::from_secs(2));
        let ended = stream.next().await.expect_err("the server is gone");
        assert_eq!(ended.code(), Code::Unavailable, "{ended:?}");
    });
}
