//! Reading a range of keys at one revision: count, filter, sort, limit, in that order of effect.

use std::cmp::Ordering;

use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::{RangeRequest, RangeResponse};
use metastore_proto::mvccpb::KeyValue;

use super::keyspace::Keyspace;
use super::record::Record;
use crate::key::KeyRange;

/// Answers `request` at revision `at`, whatever revision it names; the header is left to the caller.
pub(crate) fn read(keyspace: &Keyspace, at: i64, request: &RangeRequest) -> RangeResponse {
    let range = KeyRange::new(&request.key, &request.range_end);
    if request.count_only {
        return RangeResponse {
            count: amount(keyspace.count(range, at)),
            ..RangeResponse::default()
        };
    }
    let limit = limit(request);
    let order = Order::of(request);
    // One more than the limit tells whether there is more. An order other than by key needs all matches first,
    // save for one quirk clients know: without a sort order, a target other than the key sorts what the limit
    // left over, unless a filter had everything read anyway.
    let take = match order {
        Order::Key => limit.map(|limit| limit + 1),
        Order::Sorted {
            limit_first: true, ..
        } if !filters(request) => limit.map(|limit| limit + 1),
        Order::Sorted { .. } => None,
    };
    let (mut found, count) = collect(keyspace, range, at, request, take.unwrap_or(usize::MAX));
    order.sort(&mut found);
    let more = limit.is_some_and(|limit| found.len() > limit);
    found.truncate(limit.unwrap_or(usize::MAX));
    let kvs = found
        .into_iter()
        .map(|record| key_value(record, request))
        .collect();
    RangeResponse {
        header: None,
        kvs,
        more,
        count: amount(count),
    }
}

/// The request's limit; `None` for none.
pub(crate) fn limit(request: &RangeRequest) -> Option<usize> {
    (request.limit > 0).then(|| {
        usize::try_from(request.limit)
            .unwrap_or(usize::MAX - 1)
            .min(usize::MAX - 1)
    })
}

/// Whether the answer is in key order with nothing left out but by the limit.
pub fn is_in_key_order(request: &RangeRequest) -> bool {
    matches!(Order::of(request), Order::Key) && !filters(request)
}

/// The message for a record, with what the request asks to leave out left out.
pub(crate) fn key_value(record: &Record, request: &RangeRequest) -> KeyValue {
    if !request.keys_only {
        return record.to_key_value();
    }
    // Clients of old know the lease in keys-only answers sorted by value, and only there.
    let lease = if request.sort_target == SortTarget::Value as i32 {
        record.lease()
    } else {
        0
    };
    KeyValue {
        lease,
        ..record.to_key_only()
    }
}

/// A number of keys as the messages count them.
pub(crate) fn amount(count: usize) -> i64 {
    i64::try_from(count).expect("keys in memory are fewer than 2^63")
}

/// The first `take` records that pass the filters, and how many keys there are in all, filters aside.
fn collect<'a>(
    keyspace: &'a Keyspace,
    range: KeyRange<'a>,
    at: i64,
    request: &RangeRequest,
    take: usize,
) -> (Vec<&'a Record>, usize) {
    let filtered = filters(request);
    let (mut found, mut count) = (Vec::new(), 0);
    for run in keyspace.runs(range) {
        if found.len() == take {
            count += run.live_at(at);
            continue;
        }
        for record in run.iter().filter_map(|history| history.live_at(at)) {
            count += 1;
            if found.len() < take && (!filtered || passes(record, request)) {
                found.push(record);
            }
        }
    }
    (found, count)
}

fn filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(record: &Record, request: &RangeRequest) -> bool {
    let within = |revision: i64, min: i64, max: i64| {
        (min == 0 || min <= revision) && (max == 0 || revision <= max)
    };
    within(
        record.mod_revision(),
        request.min_mod_revision,
        request.max_mod_revision,
    ) && within(
        record.create_revision(),
        request.min_create_revision,
        request.max_create_revision,
    )
}

/// The order an answer comes in.
#[derive(Clone, Copy)]
enum Order {
    Key,
    Sorted {
        target: SortTarget,
        descending: bool,
        limit_first: bool,
    },
}

impl Order {
    fn of(request: &RangeRequest) -> Order {
        let order = SortOrder::try_from(request.sort_order).unwrap_or(SortOrder::None);
        let target = SortTarget::try_from(request.sort_target).unwrap_or(SortTarget::Key);
        match (order, target) {
            (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => Order::Key,
            (order, target) => Order::Sorted {
                target,
                descending: order == SortOrder::Descend,
                limit_first: order == SortOrder::None,
            },
        }
    }

    /// Sorts; ties stay in key order, on every member alike.
    fn sort(self, records: &mut [&Record]) {
        let Order::Sorted {
            target, descending, ..
        } = self
        else {
            return;
        };
        let ascending = |a: &Record, b: &Record| -> Ordering {
            match target {
                SortTarget::Key => a.key().cmp(b.key()),
                SortTarget::Version => a.version().cmp(&b.version()),
                SortTarget::Create => a.create_revision().cmp(&b.create_revision()),
                SortTarget::Mod => a.mod_revision().cmp(&b.mod_revision()),
                SortTarget::Value => a.value().cmp(b.value()),
            }
        };
        records.sort_by(|a, b| {
            if descending {
                ascending(b, a)
            } else {
                ascending(a, b)
            }
        });
    }
}
