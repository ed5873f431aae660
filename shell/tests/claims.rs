//! Locks and elections over real sockets.

mod cluster;

use std::time::Duration;

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::ServerProcess,
};
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, ResponseHeader,
};
use metastore_proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use metastore_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

fn with_a_server<F: Future<Output = ()>>(test: impl FnOnce(Connection) -> F) {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let connection = Connection::open(server.client_address()).await;
        test(connection.expect("a connection")).await;
    });
}

async fn lease(connection: &Connection, ttl: i64) -> i64 {
    let request = LeaseGrantRequest { id: 0, ttl };
    let granted = connection.lease.clone().lease_grant(request).await;
    granted.expect("a lease").into_inner().id
}

async fn lock(connection: &Connection, name: &[u8], lease: i64) -> Result<LockResponse, Status> {
    let request = LockRequest {
        name: name.to_vec(),
        lease,
    };
    let locked = connection.lock.clone().lock(request).await;
    locked.map(tonic::Response::into_inner)
}

async fn unlock(connection: &Connection, key: &[u8]) -> i64 {
    let request = UnlockRequest { key: key.to_vec() };
    let unlocked = connection.lock.clone().unlock(request).await;
    revision(unlocked.expect("it is unlocked").into_inner().header)
}

fn revision(header: Option<ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

async fn exists(connection: &Connection, key: &[u8]) -> bool {
    let request = RangeRequest {
        key: key.to_vec(),
        ..RangeRequest::default()
    };
    let found = connection.kv.clone().range(request).await;
    found.expect("a range").into_inner().count == 1
}

/// Lets a call that has to wait get into its line.
async fn get_in_line() {
    sleep(Duration::from_millis(300)).await;
}

#[test]
fn a_lock_goes_to_whoever_waits_longest() {
    with_a_server(|connection| async move {
        let mut leases = Vec::new();
        for _ in 0..3 {
            leases.push(lease(&connection, 60).await);
        }
        let first = lock(&connection, b"name", leases[0]).await.expect("free");
        assert_eq!(first.key, format!("name/{:x}", leases[0]).into_bytes());
        assert_eq!(revision(first.header), 2);
        let again = lock(&connection, b"name", leases[0])
            .await
            .expect("its own");
        assert_eq!((again.key, revision(again.header)), (first.key.clone(), 2));
        let wait = |lease| {
            let connection = connection.clone();
            tokio::spawn(async move { lock(&connection, b"name", lease).await })
        };
        let mut second = wait(leases[1]);
        get_in_line().await;
        let mut third = wait(leases[2]);
        get_in_line().await;
        assert!(
            timeout(Duration::from_millis(1), &mut second)
                .await
                .is_err()
        );

        let unlocked = unlock(&connection, &first.key).await;
        let second = second.await.expect("a task").expect("its turn");
        assert!(revision(second.header) >= unlocked);
        assert!(
            timeout(Duration::from_millis(300), &mut third)
                .await
                .is_err()
        );
        unlock(&connection, &second.key).await;
        let third = third.await.expect("a task").expect("its turn");
        assert!(exists(&connection, &third.key).await);
        assert!(!exists(&connection, &second.key).await);
    });
}

#[test]
fn a_lock_without_a_lease_has_one_for_a_minute() {
    with_a_server(|connection| async move {
        let locked = lock(&connection, b"name", 0).await.expect("free");
        let id = std::str::from_utf8(&locked.key[5..]).expect("hexadecimal");
        let request = LeaseTimeToLiveRequest {
            id: i64::from_str_radix(id, 16).expect("a number"),
            keys: true,
        };
        let status = connection.lease.clone().lease_time_to_live(request).await;
        let status = status.expect("it lives").into_inner();
        assert_eq!((status.granted_ttl, status.keys), (60, vec![locked.key]));
    });
}

#[test]
fn refusals_of_locks_keep_their_words_and_lose_their_code() {
    with_a_server(|connection| async move {
        let refused = lock(&connection, b"name", 77).await.expect_err("no lease");
        assert_eq!(refused.code(), Code::Unknown);
        assert_eq!(refused.message(), "etcdserver: requested lease not found");
        let request = UnlockRequest { key: Vec::new() };
        let refused = connection.lock.clone().unlock(request).await;
        let refused = refused.expect_err("no key");
        assert_eq!(refused.code(), Code::Unknown);
        assert_eq!(refused.message(), "etcdserver: key is not provided");
        assert!(unlock(&connection, b"missing").await >= 1);
    });
}

#[test]
fn whoever_waits_keeps_its_lease_alive_itself_or_is_told_that_it_ended() {
    with_a_server(|connection| async move {
        let first = lock(&connection, b"name", 0).await.expect("free");
        let (short, long) = (lease(&connection, 2).await, lease(&connection, 60).await);
        let wait = |lease| {
            let connection = connection.clone();
            tokio::spawn(async move { lock(&connection, b"name", lease).await })
        };
        let (lost, kept) = (wait(short), wait(long));
        get_in_line().await;
        sleep(Duration::from_secs(5)).await;
        unlock(&connection, &first.key).await;
        kept.await.expect("a task").expect("its turn");
        let told = lost.await.expect("a task").expect_err("its key is gone");
        assert_eq!(told.code(), Code::Unknown);
        assert_eq!(told.message(), "mutex: session is expired");
    });
}

/// Gives up a lock that somebody else has, and waits until the key of the call is gone.
async fn leave_the_line(connection: &Connection, own: i64) {
    let key = format!("name/{own:x}").into_bytes();
    let left = timeout(Duration::from_millis(500), lock(connection, b"name", own)).await;
    assert!(left.is_err(), "it waits");
    for _ in 0..100 {
        if !exists(connection, &key).await {
            return;
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("the key of a client that left is still there");
}

#[test]
fn a_client_that_leaves_the_line_takes_its_key_away() {
    with_a_server(|connection| async move {
        lock(&connection, b"name", 0).await.expect("free");
        let own = lease(&connection, 60).await;
        leave_the_line(&connection, own).await;
        // Also one that its lease had put there before the call.
        let request = PutRequest {
            key: format!("name/{own:x}").into_bytes(),
            lease: own,
            ..PutRequest::default()
        };
        connection.kv.clone().put(request).await.expect("a put");
        leave_the_line(&connection, own).await;
    });
}

fn stand(lease: i64, value: &[u8]) -> CampaignRequest {
    CampaignRequest {
        name: b"post".to_vec(),
        lease,
        value: value.to_vec(),
    }
}

fn proclaim(leader: Option<&LeaderKey>) -> ProclaimRequest {
    ProclaimRequest {
        leader: leader.cloned(),
        value: b"d".to_vec(),
    }
}

fn of_the_post() -> LeaderRequest {
    LeaderRequest {
        name: b"post".to_vec(),
    }
}

async fn campaign(connection: &Connection, lease: i64, value: &[u8]) -> LeaderKey {
    let mut election = connection.election.clone();
    let elected = election.campaign(stand(lease, value)).await;
    let elected = elected.expect("its turn").into_inner();
    elected.leader.expect("the key")
}

#[test]
fn an_election_is_won_proclaimed_and_given_up() {
    with_a_server(|connection| async move {
        let (one, other) = (lease(&connection, 60).await, lease(&connection, 60).await);
        let mut election = connection.election.clone();
        let nobody = election.leader(of_the_post()).await.expect_err("nobody");
        assert_eq!(
            (nobody.code(), nobody.message()),
            (Code::Unknown, "election: no leader")
        );
        let first = campaign(&connection, one, b"a").await;
        assert_eq!(first.key, format!("post/{one:x}").into_bytes());
        assert_eq!((first.name.as_slice(), first.lease), (&b"post"[..], one));
        // The same lease again: another value is put in the place of the first.
        let again = campaign(&connection, one, b"b").await;
        assert_eq!(again, first);
        let waiting = tokio::spawn({
            let connection = connection.clone();
            async move { campaign(&connection, other, b"c").await }
        });
        get_in_line().await;
        let proclaimed = election.proclaim(proclaim(Some(&first))).await;
        proclaimed.expect("it leads");
        let named = election.leader(of_the_post()).await;
        let named = named.expect("somebody leads").into_inner();
        assert_eq!(named.kv.expect("a leader").value, b"d");

        let resign = ResignRequest {
            leader: Some(first.clone()),
        };
        election.resign(resign.clone()).await.expect("it led");
        let second = waiting.await.expect("a task");
        let refused = election.proclaim(proclaim(Some(&first))).await;
        assert_eq!(
            refused.expect_err("it led once").message(),
            "election: not leader"
        );
        election.resign(resign).await.expect("nothing happens");
        let missing = [
            election.proclaim(proclaim(None)).await.map(drop),
            election
                .resign(ResignRequest { leader: None })
                .await
                .map(drop),
        ];
        for missing in missing {
            let missing = missing.expect_err("whose?");
            assert_eq!(
                (missing.code(), missing.message()),
                (Code::Unknown, "\"leader\" field must be provided")
            );
        }
        assert!(exists(&connection, &second.key).await);
    });
}

/// Others write while it waits, and the header is that of the claim nevertheless.
#[test]
fn a_campaign_that_waited_answers_with_its_first_header() {
    with_a_server(|connection| async move {
        let (one, other) = (lease(&connection, 60).await, lease(&connection, 60).await);
        let first = campaign(&connection, one, b"a").await;
        let waiting = tokio::spawn({
            let mut election = connection.election.clone();
            async move { election.campaign(stand(other, b"b")).await }
        });
        let key = format!("post/{other:x}").into_bytes();
        let in_line = async { while !exists(&connection, &key).await {} };
        timeout(PATIENCE, in_line).await.expect("it gets in line");
        let request = PutRequest {
            key: b"else".to_vec(),
            ..PutRequest::default()
        };
        let written = connection.kv.clone().put(request).await.expect("a put");
        assert_eq!(revision(written.into_inner().header), first.rev + 2);
        let resign = ResignRequest {
            leader: Some(first.clone()),
        };
        let resigned = connection.election.clone().resign(resign).await;
        assert_eq!(
            revision(resigned.expect("it led").into_inner().header),
            first.rev + 3
        );
        let elected = waiting.await.expect("a task").expect("its turn");
        let elected = elected.into_inner();
        assert_eq!(elected.leader.expect("the key").rev, first.rev + 1);
        assert_eq!(revision(elected.header), first.rev + 1);
    });
}

/// No client of an election holds such a key, but anybody can send one.
#[test]
fn a_leader_without_a_key_is_refused_and_nothing_is_written() {
    with_a_server(|connection| async move {
        let own = lease(&connection, 60).await;
        let before = unlock(&connection, b"missing").await;
        for leader in [
            LeaderKey::default(),
            LeaderKey {
                name: b"post".to_vec(),
                lease: own,
                ..LeaderKey::default()
            },
        ] {
            let mut election = connection.election.clone();
            let proclaimed = election.proclaim(proclaim(Some(&leader))).await;
            let leader = Some(leader);
            let resigned = election.resign(ResignRequest { leader }).await;
            for refused in [proclaimed.map(|_| ()), resigned.map(|_| ())] {
                let refused = refused.expect_err("no key");
                assert_eq!(refused.code(), Code::Unknown);
                assert_eq!(refused.message(), "etcdserver: key is not provided");
            }
        }
        assert_eq!(unlock(&connection, b"missing").await, before);
        // A claim has a key whatever its name is.
        let nameless = lock(&connection, b"", own).await.expect("free");
        assert_eq!(nameless.key, format!("/{own:x}").into_bytes());
        let binary = lock(&connection, b"\0\xff", own).await.expect("free");
        assert!(exists(&connection, &binary.key).await);
        assert_eq!(revision(binary.header), before + 2);
    });
}

/// A leader may try another value and think better of it.
#[test]
fn a_leader_that_gives_up_campaigning_again_still_leads() {
    with_a_server(|connection| async move {
        let own = lease(&connection, 60).await;
        let first = campaign(&connection, own, b"first").await;
        for round in 0..200_u64 {
            let value = round.to_string();
            let patience = Duration::from_micros(round % 20 * 200);
            // Whether it is answered in time does not matter here.
            let _ = timeout(patience, campaign(&connection, own, value.as_bytes())).await;
        }
        get_in_line().await;
        assert_eq!(campaign(&connection, own, b"last").await, first);
    });
}

#[test]
fn an_observer_is_told_of_every_leader_and_what_it_proclaims() {
    with_a_server(|connection| async move {
        let (one, other) = (lease(&connection, 60).await, lease(&connection, 60).await);
        // A server may say nothing before there is a leader, not even that the stream is open.
        let observed = tokio::spawn({
            let mut election = connection.election.clone();
            async move { election.observe(of_the_post()).await }
        });
        get_in_line().await;
        let first = campaign(&connection, one, b"a").await;
        let observed = observed.await.expect("a task");
        let mut observed = observed.expect("a stream").into_inner();
        let mut heard = async || {
            let next = timeout(PATIENCE, observed.message()).await;
            let next = next.expect("in time").expect("a live stream");
            let next = next.expect("it goes on");
            let kv = next.kv.expect("a leader");
            (kv.value, kv.mod_revision, revision(next.header))
        };
        assert_eq!(heard().await, (b"a".to_vec(), first.rev, first.rev));
        let mut election = connection.election.clone();
        let proclaimed = election.proclaim(proclaim(Some(&first))).await;
        proclaimed.expect("it leads");
        assert_eq!(heard().await.0, b"d");
        let waiting = tokio::spawn({
            let connection = connection.clone();
            async move { campaign(&connection, other, b"c").await }
        });
        get_in_line().await;
        let leader = Some(first);
        let resigned = election.resign(ResignRequest { leader }).await;
        resigned.expect("it led");
        waiting.await.expect("a task");
        assert_eq!(heard().await.0, b"c");
    });
}

const PATIENCE: Duration = Duration::from_secs(10);
