//! Every way a key-value request can be refused, with the text clients recognise it by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a key-value request was refused.
///
/// `Display` is the exact text of the wire: clients turn it back into a typed error by looking the text up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum KvError {
    /// A request, operation or compare has an empty key.
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a missing key, or a transaction operation that is not set.
    KeyNotFound,
    /// `ignore_value` together with a value.
    ValueProvided,
    /// `ignore_lease` together with a lease.
    LeaseProvided,
    /// A transaction has more operations or compares than allowed, counted down through nesting.
    TooManyOperations,
    /// A transaction puts one key twice, or puts a key it may also delete.
    DuplicateKey,
    /// The sort order or target is not one of the known numbers.
    InvalidSortOption,
    /// The revision lies below the compact revision, or has been compacted already.
    Compacted,
    /// The revision has not been written yet.
    FutureRevision,
    /// A put names a lease that does not exist.
    LeaseNotFound,
    /// A range stream asks for an order other than by key.
    StreamSortUnsupported,
    /// A range stream asks for a filter on revisions.
    StreamFilterUnsupported,
}

impl fmt::Display for KvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KvError::EmptyKey => "etcdserver: key is not provided",
            KvError::KeyNotFound => "etcdserver: key not found",
            KvError::ValueProvided => "etcdserver: value is provided",
            KvError::LeaseProvided => "etcdserver: lease is provided",
            KvError::TooManyOperations => "etcdserver: too many operations in txn request",
            KvError::DuplicateKey => "etcdserver: duplicate key given in txn request",
            KvError::InvalidSortOption => "etcdserver: invalid sort option",
            KvError::Compacted => "etcdserver: mvcc: required revision has been compacted",
            KvError::FutureRevision => "etcdserver: mvcc: required revision is a future revision",
            KvError::LeaseNotFound => "etcdserver: requested lease not found",
            KvError::StreamSortUnsupported => "RangeStream does not support custom sort orders",
            KvError::StreamFilterUnsupported => "RangeStream does not support revision filters",
        })
    }
}

impl std::error::Error for KvError {}
