//! Writers that keep a server busy until it is killed, and report to the ledger what was acknowledged.

use std::{cell::RefCell, rc::Rc, time::Duration};

use metastore_proto::{
    etcdserverpb::{
        CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp,
        ResponseOp, TxnRequest,
        compare::{CompareTarget, TargetUnion},
        request_op::Request,
        response_op::Response,
    },
    mvccpb::KeyValue,
};
use tokio::task::LocalSet;

use crate::{
    cluster::{
        connection::{Connection, single_threaded_runtime},
        random::Random,
        server_process::ServerProcess,
    },
    ledger::{ACCOUNTS, Ledger, Write, account_key},
};

/// Creates the accounts whose sum never changes.
pub(crate) async fn open_accounts(connection: &mut Connection, ledger: &mut Ledger) {
    for account in 0..ACCOUNTS {
        let request = put(account_key(account), BALANCE.to_string().into_bytes());
        let answer = connection
            .kv
            .put(request)
            .await
            .expect("a put into an empty store");
        ledger.acknowledge_other(answer.into_inner().header.expect("a header").revision);
    }
    ledger.sum = BALANCE * i64::try_from(ACCOUNTS).expect("few accounts");
}

/// Loads the server for about `load_time`, kills it in the middle of that, and returns when every
/// writer has met the end of its connection.
pub(crate) fn run_until_killed(
    server: &mut ServerProcess,
    ledger: &mut Ledger,
    random: &mut Random,
    round: u64,
    load_time: Duration,
) {
    let address = server.client_address();
    let shared = Rc::new(RefCell::new(std::mem::take(ledger)));
    let local = LocalSet::new();
    single_threaded_runtime().block_on(local.run_until(async {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut connection = Connection::open(address)
                .await
                .expect("the server is ready");
            let mut random = Random::seeded(random.next_u64());
            let ledger = Rc::clone(&shared);
            writers.push(tokio::task::spawn_local(async move {
                match writer {
                    0 => move_money(&mut connection, &ledger, &mut random).await,
                    1 => compact_now_and_then(&mut connection, &ledger, &mut random).await,
                    _ => write_own_keys(&mut connection, &ledger, &mut random, writer, round).await,
                }
            }));
        }
        tokio::time::sleep(load_time).await;
        server.kill();
        for writer in writers {
            writer.await.expect("a writer never panics");
        }
    }));
    *ledger = shared.take();
}

/// Puts and deletes under keys nobody else writes, each value unique, until the server is gone.
async fn write_own_keys(
    connection: &mut Connection,
    ledger: &RefCell<Ledger>,
    random: &mut Random,
    writer: u64,
    round: u64,
) {
    for number in 0_u64.. {
        let key = format!("own/{writer}/{}", random.below(KEYS_OF_A_WRITER)).into_bytes();
        let value = (!random.percent(10)).then(|| unique_value(random, writer, round, number));
        ledger.borrow_mut().begin(Write {
            key: key.clone(),
            value: value.clone(),
        });
        let revision = match value {
            Some(value) => {
                let answer = connection.kv.put(put(key.clone(), value)).await;
                answer.map(|answer| (answer.into_inner().header, true))
            }
            None => {
                let request = DeleteRangeRequest {
                    key: key.clone(),
                    ..DeleteRangeRequest::default()
                };
                let answer = connection
                    .kv
                    .delete_range(request)
                    .await
                    .map(tonic::Response::into_inner);
                answer.map(|answer| (answer.header, answer.deleted > 0))
            }
        };
        let Ok((header, changed)) = revision else {
            return;
        };
        let revision = header.expect("a header").revision;
        ledger.borrow_mut().acknowledge(&key, revision, changed);
    }
}

/// A unique value, sometimes large, and in some rounds always, so that the log rotates and is checkpointed.
fn unique_value(random: &mut Random, writer: u64, round: u64, number: u64) -> Vec<u8> {
    let length = match random.below(20) {
        _ if round.is_multiple_of(ROUNDS_TO_A_HEAVY_ONE) => 512 * 1024,
        0 => 64 * 1024,
        1..=4 => 2_000,
        _ => 40,
    };
    let mut value = format!("{round}-{writer}-{number}-").into_bytes();
    value.resize(length, b'.');
    value
}

/// Moves one coin at a time between two accounts, only if neither changed meanwhile.
async fn move_money(connection: &mut Connection, ledger: &RefCell<Ledger>, random: &mut Random) {
    loop {
        let from = random.below(ACCOUNTS);
        let to = (from + 1 + random.below(ACCOUNTS - 1)) % ACCOUNTS;
        let read = TxnRequest {
            success: vec![get(account_key(from)), get(account_key(to))],
            ..TxnRequest::default()
        };
        let Ok(answer) = connection.kv.txn(read).await else {
            return;
        };
        let records: Vec<_> = answer
            .into_inner()
            .responses
            .into_iter()
            .map(only_record)
            .collect();
        let (from, to) = (&records[0], &records[1]);
        let moved = TxnRequest {
            compare: vec![unchanged(from), unchanged(to)],
            success: vec![put_balance(from, -1), put_balance(to, 1)],
            failure: Vec::new(),
        };
        let Ok(answer) = connection.kv.txn(moved).await else {
            return;
        };
        let answer = answer.into_inner();
        assert!(answer.succeeded, "nobody else moves money");
        ledger
            .borrow_mut()
            .acknowledge_other(answer.header.expect("a header").revision);
    }
}

async fn compact_now_and_then(
    connection: &mut Connection,
    ledger: &RefCell<Ledger>,
    random: &mut Random,
) {
    loop {
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
        let (newest, compacted) = {
            let ledger = ledger.borrow();
            (ledger.newest_revision, ledger.compaction_tried)
        };
        let revision = newest - HISTORY_KEPT;
        if revision <= compacted {
            // Keeps asking, so that this writer too notices the end.
            if connection
                .kv
                .range(RangeRequest {
                    key: b"x".into(),
                    ..Default::default()
                })
                .await
                .is_err()
            {
                return;
            }
            continue;
        }
        ledger.borrow_mut().compaction_tried = revision;
        let request = CompactionRequest {
            revision,
            physical: random.percent(50),
        };
        if connection.kv.compact(request).await.is_err() {
            return;
        }
        ledger.borrow_mut().compacted = revision;
    }
}

pub(crate) fn put(key: Vec<u8>, value: Vec<u8>) -> PutRequest {
    PutRequest {
        key,
        value,
        ..PutRequest::default()
    }
}

fn get(key: Vec<u8>) -> RequestOp {
    RequestOp {
        request: Some(Request::RequestRange(RangeRequest {
            key,
            ..RangeRequest::default()
        })),
    }
}

fn only_record(answer: ResponseOp) -> KeyValue {
    match answer.response {
        Some(Response::ResponseRange(mut range)) if range.kvs.len() == 1 => range.kvs.remove(0),
        other => panic!("an account is one record, not {other:?}"),
    }
}

fn unchanged(record: &KeyValue) -> Compare {
    Compare {
        target: CompareTarget::Mod as i32,
        key: record.key.clone(),
        target_union: Some(TargetUnion::ModRevision(record.mod_revision)),
        ..Compare::default()
    }
}

fn put_balance(record: &KeyValue, change: i64) -> RequestOp {
    let balance = balance(record) + change;
    RequestOp {
        request: Some(Request::RequestPut(put(
            record.key.clone(),
            balance.to_string().into_bytes(),
        ))),
    }
}

pub(crate) fn balance(record: &KeyValue) -> i64 {
    let text = String::from_utf8_lossy(&record.value);
    text.parse()
        .unwrap_or_else(|_| panic!("a balance is a number, not {text:?}"))
}

const ROUNDS_TO_A_HEAVY_ONE: u64 = 5;
const WRITERS: u64 = 8;
const KEYS_OF_A_WRITER: u64 = 20;
const BALANCE: i64 = 1_000;
const HISTORY_KEPT: i64 = 300;
