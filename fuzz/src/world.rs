//! A store beside its model: every request goes to both, and all that can be seen of them has to be the same.

use metastore_core::check::{self, Limits};
use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseTerms;
use metastore_core::mvcc::{Change, Changes, Record, Store, Sweep};
use metastore_core::snapshot;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp,
    TxnRequest,
};
use metastore_proto::mvccpb::KeyValue;

use crate::model::{Event, Model};
use crate::{Key, Setting, around, door, everything};

/// The store and the model.
pub struct World {
    store: Store,
    model: Model,
    limits: Limits,
    grants: u64,
}

impl World {
    /// Both empty; a transaction may have so many operations.
    pub fn new(txn_operations_max: usize) -> Self {
        Self {
            store: Store::new(),
            model: Model::default(),
            limits: Limits { txn_operations_max },
            grants: 0,
        }
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Many keys, and revisions around the newest.
    pub fn setting(&self) -> Setting {
        Setting::many(self.model.revision())
    }

    /// Whether so much happened that the rest of an input would only take time.
    pub fn is_full(&self) -> bool {
        self.model.revision() >= REVISIONS_MAX
    }

    /// A put, if both let it in at the door.
    pub fn put(&mut self, request: &PutRequest) {
        let admitted = check::put(request, &self.limits);
        assert_eq!(admitted, door::put(request), "at the door: {request:?}");
        if admitted.is_ok() {
            let mut changes = Changes::new();
            let put = self.store.put(request, &mut changes);
            assert_eq!(put, self.model.put(request));
            self.changed(&changes);
        }
    }

    /// A delete, if both let it in at the door.
    pub fn delete_range(&mut self, request: &DeleteRangeRequest) {
        let admitted = check::delete_range(request, &self.limits);
        assert_eq!(admitted, door::delete_range(request), "{request:?}");
        if admitted.is_ok() {
            let mut changes = Changes::new();
            let deleted = self.store.delete_range(request, &mut changes);
            assert_eq!(deleted, Ok(self.model.delete_range(request)));
            self.changed(&changes);
        }
    }

    /// A transaction, if both let it in at the door.
    pub fn txn(&mut self, request: &TxnRequest) {
        let admitted = check::txn(request, &self.limits);
        let expected = door::txn(request, self.limits.txn_operations_max);
        assert_eq!(admitted, expected, "at the door: {request:?}");
        if admitted.is_ok() {
            let mut changes = Changes::new();
            let answer = self.store.txn(request, &mut changes);
            assert_eq!(answer, self.model.txn(request));
            self.changed(&changes);
        }
    }

    /// A read in one piece, and in many of about so many bytes.
    pub fn range(&self, request: &RangeRequest, chunk_bytes: usize) {
        let admitted = check::range(request, &self.limits);
        assert_eq!(admitted, door::range(request), "at the door: {request:?}");
        if admitted.is_err() {
            return;
        }
        let whole = self.model.range(request);
        assert_eq!(self.store.view().range(request), whole);
        let admitted = check::range_stream(request, &self.limits);
        assert_eq!(admitted, door::range_stream(request), "{request:?}");
        if admitted.is_ok() {
            let pieces = self.pieces(request, chunk_bytes);
            let whole = whole.map(|it| (it.kvs, it.count, it.more));
            assert_eq!(pieces, whole, "what comes in pieces is what comes in one");
        }
    }

    fn pieces(
        &self,
        request: &RangeRequest,
        chunk_bytes: usize,
    ) -> Result<(Vec<KeyValue>, i64, bool), KvError> {
        let (mut kvs, mut count, mut more) = (Vec::new(), 0, false);
        for piece in self.store.view().range_stream(request, chunk_bytes)? {
            kvs.extend(piece.kvs);
            count = count.max(piece.count);
            more |= piece.more;
        }
        Ok((kvs, count, more))
    }

    /// Puts of neighbouring keys, in one transaction or each by itself.
    pub fn fill(&mut self, first: Key, keys: u8, number: u8, together: bool) {
        let puts = self.setting().neighbours(first, keys, number);
        if together {
            let puts = puts.map(Request::RequestPut).map(operation);
            self.txn(&TxnRequest {
                success: puts.collect(),
                ..TxnRequest::default()
            });
        } else {
            puts.for_each(|put| self.put(&put));
        }
    }

    /// Puts of one key, one after the other: more than a chunk of its history holds.
    pub fn again(&mut self, key: Key, times: u8) {
        for number in 0..times % 32 {
            self.put(&PutRequest {
                key: key.legal_in(self.setting()),
                value: vec![number],
                ..PutRequest::default()
            });
        }
    }

    /// One transaction in which a key changes twice or thrice: a delete to the last key does not count as one of the
    /// key that is put.
    pub fn twice(&mut self, key: Key, turn: Turn) {
        let key = key.legal_in(self.setting());
        let put = Request::RequestPut(PutRequest {
            key: key.clone(),
            value: b"twice".to_vec(),
            prev_kv: true,
            ..PutRequest::default()
        });
        let delete = Request::RequestDeleteRange(DeleteRangeRequest {
            key,
            range_end: vec![0],
            prev_kv: true,
        });
        let requests = match turn {
            Turn::PutAndDelete => vec![put, delete],
            Turn::DeleteAndPut => vec![delete, put],
            Turn::DeletePutDelete => vec![delete.clone(), put, delete],
        };
        self.txn(&TxnRequest {
            success: requests.into_iter().map(operation).collect(),
            ..TxnRequest::default()
        });
    }

    /// A compaction at a revision told from the newest.
    pub fn compact(&mut self, number: u8) {
        let request = CompactionRequest {
            revision: around(self.model.revision(), number).max(0),
            physical: false,
        };
        let compacted = self.store.compact(&request).map(|_| ());
        assert_eq!(compacted, self.model.compact(&request));
    }

    /// The sweep goes on for so many changes.
    pub fn sweep(&mut self, changes: u8) {
        let swept = self.store.sweep(usize::from(changes) + 1);
        assert_eq!(swept == Sweep::Done, self.store.is_swept());
    }

    /// A grant of a lease.
    pub fn grant(&mut self, id: i64) {
        let request = LeaseGrantRequest { id, ttl: 60 };
        let granted = self.store.grant_lease(self.grants, &request);
        assert_eq!(granted.map(|_| ()), self.model.grant(id));
        self.grants += 1;
    }

    /// The end of a lease, with all its keys.
    pub fn revoke(&mut self, id: i64) {
        let mut changes = Changes::new();
        let revoked = self.store.revoke_lease(id, &mut changes);
        let revoked = revoked.map(|it| it.header.map_or(0, |header| header.revision));
        assert_eq!(revoked, self.model.revoke(id));
        self.changed(&changes);
    }

    /// The store goes into a snapshot and comes back from it.
    pub fn reload(&mut self) {
        let frames = snapshot::Encoder::new(self.store.view(), b"extra");
        let bytes: Vec<u8> = frames.flatten().collect();
        let (reloaded, extra) = snapshot::decode(&bytes).expect("what was just written");
        assert_eq!(extra, b"extra");
        self.take(reloaded);
    }

    /// Goes on with a store that came from a snapshot of this one.
    pub fn take(&mut self, mut reloaded: Store) {
        let restored = reloaded.restore_leases(&self.terms());
        assert_eq!(restored, Ok(()), "terms and keys fit together");
        assert_eq!(reloaded.leases(), self.store.leases());
        assert_eq!(reloaded.state_hash(), self.store.state_hash());
        if self.store.is_swept() {
            let bytes = (self.store.bytes_in_use(), reloaded.bytes_in_use());
            assert_eq!(bytes.0, bytes.1, "a sweep that is done leaves nothing");
        }
        self.store = reloaded;
    }

    fn terms(&self) -> Vec<LeaseTerms> {
        let leases = self.store.leases().iter();
        let terms = leases.map(|(id, lease)| LeaseTerms {
            id,
            granted_index: lease.granted_index,
            ttl_seconds: lease.ttl_seconds,
            remaining_seconds: lease.remaining_seconds,
        });
        terms.collect()
    }

    /// What a command changed is the model's newest revision, or nothing.
    fn changed(&self, changes: &Changes) {
        assert_eq!(self.store.revision(), self.model.revision());
        let expected = match changes.is_empty() {
            true => Vec::new(),
            false => self.model.changes(self.model.revision()).to_vec(),
        };
        assert!(changes.iter().map(event).eq(expected), "{changes:?}");
    }

    /// All that is left to see: the store's own rules, every revision that can be read, every event, every lease.
    pub fn validate(&self) {
        self.store.validate();
        let (view, model) = (self.store.view(), &self.model);
        let newest = model.revision();
        assert_eq!(view.revision(), newest);
        assert_eq!(view.compact_revision(), model.compact_revision());
        let first = model.compact_revision().max(1);
        let step = 1 + (newest - first) / REVISIONS_READ;
        for revision in (first..=newest).rev().step_by(place(step)) {
            let all = RangeRequest {
                revision,
                ..everything()
            };
            assert_eq!(view.range(&all), model.range(&all), "at {revision}");
        }
        let events = view.events(first, usize::MAX).expect("it is not compacted");
        let mut next = first.max(2);
        for events in events {
            assert_eq!(events.revision, next, "each revision has its events");
            let seen = events.changes.iter().map(event);
            assert!(seen.eq(model.events(next)), "the events of {next}");
            next += 1;
        }
        assert_eq!(next, newest.max(1) + 1, "up to the newest");
        let leases = || self.store.leases().iter();
        assert!(
            leases()
                .map(|(id, _)| id)
                .eq(model.leases().iter().copied())
        );
        for (id, lease) in leases() {
            assert!(lease.keys.iter().eq(model.keys_of(id)), "keys of {id}");
        }
    }
}

/// How a key changes more than once in a transaction.
#[derive(arbitrary::Arbitrary, Debug, Clone, Copy)]
pub enum Turn {
    /// It is gone afterwards.
    PutAndDelete,
    /// It is new afterwards.
    DeleteAndPut,
    /// It is gone afterwards, and was for a while.
    DeletePutDelete,
}

fn operation(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// A change as the model knows it.
fn event(change: &Change) -> Event {
    Event {
        kv: change.record.to_key_value().into(),
        deleted: change.record.is_tombstone(),
        before: change
            .previous
            .as_ref()
            .map(Record::to_key_value)
            .map(Into::into),
    }
}

fn place(number: i64) -> usize {
    usize::try_from(number).expect("it is positive")
}

/// No input goes on beyond.
const REVISIONS_MAX: i64 = 600;
/// How many past revisions are read at the end, about.
const REVISIONS_READ: i64 = 24;
