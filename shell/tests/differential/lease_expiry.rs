//! Leases that really end: on both servers their keys are gone afterwards, with the same events.
//!
//! Which of two leases ends first depends on the clock, so the deletions are compared as a set, one
//! revision for each lease that has keys.

use std::{collections::BTreeSet, time::Duration};

use metastore_proto::{
    etcdserverpb::{
        DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
        LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
        WatchCreateRequest, request_op::Request,
    },
    mvccpb::{Event, KeyValue},
};
use tokio::time::{Instant, sleep_until};

use super::transcript::{is_delete, key_and_revision};
use crate::cluster::{
    connection::Connection,
    operation::{Answer, Operation},
    watch_stream::{WatchStream, create},
};

/// What one server did with leases that ended.
#[derive(Debug, PartialEq)]
pub(crate) struct Expiry {
    /// The answers that depend on no clock.
    pub(crate) answers: Vec<Answer>,
    /// The keys deleted in one revision, with the records they had.
    pub(crate) deletions: BTreeSet<Vec<(Vec<u8>, Option<Record>)>>,
    /// The revisions that deleted something.
    pub(crate) revisions: i64,
    /// What is left.
    pub(crate) kept: Vec<KeyValue>,
}

/// A record without what depends on which lease ended first.
type Record = (i64, i64, i64, Vec<u8>, i64);

/// Grants, attaches, moves and detaches, then waits until every lease that is not renewed is gone.
/// `after_the_writes` may do to the server what the leases must survive; it returns the way to it.
pub(crate) async fn let_leases_expire(
    mut server: Connection,
    after_the_writes: impl AsyncFnOnce(Connection) -> Connection,
) -> Expiry {
    let mut answers = Vec::new();
    let granted = Instant::now();
    for operation in writes() {
        answers.push(without_ids(operation.send(&mut server).await));
    }
    let written = answers.last().and_then(Answer::revision);
    let written = written.expect("the last write is answered");
    server = after_the_writes(server).await;
    let everything = WatchCreateRequest {
        key: vec![0],
        range_end: vec![0],
        start_revision: written + 1,
        prev_kv: true,
        ..WatchCreateRequest::default()
    };
    let mut stream = WatchStream::open(&mut server, create(everything)).await;
    let stream = stream.as_mut().expect("the server can be watched");
    let mut heard = Vec::new();
    let renewal = [LeaseKeepAliveRequest { id: RENEWED }].to_vec();
    while leases(&mut server).await != [RENEWED] || heard.len() < KEYS_OF_ENDING_LEASES {
        assert!(
            granted.elapsed() < EXPIRY_LIMIT,
            "not all leases are gone: {:?}, {heard:?}",
            leases(&mut server).await
        );
        let renewed = Operation::KeepAlive(renewal.clone())
            .send(&mut server)
            .await;
        assert!(
            matches!(&renewed, Answer::KeepAlive(answers) if answers[0].ttl == TTL),
            "a lease that is renewed in time: {renewed:?}"
        );
        let next = Instant::now() + Duration::from_millis(100);
        while let Some(response) = stream.next(next).await.expect("the stream goes on") {
            for event in response.events {
                let age = granted.elapsed();
                let ttl =
                    Duration::from_secs(u64::try_from(shortest_ttl(&event)).expect("positive"));
                assert!(age >= ttl, "{event:?} is gone after {age:?}");
                heard.push(event);
            }
        }
        sleep_until(next).await;
    }
    for operation in questions_about_ended_leases() {
        answers.push(without_ids(operation.send(&mut server).await));
    }
    let kept = Operation::Range(all_keys()).send(&mut server).await;
    let Answer::Range(kept) = kept else {
        panic!("the keys can be read: {kept:?}");
    };
    let revision = kept.header.expect("a header").revision;
    Expiry {
        answers,
        deletions: by_revision(&heard),
        revisions: revision - written,
        kept: kept.kvs,
    }
}

fn writes() -> Vec<Operation> {
    let grant = |id, ttl| Operation::Grant(LeaseGrantRequest { id, ttl });
    let mut writes = vec![
        grant(RENEWED, TTL),
        grant(WITH_THREE_KEYS, TTL),
        grant(WITHOUT_KEYS, TTL),
        grant(WITH_A_MOVED_KEY, TTL),
        grant(REVOKED, TTL),
        grant(BELOW_THE_LEAST, -1),
        grant(ZERO, 0),
        grant(LATER, TTL + 1),
    ];
    writes.extend([
        put("renewed", RENEWED),
        put("three/2", WITH_THREE_KEYS),
        put("three/1", WITH_THREE_KEYS),
        put("three/3", WITH_THREE_KEYS),
        put("moved", WITH_THREE_KEYS),
        put("moved", WITH_A_MOVED_KEY),
        put("detached", WITH_THREE_KEYS),
        put("detached", 0),
        put("deleted", WITH_THREE_KEYS),
        Operation::Delete(DeleteRangeRequest {
            key: b"deleted".to_vec(),
            ..DeleteRangeRequest::default()
        }),
        put("revoked", REVOKED),
        Operation::Revoke(LeaseRevokeRequest { id: REVOKED }),
        put("below", BELOW_THE_LEAST),
        in_a_transaction(&[("later/1", LATER), ("later/2", LATER)]),
        put("free", 0),
    ]);
    writes
}

fn questions_about_ended_leases() -> Vec<Operation> {
    let ended = [WITH_THREE_KEYS, WITHOUT_KEYS, REVOKED, ZERO];
    let mut questions = vec![
        put("three/1", WITH_THREE_KEYS),
        Operation::Revoke(LeaseRevokeRequest { id: LATER }),
        Operation::KeepAlive(ended.map(|id| LeaseKeepAliveRequest { id }).to_vec()),
        Operation::Leases,
    ];
    questions
        .extend(ended.map(|id| Operation::TimeToLive(LeaseTimeToLiveRequest { id, keys: true })));
    questions
}

async fn leases(server: &mut Connection) -> Vec<i64> {
    match Operation::Leases.send(server).await {
        Answer::Leases(answer) => answer.leases.iter().map(|lease| lease.id).collect(),
        other => panic!("the leases can be listed: {other:?}"),
    }
}

/// The deletions of each revision, which is not itself part of the result.
fn by_revision(events: &[Event]) -> BTreeSet<Vec<(Vec<u8>, Option<Record>)>> {
    let revisions = events.chunk_by(|a, b| key_and_revision(a).1 == key_and_revision(b).1);
    revisions
        .map(|events| {
            let shown = |event: &Event| {
                assert!(is_delete(event), "nobody writes now: {event:?}");
                let record = event.prev_kv.clone().map(|kv| {
                    (
                        kv.create_revision,
                        kv.mod_revision,
                        kv.version,
                        kv.value,
                        kv.lease,
                    )
                });
                (key_and_revision(event).0.to_vec(), record)
            };
            events.iter().map(shown).collect()
        })
        .collect()
}

/// The least time to live of the leases that `event` may be about.
fn shortest_ttl(event: &Event) -> i64 {
    match key_and_revision(event).0 {
        b"below" => 1,
        key if key.starts_with(b"later") => TTL + 1,
        _ => TTL,
    }
}

fn without_ids(mut answer: Answer) -> Answer {
    for header in answer.headers_mut() {
        super::comparison::keep_only_whether_ids_are_filled(header);
    }
    answer
}

fn put(key: &str, lease: i64) -> Operation {
    Operation::Put(put_request(key, lease))
}

fn in_a_transaction(puts: &[(&str, i64)]) -> Operation {
    let op = |(key, lease): &(&str, i64)| RequestOp {
        request: Some(Request::RequestPut(put_request(key, *lease))),
    };
    Operation::Txn(TxnRequest {
        success: puts.iter().map(op).collect(),
        ..TxnRequest::default()
    })
}

fn put_request(key: &str, lease: i64) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: b"v".to_vec(),
        lease,
        ..PutRequest::default()
    }
}

fn all_keys() -> RangeRequest {
    RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    }
}

/// In seconds.
const TTL: i64 = 2;
const RENEWED: i64 = 1;
const WITH_THREE_KEYS: i64 = 2;
const WITHOUT_KEYS: i64 = 3;
const WITH_A_MOVED_KEY: i64 = 4;
const REVOKED: i64 = 5;
const BELOW_THE_LEAST: i64 = 6;
const ZERO: i64 = 7;
const LATER: i64 = 8;
const KEYS_OF_ENDING_LEASES: usize = 7;
const EXPIRY_LIMIT: Duration = Duration::from_secs(20);
