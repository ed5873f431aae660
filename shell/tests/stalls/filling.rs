//! A million keys, written by large transactions.

use std::net::SocketAddr;

use metastore_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op::Request};
use tokio::task::JoinSet;

use crate::cluster::connection::{Connection, single_threaded_runtime};

/// Puts each key once, and returns the newest revision.
///
/// # Panics
///
/// When a transaction is refused.
pub(crate) fn put_every_key(address: SocketAddr) -> i64 {
    single_threaded_runtime().block_on(async {
        let connection = Connection::open(address).await.expect("a ready server");
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS as u64 {
            let mut connection = connection.clone();
            writers.spawn(async move {
                let mut newest = 0;
                for batch in (writer..KEYS / TXN_PUTS).step_by(WRITERS) {
                    let answer = connection.kv.txn(puts_of(batch)).await;
                    let answer = answer.expect("a transaction of puts").into_inner();
                    assert_eq!(answer.responses.len() as u64, TXN_PUTS);
                    newest = answer.header.expect("a header").revision;
                }
                newest
            });
        }
        let newest = writers.join_all().await;
        newest.into_iter().max().expect("several writers")
    })
}

/// 16 bytes.
pub(crate) fn key(number: u64) -> Vec<u8> {
    format!("stalls/{number:09}").into_bytes()
}

/// 256 bytes.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(256, b'v');
    value
}

fn puts_of(batch: u64) -> TxnRequest {
    let put = |number| PutRequest {
        key: key(number),
        value: value(number),
        ..PutRequest::default()
    };
    TxnRequest {
        success: (batch * TXN_PUTS..(batch + 1) * TXN_PUTS)
            .map(|number| RequestOp {
                request: Some(Request::RequestPut(put(number))),
            })
            .collect(),
        ..TxnRequest::default()
    }
}

/// Keys in the store.
pub(crate) const KEYS: u64 = 1_000_000;

const TXN_PUTS: u64 = 100;
const WRITERS: usize = 8;
