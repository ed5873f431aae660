//! The static checks, fact by fact.

use metastore_proto::etcdserverpb::Compare;
use proptest::prelude::*;

use super::*;

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str) -> RequestOp {
    op(Request::RequestPut(PutRequest {
        key: key.into(),
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

fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
    op(Request::RequestTxn(TxnRequest {
        compare: Vec::new(),
        success,
        failure,
    }))
}

fn list(success: Vec<RequestOp>) -> Result<(), KvError> {
    txn(
        &TxnRequest {
            success,
            ..TxnRequest::default()
        },
        &Limits::default(),
    )
}

#[test]
fn the_empty_key_is_refused_before_anything_else() {
    let limits = Limits::default();
    let request = RangeRequest {
        sort_order: 9,
        ..RangeRequest::default()
    };
    assert_eq!(range(&request, &limits), Err(KvError::EmptyKey));
    let request = PutRequest {
        ignore_value: true,
        value: vec![1],
        ..PutRequest::default()
    };
    assert_eq!(put(&request, &limits), Err(KvError::EmptyKey));
    assert_eq!(
        delete_range(&DeleteRangeRequest::default(), &limits),
        Err(KvError::EmptyKey)
    );
}

#[test]
fn sort_options_are_known_numbers() {
    let limits = Limits::default();
    for (sort_order, sort_target, good) in [
        (0, 0, true),
        (2, 4, true),
        (3, 0, false),
        (0, 5, false),
        (-1, 0, false),
    ] {
        let request = RangeRequest {
            key: b"k".to_vec(),
            sort_order,
            sort_target,
            ..RangeRequest::default()
        };
        let wanted = if good {
            Ok(())
        } else {
            Err(KvError::InvalidSortOption)
        };
        assert_eq!(
            range(&request, &limits),
            wanted,
            "{sort_order} {sort_target}"
        );
    }
}

#[test]
fn a_stream_is_in_key_order_and_unfiltered() {
    let limits = Limits::default();
    let plain = RangeRequest {
        key: b"k".to_vec(),
        ..RangeRequest::default()
    };
    assert_eq!(range_stream(&plain, &limits), Ok(()));
    let ascending = RangeRequest {
        sort_order: 1,
        ..plain.clone()
    };
    assert_eq!(range_stream(&ascending, &limits), Ok(()));
    let by_value = RangeRequest {
        sort_target: 4,
        max_mod_revision: 1,
        ..ascending
    };
    assert_eq!(
        range_stream(&by_value, &limits),
        Err(KvError::StreamSortUnsupported)
    );
    let descending = RangeRequest {
        sort_order: 2,
        ..plain.clone()
    };
    assert_eq!(
        range_stream(&descending, &limits),
        Err(KvError::StreamSortUnsupported)
    );
    let filtered = RangeRequest {
        min_create_revision: -1,
        ..plain
    };
    assert_eq!(
        range_stream(&filtered, &limits),
        Err(KvError::StreamFilterUnsupported)
    );
}

#[test]
fn what_is_kept_must_not_be_given() {
    let limits = Limits::default();
    let request = PutRequest {
        key: b"k".to_vec(),
        lease: 1,
        ignore_lease: true,
        ..PutRequest::default()
    };
    assert_eq!(put(&request, &limits), Err(KvError::LeaseProvided));
    let request = PutRequest {
        value: vec![1],
        ignore_value: true,
        ..request
    };
    assert_eq!(put(&request, &limits), Err(KvError::ValueProvided));
}

#[test]
fn nested_transactions_share_the_budget() {
    let limits = Limits {
        txn_operations_max: 3,
    };
    let sized = |compare: usize, success: Vec<RequestOp>| {
        let compare = vec![
            Compare {
                key: b"k".to_vec(),
                ..Compare::default()
            };
            compare
        ];
        txn(
            &TxnRequest {
                compare,
                success,
                failure: Vec::new(),
            },
            &limits,
        )
    };
    let ranges = |count: usize| {
        vec![
            op(Request::RequestRange(RangeRequest {
                key: b"k".to_vec(),
                ..RangeRequest::default()
            }));
            count
        ]
    };
    assert_eq!(sized(3, ranges(3)), Ok(()));
    assert_eq!(sized(4, ranges(1)), Err(KvError::TooManyOperations));
    assert_eq!(sized(1, vec![nested(ranges(2), ranges(2))]), Ok(()));
    assert_eq!(
        sized(1, vec![nested(ranges(3), Vec::new())]),
        Err(KvError::TooManyOperations)
    );
    assert_eq!(sized(3, vec![nested(Vec::new(), Vec::new())]), Ok(()));
    assert_eq!(
        sized(3, vec![nested(ranges(1), Vec::new())]),
        Err(KvError::TooManyOperations)
    );
}

#[test]
fn the_order_of_refusals_is_size_compares_operations_duplicates() {
    let limits = Limits {
        txn_operations_max: 2,
    };
    let duplicates = vec![put_op("a"), put_op("a")];
    let mut request = TxnRequest {
        success: duplicates,
        ..TxnRequest::default()
    };
    assert_eq!(txn(&request, &limits), Err(KvError::DuplicateKey));
    request.failure = vec![RequestOp { request: None }];
    assert_eq!(txn(&request, &limits), Err(KvError::KeyNotFound));
    request.compare = vec![Compare::default()];
    assert_eq!(txn(&request, &limits), Err(KvError::EmptyKey));
    request.failure = vec![RequestOp { request: None }; 3];
    assert_eq!(txn(&request, &limits), Err(KvError::TooManyOperations));
}

#[test]
fn a_key_is_put_once_and_not_deleted_beside() {
    assert_eq!(
        list(vec![put_op("a"), put_op("a")]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(
        list(vec![put_op("a"), delete_op("a", "")]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(
        list(vec![delete_op("a", "c"), put_op("b")]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(list(vec![delete_op("a", "b"), put_op("b")]), Ok(()));
    assert_eq!(
        list(vec![
            delete_op("a", "c"),
            delete_op("b", "d"),
            delete_op("b", "")
        ]),
        Ok(())
    );
    let branches = TxnRequest {
        success: vec![put_op("a")],
        failure: vec![put_op("a")],
        ..TxnRequest::default()
    };
    assert_eq!(txn(&branches, &Limits::default()), Ok(()));
}

#[test]
fn a_delete_from_a_key_on_is_not_held_against_puts() {
    assert_eq!(
        list(vec![delete_op("a", "\0"), put_op("a"), put_op("b")]),
        Ok(())
    );
    assert_eq!(
        list(vec![delete_op("b", "a"), put_op("a")]),
        Ok(()),
        "nor is an inverted range"
    );
}

#[test]
fn the_branches_of_one_nested_transaction_may_touch_the_same_key() {
    assert_eq!(
        list(vec![nested(vec![put_op("a")], vec![put_op("a")])]),
        Ok(())
    );
    assert_eq!(
        list(vec![nested(vec![put_op("a")], vec![delete_op("a", "")])]),
        Ok(())
    );
    assert_eq!(
        list(vec![
            nested(vec![put_op("a")], vec![put_op("a")]),
            put_op("a")
        ]),
        Err(KvError::DuplicateKey)
    );
}

#[test]
fn siblings_and_levels_are_held_against_each_other() {
    let put_nested = || nested(vec![put_op("a")], Vec::new());
    let delete_nested = || nested(Vec::new(), vec![delete_op("a", "")]);
    assert_eq!(
        list(vec![put_nested(), nested(Vec::new(), vec![put_op("a")])]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(
        list(vec![put_op("a"), delete_nested()]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(
        list(vec![put_nested(), delete_op("a", "")]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(
        list(vec![delete_nested(), put_nested()]),
        Err(KvError::DuplicateKey)
    );
    assert_eq!(
        list(vec![nested(vec![put_nested()], Vec::new()), put_op("a")]),
        Err(KvError::DuplicateKey)
    );
}

#[test]
fn a_nested_put_is_not_held_against_a_later_siblings_delete() {
    let put_nested = nested(vec![put_op("a")], Vec::new());
    assert_eq!(
        list(vec![
            put_nested,
            nested(vec![delete_op("a", "")], Vec::new())
        ]),
        Ok(())
    );
}

proptest! {
    /// Merged spans contain what the ranges they came from contain.
    #[test]
    fn spans_are_the_union_of_their_ranges(
        ranges in prop::collection::vec(("[a-c]{1,2}", "[a-c]{0,2}"), 0..8),
        more in prop::collection::vec(("[a-c]{1,2}", "[a-c]{0,2}"), 0..8),
        keys in prop::collection::vec("[a-d]{1,3}", 20),
    ) {
        let (mut spans, mut others) = (Spans::default(), Spans::default());
        for (key, end) in &ranges {
            spans.insert(KeyRange::new(key.as_bytes(), end.as_bytes()));
        }
        for (key, end) in &more {
            others.insert(KeyRange::new(key.as_bytes(), end.as_bytes()));
        }
        spans.extend(others);
        for key in &keys {
            let all = ranges.iter().chain(&more);
            let mut ranges = all.map(|(key, end)| KeyRange::new(key.as_bytes(), end.as_bytes()));
            prop_assert_eq!(spans.contains(key.as_bytes()), ranges.any(|range| range.contains(key.as_bytes())), "{}", key);
        }
    }
}
