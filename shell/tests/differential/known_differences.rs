//! Where the API of etcd 3.7, which is the contract, differs from the etcd 3.5 that stands beside it here.
//!
//! Each entry rewrites the old server's answer into the one the contract demands, and nothing else:
//! an answer that matches neither is still a difference.

use metastore_proto::etcdserverpb::{
    RangeRequest, RequestOp, TxnRequest,
    range_request::{SortOrder, SortTarget},
    request_op::Request,
};

use super::transcript::{Watcher, is_delete, key_and_revision};
use crate::cluster::operation::{Answer, Operation, for_each_range};

pub(crate) struct KnownDifference {
    pub(crate) reason: &'static str,
    /// Turns the old answer to this request, the last argument, into the contract's. What the subject
    /// answered stands between; only a refusal that depends on the state may need it.
    pub(crate) rewrite: fn(&Operation, &Answer, &mut Answer),
}

/// Used against etcd 3.5.
pub(crate) const KNOWN_DIFFERENCES: [KnownDifference; 4] = [
    KnownDifference {
        reason: "a range of keys only shows each key's lease in 3.5; from 3.7 the lease is 0, except where \
             the answer was sorted by value and so had to read whole records",
        rewrite: keys_only_has_no_lease,
    },
    KnownDifference {
        reason: "3.5 answers a sort order it does not know as if it were none; from 3.7 it is refused. (A sort \
             target it does not know crashes 3.5, so none is ever drawn.)",
        rewrite: unknown_sort_order_is_refused,
    },
    KnownDifference {
        reason: "3.5 checks every put of the branch of a transaction that will run before any of its ranges; later \
                 versions check them in the order they stand in, so that another of two faults is named",
        rewrite: first_fault_in_order_is_named,
    },
    KnownDifference {
        reason: "of a put in a transaction that names an unknown lease and also keeps what a missing key does not \
                 have, 3.5 refuses the key; later versions refuse the lease, as both do for a put by itself",
        rewrite: lease_is_checked_before_the_kept_record,
    },
];

pub(crate) struct KnownWatchDifference {
    pub(crate) reason: &'static str,
    /// Turns what the old server did for a watcher, the last argument, into what the contract says.
    pub(crate) rewrite: fn(&Watcher, &mut Watcher),
}

/// Used against etcd 3.5. What it does otherwise about progress is not here: progress is judged by what it
/// promises and never compared, and the old server is not held to it.
pub(crate) const KNOWN_WATCH_DIFFERENCES: [KnownWatchDifference; 2] = [
    KnownWatchDifference {
        reason: "3.5 creates a watcher with a negative start and ends it, or not, by what is compacted; from 3.7 \
             it is refused as compacted, before its range is looked at",
        rewrite: negative_start_is_refused,
    },
    KnownWatchDifference {
        reason: "3.5 loses a deletion at exactly the boundary of compaction, which a watcher that starts there \
             must hear of",
        rewrite: deletion_at_the_boundary_is_delivered,
    },
];

fn negative_start_is_refused(_: &Watcher, expected: &mut Watcher) {
    if expected.creation.request.start_revision < 0 {
        expected.created.canceled = true;
        expected.created.watch_id = -1;
        expected.created.cancel_reason =
            "etcdserver: mvcc: required revision has been compacted".to_owned();
        expected.events.clear();
        expected.ends.clear();
    }
}

fn deletion_at_the_boundary_is_delivered(_: &Watcher, expected: &mut Watcher) {
    let boundary = expected.creation.compacted;
    if expected.creation.kept_at_start.is_empty() || !expected.is_alive() {
        return;
    }
    let (there, after): (Vec<_>, Vec<_>) = std::mem::take(&mut expected.events)
        .into_iter()
        .partition(|event| key_and_revision(event).1 == boundary);
    for kept in &expected.creation.kept_at_start {
        let place = key_and_revision(kept);
        let delivered = there.iter().rfind(|event| key_and_revision(event) == place);
        match delivered {
            Some(event) => expected.events.push(event.clone()),
            None if is_delete(kept) => expected.events.push(kept.clone()),
            None => {}
        }
    }
    expected.events.extend(after);
}

fn keys_only_has_no_lease(operation: &Operation, _: &Answer, answer: &mut Answer) {
    let mut twin = answer.clone();
    for_each_range(operation, answer, &mut twin, &mut |request, answer, _| {
        if shows_no_lease(request) {
            for kv in &mut answer.kvs {
                kv.lease = 0;
            }
        }
    });
}

fn shows_no_lease(request: &RangeRequest) -> bool {
    request.keys_only && request.sort_target != SortTarget::Value as i32
}

/// Only of a range by itself: inside a transaction none is drawn, for 3.5 would carry the transaction out.
fn unknown_sort_order_is_refused(operation: &Operation, _: &Answer, answer: &mut Answer) {
    if let Operation::Range(request) = operation
        && SortOrder::try_from(request.sort_order).is_err()
        && !request.key.is_empty()
    {
        *answer = refused(
            tonic::Code::InvalidArgument,
            "etcdserver: invalid sort option",
        );
    }
}

fn first_fault_in_order_is_named(operation: &Operation, answered: &Answer, answer: &mut Answer) {
    let (Operation::Txn(request), Answer::Refused { message: old, .. }) = (operation, &*answer)
    else {
        return;
    };
    let fault_of_a_put = [
        "etcdserver: requested lease not found",
        "etcdserver: key not found",
    ];
    let fault_of_a_range = [
        "etcdserver: mvcc: required revision is a future revision",
        "etcdserver: mvcc: required revision has been compacted",
    ];
    if fault_of_a_put.contains(&old.as_str())
        && fault_of_a_range
            .iter()
            .any(|message| *answered == refused(tonic::Code::OutOfRange, message))
        && [&request.success, &request.failure]
            .iter()
            .any(|branch| range_stands_before_a_put(branch, &mut false))
    {
        *answer = answered.clone();
    }
}

fn lease_is_checked_before_the_kept_record(
    operation: &Operation,
    answered: &Answer,
    answer: &mut Answer,
) {
    let Operation::Txn(request) = operation else {
        return;
    };
    let lease_not_found = refused(
        tonic::Code::NotFound,
        "etcdserver: requested lease not found",
    );
    if *answer == refused(tonic::Code::InvalidArgument, "etcdserver: key not found")
        && *answered == lease_not_found
        && has_put_with_both_faults(request)
    {
        *answer = lease_not_found;
    }
}

fn has_put_with_both_faults(txn: &TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .any(|op| match &op.request {
            Some(Request::RequestPut(put)) => put.lease != 0 && put.ignore_value,
            Some(Request::RequestTxn(txn)) => has_put_with_both_faults(txn),
            _ => false,
        })
}

/// Whether a range that names a revision stands before a put that may be refused for the state it meets.
fn range_stands_before_a_put(branch: &[RequestOp], range_seen: &mut bool) -> bool {
    branch.iter().any(|op| match &op.request {
        Some(Request::RequestRange(range)) => {
            *range_seen |= range.revision != 0;
            false
        }
        Some(Request::RequestPut(put)) => {
            *range_seen && (put.lease != 0 || put.ignore_value || put.ignore_lease)
        }
        Some(Request::RequestTxn(txn)) => [&txn.success, &txn.failure]
            .iter()
            .any(|branch| range_stands_before_a_put(branch, range_seen)),
        Some(Request::RequestDeleteRange(_)) | None => false,
    })
}

fn refused(code: tonic::Code, message: &str) -> Answer {
    Answer::Refused {
        code,
        message: message.to_owned(),
    }
}
