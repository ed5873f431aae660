//! Any transaction: the checks and the store never panic, and what is refused has changed nothing.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::check::{self, Limits};
use metastore_core::mvcc::{Changes, Store};
use metastore_core::txn::{is_read_only, is_serializable};
use metastore_fuzz::{LEASE, Txn};
use metastore_proto::etcdserverpb::{CompactionRequest, LeaseGrantRequest};

#[derive(Arbitrary, Debug)]
struct Input {
    operations_max: u8,
    txns: Vec<Txn>,
    compact: i8,
}

fuzz_target!(|input: Input| {
    let limits = Limits {
        txn_operations_max: usize::from(input.operations_max),
    };
    let mut store = Store::new();
    let granted = store.grant_lease(0, &LeaseGrantRequest { id: LEASE, ttl: 60 });
    assert!(granted.is_ok(), "the id is free");
    for txn in &input.txns {
        let request = txn.request();
        let serializable = is_serializable(&request);
        let before = store.view();
        if check::txn(&request, &limits).is_err() {
            continue;
        }
        let mut changes = Changes::new();
        let applied = store.txn(&request, &mut changes);
        if applied.is_err() {
            assert_eq!(
                store.state_hash(),
                before.state_hash(),
                "a refused transaction changes nothing"
            );
            assert!(changes.is_empty());
        } else {
            let step = i64::from(!changes.is_empty());
            assert_eq!(
                store.revision(),
                before.revision() + step,
                "one revision for all changes"
            );
        }
        if is_read_only(&request) {
            assert_eq!(
                before.txn_read_only(&request),
                applied,
                "two ways to one answer"
            );
            assert_eq!(store.state_hash(), before.state_hash());
        } else {
            assert!(!serializable, "what may write needs the log");
        }
        let compact = CompactionRequest {
            revision: i64::from(input.compact).max(0),
            physical: false,
        };
        let _ = store.compact(&compact);
    }
    store.validate();
});
