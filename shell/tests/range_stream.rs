//! Ranges in chunks over real sockets: which chunk says what, and what may happen between two of them.

mod cluster;

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::ServerProcess,
    several::in_words,
};
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse,
    RangeStreamResponse, RequestOp, TxnRequest, request_op,
};
use prost::Message;
use tonic::{Status, Streaming};

/// A client, and a second one that writes while the first is in the middle of a range.
async fn connect_twice(server: &ServerProcess) -> [Connection; 2] {
    let address = server.client_address();
    let both = tokio::join!(Connection::open(address), Connection::open(address));
    <[_; 2]>::from(both).map(|opened| opened.expect("a ready server"))
}

/// Writes all keys anew, and tells the revision after that.
async fn fill(connection: &mut Connection, value: u8) -> i64 {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("k{number:05}")).collect();
    let mut revision = 0;
    for some in keys.chunks(KEYS_OF_A_WRITE) {
        let puts = some.iter().map(|key| RequestOp {
            request: Some(request_op::Request::RequestPut(PutRequest {
                key: key.as_bytes().to_vec(),
                value: vec![value; VALUE_BYTES],
                ..PutRequest::default()
            })),
        });
        let write = TxnRequest {
            success: puts.collect(),
            ..TxnRequest::default()
        };
        let written = connection.kv.txn(write).await.expect("a write");
        revision = written.into_inner().header.expect("a header").revision;
    }
    revision
}

/// A range of all keys.
fn everything() -> RangeRequest {
    RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    }
}

async fn open(
    connection: &mut Connection,
    request: RangeRequest,
) -> Streaming<RangeStreamResponse> {
    let opened = connection.kv.range_stream(request).await;
    opened.expect("a stream").into_inner()
}

/// The next chunk; none at the good end of the range.
async fn next(
    chunks: &mut Streaming<RangeStreamResponse>,
) -> Result<Option<RangeResponse>, Status> {
    let chunk = chunks.message().await?;
    Ok(chunk.map(|it| it.range_response.expect("a chunk is a part of an answer")))
}

/// All chunks of a range.
async fn all_of(connection: &mut Connection, request: RangeRequest) -> Vec<RangeResponse> {
    let mut chunks = open(connection, request).await;
    let mut all = Vec::new();
    while let Some(chunk) = next(&mut chunks).await.expect("it goes on") {
        all.push(chunk);
    }
    all
}

/// The whole, as anybody puts messages together that come in parts.
fn merged(chunks: &[RangeResponse]) -> RangeResponse {
    let mut whole = RangeResponse::default();
    for chunk in chunks {
        let merging = whole.merge(&chunk.encode_to_vec()[..]);
        merging.expect("it was just encoded");
    }
    whole
}

/// All chunks but the last say nothing beside their keys.
fn assert_only_the_last_tells_of_the_whole(chunks: &[RangeResponse]) {
    let (last, before) = chunks.split_last().expect("at least one chunk");
    let header = last.header.as_ref().expect("the last has a header");
    assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0);
    for chunk in before {
        assert!(!chunk.kvs.is_empty());
        assert_eq!((chunk.header, chunk.more, chunk.count), (None, false, 0));
        assert!(chunk.encoded_len() < CHUNK_BYTES_MAX);
    }
}

#[test]
fn a_compaction_in_the_middle_ends_a_range_in_chunks() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let [mut reader, mut writer] = connect_twice(&server).await;
        fill(&mut writer, b'o').await;
        let mut chunks = open(&mut reader, everything()).await;
        let first = next(&mut chunks).await.expect("it goes on");
        let mut found = first.expect("a first chunk").kvs;

        let revision = fill(&mut writer, b'n').await;
        let boundary = CompactionRequest {
            revision,
            physical: true,
        };
        writer.kv.compact(boundary).await.expect("a compaction");
        let refused = loop {
            match next(&mut chunks).await {
                Ok(Some(chunk)) => {
                    assert_eq!(chunk.header, None, "the last chunk");
                    found.extend(chunk.kvs);
                }
                Ok(None) => panic!("it ended well after {} keys", found.len()),
                Err(status) => break in_words(status),
            }
        };
        assert_eq!(refused, COMPACTED);
        assert!((1..KEYS).contains(&found.len()), "{} keys", found.len());
        assert!(found.iter().all(|kv| kv.value[0] == b'o'));
        assert!(found.is_sorted_by(|one, next| one.key < next.key));
        // At the boundary everything is still there.
        let all = all_of(&mut reader, everything()).await;
        assert_eq!(merged(&all).kvs.len(), KEYS);
    });
}

#[test]
fn only_the_last_chunk_has_a_header_and_later_writes_are_in_none() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let [mut reader, mut writer] = connect_twice(&server).await;
        let revision = fill(&mut writer, b'o').await;
        let whole = reader.kv.range(everything()).await.expect("a range");
        let whole = whole.into_inner();
        assert_eq!(whole.count, i64::try_from(KEYS).expect("few"));

        let mut chunks = open(&mut reader, everything()).await;
        let first = next(&mut chunks).await.expect("it goes on");
        let mut all = vec![first.expect("a first chunk")];
        fill(&mut writer, b'n').await;
        for key in ["k00999a", "z"] {
            let put = PutRequest {
                key: key.into(),
                ..PutRequest::default()
            };
            writer.kv.put(put).await.expect("a write");
        }
        let latter_half = DeleteRangeRequest {
            key: b"k00500".to_vec(),
            range_end: b"k00999".to_vec(),
            ..DeleteRangeRequest::default()
        };
        writer.kv.delete_range(latter_half).await.expect("a write");
        while let Some(chunk) = next(&mut chunks).await.expect("it goes on") {
            all.push(chunk);
        }
        assert!(all.len() > 100, "{} chunks", all.len());
        assert_only_the_last_tells_of_the_whole(&all);
        let merged = merged(&all);
        let told = merged.header.as_ref().map(|it| it.revision);
        assert_eq!(told, Some(revision));
        // Not by `assert_eq`, which would show ten megabytes.
        assert!(merged == whole, "it differs from the range in one piece");
    });
}

#[test]
fn a_range_in_chunks_is_the_range_in_one_piece_whatever_is_asked_for() {
    let mut server = ServerProcess::metastore(&[]);
    server.start();
    single_threaded_runtime().block_on(async {
        let [mut reader, mut writer] = connect_twice(&server).await;
        let revision = fill(&mut writer, b'o').await;
        fill(&mut writer, b'n').await;
        let asked = [
            (
                RangeRequest {
                    limit: 600,
                    ..everything()
                },
                2,
            ),
            (
                RangeRequest {
                    revision,
                    ..everything()
                },
                2,
            ),
            (
                RangeRequest {
                    keys_only: true,
                    ..everything()
                },
                1,
            ),
            (
                RangeRequest {
                    count_only: true,
                    ..everything()
                },
                1,
            ),
            (
                RangeRequest {
                    key: b"nothing".to_vec(),
                    ..RangeRequest::default()
                },
                1,
            ),
        ];
        for (request, chunks_min) in asked {
            let whole = reader.kv.range(request.clone()).await.expect("a range");
            let chunks = all_of(&mut reader, request.clone()).await;
            assert!(chunks.len() >= chunks_min, "{request:?}");
            assert_only_the_last_tells_of_the_whole(&chunks);
            assert!(merged(&chunks) == whole.into_inner(), "{request:?}");
        }
    });
}

/// Ten megabytes: more than a client takes in before it looks, so the server is in the middle of the range when its first
/// chunk is read.
const KEYS: usize = 1_000;
const VALUE_BYTES: usize = 10_000;
/// A megabyte in one request.
const KEYS_OF_A_WRITE: usize = 100;
/// A chunk is full at 64 KiB; the key that fills it may be large.
const CHUNK_BYTES_MAX: usize = (64 << 10) + VALUE_BYTES + 100;
const COMPACTED: &str = "OutOfRange: etcdserver: mvcc: required revision has been compacted";
