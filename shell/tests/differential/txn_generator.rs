//! Draws transactions: compares of every kind, nesting, and the shapes that are refused whole.

use metastore_proto::etcdserverpb::{
    Compare, RangeRequest, RequestOp, TxnRequest,
    compare::{CompareResult, CompareTarget, TargetUnion},
    request_op::Request,
};

use super::{
    generator::{Generator, KEYS},
    lease_generator,
};

pub(crate) fn txn(generator: &mut Generator) -> TxnRequest {
    let mut txn = match generator.random.below(100) {
        0 => oversized(generator),
        1 => TxnRequest::default(),
        2..=9 => only_reads(generator),
        _ => nested_txn(generator, 1),
    };
    let mut deletes_from_a_key_on = false;
    each_op(&mut txn, &mut |op| {
        deletes_from_a_key_on |=
            matches!(op, Request::RequestDeleteRange(delete) if delete.range_end == [0]);
    });
    if deletes_from_a_key_on {
        // Such a delete is not seen as overlapping a put, so it can remove the very record whose value or
        // lease a later put keeps. That stops etcd for good: it crashes again whenever it replays its log.
        each_op(&mut txn, &mut |op| {
            if let Request::RequestPut(put) = op {
                put.ignore_value = false;
                put.ignore_lease = false;
            }
        });
    }
    txn
}

/// Calls `visit` with each operation of both branches, at every depth.
fn each_op(txn: &mut TxnRequest, visit: &mut dyn FnMut(&mut Request)) {
    for op in txn.success.iter_mut().chain(&mut txn.failure) {
        if let Some(request) = &mut op.request {
            visit(request);
            if let Request::RequestTxn(txn) = request {
                each_op(txn, visit);
            }
        }
    }
}

fn nested_txn(generator: &mut Generator, depth: u32) -> TxnRequest {
    TxnRequest {
        compare: compares(generator),
        success: branch(generator, depth),
        failure: branch(generator, depth),
    }
}

/// Not replicated unless a compare forces it; the servers take another path for these.
fn only_reads(generator: &mut Generator) -> TxnRequest {
    let mut ranges = |most: u64| -> Vec<RequestOp> {
        (0..generator.random.below(most))
            .map(|_| op(Request::RequestRange(generator.range())))
            .collect()
    };
    TxnRequest {
        success: ranges(3),
        failure: ranges(3),
        compare: compares(generator),
    }
}

/// At and beyond the number of operations a transaction may have, counted through the nesting.
fn oversized(generator: &mut Generator) -> TxnRequest {
    let length = 127 + generator.random.index(3);
    let read = op(Request::RequestRange(RangeRequest {
        key: b"a".to_vec(),
        ..RangeRequest::default()
    }));
    let many = vec![read.clone(); length];
    match generator.random.below(4) {
        0 => TxnRequest {
            success: many,
            ..TxnRequest::default()
        },
        1 => TxnRequest {
            failure: many,
            ..TxnRequest::default()
        },
        2 => TxnRequest {
            compare: vec![compare(generator); length],
            success: vec![read],
            ..TxnRequest::default()
        },
        _ => {
            let inner = TxnRequest {
                success: vec![read; 2],
                ..TxnRequest::default()
            };
            TxnRequest {
                success: vec![op(Request::RequestTxn(inner)); length - 2],
                ..TxnRequest::default()
            }
        }
    }
}

fn branch(generator: &mut Generator, depth: u32) -> Vec<RequestOp> {
    let length = match generator.random.below(10) {
        0..=1 => 0,
        2..=5 => 1,
        6..=7 => 2,
        8 => 3,
        _ => 5,
    };
    (0..length).map(|_| one_op(generator, depth)).collect()
}

fn one_op(generator: &mut Generator, depth: u32) -> RequestOp {
    match generator.random.below(100) {
        0..=39 => {
            let mut put = generator.put();
            // Most puts in a transaction should be legal, or few transactions would ever run.
            if generator.random.percent(60) {
                put.ignore_value = false;
                put.ignore_lease = false;
                put.lease = 0;
            }
            op(Request::RequestPut(put))
        }
        40..=64 => {
            let mut range = generator.range();
            if generator.random.percent(60) {
                range.revision = 0;
            }
            op(Request::RequestRange(range))
        }
        65..=83 => op(Request::RequestDeleteRange(generator.delete())),
        84 if generator.random.percent(30) => RequestOp { request: None },
        _ if depth < DEPTH_MAX => op(Request::RequestTxn(nested_txn(generator, depth + 1))),
        _ => op(Request::RequestRange(generator.range())),
    }
}

fn compares(generator: &mut Generator) -> Vec<Compare> {
    let length = match generator.random.below(10) {
        0..=3 => 0,
        4..=7 => 1,
        8 => 2,
        _ => 3,
    };
    (0..length).map(|_| compare(generator)).collect()
}

fn compare(generator: &mut Generator) -> Compare {
    let mut compare = Compare {
        result: i32::try_from(generator.random.below(4)).expect("small"),
        target: i32::try_from(generator.random.below(5)).expect("small"),
        key: generator.key(),
        ..Compare::default()
    };
    if generator.random.percent(25) {
        compare.range_end = generator.range_end(&compare.key);
    }
    compare.target_union = operand(generator, compare.target);
    if !generator.seen.is_empty() && generator.random.percent(40) {
        aim_at_a_seen_record(generator, &mut compare);
    }
    // Numbers that no enum knows, and operands that do not belong to the target.
    match generator.random.below(50) {
        0 => compare.result = *generator.random.pick(&[4, 99, -1]),
        1 => compare.target = *generator.random.pick(&[5, 99, -1]),
        2..=3 => compare.target_union = None,
        4..=6 => {
            let other = i32::try_from(generator.random.below(5)).expect("small");
            compare.target_union = operand(generator, other);
        }
        _ => {}
    }
    compare
}

fn aim_at_a_seen_record(generator: &mut Generator, compare: &mut Compare) {
    let record = generator.random.pick(&generator.seen.clone()).clone();
    compare.key = record.key;
    if generator.random.percent(60) {
        compare.result = CompareResult::Equal as i32;
    }
    compare.target_union = Some(match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => TargetUnion::Version(record.version),
        Ok(CompareTarget::Create) => TargetUnion::CreateRevision(record.create_revision),
        Ok(CompareTarget::Mod) => TargetUnion::ModRevision(record.mod_revision),
        Ok(CompareTarget::Value) => TargetUnion::Value(record.value),
        Ok(CompareTarget::Lease) | Err(_) => TargetUnion::Lease(record.lease),
    });
}

fn operand(generator: &mut Generator, target: i32) -> Option<TargetUnion> {
    let newest = generator.revision;
    let revision = match generator.random.below(4) {
        0 => 0,
        1 => newest,
        2 => -1,
        _ => generator.random.between((newest - 50).max(0), newest),
    };
    Some(match CompareTarget::try_from(target) {
        Ok(CompareTarget::Version) => TargetUnion::Version(generator.random.between(0, 3)),
        Ok(CompareTarget::Create) => TargetUnion::CreateRevision(revision),
        Ok(CompareTarget::Mod) => TargetUnion::ModRevision(revision),
        Ok(CompareTarget::Value) => TargetUnion::Value(generator.random.pick(&KEYS).to_vec()),
        Ok(CompareTarget::Lease) | Err(_) => TargetUnion::Lease(if generator.random.percent(50) {
            0
        } else {
            lease_generator::any_id(generator)
        }),
    })
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

const DEPTH_MAX: u32 = 3;
