//! Where the API of etcd 3.7, which is the contract, differs from the etcd 3.5 that stands beside it here.
//!
//! Each entry rewrites the old server's answer into the one the contract demands, and nothing else:
//! an answer that matches neither is still a difference.

use metastore_proto::etcdserverpb::{
    RangeRequest,
    range_request::{SortOrder, SortTarget},
};

use crate::cluster::operation::{Answer, Operation, for_each_range};

pub(crate) struct KnownDifference {
    pub(crate) reason: &'static str,
    /// Turns the old answer to this request into the contract's.
    pub(crate) rewrite: fn(&Operation, &mut Answer),
}

/// Used against etcd 3.5.
pub(crate) const KNOWN_DIFFERENCES: [KnownDifference; 2] = [
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
];

fn keys_only_has_no_lease(operation: &Operation, answer: &mut Answer) {
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
fn unknown_sort_order_is_refused(operation: &Operation, answer: &mut Answer) {
    if let Operation::Range(request) = operation
        && SortOrder::try_from(request.sort_order).is_err()
        && !request.key.is_empty()
    {
        *answer = Answer::Refused {
            code: tonic::Code::InvalidArgument,
            message: "etcdserver: invalid sort option".to_owned(),
        };
    }
}
