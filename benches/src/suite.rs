//! The rows of the comparison: every one is data, a workload and the store it runs on.

use crate::arguments::SuiteName;
use crate::message::RangeOptions;
use crate::workload::Shape;

/// One workload that both servers take turns with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) clients: usize,
    pub(crate) connections: usize,
    pub(crate) store: Store,
}

/// What the servers hold before the workload begins; keys of 16 and values of 256 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// Ten thousand keys.
    Small,
    /// As many keys as asked for, a million by default.
    Large,
}

/// The rows of the suite `name`.
pub(crate) fn rows(name: SuiteName) -> &'static [Row] {
    match name {
        SuiteName::Kv => KV,
        SuiteName::Watch
        | SuiteName::Lease
        | SuiteName::Stm
        | SuiteName::Streams
        | SuiteName::Cluster => &[],
    }
}

pub(crate) const KEY_BYTES: usize = 16;
pub(crate) const VALUE_BYTES: usize = 256;
pub(crate) const SMALL_KEYS: u64 = 10_000;

pub(crate) const LINEARIZABLE: RangeOptions = RangeOptions {
    limit: 0,
    serializable: false,
    count_only: false,
};
pub(crate) const SERIALIZABLE: RangeOptions = RangeOptions {
    serializable: true,
    ..LINEARIZABLE
};
const HUNDRED: RangeOptions = RangeOptions {
    limit: 100,
    ..LINEARIZABLE
};

const PUT: Row = Row {
    name: "put",
    shape: Shape::Put,
    clients: 100,
    connections: 10,
    store: Store::Small,
};
const ONE_CLIENT: Row = Row {
    clients: 1,
    connections: 1,
    ..PUT
};

const KV: &[Row] = &[
    PUT,
    Row {
        name: "put, 1 client",
        ..ONE_CLIENT
    },
    Row {
        name: "put, 1000 clients",
        clients: 1000,
        ..PUT
    },
    Row {
        name: "range of one key, linearizable",
        shape: Shape::Range {
            keys: 1,
            options: LINEARIZABLE,
        },
        ..PUT
    },
    Row {
        name: "range of one key, serializable",
        shape: Shape::Range {
            keys: 1,
            options: SERIALIZABLE,
        },
        ..PUT
    },
    Row {
        name: "range of one key, linearizable, 1 client",
        shape: Shape::Range {
            keys: 1,
            options: LINEARIZABLE,
        },
        ..ONE_CLIENT
    },
    Row {
        name: "range of 100 keys, limit 100",
        shape: Shape::Range {
            keys: 100,
            options: HUNDRED,
        },
        ..PUT
    },
    Row {
        name: "txn of 10 puts",
        shape: Shape::TxnPut { operations: 10 },
        ..PUT
    },
    Row {
        name: "mixed, 90 % reads",
        shape: Shape::Mixed {
            reads: 0.9,
            options: LINEARIZABLE,
        },
        ..PUT
    },
    Row {
        name: "put, large store",
        store: Store::Large,
        ..PUT
    },
    Row {
        name: "range of one key, linearizable, large store",
        shape: Shape::Range {
            keys: 1,
            options: LINEARIZABLE,
        },
        store: Store::Large,
        ..PUT
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{KV, SMALL_KEYS};

    #[test]
    fn rows_have_names_of_their_own_and_fit_the_small_store() {
        let names: BTreeSet<&str> = KV.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), KV.len());
        assert!(
            KV.iter()
                .all(|row| row.shape.keys_per_request() <= SMALL_KEYS)
        );
        assert!(KV.iter().all(|row| row.connections <= row.clients));
    }
}
