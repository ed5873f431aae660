//! What has to be refused at the door, and how, as plain as can be: beside the model, so that a check that refuses too
//! much is seen as well as one that lets too much in.

use std::collections::BTreeSet;

use metastore_core::key::KeyRange;
use metastore_core::kv_error::KvError;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

/// A range: a key, and an order by numbers that are known.
pub fn range(request: &RangeRequest) -> Result<(), KvError> {
    let known = (0..3).contains(&request.sort_order) && (0..5).contains(&request.sort_target);
    match (request.key.as_slice(), known) {
        ([], _) => Err(KvError::EmptyKey),
        (_, false) => Err(KvError::InvalidSortOption),
        (_, true) => Ok(()),
    }
}

/// A range in pieces: a range in the order of keys, without bounds on revisions.
pub fn range_stream(request: &RangeRequest) -> Result<(), KvError> {
    range(request)?;
    let descends = request.sort_order == 2;
    if descends || (request.sort_order == 1 && request.sort_target != 0) {
        return Err(KvError::StreamSortUnsupported);
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    match bounds.iter().any(|bound| *bound != 0) {
        true => Err(KvError::StreamFilterUnsupported),
        false => Ok(()),
    }
}

/// A put: a key, and nothing given that it asks to keep.
pub fn put(request: &PutRequest) -> Result<(), KvError> {
    match request {
        it if it.key.is_empty() => Err(KvError::EmptyKey),
        it if it.ignore_value && !it.value.is_empty() => Err(KvError::ValueProvided),
        it if it.ignore_lease && it.lease != 0 => Err(KvError::LeaseProvided),
        _ => Ok(()),
    }
}

/// A delete: a key.
pub fn delete_range(request: &DeleteRangeRequest) -> Result<(), KvError> {
    match request.key.as_slice() {
        [] => Err(KvError::EmptyKey),
        _ => Ok(()),
    }
}

/// A transaction: as many operations as are allowed on the way to every depth, each of them fair in itself, and no key
/// put twice, or put and deleted, by operations that may run together.
pub fn txn(request: &TxnRequest, operations_max: usize) -> Result<(), KvError> {
    operations(request, operations_max)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    Ok(())
}

fn operations(request: &TxnRequest, allowed: usize) -> Result<(), KvError> {
    let lists = [
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
    ];
    let longest = lists.into_iter().max().unwrap_or(0);
    if longest > allowed {
        return Err(KvError::TooManyOperations);
    }
    if request.compare.iter().any(|guard| guard.key.is_empty()) {
        return Err(KvError::EmptyKey);
    }
    for operation in [&request.success, &request.failure].into_iter().flatten() {
        match operation.request.as_ref().ok_or(KvError::KeyNotFound)? {
            Request::RequestRange(request) => range(request)?,
            Request::RequestPut(request) => put(request)?,
            Request::RequestDeleteRange(request) => delete_range(request)?,
            Request::RequestTxn(nested) => operations(nested, allowed - longest)?,
        }
    }
    Ok(())
}

/// The keys that a list may put, and the ranges that it may delete.
type Changed<'a> = (BTreeSet<&'a [u8]>, Vec<KeyRange<'a>>);

fn changes(list: &[RequestOp]) -> Result<Changed<'_>, KvError> {
    let (mut puts, mut deletes): Changed<'_> = Changed::default();
    let requests = || {
        list.iter()
            .filter_map(|operation| operation.request.as_ref())
    };
    for request in requests() {
        if let Request::RequestDeleteRange(delete) = request
            && delete.range_end != [0]
        {
            // To the last key: clients know that it is not counted.
            deletes.push(KeyRange::new(&delete.key, &delete.range_end));
        }
    }
    let mut add = |key, deletes: &[KeyRange<'_>]| {
        let deleted = deletes.iter().any(|range| range.contains(key));
        match deleted || !puts.insert(key) {
            true => Err(KvError::DuplicateKey),
            false => Ok(()),
        }
    };
    for request in requests() {
        if let Request::RequestTxn(nested) = request {
            let (then, otherwise) = (changes(&nested.success)?, changes(&nested.failure)?);
            // Only one of the two runs, so both may put the same key.
            for key in then.0.union(&otherwise.0) {
                add(*key, &deletes)?;
            }
            deletes.extend(then.1);
            deletes.extend(otherwise.1);
        }
    }
    for request in requests() {
        if let Request::RequestPut(put) = request {
            add(&put.key, &deletes)?;
        }
    }
    Ok((puts, deletes))
}
