//! A member that has lost the others: what it refuses, what it still serves, and what it ends.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    several::{Several, get, in_words, put, status},
};
use futures_util::{StreamExt, stream};
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use metastore_proto::health::{HealthCheckRequest, HealthCheckResponse};
use metastore_proto::v3electionpb::{CampaignRequest, LeaderRequest, LeaderResponse};
use tonic::{Request, Status, Streaming};

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

async fn assert_ends_without_a_leader<T>(stream: &mut Streaming<T>) {
    let ended = tokio::time::timeout(Duration::from_secs(5), stream.message()).await;
    let ended = ended.expect("it ends in time").map(|_| ());
    assert_eq!(ended.map_err(in_words), Err(NO_LEADER.to_owned()));
}

#[test]
fn streams_that_need_a_leader_end_without_one_and_others_stay() {
    let mut several = Several::of(3, &["--heartbeat-interval=50", "--election-timeout=250"]);
    several.start();
    single_threaded_runtime().block_on(async {
        several.leader().await;
        let survivor = several.members.pop().expect("three members");
        put(&survivor, "k", "v").await.expect("a write");
        let mut connection = Connection::open(survivor.client_address())
            .await
            .expect("a server");
        let mut streams = Streams::open(&mut connection).await.expect("all open");
        for member in &mut several.members {
            member.kill();
        }
        let began = Instant::now();
        assert_ends_without_a_leader(&mut streams.bound).await;
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        assert_ends_without_a_leader(&mut streams.renewals).await;
        assert_ends_without_a_leader(&mut streams.leaders).await;
        assert_ends_without_a_leader(&mut streams.health).await;
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
