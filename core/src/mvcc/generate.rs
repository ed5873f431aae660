//! Random requests over few keys, for tests against the model.

use metastore_proto::etcdserverpb::compare::TargetUnion;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::*;
use proptest::prelude::*;

pub(crate) const LEASE: i64 = 7;

pub(crate) fn key() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        "a", "aa", "ab", "b", "c", "c\0", "d", "e", "\u{7f}", "z",
    ])
    .prop_map(|key| key.as_bytes().to_vec())
}

pub(crate) fn range_end() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![3 => Just(Vec::new()), 3 => key(), 1 => Just(vec![0]), 1 => Just(vec![0xff])]
}

pub(crate) fn put() -> impl Strategy<Value = PutRequest> {
    let value = prop::sample::select(vec!["", "v", "w", "long value"]);
    (key(), value, 0u8..12, any::<bool>()).prop_map(|(key, value, variant, prev_kv)| {
        let value = value.as_bytes().to_vec();
        let put = PutRequest {
            key,
            value,
            prev_kv,
            ..PutRequest::default()
        };
        match variant {
            0 => PutRequest {
                value: Vec::new(),
                ignore_value: true,
                ..put
            },
            1 => PutRequest {
                ignore_lease: true,
                ..put
            },
            2 => PutRequest {
                lease: LEASE,
                ..put
            },
            3 => PutRequest {
                lease: LEASE + 1,
                ..put
            },
            4 => PutRequest {
                value: Vec::new(),
                ignore_value: true,
                lease: LEASE,
                ..put
            },
            _ => put,
        }
    })
}

pub(crate) fn delete_range() -> impl Strategy<Value = DeleteRangeRequest> {
    (key(), range_end(), any::<bool>()).prop_map(|(key, range_end, prev_kv)| DeleteRangeRequest {
        key,
        range_end,
        prev_kv,
    })
}

pub(crate) fn range() -> impl Strategy<Value = RangeRequest> {
    let bound = || prop_oneof![4 => Just(0i64), 1 => 1i64..30];
    let shape = (
        key(),
        range_end(),
        -1i64..6,
        prop_oneof![1 => Just(0i64), 2 => -2i64..40],
    );
    let sort = (0i32..3, 0i32..5, any::<[bool; 3]>());
    (shape, sort, [bound(), bound(), bound(), bound()]).prop_map(|(shape, sort, bounds)| {
        let (key, range_end, limit, revision) = shape;
        let (sort_order, sort_target, [serializable, keys_only, rare]) = sort;
        RangeRequest {
            key,
            range_end,
            limit,
            revision,
            sort_order,
            sort_target,
            serializable,
            keys_only: keys_only && rare,
            count_only: !keys_only && rare,
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        }
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let union = prop_oneof![
        (0i64..4).prop_map(TargetUnion::Version),
        (0i64..30).prop_map(TargetUnion::CreateRevision),
        (0i64..30).prop_map(TargetUnion::ModRevision),
        prop::sample::select(vec!["", "v"])
            .prop_map(|value| TargetUnion::Value(value.as_bytes().to_vec())),
        (6i64..9).prop_map(TargetUnion::Lease),
    ];
    (
        0i32..5,
        0i32..6,
        key(),
        prop::option::of(union),
        range_end(),
    )
        .prop_map(|(result, target, key, target_union, range_end)| Compare {
            result,
            target,
            key,
            range_end,
            target_union,
        })
}

fn operations(depth: u32) -> BoxedStrategy<Vec<RequestOp>> {
    let leaf = prop_oneof![
        3 => put().prop_map(Request::RequestPut),
        2 => delete_range().prop_map(Request::RequestDeleteRange),
        2 => range().prop_map(Request::RequestRange),
    ];
    let operation = match depth {
        0 => leaf.boxed(),
        _ => prop_oneof![5 => leaf, 1 => txn_of_depth(depth - 1).prop_map(Request::RequestTxn)]
            .boxed(),
    };
    let operation = prop_oneof![40 => operation.prop_map(Some), 1 => Just(None)];
    prop::collection::vec(operation.prop_map(|request| RequestOp { request }), 0..5).boxed()
}

fn txn_of_depth(depth: u32) -> BoxedStrategy<TxnRequest> {
    (
        prop::collection::vec(compare(), 0..3),
        operations(depth),
        operations(depth),
    )
        .prop_map(|(compare, success, failure)| TxnRequest {
            compare,
            success,
            failure,
        })
        .boxed()
}

pub(crate) fn txn() -> BoxedStrategy<TxnRequest> {
    txn_of_depth(2)
}
