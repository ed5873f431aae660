//! Leases over real sockets: granted, renewed, ended in time, and kept when the server is killed.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::ServerProcess,
};
use futures_util::{StreamExt, future::join, stream};
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    PutRequest, RangeRequest,
};
use tonic::{Code, Status};

async fn connect(server: &ServerProcess) -> Connection {
    Connection::open(server.client_address())
        .await
        .expect("a ready server")
}

impl Connection {
    async fn grant(&mut self, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Status> {
        let request = LeaseGrantRequest { id, ttl };
        self.lease
            .lease_grant(request)
            .await
            .map(|r| r.into_inner())
    }

    /// Grants a lease for two seconds and puts one key that lives with it.
    async fn grant_with_a_key(&mut self, id: i64) {
        self.grant(id, 2).await.expect("a lease");
        self.put(&format!("k{id}"), id).await.expect("a put");
    }

    /// Revokes, and tells the revision after it.
    async fn revoke(&mut self, id: i64) -> Result<i64, Status> {
        let answer = self.lease.lease_revoke(LeaseRevokeRequest { id }).await?;
        Ok(answer.into_inner().header.expect("a header").revision)
    }

    async fn put(&mut self, key: &str, lease: i64) -> Result<i64, Status> {
        let put = PutRequest {
            key: key.into(),
            lease,
            ..PutRequest::default()
        };
        let answer = self.kv.put(put).await?;
        Ok(answer.into_inner().header.expect("a header").revision)
    }

    async fn time_to_live(&mut self, id: i64) -> LeaseTimeToLiveResponse {
        let request = LeaseTimeToLiveRequest { id, keys: true };
        let answer = self.lease.lease_time_to_live(request).await;
        let mut answer = answer.expect("a question is answered").into_inner();
        // The API promises no order.
        answer.keys.sort();
        answer
    }

    async fn leases(&mut self) -> Vec<i64> {
        let answer = self.lease.lease_leases(LeaseLeasesRequest {}).await;
        let leases = answer.expect("a list").into_inner().leases;
        leases.into_iter().map(|lease| lease.id).collect()
    }

    /// Sends all renewals on one stream, closes it, and collects the answers.
    async fn keep_alive(&mut self, ids: &[i64]) -> Vec<LeaseKeepAliveResponse> {
        let requests: Vec<_> = ids
            .iter()
            .map(|id| LeaseKeepAliveRequest { id: *id })
            .collect();
        let answers = self.lease.lease_keep_alive(stream::iter(requests)).await;
        let answers = answers.expect("a stream").into_inner();
        answers
            .map(|answer| answer.expect("the stream ends well"))
            .collect()
            .await
    }

    async fn count(&mut self) -> i64 {
        let all = RangeRequest {
            key: vec![0],
            range_end: vec![0],
            count_only: true,
            ..RangeRequest::default()
        };
        self.kv
            .range(all)
            .await
            .expect("a range")
            .into_inner()
            .count
    }

    /// Waits until no key is left, and tells when that was.
    async fn wait_until_empty(&mut self) -> Instant {
        let limit = Instant::now() + Duration::from_secs(15);
        while self.count().await > 0 {
            assert!(
                Instant::now() < limit,
                "the keys of the lease are still there"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Instant::now()
    }
}

fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, code: Code, text: &str) {
    let status = answer.expect_err("it has to be refused");
    assert_eq!((status.code(), status.message()), (code, text));
}

fn renewals(answers: &[LeaseKeepAliveResponse]) -> Vec<(i64, i64)> {
    answers.iter().map(|a| (a.id, a.ttl)).collect()
}

#[test]
fn ids_are_chosen_by_the_server_or_by_the_client_and_given_once() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        let chosen = client.grant(0, 60).await.expect("a lease");
        assert!(chosen.id > 0);
        assert_eq!((chosen.ttl, chosen.error.as_str()), (60, ""));
        assert_eq!(chosen.header.map(|h| h.revision), Some(1));
        let negative = client.grant(-5, 60).await.expect("a lease");
        assert_eq!(negative.id, -5);
        assert_refused(
            client.grant(-5, 60).await,
            Code::FailedPrecondition,
            "etcdserver: lease already exists",
        );
        assert_refused(
            client.grant(7, 9_000_000_001).await,
            Code::OutOfRange,
            "etcdserver: too large lease TTL",
        );
        for (id, ttl) in [(11, 0), (12, -9), (13, 1), (14, 2)] {
            let raised = client.grant(id, ttl).await.expect("a lease");
            assert_eq!(
                raised.ttl, 2,
                "{ttl} s are less than a change of leaders takes"
            );
        }
        let mut listed = client.leases().await;
        assert!(
            [11, 12, 13, 14].contains(&listed[0]),
            "the soonest is first: {listed:?}"
        );
        listed.sort_unstable();
        let mut expected = vec![-5, 11, 12, 13, 14, chosen.id];
        expected.sort_unstable();
        assert_eq!(listed, expected);
    });
}

#[test]
fn a_revocation_deletes_the_keys_of_a_lease_in_one_revision() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        assert_refused(
            client.put("a", 5).await,
            Code::NotFound,
            "etcdserver: requested lease not found",
        );
        for id in [5, 6] {
            client.grant(id, 60).await.expect("a lease");
        }
        for key in ["b", "a", "c"] {
            client.put(key, 5).await.expect("a put");
        }
        client.put("c", 6).await.expect("a put that moves the key");
        let stands = client.time_to_live(5).await;
        assert_eq!((stands.id, stands.granted_ttl), (5, 60));
        assert!((58..60).contains(&stands.ttl), "{} s left", stands.ttl);
        assert_eq!(stands.keys, [b"a", b"b"]);
        assert_eq!(client.revoke(5).await.expect("revoked"), 6);
        assert_eq!(client.count().await, 1);
        client
            .put("c", 0)
            .await
            .expect("a put that detaches the key");
        assert_eq!(client.revoke(6).await.expect("revoked"), 7, "it had no key");
        assert_refused(
            client.revoke(6).await,
            Code::NotFound,
            "etcdserver: requested lease not found",
        );
        let unknown = client.time_to_live(6).await;
        assert_eq!((unknown.id, unknown.ttl, unknown.granted_ttl), (6, -1, 0));
        assert_eq!(unknown.header.map(|h| h.revision), Some(7));
    });
}

#[test]
fn a_lease_lives_its_time_after_the_last_renewal_and_not_much_longer() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        client.grant(5, 2).await.expect("a lease");
        client.put("a", 5).await.expect("a put");
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let answers = client.keep_alive(&[5]).await;
            assert_eq!(renewals(&answers), [(5, 2)]);
            assert_eq!(answers[0].header.as_ref().map(|h| h.revision), Some(2));
        }
        let asked = Instant::now();
        client.keep_alive(&[5]).await;
        let answered = Instant::now();
        let gone = client.wait_until_empty().await;
        assert!(
            gone >= asked + Duration::from_secs(2),
            "{:?} early",
            asked + Duration::from_secs(2) - gone
        );
        assert!(
            gone < answered + Duration::from_secs(4),
            "{:?}",
            gone - answered
        );
        assert_eq!(renewals(&client.keep_alive(&[5]).await), [(5, 0)]);
        assert!(client.leases().await.is_empty());
    });
}

#[test]
fn renewals_are_answered_in_order_unknown_leases_included() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        for id in 1..=50 {
            client.grant(id, 100 + id).await.expect("a lease");
        }
        let ids: Vec<i64> = (0..500).map(|i| i % 60 + 1).collect();
        let answers = client.keep_alive(&ids).await;
        let ttl = |id| if id <= 50 { 100 + id } else { 0 };
        let expected: Vec<(i64, i64)> = ids.iter().map(|id| (*id, ttl(*id))).collect();
        assert_eq!(renewals(&answers), expected);
    });
}

#[test]
fn a_killed_server_comes_back_with_its_leases_and_ends_them() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    let granted = single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        client.grant(5, 3).await.expect("a lease");
        client.grant(-6, 500).await.expect("a lease");
        client.put("a", 5).await.expect("a put");
        client.put("b", 5).await.expect("a put");
        Instant::now()
    });
    server.kill();
    server.start();
    single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        assert_eq!(client.leases().await, [5, -6]);
        assert_eq!(client.time_to_live(5).await.keys, [b"a", b"b"]);
        let gone = client.wait_until_empty().await;
        assert!(gone >= granted + Duration::from_secs(3), "never early");
        assert_eq!(client.leases().await, [-6]);
        let stands = client.time_to_live(-6).await;
        assert_eq!(stands.granted_ttl, 500);
    });
}

#[test]
fn a_renewal_tells_the_revision_from_before_it_waited() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let mut client = connect(&server).await;
        let last = LEASES_AT_ONCE;
        let earlier = stream::iter(1..last).map(|id| {
            let mut client = client.clone();
            async move { client.grant_with_a_key(id).await }
        });
        earlier.buffer_unordered(64).collect::<Vec<()>>().await;
        client.grant_with_a_key(last).await;
        // It sleeps until the time of all is over. Then they end a few at a time, and the renewal is there before the last.
        server.signal(libc::SIGSTOP);
        tokio::time::sleep(Duration::from_millis(2_200)).await;
        let waking = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            server.signal(libc::SIGCONT);
        };
        let (answers, ()) = join(client.keep_alive(&[last]), waking).await;
        assert_eq!(renewals(&answers), [(last, 0)], "its time is over");
        let told = answers[0].header.as_ref().map(|it| it.revision);
        client.wait_until_empty().await;
        let ended = client.time_to_live(last).await.header.map(|it| it.revision);
        assert_eq!(ended, Some(1 + 2 * LEASES_AT_ONCE));
        assert!(told < ended, "{told:?}, and it waited until {ended:?}");
    });
}

/// As many as take a while to end.
const LEASES_AT_ONCE: i64 = 2_000;
