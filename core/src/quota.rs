//! Quota: what a request may add to the store, and whether there is room for it.

use metastore_proto::etcdserverpb::request_op::Request as Op;
use metastore_proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest};

use crate::command::Request;

/// What a put is charged beside its key and value, in bytes.
const PUT_OVERHEAD_BYTES: u64 = 256;

/// What a grant is charged, in bytes.
const GRANT_BYTES: u64 = 64;

/// What a request may add to the store, in bytes; 0 for what adds nothing, which is never refused.
pub fn charge(request: &Request) -> u64 {
    match request {
        Request::Put(put) => charge_put(put),
        Request::Txn(txn) => charge_txn(txn),
        Request::LeaseGrant(_) => GRANT_BYTES,
        Request::DeleteRange(_)
        | Request::Compact(_)
        | Request::Publish(_)
        | Request::LeaseRevoke(_)
        | Request::LeaseExpire(_)
        | Request::LeaseRemaining(_) => 0,
    }
}

/// Whether a request with this charge fits into a store that has so many bytes in use.
pub fn has_room(bytes_in_use: u64, charge: u64, quota_bytes: u64) -> bool {
    charge == 0 || bytes_in_use.saturating_add(charge) < quota_bytes
}

fn charge_put(put: &PutRequest) -> u64 {
    PUT_OVERHEAD_BYTES + (put.key.len() + put.value.len()) as u64
}

/// That of the dearer branch.
fn charge_txn(txn: &TxnRequest) -> u64 {
    let branch = |ops: &[RequestOp]| -> u64 {
        ops.iter()
            .map(|op| match &op.request {
                Some(Op::RequestPut(put)) => charge_put(put),
                Some(Op::RequestTxn(nested)) => charge_txn(nested),
                _ => 0,
            })
            .sum()
    };
    branch(&txn.success).max(branch(&txn.failure))
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::{DeleteRangeRequest, RangeRequest};

    use super::*;

    fn op(request: Op) -> RequestOp {
        RequestOp {
            request: Some(request),
        }
    }

    fn put(value: usize) -> RequestOp {
        op(Op::RequestPut(PutRequest {
            key: b"a".to_vec(),
            value: vec![0; value],
            ..PutRequest::default()
        }))
    }

    #[test]
    fn a_transaction_is_charged_for_its_dearer_branch_nested_ones_included() {
        let nested = op(Op::RequestTxn(TxnRequest {
            success: vec![put(10)],
            ..TxnRequest::default()
        }));
        let txn = TxnRequest {
            success: vec![put(1)],
            failure: vec![
                put(100),
                nested,
                op(Op::RequestRange(RangeRequest::default())),
            ],
            ..TxnRequest::default()
        };
        assert_eq!(charge_txn(&txn), (256 + 1 + 100) + (256 + 1 + 10));
    }

    #[test]
    fn what_adds_nothing_always_has_room() {
        let delete = Request::DeleteRange(DeleteRangeRequest::default());
        assert!(has_room(u64::MAX, charge(&delete), 1));
        assert!(has_room(99, 900, 1000));
        assert!(!has_room(100, 900, 1000));
        assert!(!has_room(u64::MAX, 1, u64::MAX));
    }
}
