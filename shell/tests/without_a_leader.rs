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
    LeaseGrantRequest, LeaseKeepAliveRequest, PutRequest, WatchCreateRequest, WatchRequest,
};
use tonic::Request;

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
        let granted = connection
            .lease
            .lease_grant(LeaseGrantRequest { id: 7, ttl: 60 })
            .await;
        granted.expect("a lease");
        let mut bound = connection
            .watch
            .watch(needing_a_leader(
                stream::iter([watch()]).chain(stream::pending()),
            ))
            .await
            .expect("a watch")
            .into_inner();
        let mut free = connection
            .watch
            .watch(stream::iter([watch()]).chain(stream::pending()))
            .await
            .expect("a watch")
            .into_inner();
        let renewal = stream::iter([LeaseKeepAliveRequest { id: 7 }]).chain(stream::pending());
        let mut renewals = connection
            .lease
            .lease_keep_alive(needing_a_leader(renewal))
            .await
            .expect("renewals")
            .into_inner();
        assert!(
            bound
                .message()
                .await
                .expect("an answer")
                .expect("an answer")
                .created
        );
        assert!(
            free.message()
                .await
                .expect("an answer")
                .expect("an answer")
                .created
        );
        assert_eq!(
            renewals
                .message()
                .await
                .expect("an answer")
                .expect("an answer")
                .id,
            7
        );

        for member in &mut several.members {
            member.kill();
        }
        let began = Instant::now();
        let ended = bound.message().await.map(|_| ()).map_err(in_words);
        assert_eq!(ended, Err(NO_LEADER.to_owned()));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
        let ended = renewals.message().await.map(|_| ()).map_err(in_words);
        assert_eq!(ended, Err(NO_LEADER.to_owned()));
        let waits = tokio::time::timeout(Duration::from_millis(300), free.message()).await;
        assert!(
            waits.is_err(),
            "a watch that needs no leader goes on: {waits:?}"
        );

        let refused = connection
            .kv
            .put(needing_a_leader(PutRequest::default()))
            .await;
        assert_eq!(
            refused.map(|_| ()).map_err(in_words),
            Err(NO_LEADER.to_owned())
        );
        assert_eq!(get(&survivor, "k", true).await, Ok(Some("v".to_owned())));
        let status = status(&survivor).await.expect("a status");
        assert_eq!(status.leader, 0);
        assert_eq!(status.errors, ["etcdserver: no leader"]);
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
