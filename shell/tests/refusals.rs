//! Each refusal of the key-value API, by its exact code and text over the wire.

mod cluster;

use cluster::{
    connection::{Connection, single_threaded_runtime},
    operation::{Answer, Operation},
    server_process::ServerProcess,
};
use http::uri::PathAndQuery;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, HashKvRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, PutResponse, RangeRequest, RequestOp, TxnRequest,
    request_op::Request,
};
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

struct Refusal {
    fact: &'static str,
    request: Operation,
    code: Code,
    message: &'static str,
}

fn with_a_server(flags: &[&str], test: impl AsyncFnOnce(Connection)) {
    let mut server = ServerProcess::metastore(flags);
    server.start();
    single_threaded_runtime().block_on(async {
        let connection = Connection::open(server.client_address()).await;
        test(connection.expect("a ready server")).await;
    });
}

#[test]
fn every_refusal_has_etcds_code_and_text_and_changes_nothing() {
    with_a_server(&[], async |mut connection| {
        for revision in 2..=COMPACTED {
            let answer = put(b"there", revision.to_string().as_bytes())
                .send(&mut connection)
                .await;
            assert_eq!(answer.revision(), Some(revision), "{answer:?}");
        }
        let negative = compact(-1).send(&mut connection).await;
        assert_eq!(
            negative,
            refused(Code::OutOfRange, COMPACTED_TEXT),
            "before any compaction"
        );
        let compacted = compact(COMPACTED).send(&mut connection).await;
        assert_eq!(compacted.revision(), Some(COMPACTED), "{compacted:?}");
        let before = everything().send(&mut connection).await;

        let mut wrong = Vec::new();
        for refusal in refusals() {
            let answer = refusal.request.send(&mut connection).await;
            if answer != refused(refusal.code, refusal.message) {
                wrong.push(format!(
                    "{}: {:?} {:?} was expected, and came {answer:?}",
                    refusal.fact, refusal.code, refusal.message
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(
            everything().send(&mut connection).await,
            before,
            "a refused request left a trace"
        );
    });
}

#[test]
fn a_sort_no_server_knows_is_refused() {
    with_a_server(&[], async |mut connection| {
        let good = RangeRequest {
            key: b"a".to_vec(),
            ..RangeRequest::default()
        };
        for (order, target) in [(3, 0), (-1, 0), (0, 5), (0, -1), (1, 5), (9, 9)] {
            let mut request = RangeRequest {
                sort_order: order,
                sort_target: target,
                ..good.clone()
            };
            let invalid = refused(Code::InvalidArgument, "etcdserver: invalid sort option");
            let answer = Operation::Range(request.clone())
                .send(&mut connection)
                .await;
            assert_eq!(answer, invalid, "order {order}, target {target}");
            let answer = txn(&[], &[range_op(request.clone())])
                .send(&mut connection)
                .await;
            assert_eq!(
                answer, invalid,
                "order {order}, target {target} inside a transaction"
            );
            request.key.clear();
            let answer = Operation::Range(request).send(&mut connection).await;
            assert_eq!(
                answer,
                refused(Code::InvalidArgument, NO_KEY),
                "the key is checked first"
            );
        }
    });
}

#[test]
fn a_range_stream_refuses_what_it_cannot_do_in_chunks() {
    with_a_server(&[], async |mut connection| {
        let good = RangeRequest {
            key: b"a".to_vec(),
            ..RangeRequest::default()
        };
        let sorted = RangeRequest {
            sort_order: 2,
            ..good.clone()
        };
        let filtered = RangeRequest {
            min_mod_revision: 1,
            ..good.clone()
        };
        for (request, code, message) in [
            (RangeRequest::default(), Code::InvalidArgument, NO_KEY),
            (
                sorted,
                Code::Unimplemented,
                "RangeStream does not support custom sort orders",
            ),
            (
                filtered,
                Code::Unimplemented,
                "RangeStream does not support revision filters",
            ),
        ] {
            let status = match connection.kv.range_stream(request).await {
                Err(status) => status,
                Ok(stream) => stream.into_inner().message().await.expect_err("a refusal"),
            };
            assert_eq!((status.code(), status.message()), (code, message));
        }
        let mut stream = connection
            .kv
            .range_stream(good)
            .await
            .expect("a stream")
            .into_inner();
        let only = stream
            .message()
            .await
            .expect("a chunk")
            .expect("at least one chunk");
        assert_eq!(
            only.range_response
                .expect("an answer")
                .header
                .expect("a header")
                .revision,
            1
        );
    });
}

#[test]
fn a_request_beyond_the_size_limits_is_refused_and_one_below_is_not() {
    with_a_server(&[], async |mut connection| {
        let below = put(b"a", &vec![b'v'; REQUEST_BYTES_MAX - 1024])
            .send(&mut connection)
            .await;
        assert_eq!(below.revision(), Some(2), "{:?}", below.outcome());

        let too_large = refused(Code::InvalidArgument, "etcdserver: request is too large");
        let above = put(b"a", &vec![b'v'; REQUEST_BYTES_MAX + 1])
            .send(&mut connection)
            .await;
        assert_eq!(above, too_large);
        let halves = [b"a", b"b"].map(|key| put_op(key, &vec![b'v'; REQUEST_BYTES_MAX / 2]));
        assert_eq!(txn(&[], &halves).send(&mut connection).await, too_large);

        let request = put_request(b"a", &vec![b'v'; FRAME_BYTES_MAX]);
        let length = request.encoded_len();
        let answer = Operation::Put(request).send(&mut connection).await;
        let message =
            format!("grpc: received message larger than max ({length} vs. {FRAME_BYTES_MAX})");
        assert_eq!(answer, refused(Code::ResourceExhausted, &message));

        // The connection survived all of this, and nothing else was written.
        let after = put(b"a", b"").send(&mut connection).await;
        assert_eq!(after.revision(), Some(3), "{after:?}");
    });
}

/// The limit on requests is one on what is written to the log.
#[test]
fn a_read_is_as_long_as_a_message_may_be() {
    with_a_server(&[], async |mut connection| {
        for length in [REQUEST_BYTES_MAX + 1, FRAME_BYTES_MAX - 1024] {
            let long = vec![b'k'; length];
            let answer = range(&long, 0).send(&mut connection).await;
            assert_eq!(answer.revision(), Some(1), "{}", answer.outcome());
            let request = RangeRequest {
                key: long,
                ..RangeRequest::default()
            };
            let reads = txn(&[], &[range_op(request)]);
            let answer = reads.send(&mut connection).await;
            assert_eq!(answer.outcome(), "succeeded");
        }
    });
}

/// Sends one after the other until one is refused for want of room.
async fn fill(requests: impl Iterator<Item = Operation>, connection: &mut Connection) {
    for request in requests.take(QUOTA_BYTES / 64) {
        let answer = request.send(connection).await;
        if answer == refused(Code::ResourceExhausted, FULL) {
            return;
        }
        assert_eq!(answer.outcome(), "ok");
    }
    panic!("there is room for more than the quota");
}

#[test]
fn a_full_store_refuses_what_adds_and_takes_what_frees() {
    let flag = format!("--quota-backend-bytes={QUOTA_BYTES}");
    with_a_server(&[&flag], async |mut connection| {
        for length in [10_000, 1_000, 100, 0] {
            let request = put(b"a", &vec![b'v'; length]);
            fill(std::iter::repeat(request), &mut connection).await;
        }
        let grants = (1..).map(|id| Operation::Grant(LeaseGrantRequest { id, ttl: 600 }));
        fill(grants, &mut connection).await;

        let read = range(b"a", 0).send(&mut connection).await;
        let newest = read.revision().expect("reads are served");
        let not_run = Operation::Txn(TxnRequest {
            success: vec![read_op(0)],
            failure: vec![put_op(b"b", b"")],
            ..TxnRequest::default()
        });
        let any = Operation::GrantAnyId { ttl: 600 };
        for adds in [put(b"a", b""), put(b"b", b""), not_run, any.clone()] {
            let answer = adds.send(&mut connection).await;
            assert_eq!(answer, refused(Code::ResourceExhausted, FULL), "{adds:?}");
        }

        let deletes = txn(&[], &[delete_op(b"a", b""), delete_op(b"b", b"c")]);
        let answer = deletes.send(&mut connection).await;
        assert_eq!(answer.revision(), Some(newest + 1), "{answer:?}");
        let compaction = Operation::Compact(CompactionRequest {
            revision: newest + 1,
            physical: true,
        });
        let revocation = Operation::Revoke(LeaseRevokeRequest { id: 1 });
        for frees in [delete(b"a", b"b"), compaction, revocation] {
            let answer = frees.send(&mut connection).await;
            assert_eq!(answer.revision(), Some(newest + 1), "{answer:?}");
        }
        // There is room again.
        let answer = put(b"a", &[b'v'; 10_000]).send(&mut connection).await;
        assert_eq!(answer.revision(), Some(newest + 2), "{}", answer.outcome());
        assert_eq!(any.send(&mut connection).await.outcome(), "ok");
    });
}

#[test]
fn hash_kv_of_a_compacted_or_future_revision() {
    with_a_server(&[], async |mut connection| {
        for revision in 2..=COMPACTED + 1 {
            let answer = put(b"a", b"").send(&mut connection).await;
            assert_eq!(answer.revision(), Some(revision), "{answer:?}");
        }
        compact(COMPACTED).send(&mut connection).await;
        for (revision, expected) in [
            (1, Err(COMPACTED_TEXT)),
            (COMPACTED - 1, Err(COMPACTED_TEXT)),
            (COMPACTED, Ok(COMPACTED)),
            (0, Ok(COMPACTED + 1)),
            (COMPACTED + 2, Err(FUTURE_TEXT)),
            (i64::MAX, Err(FUTURE_TEXT)),
        ] {
            let request = HashKvRequest { revision };
            let answer = connection.maintenance.hash_kv(request).await;
            let told = answer.map(|it| it.into_inner().hash_revision);
            let told = told.map_err(|it| (it.code(), it.message().to_owned()));
            let expected = expected.map_err(|text| (Code::OutOfRange, text.to_owned()));
            assert_eq!(told, expected, "{revision}");
        }
    });
}

/// Sends a message that is too large to any method: it is refused before anybody asks what it means.
async fn send_oversized(channel: &Channel, path: &'static str, messages: &[PutRequest]) -> Status {
    let codec = ProstCodec::<PutRequest, PutResponse>::default();
    let mut client = Grpc::new(channel.clone());
    client.ready().await.expect("a ready server");
    let requests = futures_util::stream::iter(messages.to_vec());
    let path = PathAndQuery::from_static(path);
    let answers = client.streaming(tonic::Request::new(requests), path, codec);
    let mut answers = match answers.await {
        Ok(answers) => answers.into_inner(),
        Err(refused) => return refused,
    };
    loop {
        match answers.message().await {
            Ok(answer) => assert!(answer.is_some(), "an end without a refusal"),
            Err(refused) => return refused,
        }
    }
}

#[test]
fn a_message_beyond_the_limit_is_refused_in_the_same_words_by_every_service() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let channel = Channel::from_shared(server.client_url()).expect("a URL");
        let channel = channel.connect().await.expect("a ready server");
        let large = put_request(b"a", &vec![b'v'; FRAME_BYTES_MAX]);
        let length = large.encoded_len();
        let message =
            format!("grpc: received message larger than max ({length} vs. {FRAME_BYTES_MAX})");
        let at_once = [
            "/etcdserverpb.KV/Put",
            "/etcdserverpb.Lease/LeaseGrant",
            "/etcdserverpb.Cluster/MemberList",
            "/etcdserverpb.Maintenance/Status",
            "/v3lockpb.Lock/Lock",
            "/v3electionpb.Election/Campaign",
            "/v3electionpb.Election/Observe",
            "/grpc.health.v1.Health/Check",
        ];
        for path in at_once {
            let refused = send_oversized(&channel, path, std::slice::from_ref(&large)).await;
            let told = (refused.code(), refused.message());
            assert_eq!(told, (Code::ResourceExhausted, message.as_str()), "{path}");
        }
        // On a stream that is open, the refusal comes after what was answered before.
        let on_the_way = [
            "/etcdserverpb.Watch/Watch",
            "/etcdserverpb.Lease/LeaseKeepAlive",
        ];
        for path in on_the_way {
            let messages = [PutRequest::default(), large.clone()];
            let refused = send_oversized(&channel, path, &messages).await;
            let told = (refused.code(), refused.message());
            assert_eq!(told, (Code::ResourceExhausted, message.as_str()), "{path}");
        }
    });
}

#[test]
fn a_client_whose_version_is_no_text_is_refused_and_any_text_will_do() {
    with_a_server(&[], async |mut connection| {
        for (version, code) in [(&b"\xff"[..], Code::InvalidArgument), (b"3.7", Code::Ok)] {
            let version = AsciiMetadataValue::try_from(version).expect("bytes a header may have");
            let mut request = tonic::Request::new(put_request(b"k", b"v"));
            let mut renewals = tonic::Request::new(futures_util::stream::empty());
            for metadata in [request.metadata_mut(), renewals.metadata_mut()] {
                metadata.insert("client-api-version", version.clone());
            }
            let put = connection.kv.put(request).await.map(drop);
            let stream = connection.lease.lease_keep_alive(renewals).await.map(drop);
            for answer in [put, stream] {
                let status = answer.err().unwrap_or_else(|| Status::new(Code::Ok, ""));
                assert_eq!(status.code(), code, "{status}");
                if code != Code::Ok {
                    assert_eq!(status.message(), "etcdserver: invalid client api version");
                }
            }
        }
    });
}

/// A delete "from a key on" does not count as overlapping a put, so this request passes every check.
#[test]
fn a_put_that_keeps_what_its_own_txn_deleted_never_stops_the_server() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    let keeping = put_op_of(PutRequest {
        ignore_value: true,
        ..put_request(b"a", b"")
    });
    let request = txn(&[], &[delete_op(b"a", &[0]), keeping]);
    let before_and_after = [false, true].map(|again| {
        if again {
            server.kill();
            server.start();
        }
        single_threaded_runtime().block_on(async {
            let mut connection = Connection::open(server.client_address())
                .await
                .expect("a ready server");
            if !again {
                let answer = put(b"a", b"v").send(&mut connection).await;
                assert_eq!(answer.revision(), Some(2));
                request.send(&mut connection).await;
            }
            match everything().send(&mut connection).await {
                Answer::Range(answer) => answer.kvs,
                other => panic!("the server no longer reads: {other:?}"),
            }
        })
    });
    assert_eq!(
        before_and_after[0], before_and_after[1],
        "replaying the log gave another state"
    );
}

fn refusals() -> Vec<Refusal> {
    let mut all = refusals_of_single_requests();
    all.extend(refusals_of_transactions());
    all
}

fn refusals_of_single_requests() -> Vec<Refusal> {
    let invalid = |fact, request, message| Refusal {
        fact,
        request,
        code: Code::InvalidArgument,
        message,
    };
    let out_of_range = |fact, request, message| Refusal {
        fact,
        request,
        code: Code::OutOfRange,
        message,
    };
    let ignoring = |ignore_value, ignore_lease| PutRequest {
        ignore_value,
        ignore_lease,
        ..put_request(b"not there", b"")
    };
    let with_value = PutRequest {
        value: b"v".to_vec(),
        ..ignoring(true, false)
    };
    let with_lease = PutRequest {
        lease: 1,
        ..ignoring(false, true)
    };
    vec![
        invalid("a range needs a key", range(b"", 0), NO_KEY),
        invalid("a put needs a key", put(b"", b"v"), NO_KEY),
        invalid("a delete needs a key", delete(b"", b""), NO_KEY),
        out_of_range(
            "one before the boundary is compacted",
            range(b"there", COMPACTED - 1),
            COMPACTED_TEXT,
        ),
        out_of_range(
            "one after the newest is future",
            range(b"there", COMPACTED + 1),
            FUTURE_TEXT,
        ),
        out_of_range(
            "compacting twice at one revision",
            compact(COMPACTED),
            COMPACTED_TEXT,
        ),
        out_of_range("compacting below the boundary", compact(1), COMPACTED_TEXT),
        out_of_range(
            "compacting at a negative revision",
            compact(-1),
            COMPACTED_TEXT,
        ),
        out_of_range(
            "compacting beyond the newest",
            compact(COMPACTED + 1),
            FUTURE_TEXT,
        ),
        Refusal {
            fact: "a put under a lease nobody granted",
            request: Operation::Put(PutRequest {
                lease: 404,
                ..put_request(b"there", b"v")
            }),
            code: Code::NotFound,
            message: "etcdserver: requested lease not found",
        },
        invalid(
            "a kept value needs a record",
            Operation::Put(ignoring(true, false)),
            NOT_FOUND,
        ),
        invalid(
            "a kept lease needs a record",
            Operation::Put(ignoring(false, true)),
            NOT_FOUND,
        ),
        invalid(
            "both kept need a record",
            Operation::Put(ignoring(true, true)),
            NOT_FOUND,
        ),
        invalid(
            "a kept value leaves no place for one",
            Operation::Put(with_value),
            "etcdserver: value is provided",
        ),
        invalid(
            "a kept lease leaves no place for one",
            Operation::Put(with_lease),
            "etcdserver: lease is provided",
        ),
    ]
}

fn refusals_of_transactions() -> Vec<Refusal> {
    let invalid = |fact, request, message| Refusal {
        fact,
        request,
        code: Code::InvalidArgument,
        message,
    };
    let out_of_range = |fact, revision, message| Refusal {
        fact,
        request: txn(&[], &[put_op(b"a", b""), read_op(revision)]),
        code: Code::OutOfRange,
        message,
    };
    let keyless = Compare::default();
    let compare_a = Compare {
        key: b"a".to_vec(),
        ..Compare::default()
    };
    let unset = RequestOp { request: None };
    let put_a = put_op(b"a", b"");
    let in_nested = |op: RequestOp| nested(std::slice::from_ref(&op));
    let valued = put_op_of(PutRequest {
        ignore_value: true,
        ..put_request(b"a", b"v")
    });
    let leased = put_op_of(PutRequest {
        lease: 404,
        ..put_request(b"a", b"")
    });
    let kept = put_op_of(PutRequest {
        ignore_value: true,
        ..put_request(b"not there", b"")
    });
    let failure_only = |op: RequestOp| {
        Operation::Txn(TxnRequest {
            failure: vec![op],
            ..TxnRequest::default()
        })
    };
    vec![
        invalid(
            "a compare needs a key",
            txn(std::slice::from_ref(&keyless), &[]),
            NO_KEY,
        ),
        invalid(
            "a put in a txn needs a key",
            txn(&[], &[put_op(b"", b"")]),
            NO_KEY,
        ),
        invalid(
            "a branch that will not run is checked",
            failure_only(put_op(b"", b"")),
            NO_KEY,
        ),
        invalid(
            "a nested op needs a key",
            txn(&[], &[in_nested(put_op(b"", b""))]),
            NO_KEY,
        ),
        invalid(
            "an op must be something",
            txn(&[], std::slice::from_ref(&unset)),
            NOT_FOUND,
        ),
        invalid(
            "a nested op must be something",
            txn(&[], &[in_nested(unset)]),
            NOT_FOUND,
        ),
        invalid(
            "a put in a txn is checked as a put",
            txn(&[], &[valued]),
            "etcdserver: value is provided",
        ),
        invalid(
            "129 ops are too many",
            txn(&[], &vec![read_op(0); 129]),
            TOO_MANY,
        ),
        invalid(
            "129 compares are too many",
            txn(&vec![compare_a; 129], &[]),
            TOO_MANY,
        ),
        invalid(
            "the size is checked before the keys",
            txn(&vec![keyless; 129], &[]),
            TOO_MANY,
        ),
        invalid(
            "ops count through the nesting",
            txn(&[], &vec![in_nested(read_op(0)); 128]),
            TOO_MANY,
        ),
        invalid(
            "one key is put once",
            txn(&[], &[put_a.clone(), put_a.clone()]),
            DUPLICATE,
        ),
        invalid(
            "a put key is not deleted",
            txn(&[], &[put_a.clone(), delete_op(b"a", b"b")]),
            DUPLICATE,
        ),
        invalid(
            "in either order",
            txn(&[], &[delete_op(b"a", b"b"), put_a.clone()]),
            DUPLICATE,
        ),
        invalid(
            "nor in a nested txn",
            txn(&[], &[put_a.clone(), in_nested(put_a.clone())]),
            DUPLICATE,
        ),
        invalid(
            "siblings exclude each other",
            txn(&[], &[in_nested(put_a.clone()), in_nested(put_a)]),
            DUPLICATE,
        ),
        invalid(
            "a kept value in a txn needs a record",
            txn(&[], &[kept]),
            NOT_FOUND,
        ),
        Refusal {
            fact: "a put in a txn under a lease nobody granted",
            request: txn(&[], &[leased]),
            code: Code::NotFound,
            message: "etcdserver: requested lease not found",
        },
        out_of_range(
            "a range in a txn at a future revision",
            COMPACTED + 1,
            FUTURE_TEXT,
        ),
        out_of_range(
            "a range in a txn at a compacted revision",
            COMPACTED - 1,
            COMPACTED_TEXT,
        ),
        out_of_range(
            "a range in a txn at a negative revision",
            -1,
            COMPACTED_TEXT,
        ),
    ]
}

fn refused(code: Code, message: &str) -> Answer {
    Answer::Refused {
        code,
        message: message.to_owned(),
    }
}

fn everything() -> Operation {
    Operation::Range(RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    })
}

fn range(key: &[u8], revision: i64) -> Operation {
    Operation::Range(RangeRequest {
        key: key.to_vec(),
        revision,
        ..RangeRequest::default()
    })
}

fn put_request(key: &[u8], value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.to_vec(),
        value: value.to_vec(),
        ..PutRequest::default()
    }
}

fn put(key: &[u8], value: &[u8]) -> Operation {
    Operation::Put(put_request(key, value))
}

fn delete(key: &[u8], range_end: &[u8]) -> Operation {
    Operation::Delete(DeleteRangeRequest {
        key: key.to_vec(),
        range_end: range_end.to_vec(),
        ..DeleteRangeRequest::default()
    })
}

fn compact(revision: i64) -> Operation {
    Operation::Compact(CompactionRequest {
        revision,
        physical: false,
    })
}

fn txn(compare: &[Compare], success: &[RequestOp]) -> Operation {
    Operation::Txn(TxnRequest {
        compare: compare.to_vec(),
        success: success.to_vec(),
        failure: Vec::new(),
    })
}

fn nested(success: &[RequestOp]) -> RequestOp {
    op(Request::RequestTxn(TxnRequest {
        success: success.to_vec(),
        ..TxnRequest::default()
    }))
}

fn put_op(key: &[u8], value: &[u8]) -> RequestOp {
    put_op_of(put_request(key, value))
}

fn put_op_of(request: PutRequest) -> RequestOp {
    op(Request::RequestPut(request))
}

fn read_op(revision: i64) -> RequestOp {
    range_op(RangeRequest {
        key: b"there".to_vec(),
        revision,
        ..RangeRequest::default()
    })
}

fn range_op(request: RangeRequest) -> RequestOp {
    op(Request::RequestRange(request))
}

fn delete_op(key: &[u8], range_end: &[u8]) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest {
        key: key.to_vec(),
        range_end: range_end.to_vec(),
        ..DeleteRangeRequest::default()
    }))
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// The newest revision while the table runs, and the boundary of compaction.
const COMPACTED: i64 = 5;
const REQUEST_BYTES_MAX: usize = 1_572_864;
const FRAME_BYTES_MAX: usize = REQUEST_BYTES_MAX + 512 * 1024;
const QUOTA_BYTES: usize = 100_000;
const FULL: &str = "etcdserver: mvcc: database space exceeded";
const NO_KEY: &str = "etcdserver: key is not provided";
const NOT_FOUND: &str = "etcdserver: key not found";
const TOO_MANY: &str = "etcdserver: too many operations in txn request";
const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";
const COMPACTED_TEXT: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE_TEXT: &str = "etcdserver: mvcc: required revision is a future revision";
