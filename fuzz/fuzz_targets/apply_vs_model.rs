//! The store against a plain map of every revision: puts, deletes, compactions, sweeps, reads, snapshots.

#![no_main]

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::key::KeyRange;
use metastore_core::kv_error::KvError;
use metastore_core::mvcc::{Changes, Store};
use metastore_core::snapshot;
use metastore_fuzz::{End, Key, value};
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest,
};
use metastore_proto::mvccpb::KeyValue;

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

type Keys = BTreeMap<Vec<u8>, KeyValue>;

/// Every revision as a whole map, however wasteful.
struct Model {
    revisions: Vec<Keys>,
    compacted: i64,
}

impl Model {
    fn new() -> Model {
        // Revision 0 does not exist and 1 is the empty store.
        Model {
            revisions: vec![Keys::new(), Keys::new()],
            compacted: -1,
        }
    }

    fn revision(&self) -> i64 {
        self.revisions.len() as i64 - 1
    }

    fn newest(&self) -> &Keys {
        &self.revisions[self.revisions.len() - 1]
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) -> Option<KeyValue> {
        let mut keys = self.newest().clone();
        let before = keys.get(key).cloned();
        let revision = self.revision() + 1;
        let record = KeyValue {
            key: key.to_vec(),
            value,
            create_revision: before.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            version: before.as_ref().map_or(1, |kv| kv.version + 1),
            lease: 0,
        };
        keys.insert(key.to_vec(), record);
        self.revisions.push(keys);
        before
    }

    fn delete(&mut self, range: KeyRange<'_>) -> Vec<KeyValue> {
        let mut keys = self.newest().clone();
        let doomed: Vec<KeyValue> = keys
            .values()
            .filter(|kv| range.contains(&kv.key))
            .cloned()
            .collect();
        keys.retain(|key, _| !range.contains(key));
        if !doomed.is_empty() {
            self.revisions.push(keys);
        }
        doomed
    }

    fn compact(&mut self, revision: i64) -> Result<(), KvError> {
        if revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if revision <= self.compacted {
            return Err(KvError::Compacted);
        }
        self.compacted = revision;
        Ok(())
    }

    fn read(&self, range: KeyRange<'_>, revision: i64) -> Result<Vec<KeyValue>, KvError> {
        let at = if revision <= 0 {
            self.revision()
        } else {
            revision
        };
        if at > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if at < self.compacted && revision > 0 {
            return Err(KvError::Compacted);
        }
        let keys = &self.revisions[usize::try_from(at).expect("revisions are positive")];
        Ok(keys
            .values()
            .filter(|kv| range.contains(&kv.key))
            .cloned()
            .collect())
    }
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
            let response = store
                .put(&request, &mut changes)
                .expect("nothing refuses a plain put");
            assert_eq!(
                response.prev_kv,
                model.put(&request.key, request.value.clone())
            );
            assert_eq!(changes.len(), 1);
        }
        Op::Delete { key, end } => {
            let request = DeleteRangeRequest {
                key: key.legal(),
                range_end: end.bytes(),
                prev_kv: true,
            };
            let response = store
                .delete_range(&request, &mut changes)
                .expect("nothing refuses it");
            let doomed = model.delete(KeyRange::new(&request.key, &request.range_end));
            assert_eq!(response.deleted, doomed.len() as i64);
            assert_eq!(changes.len(), doomed.len());
            assert_eq!(response.prev_kvs, doomed);
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
            let range = KeyRange::new(&request.key, &request.range_end);
            let mut expected = model.read(range, request.revision);
            let read = store.view().range(&request);
            if let (Ok(read), Ok(kvs)) = (&read, &mut expected) {
                assert_eq!(read.count, kvs.len() as i64);
                let limit = usize::from(*limit % 4);
                assert_eq!(read.more, limit != 0 && kvs.len() > limit);
                kvs.truncate(if limit == 0 { usize::MAX } else { limit });
            }
            assert_eq!(read.map(|response| response.kvs), expected);
        }
        Op::Compact { revision } => {
            let request = CompactionRequest {
                revision: i64::from(*revision).max(0),
                physical: false,
            };
            let compacted = store.compact(&request).map(|_| ());
            assert_eq!(compacted, model.compact(request.revision));
        }
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
    let (mut store, mut model) = (Store::new(), Model::new());
    for op in &ops {
        step(&mut store, &mut model, op);
        assert_eq!(store.revision(), model.revision(), "after {op:?}");
        assert_eq!(store.compact_revision(), model.compacted, "after {op:?}");
    }
    store.validate();
    let all = RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    };
    let kvs = store
        .view()
        .range(&all)
        .expect("the newest revision is readable")
        .kvs;
    assert!(kvs.iter().eq(model.newest().values()));
});
