//! The checks a request must pass whatever the state, in the order clients observe them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use crate::key::KeyRange;
use crate::kv_error::KvError;

/// Bounds that a member's configuration sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How many operations, or compares, a transaction may have; nested ones share it.
    pub txn_operations_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            txn_operations_max: 128,
        }
    }
}

/// Checks a range.
pub fn range(request: &RangeRequest, _limits: &Limits) -> Result<(), KvError> {
    if request.key.is_empty() {
        return Err(KvError::EmptyKey);
    }
    let known = SortOrder::try_from(request.sort_order).is_ok()
        && SortTarget::try_from(request.sort_target).is_ok();
    if known {
        Ok(())
    } else {
        Err(KvError::InvalidSortOption)
    }
}

/// Checks a range stream, which supports less than a range.
pub fn range_stream(request: &RangeRequest, limits: &Limits) -> Result<(), KvError> {
    range(request, limits)?;
    let by_key = request.sort_order == SortOrder::Ascend as i32
        && request.sort_target == SortTarget::Key as i32;
    if request.sort_order != SortOrder::None as i32 && !by_key {
        return Err(KvError::StreamSortUnsupported);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters == [0; 4] {
        Ok(())
    } else {
        Err(KvError::StreamFilterUnsupported)
    }
}

/// Checks a put.
pub fn put(request: &PutRequest, _limits: &Limits) -> Result<(), KvError> {
    if request.key.is_empty() {
        return Err(KvError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(KvError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(KvError::LeaseProvided);
    }
    Ok(())
}

/// Checks a delete.
pub fn delete_range(request: &DeleteRangeRequest, _limits: &Limits) -> Result<(), KvError> {
    if request.key.is_empty() {
        Err(KvError::EmptyKey)
    } else {
        Ok(())
    }
}

/// Checks a compaction: whether its revision will do depends on the state alone.
pub fn compaction(_request: &CompactionRequest, _limits: &Limits) -> Result<(), KvError> {
    Ok(())
}

/// Checks a transaction: the sizes and operations of both branches at all depths, then duplicates.
pub fn txn(request: &TxnRequest, limits: &Limits) -> Result<(), KvError> {
    operations(request, limits.txn_operations_max, limits)?;
    Footprint::of(&request.success)?;
    Footprint::of(&request.failure)?;
    Ok(())
}

fn operations(request: &TxnRequest, budget: usize, limits: &Limits) -> Result<(), KvError> {
    let size = request
        .compare
        .len()
        .max(request.success.len())
        .max(request.failure.len());
    let rest = budget.checked_sub(size).ok_or(KvError::TooManyOperations)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(KvError::EmptyKey);
    }
    for operation in request.success.iter().chain(&request.failure) {
        match &operation.request {
            Some(Request::RequestRange(request)) => range(request, limits)?,
            Some(Request::RequestPut(request)) => put(request, limits)?,
            Some(Request::RequestDeleteRange(request)) => delete_range(request, limits)?,
            Some(Request::RequestTxn(request)) => operations(request, rest, limits)?,
            None => return Err(KvError::KeyNotFound),
        }
    }
    Ok(())
}

/// The keys one list of operations may put and delete, nested transactions included.
#[derive(Default)]
struct Footprint<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Spans<'a>,
}

impl<'a> Footprint<'a> {
    /// Collects the keys, refusing duplicates.
    ///
    /// The order matters to clients: deletes of this list come first, then the nested transactions one by one, then
    /// the puts of this list. A nested put is held against the deletes collected so far, which are not those of its
    /// own transaction's other branch: the two never run together.
    fn of(list: &'a [RequestOp]) -> Result<Footprint<'a>, KvError> {
        let mut all = Footprint::default();
        for operation in list {
            if let Some(Request::RequestDeleteRange(request)) = &operation.request {
                all.deletes
                    .insert(KeyRange::new(&request.key, &request.range_end));
            }
        }
        for operation in list {
            if let Some(Request::RequestTxn(request)) = &operation.request {
                all.add_nested(
                    Footprint::of(&request.success)?,
                    Footprint::of(&request.failure)?,
                )?;
            }
        }
        for operation in list {
            if let Some(Request::RequestPut(request)) = &operation.request {
                all.add_put(&request.key)?;
            }
        }
        Ok(all)
    }

    fn add_nested(&mut self, then: Footprint<'a>, otherwise: Footprint<'a>) -> Result<(), KvError> {
        for key in &then.puts {
            self.add_put(key)?;
        }
        for key in otherwise
            .puts
            .iter()
            .filter(|key| !then.puts.contains(*key))
        {
            self.add_put(key)?;
        }
        self.deletes.extend(then.deletes);
        self.deletes.extend(otherwise.deletes);
        Ok(())
    }

    fn add_put(&mut self, key: &'a [u8]) -> Result<(), KvError> {
        if self.deletes.contains(key) || !self.puts.insert(key) {
            return Err(KvError::DuplicateKey);
        }
        Ok(())
    }
}

/// A set of keys made of disjoint spans: the start of each, and its end, which belongs to it if the flag is set.
#[derive(Default)]
struct Spans<'a>(BTreeMap<&'a [u8], (&'a [u8], bool)>);

impl<'a> Spans<'a> {
    /// Adds the keys of a delete; one "from key on" is not counted, a quirk that clients may rely on.
    fn insert(&mut self, range: KeyRange<'a>) {
        match range {
            KeyRange::One(key) => self.insert_span(key, (key, true)),
            KeyRange::Between(start, end) if start < end => self.insert_span(start, (end, false)),
            KeyRange::Between(..) | KeyRange::From(_) => {}
        }
    }

    fn insert_span(&mut self, start: &'a [u8], end: (&'a [u8], bool)) {
        let (mut start, mut end) = (start, end);
        if let Some((&before, &before_end)) = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(start)))
            .next_back()
            && before_end >= (start, false)
        {
            start = before;
            end = end.max(before_end);
        }
        let swallowed: Vec<_> = self
            .0
            .range::<[u8], _>((Bound::Included(start), Bound::Included(end.0)))
            .map(|(&start, &end)| (start, end))
            .collect();
        for (inner, inner_end) in swallowed {
            end = end.max(inner_end);
            self.0.remove(inner);
        }
        self.0.insert(start, end);
    }

    fn extend(&mut self, mut other: Spans<'a>) {
        if other.0.len() > self.0.len() {
            std::mem::swap(self, &mut other);
        }
        for (start, end) in other.0 {
            self.insert_span(start, end);
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let before = self
            .0
            .range::<[u8], _>((Bound::Unbounded, Bound::Included(key)))
            .next_back();
        before.is_some_and(|(_, &(end, included))| key < end || (included && key == end))
    }
}

#[cfg(test)]
mod tests;
