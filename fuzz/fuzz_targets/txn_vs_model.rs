//! Transactions of any depth against a plain map of every revision: the same answers, the same refusals, the same keys.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::check::{self, Limits};
use metastore_core::mvcc::{Changes, Store};
use metastore_fuzz::model::Model;
use metastore_fuzz::{LEASE, Put, Txn, compact, everything};
use metastore_proto::etcdserverpb::LeaseGrantRequest;

#[derive(Arbitrary, Debug)]
enum Op {
    Put(Put),
    Txn(Txn),
    Compact(i8),
    Sweep(u8),
}

fn step(store: &mut Store, model: &mut Model, op: &Op) {
    let limits = Limits::default();
    let mut changes = Changes::new();
    match op {
        Op::Put(put) => {
            let request = put.request();
            if check::put(&request, &limits).is_ok() {
                assert_eq!(store.put(&request, &mut changes), model.put(&request));
            }
        }
        Op::Txn(txn) => {
            let request = txn.request();
            if check::txn(&request, &limits).is_ok() {
                assert_eq!(store.txn(&request, &mut changes), model.txn(&request));
            }
        }
        Op::Compact(revision) => compact(store, model, *revision),
        Op::Sweep(changes) => drop(store.sweep(usize::from(*changes) + 1)),
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let (mut store, mut model) = (Store::new(), Model::new(&[LEASE]));
    let granted = store.grant_lease(0, &LeaseGrantRequest { id: LEASE, ttl: 60 });
    assert!(granted.is_ok(), "the id is free");
    for op in &ops {
        step(&mut store, &mut model, op);
        assert_eq!(store.revision(), model.revision(), "after {op:?}");
    }
    store.validate();
    assert_eq!(
        store.view().range(&everything()),
        model.range(&everything())
    );
});
