//! Which reads are so short that the thread of their connection does them itself, while all others there wait.

use metastore_core::mvcc;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{RangeRequest, TxnRequest};

use super::long_read::Extent;

/// A read that may look at more keys than this is computed away from the connection thread.
const SHORT_READ_KEYS: i64 = 128;

/// How much a range looks at; none if that is so little that the thread of its connection does it.
pub(super) fn extent_of_range(range: &RangeRequest) -> Option<Extent> {
    let short = keys_at_most(range).is_some_and(|keys| keys <= SHORT_READ_KEYS);
    let limited = range.limit > 0 && mvcc::is_in_key_order(range);
    (!short).then_some(if limited {
        Extent::Limited
    } else {
        Extent::Unlimited
    })
}

/// The same of a transaction that only reads, whichever branch it takes.
pub(super) fn extent_of_read(txn: &TxnRequest) -> Option<Extent> {
    (!is_short_read(txn)).then_some(Extent::Unlimited)
}

fn is_short_read(txn: &TxnRequest) -> bool {
    let operations = txn.success.iter().chain(&txn.failure);
    let keys = operations.map(|operation| match &operation.request {
        Some(Request::RequestRange(range)) => keys_at_most(range),
        _ => None,
    });
    let compares_one = txn.compare.iter().all(|it| it.range_end.is_empty());
    let keys = keys.sum::<Option<i64>>();
    compares_one && keys.is_some_and(|keys| keys <= SHORT_READ_KEYS)
}

/// The most keys that go into an answer; none if that is not known, or others have to be looked at for it.
fn keys_at_most(range: &RangeRequest) -> Option<i64> {
    if range.range_end.is_empty() {
        return Some(1);
    }
    let limited = (1..=SHORT_READ_KEYS).contains(&range.limit);
    // What is beyond the limit is counted; for the present that is known, for the past each key is looked up.
    let counted = range.revision <= 0;
    (limited && counted && mvcc::is_in_key_order(range)).then_some(range.limit)
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
    use metastore_proto::etcdserverpb::{Compare, RequestOp};

    use super::*;

    fn is_short_range(range: &RangeRequest) -> bool {
        extent_of_range(range).is_none()
    }

    fn up_to(limit: i64) -> RangeRequest {
        RangeRequest {
            key: b"a".to_vec(),
            range_end: b"b".to_vec(),
            limit,
            ..RangeRequest::default()
        }
    }

    fn reads(ranges: &[RangeRequest]) -> TxnRequest {
        let operation = |range: &RangeRequest| RequestOp {
            request: Some(Request::RequestRange(range.clone())),
        };
        TxnRequest {
            success: ranges.iter().map(operation).collect(),
            ..TxnRequest::default()
        }
    }

    #[test]
    fn one_key_and_a_small_limit_are_short() {
        let one = RangeRequest {
            range_end: Vec::new(),
            ..up_to(0)
        };
        assert!(is_short_range(&one));
        assert!(is_short_range(&up_to(128)));
        for long in [0, 129, i64::MAX, -1] {
            assert!(!is_short_range(&up_to(long)), "{long}");
        }
        assert_eq!(extent_of_range(&up_to(129)), Some(Extent::Limited));
        assert_eq!(extent_of_range(&up_to(0)), Some(Extent::Unlimited));
    }

    #[test]
    fn what_is_sorted_or_filtered_looks_at_all_keys() {
        let sorted = RangeRequest {
            sort_order: SortOrder::Descend as i32,
            sort_target: SortTarget::Mod as i32,
            ..up_to(1)
        };
        let filtered = RangeRequest {
            min_mod_revision: 5,
            ..up_to(1)
        };
        assert!(!is_short_range(&sorted) && !is_short_range(&filtered));
    }

    #[test]
    fn a_range_of_the_past_looks_at_all_keys() {
        let past = RangeRequest {
            revision: 7,
            ..up_to(1)
        };
        assert!(!is_short_range(&past));
        let one = RangeRequest {
            range_end: Vec::new(),
            ..past
        };
        assert!(is_short_range(&one));
    }

    #[test]
    fn the_reads_of_a_transaction_add_up() {
        assert!(is_short_read(&TxnRequest::default()));
        assert!(is_short_read(&reads(&[up_to(64), up_to(64)])));
        assert!(!is_short_read(&reads(&[up_to(64), up_to(65)])));
        assert!(!is_short_read(&reads(&[up_to(1), up_to(0)])));
        let compare = Compare {
            key: b"a".to_vec(),
            range_end: b"b".to_vec(),
            ..Compare::default()
        };
        let compares = TxnRequest {
            compare: vec![compare],
            ..reads(&[up_to(1)])
        };
        assert!(!is_short_read(&compares));
    }
}
