//! Transactions, fact by fact; the random comparison with the model is among the store's tests.

use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::{CompactionRequest, Compare, DeleteRangeRequest, PutRequest};

use std::cell::Cell;

use super::*;
use crate::command::{Command, Request as Replicated};
use crate::output::Outcome;
use crate::state::State;

thread_local! {
    /// How many ranges in transactions were read on this thread.
    pub(crate) static READ: Cell<usize> = const { Cell::new(0) };
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str, value: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    }))
}

fn delete_op(key: &str, range_end: &str) -> RequestOp {
    let request = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.into(),
        prev_kv: false,
    };
    op(Request::RequestDeleteRange(request))
}

fn range_op(key: &str, revision: i64) -> RequestOp {
    op(Request::RequestRange(RangeRequest {
        key: key.into(),
        revision,
        ..RangeRequest::default()
    }))
}

fn version_is(key: &str, version: i64) -> Compare {
    let target_union = Some(TargetUnion::Version(version));
    Compare {
        key: key.into(),
        target: CompareTarget::Version as i32,
        target_union,
        ..Compare::default()
    }
}

fn success(operations: Vec<RequestOp>) -> TxnRequest {
    TxnRequest {
        success: operations,
        ..TxnRequest::default()
    }
}

/// A store at revision 3 with `a` = 1 of revision 2 and `b` = 2 of revision 3.
fn store() -> Store {
    let mut store = Store::new();
    for (key, value) in [("a", "1"), ("b", "2")] {
        store
            .txn(&success(vec![put_op(key, value)]), &mut Changes::new())
            .expect("a plain put");
    }
    store
}

fn run(store: &mut Store, request: &TxnRequest) -> Result<TxnResponse, KvError> {
    let response = store.txn(request, &mut Changes::new());
    store.validate();
    response
}

/// The revision in each sub-response, nested ones included.
fn revisions(response: &TxnResponse) -> Vec<i64> {
    let revision = |header: &Option<ResponseHeader>| {
        header
            .as_ref()
            .expect("every sub-response has a header")
            .revision
    };
    let mut all = Vec::new();
    for response in &response.responses {
        match response.response.as_ref().expect("set") {
            Response::ResponseRange(range) => all.push(revision(&range.header)),
            Response::ResponsePut(put) => all.push(revision(&put.header)),
            Response::ResponseDeleteRange(delete) => all.push(revision(&delete.header)),
            Response::ResponseTxn(txn) => {
                all.push(revision(&txn.header));
                all.extend(revisions(txn));
            }
        }
    }
    all
}

#[test]
fn sub_responses_tell_the_revision_as_it_was_at_their_turn() {
    let nested = op(Request::RequestTxn(success(vec![range_op("a", 0)])));
    let operations = vec![
        range_op("a", 0),
        delete_op("none", ""),
        put_op("c", "3"),
        range_op("c", 0),
        nested,
    ];
    let response = run(&mut store(), &success(operations)).expect("all plain");
    assert_eq!(
        response.header.as_ref().map(|header| header.revision),
        Some(4)
    );
    assert_eq!(
        revisions(&response),
        [3, 3, 4, 4, 0, 4],
        "a nested transaction's own header stays empty"
    );
}

#[test]
fn a_transaction_that_changes_nothing_keeps_the_revision() {
    let mut store = store();
    let response = run(&mut store, &success(vec![delete_op("none", "")])).expect("all plain");
    assert_eq!(response.header.expect("set").revision, 3);
    assert_eq!(store.revision(), 3);
}

#[test]
fn all_changes_share_one_revision_in_the_order_they_ran() {
    let mut store = store();
    run(
        &mut store,
        &success(vec![put_op("z", ""), delete_op("a", "c"), put_op("c", "")]),
    )
    .expect("all plain");
    let view = store.view();
    let events: Vec<_> = view
        .events(4, 9)
        .expect("not compacted")
        .flat_map(|events| events.changes)
        .collect();
    let told: Vec<_> = events
        .iter()
        .map(|change| format!("{:?}", change.record))
        .collect();
    assert_eq!(
        told,
        [
            "put \"z\"@4.0",
            "delete \"a\"@4.1",
            "delete \"b\"@4.2",
            "put \"c\"@4.3"
        ]
    );
}

#[test]
fn nested_compares_see_the_state_before_the_whole_transaction() {
    let inner = TxnRequest {
        compare: vec![version_is("new", 0)],
        success: vec![put_op("seen", "")],
        failure: Vec::new(),
    };
    let request = success(vec![put_op("new", ""), op(Request::RequestTxn(inner))]);
    let mut store = store();
    run(&mut store, &request).expect("all plain");
    let seen = store.view().range(&RangeRequest {
        key: b"seen".to_vec(),
        ..RangeRequest::default()
    });
    assert_eq!(seen.expect("the newest").count, 1);
}

#[test]
fn a_refused_operation_undoes_the_whole_transaction() {
    let unknown_lease = op(Request::RequestPut(PutRequest {
        key: b"c".to_vec(),
        lease: 5,
        ..PutRequest::default()
    }));
    let keeps = PutRequest {
        key: b"none".to_vec(),
        ignore_lease: true,
        ..PutRequest::default()
    };
    let cases = [
        (range_op("a", 9), KvError::FutureRevision),
        (range_op("a", 2), KvError::Compacted),
        (range_op("a", -1), KvError::Compacted),
        (unknown_lease, KvError::LeaseNotFound),
        (op(Request::RequestPut(keeps)), KvError::KeyNotFound),
        (RequestOp { request: None }, KvError::KeyNotFound),
    ];
    let mut store = store();
    store
        .compact(&CompactionRequest {
            revision: 3,
            physical: false,
        })
        .expect("the newest");
    let before = store.state_hash();
    for (operation, error) in cases {
        let deep = op(Request::RequestTxn(success(vec![operation.clone()])));
        assert_eq!(
            run(
                &mut store,
                &success(vec![put_op("x", ""), operation.clone()])
            ),
            Err(error),
            "{operation:?}"
        );
        assert_eq!(
            run(&mut store, &success(vec![put_op("x", ""), deep])),
            Err(error),
            "{operation:?}"
        );
        let skipped = TxnRequest {
            failure: vec![operation.clone()],
            ..TxnRequest::default()
        };
        assert!(
            run(&mut store, &skipped).is_ok(),
            "a branch that does not run is not held against the state"
        );
        assert_eq!(store.state_hash(), before);
    }
}

#[test]
fn a_negative_revision_counts_against_the_boundary_of_a_fresh_store() {
    let mut store = store();
    assert!(run(&mut store, &success(vec![range_op("a", -1)])).is_ok());
    assert_eq!(
        run(&mut store, &success(vec![range_op("a", -2)])),
        Err(KvError::Compacted)
    );
    assert!(
        store
            .view()
            .txn_read_only(&success(vec![range_op("a", -1)]))
            .is_ok()
    );
    assert_eq!(
        store
            .view()
            .txn_read_only(&success(vec![range_op("a", -2)])),
        Err(KvError::Compacted)
    );
}

#[test]
fn a_range_at_a_compacted_revision_fails_alike_swept_or_not() {
    let request = success(vec![put_op("x", ""), range_op("a", 2)]);
    let mut store = store();
    run(&mut store, &success(vec![put_op("a", "3")])).expect("a plain put");
    store
        .compact(&CompactionRequest {
            revision: 4,
            physical: false,
        })
        .expect("the newest");
    assert_eq!(run(&mut store, &request), Err(KvError::Compacted));
    while store.sweep(1) == crate::mvcc::Sweep::More {}
    assert_eq!(run(&mut store, &request), Err(KvError::Compacted));
}

#[test]
fn deleting_from_a_key_on_and_putting_it_makes_two_events_of_one_revision() {
    let mut store = store();
    run(
        &mut store,
        &success(vec![
            put_op("b", "new"),
            delete_op("a", "\0"),
            put_op("a", "new"),
        ]),
    )
    .expect("the quirk");
    let range = RangeRequest {
        key: b"a".to_vec(),
        range_end: vec![0],
        ..RangeRequest::default()
    };
    let kvs = store.view().range(&range).expect("the newest").kvs;
    assert_eq!(kvs.len(), 1);
    assert_eq!(
        (kvs[0].create_revision, kvs[0].version),
        (4, 1),
        "put after its delete, the key begins anew"
    );
    let view = store.view();
    let changes = view
        .events(4, 1)
        .expect("not compacted")
        .next()
        .expect("revision 4")
        .changes;
    assert_eq!(changes.len(), 4);
    assert_eq!(
        changes[2].previous.as_ref().map(|record| record.value()),
        Some(&b"new"[..])
    );
}

#[test]
fn a_missing_key_reads_as_zeros_but_has_no_value() {
    let view = store().view();
    let on = |target: CompareTarget, result: CompareResult| {
        let compare = Compare {
            key: b"none".to_vec(),
            target: target as i32,
            result: result as i32,
            ..Compare::default()
        };
        compare::holds(&view, &compare)
    };
    for target in [
        CompareTarget::Version,
        CompareTarget::Create,
        CompareTarget::Mod,
        CompareTarget::Lease,
    ] {
        assert!(on(target, CompareResult::Equal));
        assert!(!on(target, CompareResult::NotEqual));
    }
    assert!(!on(CompareTarget::Value, CompareResult::Equal));
    assert!(!on(CompareTarget::Value, CompareResult::NotEqual));
}

#[test]
fn unknown_numbers_in_a_compare_have_a_meaning() {
    let view = store().view();
    let compare = |result: i32, target: i32| Compare {
        key: b"a".to_vec(),
        result,
        target,
        ..Compare::default()
    };
    assert!(
        compare::holds(&view, &compare(9, 0)),
        "an unknown operator holds"
    );
    assert!(
        compare::holds(&view, &compare(0, 9)),
        "an unknown target compares as equal"
    );
    assert!(!compare::holds(&view, &compare(3, 9)));
    let other = Compare {
        target_union: Some(TargetUnion::Lease(1)),
        ..compare(1, CompareTarget::Version as i32)
    };
    assert!(
        compare::holds(&view, &other),
        "a number for another target counts as 0"
    );
}

#[test]
fn a_compare_over_a_range_holds_for_every_existing_key() {
    let view = store().view();
    let newer = |range_end: &str, than: i64| {
        let compare = Compare {
            key: b"a".to_vec(),
            range_end: range_end.into(),
            target: CompareTarget::Mod as i32,
            result: CompareResult::Greater as i32,
            target_union: Some(TargetUnion::ModRevision(than)),
        };
        compare::holds(&view, &compare)
    };
    assert!(newer("z", 1));
    assert!(!newer("z", 2), "a is of revision 2");
    assert!(!newer("a", 0), "an empty range compares as a missing key");
    assert!(newer("a", -1));
}

#[test]
fn only_plain_ranges_in_both_branches_make_a_read() {
    let range = |serializable| {
        op(Request::RequestRange(RangeRequest {
            key: b"a".to_vec(),
            serializable,
            ..RangeRequest::default()
        }))
    };
    assert!(is_read_only(&success(vec![range(false)])));
    assert!(is_read_only(&TxnRequest::default()));
    assert!(!is_read_only(&TxnRequest {
        failure: vec![put_op("a", "")],
        ..TxnRequest::default()
    }));
    assert!(!is_read_only(&success(vec![op(Request::RequestTxn(
        TxnRequest::default()
    ))])));
    assert!(is_serializable(&success(vec![range(true)])));
    assert!(is_serializable(&TxnRequest::default()));
    assert!(!is_serializable(&TxnRequest {
        failure: vec![range(false)],
        ..success(vec![range(true)])
    }));
}

/// A transaction whose lists are `width` long at each of `depth` depths, with the range of one key at the bottom.
fn deep(depth: usize, width: usize) -> TxnRequest {
    let bottom = || match depth {
        1 => range_op("k", 0),
        _ => op(Request::RequestTxn(deep(depth - 1, width))),
    };
    success((0..width).map(|_| bottom()).collect())
}

fn large_value() -> Command {
    let put = PutRequest {
        key: b"k".to_vec(),
        value: vec![b'v'; 1 << 20],
        ..PutRequest::default()
    };
    Replicated::Put(put).into()
}

#[test]
fn a_transaction_whose_answer_is_beyond_all_memory_is_executed_and_not_read() {
    let mut state = State::new();
    state.apply(0, &large_value()).expect("a fair put");
    // 42 * 42 * 42 times a megabyte.
    let mut poison = deep(3, 42);
    poison.success.push(put_op("after", "v"));
    let poison = Command::from(Replicated::Txn(poison));
    let read = READ.get();
    let outcome = state.apply_unheard(1, &poison);
    assert_eq!(outcome, Ok(Outcome::TxnUntold { succeeded: true }));
    assert_eq!(READ.get(), read);
    assert_eq!(state.kv().revision(), 3);
    // Where somebody waits it is read as far as there is room.
    let mut room = Room(10 << 20);
    let Replicated::Txn(request) = poison.request() else {
        panic!("it is a transaction")
    };
    let mut store = Store::new();
    let large = large_value();
    let Replicated::Put(put) = large.request() else {
        panic!("it is a put")
    };
    store.put(put, &mut Changes::new()).expect("a fair put");
    let answer = store.txn_within(request, &mut Changes::new(), &mut room);
    assert!(!answer.expect("it is executed").is_whole);
    assert_eq!(READ.get(), read + 10);
    assert_eq!(store.revision(), 3);
}

#[test]
fn whether_anybody_waits_makes_no_difference_to_the_state() {
    let [mut heard, mut unheard] = [State::new(), State::new()];
    let read_and_write = |key: &str| {
        let inner = success(vec![range_op("a", 0), put_op(key, "1"), range_op(key, 0)]);
        let request = TxnRequest {
            compare: vec![version_is("a", 1)],
            success: vec![delete_op("a", "b"), op(Request::RequestTxn(inner.clone()))],
            failure: vec![
                put_op("a", "1"),
                op(Request::RequestTxn(inner)),
                range_op("a", 0),
            ],
        };
        Command::from(Replicated::Txn(request))
    };
    for (index, key) in (0..).zip(["x", "y", "z", "x"]) {
        let command = read_and_write(key);
        let told = heard.apply(index, &command).expect("a fair transaction");
        let untold = unheard.apply_unheard(index, &command);
        let Outcome::Txn(response) = told else {
            panic!("there is room for it")
        };
        let succeeded = response.succeeded;
        assert_eq!(untold, Ok(Outcome::TxnUntold { succeeded }));
        assert_eq!(heard.hash(), unheard.hash());
        assert_eq!(heard.digest(), unheard.digest());
    }
    let future = success(vec![range_op("a", 99), put_op("a", "1")]);
    let future = Command::from(Replicated::Txn(future));
    assert_eq!(heard.apply(4, &future), unheard.apply_unheard(4, &future));
    assert_eq!(heard.digest(), unheard.digest());
}
