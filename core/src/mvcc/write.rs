//! Write: the changes of one command in the making, all under one revision.

use metastore_proto::etcdserverpb::{
    DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
};

use super::record::{Position, PutNumbers, Record};
use super::{Change, Changes, Store, header, range};
use crate::key::KeyRange;

/// One command being applied. Everything that could refuse it was checked before it began.
///
/// The keyspace changes at once, so later operations see earlier ones; the revision moves at [`Write::commit`].
pub(crate) struct Write<'a> {
    store: &'a mut Store,
    changes: &'a mut Changes,
    /// Where this command's changes begin.
    first: usize,
}

impl<'a> Write<'a> {
    pub(crate) fn begin(store: &'a mut Store, changes: &'a mut Changes) -> Self {
        let first = changes.len();
        Write {
            store,
            changes,
            first,
        }
    }

    /// The store's revision as a reader inside the command sees it.
    pub(crate) fn revision(&self) -> i64 {
        self.store.view.revision + i64::from(self.changes.len() > self.first)
    }

    pub(crate) fn put(&mut self, request: &PutRequest) -> PutResponse {
        let position = self.next_position();
        let Store { view, packer, .. } = &mut *self.store;
        let mut previous = None;
        let record = view.keyspace.push_with(&request.key, |history| {
            let kept = history.and_then(|history| history.live_at(i64::MAX));
            previous = kept.cloned();
            let value = match request.ignore_value {
                true => kept.map_or(&[][..], Record::value),
                false => &request.value,
            };
            let numbers = PutNumbers {
                position,
                create_revision: kept.map_or(position.0, Record::create_revision),
                version: kept.map_or(0, Record::version) + 1,
                lease: match request.ignore_lease {
                    true => kept.map_or(0, Record::lease),
                    false => request.lease,
                },
            };
            packer.put(&request.key, value, numbers)
        });
        let prev_kv = previous
            .as_ref()
            .filter(|_| request.prev_kv)
            .map(Record::to_key_value);
        self.note(record, previous);
        PutResponse {
            header: header(self.revision()),
            prev_kv,
        }
    }

    pub(crate) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let doomed: Vec<Record> = match KeyRange::new(&request.key, &request.range_end) {
            KeyRange::One(key) => self.live(key).into_iter().collect(),
            range => {
                let histories = self.store.view.keyspace.histories(range);
                histories
                    .filter_map(|history| history.live_at(i64::MAX))
                    .cloned()
                    .collect()
            }
        };
        let deleted = range::amount(doomed.len());
        let prev_kvs = if request.prev_kv {
            doomed.iter().map(Record::to_key_value).collect()
        } else {
            Vec::new()
        };
        for previous in doomed {
            self.delete(previous);
        }
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted,
            prev_kvs,
        }
    }

    /// Deletes those of these keys that exist, in the order given.
    pub(crate) fn delete_keys<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) {
        for key in keys {
            if let Some(previous) = self.live(key) {
                self.delete(previous);
            }
        }
    }

    /// A range inside the command; revision 0 sees the command's own changes.
    pub(crate) fn range(&self, request: &RangeRequest) -> RangeResponse {
        let at = if request.revision > 0 {
            request.revision
        } else {
            i64::MAX
        };
        let response = range::read(&self.store.view.keyspace, at, request);
        RangeResponse {
            header: header(self.revision()),
            ..response
        }
    }

    /// Makes the changes a revision, if there are any.
    pub(crate) fn commit(self) {
        let changes = &self.changes.as_slice()[self.first..];
        match changes {
            [] => return,
            [only] => self.store.view.log.push_one(only.record.clone()),
            all => self
                .store
                .view
                .log
                .push(all.iter().map(|change| change.record.clone()).collect()),
        }
        self.store.view.revision += 1;
    }

    fn delete(&mut self, previous: Record) {
        let position = self.next_position();
        let record = self.store.packer.tombstone(previous.key(), position);
        self.store.view.keyspace.push(record.clone());
        self.note(record, Some(previous));
    }

    fn live(&self, key: &[u8]) -> Option<Record> {
        self.store
            .view
            .keyspace
            .get(key)?
            .live_at(i64::MAX)
            .cloned()
    }

    fn next_position(&self) -> Position {
        let sub = self.changes.len() - self.first;
        (
            self.store.view.revision + 1,
            u32::try_from(sub).expect("a command changes fewer than 2^32 keys"),
        )
    }

    /// Accounts for a record that is in the keyspace already.
    fn note(&mut self, record: Record, previous: Option<Record>) {
        self.store.bytes_in_use += record.size();
        let from = previous.as_ref().map_or(0, Record::lease);
        self.store
            .leases
            .move_key(record.key(), from, record.lease());
        self.changes.push(Change { record, previous });
    }
}
