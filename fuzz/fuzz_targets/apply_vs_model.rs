//! The store against a plain map of every revision: puts, deletes, compactions, sweeps, reads, snapshots.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::mvcc::{Changes, Store};
use metastore_core::snapshot;
use metastore_fuzz::model::Model;
use metastore_fuzz::{End, Key, compact, everything, value};
use metastore_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

#[derive(Arbitrary, Debug)]
enum Op {
    Put {
        key: Key,
        value: u8,
    },
    Delete {
        key: Key,
        end: End,
    },
    Read {
        key: Key,
        end: End,
        revision: i8,
        limit: u8,
    },
    Compact {
        revision: i8,
    },
    Sweep {
        changes: u8,
    },
    Reload,
}

fn step(store: &mut Store, model: &mut Model, op: &Op) {
    let mut changes = Changes::new();
    match op {
        Op::Put { key, value: number } => {
            let request = PutRequest {
                key: key.legal(),
                value: value(*number),
                prev_kv: true,
                ..PutRequest::default()
            };
            assert_eq!(store.put(&request, &mut changes), model.put(&request));
            assert_eq!(changes.len(), 1);
        }
        Op::Delete { key, end } => {
            let request = DeleteRangeRequest {
                key: key.legal(),
                range_end: end.bytes(),
                prev_kv: true,
            };
            let expected = model.delete_range(&request);
            let deleted = store.delete_range(&request, &mut changes);
            assert_eq!(changes.len() as i64, expected.deleted);
            assert_eq!(deleted, Ok(expected));
        }
        Op::Read {
            key,
            end,
            revision,
            limit,
        } => {
            let request = RangeRequest {
                key: key.legal(),
                range_end: end.bytes(),
                revision: i64::from(*revision),
                limit: i64::from(*limit % 4),
                ..RangeRequest::default()
            };
            assert_eq!(store.view().range(&request), model.range(&request));
        }
        Op::Compact { revision } => compact(store, model, *revision),
        Op::Sweep { changes } => drop(store.sweep(usize::from(*changes) + 1)),
        Op::Reload => {
            let bytes: Vec<u8> = snapshot::Encoder::new(store.view(), b"extra")
                .flatten()
                .collect();
            let (reloaded, extra) = snapshot::decode(&bytes).expect("what was just written");
            assert_eq!(extra, b"extra");
            assert_eq!(reloaded.state_hash(), store.state_hash());
            *store = reloaded;
        }
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let (mut store, mut model) = (Store::new(), Model::default());
    for op in &ops {
        step(&mut store, &mut model, op);
        assert_eq!(store.revision(), model.revision(), "after {op:?}");
        assert_eq!(
            store.compact_revision(),
            model.compact_revision(),
            "after {op:?}"
        );
    }
    store.validate();
    let kvs = store
        .view()
        .range(&everything())
        .expect("the newest revision is readable")
        .kvs;
    assert!(kvs.iter().eq(model.newest().values()));
});
