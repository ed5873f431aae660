//! Compare: one predicate of a transaction on the state before it.

use std::cmp::Ordering;

use metastore_proto::etcdserverpb::Compare;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::key::KeyRange;
use crate::mvcc::{Record, View};

/// Whether the predicate holds for every existing key it names; a lone missing key counts as all zeros.
pub(super) fn holds(view: &View, compare: &Compare) -> bool {
    let range = KeyRange::new(&compare.key, &compare.range_end);
    let mut existing = view
        .keyspace
        .histories(range)
        .filter_map(|history| history.live_at(i64::MAX))
        .peekable();
    if existing.peek().is_none() {
        // A missing key has no value that could be compared, not even for inequality.
        return compare.target != CompareTarget::Value as i32 && holds_for(None, compare);
    }
    existing.all(|record| holds_for(Some(record), compare))
}

fn holds_for(record: Option<&Record>, compare: &Compare) -> bool {
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Value) => {
            let given = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value.as_slice(),
                _ => &[],
            };
            record.map_or(&[][..], Record::value).cmp(given)
        }
        Ok(target) => record
            .map_or(0, |record| stored(record, target))
            .cmp(&given(compare, target)),
        Err(_) => Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}

fn stored(record: &Record, target: CompareTarget) -> i64 {
    match target {
        CompareTarget::Version => record.version(),
        CompareTarget::Create => record.create_revision(),
        CompareTarget::Mod => record.mod_revision(),
        CompareTarget::Lease => record.lease(),
        CompareTarget::Value => unreachable!("values are compared as bytes"),
    }
}

/// The number the request gives for its target; 0 if it gives none, or one for another target.
fn given(compare: &Compare, target: CompareTarget) -> i64 {
    match (&compare.target_union, target) {
        (Some(TargetUnion::Version(number)), CompareTarget::Version) => *number,
        (Some(TargetUnion::CreateRevision(number)), CompareTarget::Create) => *number,
        (Some(TargetUnion::ModRevision(number)), CompareTarget::Mod) => *number,
        (Some(TargetUnion::Lease(number)), CompareTarget::Lease) => *number,
        _ => 0,
    }
}
