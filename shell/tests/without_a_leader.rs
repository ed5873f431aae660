//! A member that has lost the others: what it refuses, what it still serves, and what it ends.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    eventually::eventually,
    server_process::ServerProcess,
    several::{Several, get, in_words, put, status},
};
use futures_util::{StreamExt, future::join_all, stream};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, MemberListRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse, compare, request_op, response_op,
};
use metastore_proto::health::{HealthCheckRequest, HealthCheckResponse};
use metastore_proto::mvccpb::KeyValue;
use metastore_proto::v3electionpb::{CampaignRequest, LeaderRequest, LeaderResponse};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

/// Short elections, so that a lost leader is soon noticed.
const QUICK: [&str; 2] = ["--heartbeat-interval=50", "--election-timeout=250"];
const ELECTION_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a request waits for the quorum, or for a leader: five seconds and two election timeouts.
const REQUEST_TIME: Duration = Duration::from_millis(5_500);

/// The caller wants to be refused rather than wait.
fn needing_a_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().expect("plain text"));
    request
}

fn watch() -> WatchRequest {
    let create = WatchCreateRequest {
        key: b"k".to_vec(),
        ..WatchCreateRequest::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}

const NO_LEADER: &str = "Unavailable: etcdserver: no leader";
const TIMED_OUT: &str = "Unavailable: etcdserver: request timed out";
const DISCONNECTED: &str =
    "Unavailable: etcdserver: request timed out, possibly due to connection lost";
const FUTURE: &str = "OutOfRange: etcdserver: mvcc: required revision is a future revision";

/// A follower that has lost both others. It knows of no leader any more, and has the key `k` with the value `v`.
async fn last_of_three() -> ServerProcess {
    let mut several = Several::of(3, &QUICK);
    several.start();
    let leader = several.leader().await;
    let survivor = several.members.remove((leader + 1) % 3);
    put(&survivor, "k", "v").await.expect("a write");
    several.members.iter_mut().for_each(ServerProcess::kill);
    wait_until_leaderless(&survivor).await;
    survivor
}

async fn wait_until_leaderless(member: &ServerProcess) {
    eventually("nobody is known to lead", async || {
        match status(member).await?.leader {
            0 => Ok(()),
            leader => Err(format!("{leader:x} is")),
        }
    })
    .await;
}

async fn connect(member: &ServerProcess) -> Connection {
    let opened = Connection::open(member.client_address()).await;
    opened.expect("a server")
}

/// An answer that needs nobody else.
async fn at_once<T>(answer: impl Future<Output = T>) -> T {
    let answered = tokio::time::timeout(Duration::from_secs(2), answer).await;
    answered.expect("it waits for nobody")
}

/// Has them all wait at the same time: each ends with this status, and not before its time is over.
async fn assert_wait_in_vain<T>(
    requests: impl IntoIterator<Item = impl Future<Output = Result<T, Status>>>,
    status: &str,
) {
    let began = Instant::now();
    let waits = requests.into_iter().map(|request| async move {
        let ended = request.await.map(|_| ()).map_err(in_words);
        (ended, began.elapsed())
    });
    for (number, (ended, after)) in join_all(waits).await.into_iter().enumerate() {
        assert_eq!(ended, Err(status.to_owned()), "request {number}");
        assert!(after >= REQUEST_TIME, "request {number} after {after:?}");
    }
}

/// What a client has open: one of each endless stream that needs a leader, and a watch that needs none.
struct Streams {
    bound: Streaming<WatchResponse>,
    free: Streaming<WatchResponse>,
    renewals: Streaming<LeaseKeepAliveResponse>,
    leaders: Streaming<LeaderResponse>,
    health: Streaming<HealthCheckResponse>,
}

impl Streams {
    async fn open(connection: &mut Connection) -> Result<Self, Status> {
        let grant = LeaseGrantRequest { id: 7, ttl: 60 };
        connection.lease.lease_grant(grant).await?;
        let watching = || stream::iter([watch()]).chain(stream::pending());
        let renewal = stream::iter([LeaseKeepAliveRequest { id: 7 }]).chain(stream::pending());
        let bound = connection.watch.watch(needing_a_leader(watching()));
        let mut bound = bound.await?.into_inner();
        let mut free = connection.watch.watch(watching()).await?.into_inner();
        let renewals = connection.lease.lease_keep_alive(needing_a_leader(renewal));
        let mut renewals = renewals.await?.into_inner();
        let campaign = CampaignRequest {
            name: b"post".to_vec(),
            lease: 7,
            value: b"v".to_vec(),
        };
        connection.election.campaign(campaign).await?;
        let post = LeaderRequest {
            name: b"post".to_vec(),
        };
        let leaders = connection.election.observe(needing_a_leader(post));
        let mut leaders = leaders.await?.into_inner();
        let server = HealthCheckRequest::default();
        let health = connection.health.watch(needing_a_leader(server));
        let mut health = health.await?.into_inner();
        assert!(bound.message().await?.is_some_and(|it| it.created));
        assert!(free.message().await?.is_some_and(|it| it.created));
        assert!(renewals.message().await?.is_some_and(|it| it.id == 7));
        assert!(leaders.message().await?.is_some_and(|it| it.kv.is_some()));
        assert!(health.message().await?.is_some());
        Ok(Self {
            bound,
            free,
            renewals,
            leaders,
            health,
        })
    }
}

/// The stream ends because nobody leads, and tells when.
async fn end_without_a_leader<T>(stream: &mut Streaming<T>) -> Instant {
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.message()).await;
    let ended = ended.expect("it ends in time").map(|_| ());
    assert_eq!(ended.map_err(in_words), Err(NO_LEADER.to_owned()));
    Instant::now()
}

/// Waits until a member knows of no leader, and tells when it was last asked and still did; at `led` it did.
async fn last_led(member: &ServerProcess, mut led: Instant) -> Instant {
    let limit = led + Duration::from_secs(5);
    loop {
        let asked = Instant::now();
        match status(member).await.expect("a status").leader {
            0 => return led,
            leader => assert!(asked < limit, "{leader:x} is believed to lead"),
        }
        led = asked;
    }
}

async fn assert_no_stream_opens(connection: &mut Connection) {
    let nobody = Err(NO_LEADER.to_owned());
    let watching = needing_a_leader(stream::iter([watch()]).chain(stream::pending()));
    let watch = at_once(connection.watch.watch(watching)).await;
    assert_eq!(watch.map(|_| ()).map_err(in_words), nobody);
    let renewal = stream::iter([LeaseKeepAliveRequest { id: 7 }]).chain(stream::pending());
    let renewals = connection.lease.lease_keep_alive(needing_a_leader(renewal));
    let renewals = at_once(renewals).await;
    assert_eq!(renewals.map(|_| ()).map_err(in_words), nobody);
    let post = LeaderRequest {
        name: b"post".to_vec(),
    };
    let leaders = at_once(connection.election.observe(needing_a_leader(post))).await;
    assert_eq!(leaders.map(|_| ()).map_err(in_words), nobody);
}

#[test]
fn streams_that_need_a_leader_end_without_one_and_others_stay() {
    let mut several = Several::of(3, &QUICK);
    several.start();
    single_threaded_runtime().block_on(async {
        several.leader().await;
        let survivor = several.members.pop().expect("three members");
        put(&survivor, "k", "v").await.expect("a write");
        let mut connection = connect(&survivor).await;
        let mut streams = Streams::open(&mut connection).await.expect("all open");
        let began = Instant::now();
        several.members.iter_mut().for_each(ServerProcess::kill);
        let led = last_led(&survivor, began).await;
        assert_no_stream_opens(&mut connection).await;
        let ends = tokio::join!(
            end_without_a_leader(&mut streams.bound),
            end_without_a_leader(&mut streams.renewals),
            end_without_a_leader(&mut streams.leaders),
            end_without_a_leader(&mut streams.health),
        );
        for end in <[Instant; 4]>::from(ends) {
            let outlived = end - led;
            assert!(outlived >= 3 * ELECTION_TIMEOUT, "{outlived:?}");
            assert!(end - began < Duration::from_secs(5), "{:?}", end - began);
        }
        let waits = tokio::time::timeout(Duration::from_millis(300), streams.free.message()).await;
        assert!(
            waits.is_err(),
            "a watch that needs no leader goes on: {waits:?}"
        );

        let refused = connection.kv.put(needing_a_leader(PutRequest::default()));
        let refused = refused.await.map(|_| ()).map_err(in_words);
        assert_eq!(refused, Err(NO_LEADER.to_owned()));
        assert_eq!(get(&survivor, "k", true).await, Ok(Some("v".to_owned())));
        let status = status(&survivor).await.expect("a status");
        assert_eq!(
            (status.leader, &status.errors[..]),
            (0, &["etcdserver: no leader".to_owned()][..])
        );
    });
}

#[test]
fn a_member_that_starts_without_the_others_serves_what_it_has() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        put(&several.members[0], "k", "v").await.expect("a write");
        assert_eq!(
            get(&several.members[2], "k", false).await,
            Ok(Some("v".to_owned()))
        );
        for member in &mut several.members {
            member.stop();
        }
        let alone = &mut several.members[2];
        alone.spawn();
        alone.wait_until_ready();
        assert_eq!(get(alone, "k", true).await, Ok(Some("v".to_owned())));
        several.members[1].start();
        put(&several.members[2], "k", "w")
            .await
            .expect("a write by the two");
    });
}

fn range(serializable: bool) -> RequestOp {
    let range = RangeRequest {
        key: b"k".to_vec(),
        serializable,
        ..RangeRequest::default()
    };
    RequestOp {
        request: Some(request_op::Request::RequestRange(range)),
    }
}

fn txn(success: &[RequestOp], failure: &[RequestOp]) -> TxnRequest {
    TxnRequest {
        compare: Vec::new(),
        success: success.to_vec(),
        failure: failure.to_vec(),
    }
}

fn nested(txn: TxnRequest) -> RequestOp {
    RequestOp {
        request: Some(request_op::Request::RequestTxn(txn)),
    }
}

/// The values that the ranges of a transaction found.
fn values(answer: TxnResponse) -> Vec<Vec<u8>> {
    let ranges = answer.responses.into_iter().map(|it| match it.response {
        Some(response_op::Response::ResponseRange(range)) => range,
        other => panic!("a range answered {other:?}"),
    });
    ranges
        .flat_map(|range| range.kvs)
        .map(|kv| kv.value)
        .collect()
}

#[test]
fn a_transaction_that_only_reads_needs_the_quorum_unless_every_range_is_serializable() {
    single_threaded_runtime().block_on(async {
        let survivor = last_of_three().await;
        let connection = connect(&survivor).await;
        let send = |request: TxnRequest| {
            let mut kv = connection.kv.clone();
            async move { kv.txn(request).await.map(Response::into_inner) }
        };
        let (stale, newest) = ([range(true)], [range(false)]);
        for request in [txn(&stale, &[]), txn(&stale, &stale)] {
            let answer = at_once(send(request)).await.expect("what is here");
            assert_eq!(values(answer), [b"v"]);
        }
        // Without any range it may be of the past too, and so may what it compares.
        let written_once = Compare {
            result: compare::CompareResult::Equal.into(),
            target: compare::CompareTarget::Version.into(),
            key: b"k".to_vec(),
            target_union: Some(compare::TargetUnion::Version(1)),
            ..Compare::default()
        };
        let bare = TxnRequest {
            compare: vec![written_once],
            ..TxnRequest::default()
        };
        let answer = at_once(send(bare)).await.expect("what is here");
        assert!(answer.succeeded);

        let reads = [
            txn(&newest, &[]),
            txn(&[range(true), range(false)], &[]),
            // The branch that is not taken counts as well.
            txn(&stale, &newest),
        ];
        // One that holds another counts as a write, whatever that does.
        let writes = [
            txn(&[nested(txn(&stale, &[]))], &[]),
            txn(&[nested(txn(&newest, &[]))], &[]),
            txn(&[nested(TxnRequest::default())], &[]),
        ];
        tokio::join!(
            assert_wait_in_vain(reads.map(send), TIMED_OUT),
            assert_wait_in_vain(writes.map(send), DISCONNECTED),
        );
    });
}

/// What a range in chunks finds.
async fn in_chunks(
    connection: &Connection,
    request: RangeRequest,
) -> Result<Vec<KeyValue>, Status> {
    let mut kv = connection.kv.clone();
    let mut chunks = kv.range_stream(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(chunk) = chunks.message().await? {
        found.extend(chunk.range_response.unwrap_or_default().kvs);
    }
    Ok(found)
}

#[test]
fn a_range_in_chunks_needs_the_quorum_unless_it_is_serializable() {
    single_threaded_runtime().block_on(async {
        let survivor = last_of_three().await;
        let connection = connect(&survivor).await;
        let ask = |serializable, revision| RangeRequest {
            key: b"k".to_vec(),
            serializable,
            revision,
            ..RangeRequest::default()
        };
        let in_chunks = |request| in_chunks(&connection, request);
        let whole = |request| {
            let mut kv = connection.kv.clone();
            async move { kv.range(request).await.map(|it| it.into_inner().kvs) }
        };
        let found = at_once(in_chunks(ask(true, 0)))
            .await
            .expect("what is here");
        let values: Vec<_> = found.into_iter().map(|kv| kv.value).collect();
        assert_eq!(values, [b"v"]);
        // A revision is judged by what is here only where that is enough, and else by nobody.
        let refused = Err(FUTURE.to_owned());
        let chunks = at_once(in_chunks(ask(true, AHEAD))).await;
        assert_eq!(chunks.map_err(in_words), refused);
        let found = at_once(whole(ask(true, AHEAD))).await;
        assert_eq!(found.map_err(in_words), refused);
        tokio::join!(
            assert_wait_in_vain([ask(false, 0), ask(false, AHEAD)].map(in_chunks), TIMED_OUT),
            assert_wait_in_vain([ask(false, AHEAD)].map(whole), TIMED_OUT),
        );
    });
}

#[test]
fn a_member_list_is_local_or_waits_for_the_quorum() {
    single_threaded_runtime().block_on(async {
        let survivor = last_of_three().await;
        let connection = connect(&survivor).await;
        let list = |linearizable| {
            let mut cluster = connection.cluster.clone();
            async move {
                let list = MemberListRequest { linearizable };
                cluster.member_list(list).await.map(Response::into_inner)
            }
        };
        let known = at_once(list(false)).await.expect("what is known here");
        let mut names: Vec<_> = known.members.iter().map(|it| &it.name[..]).collect();
        names.sort_unstable();
        assert_eq!(names, ["m1", "m2", "m3"]);
        assert_wait_in_vain([list(true)], TIMED_OUT).await;
    });
}

#[test]
fn a_renewal_without_a_leader_ends_in_etcds_words() {
    // Long enough for a renewal to get to a leader that does not yet miss the others.
    let mut several = Several::of(3, &["--heartbeat-interval=100", "--election-timeout=500"]);
    several.start();
    single_threaded_runtime().block_on(async {
        let leader = several.leader().await;
        let leader = several.members.remove(leader);
        let mut connection = connect(&leader).await;
        let grant = LeaseGrantRequest { id: 7, ttl: 60 };
        connection.lease.lease_grant(grant).await.expect("a lease");
        let mut streams = Vec::new();
        for _ in 0..2 {
            let (requests, mut outgoing) = mpsc::unbounded_channel();
            let renew = move || {
                let sent = requests.send(LeaseKeepAliveRequest { id: 7 });
                sent.expect("the stream is open");
            };
            // First, since a server may say nothing of a stream before it answers.
            renew();
            let outgoing = stream::poll_fn(move |context| outgoing.poll_recv(context));
            let answers = connection.lease.lease_keep_alive(outgoing).await;
            let mut answers = answers.expect("a stream").into_inner();
            let renewed = answers.message().await.expect("an answer");
            assert_eq!(renewed.map(|it| it.ttl), Some(60));
            streams.push((renew, answers));
        }
        let [(renew_early, mut early), (renew_late, mut late)] =
            streams.try_into().unwrap_or_else(|_| unreachable!("two"));

        several.members.iter_mut().for_each(ServerProcess::kill);
        renew_early();
        let waits_for_the_quorum = assert_wait_in_vain([early.message()], TIMED_OUT);
        let waits_for_a_leader = async {
            let told = status(&leader).await.expect("a status");
            let id = told.header.expect("a header").member_id;
            assert_eq!(told.leader, id, "it does not miss the others yet");
            wait_until_leaderless(&leader).await;
            renew_late();
            assert_wait_in_vain([late.message()], NO_LEADER).await;
        };
        tokio::join!(waits_for_the_quorum, waits_for_a_leader);
    });
}

/// A revision that is nowhere near.
const AHEAD: i64 = 1_000_000_000;
