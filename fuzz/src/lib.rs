//! The operations that fuzz inputs consist of: typed, over few keys, so that inputs meet in interesting places.

#![forbid(unsafe_code)]

pub mod apply_vs_model;
pub mod door;
pub mod model;
#[cfg(test)]
mod seeds;
pub mod snapshot_decode;
pub mod txn_vs_model;
pub mod wal_decode;
pub mod world;

use arbitrary::Arbitrary;
use metastore_core::mvcc::Store;
use metastore_proto::etcdserverpb::compare::TargetUnion;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};

use model::Model;

/// What the numbers of an input stand for.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The illegal one last.
    keys: &'static [&'static [u8]],
    /// Revisions are told from here; without it they are the numbers themselves.
    newest: Option<i64>,
}

impl Setting {
    /// Ten keys, and revisions as they stand.
    pub const FEW: Setting = Setting {
        keys: &KEYS,
        newest: None,
    };

    /// More keys than two leaves hold, and revisions around the newest one.
    pub fn many(newest: i64) -> Setting {
        Setting {
            keys: &MANY_KEYS,
            newest: Some(newest),
        }
    }

    /// Puts of so many neighbours from this key on, around the end if need be.
    pub fn neighbours(self, first: Key, keys: u8, number: u8) -> impl Iterator<Item = PutRequest> {
        let legal = self.keys.len() - 1;
        (usize::from(first.0)..)
            .take(usize::from(keys).min(legal))
            .map(move |place| PutRequest {
                key: self.keys[place % legal].to_vec(),
                value: value(number),
                ..PutRequest::default()
            })
    }

    fn revision(self, number: u8) -> i64 {
        self.newest
            .map_or(number.into(), |newest| around(newest, number))
    }
}

/// A revision told from the newest one: two that are still to come, the newest, those before it, and a few oddities.
pub fn around(newest: i64, number: u8) -> i64 {
    match number {
        0 => 0,
        1 => -1,
        2 => 1,
        number => newest + 5 - i64::from(number),
    }
}

/// A key out of few, neighbours and prefixes of each other among them; one of them is empty, hence illegal.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub struct Key(u8);

impl Key {
    /// The key's bytes.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes_in(Setting::FEW)
    }

    /// The key's bytes in this setting.
    pub fn bytes_in(self, setting: Setting) -> Vec<u8> {
        setting.keys[usize::from(self.0) % setting.keys.len()].to_vec()
    }

    /// The key's bytes, never empty.
    pub fn legal(self) -> Vec<u8> {
        self.legal_in(Setting::FEW)
    }

    /// The key's bytes in this setting, never empty.
    pub fn legal_in(self, setting: Setting) -> Vec<u8> {
        setting.keys[usize::from(self.0) % (setting.keys.len() - 1)].to_vec()
    }
}

/// Where a range ends.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum End {
    /// The key alone.
    OneKey,
    /// All keys from the key on.
    Open,
    /// Before this key, which may lie before the start.
    Before(Key),
}

impl End {
    /// The request's `range_end`.
    pub fn bytes(self) -> Vec<u8> {
        self.bytes_in(Setting::FEW)
    }

    /// The request's `range_end` in this setting.
    pub fn bytes_in(self, setting: Setting) -> Vec<u8> {
        match self {
            End::OneKey => Vec::new(),
            End::Open => vec![0],
            End::Before(key) => key.legal_in(setting),
        }
    }
}

/// A put with every option.
#[derive(Arbitrary, Debug, Clone)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// The value, short or a run of one byte.
    pub value: u8,
    /// Asks for the record before.
    pub prev_kv: bool,
    /// Keeps the value; legal only with an empty one.
    pub ignore_value: bool,
    /// Names a lease: none, one that exists, one that does not.
    pub lease: u8,
}

impl Put {
    /// As a request.
    pub fn request(&self) -> PutRequest {
        self.request_in(Setting::FEW)
    }

    /// As a request in this setting.
    pub fn request_in(&self, setting: Setting) -> PutRequest {
        let ignore_value = self.ignore_value && self.value.is_multiple_of(4);
        PutRequest {
            key: self.key.bytes_in(setting),
            value: if ignore_value {
                Vec::new()
            } else {
                value(self.value)
            },
            lease: lease(self.lease),
            prev_kv: self.prev_kv,
            ignore_value,
            ignore_lease: self.lease > 250,
        }
    }
}

/// A delete of a range.
#[derive(Arbitrary, Debug, Clone)]
pub struct Delete {
    /// The first key.
    pub key: Key,
    /// The end.
    pub end: End,
    /// Asks for the deleted records.
    pub prev_kv: bool,
}

impl Delete {
    /// As a request.
    pub fn request(&self) -> DeleteRangeRequest {
        self.request_in(Setting::FEW)
    }

    /// As a request in this setting.
    pub fn request_in(&self, setting: Setting) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key.bytes_in(setting),
            range_end: self.end.bytes_in(setting),
            prev_kv: self.prev_kv,
        }
    }
}

/// A read with every option.
#[derive(Arbitrary, Debug, Clone)]
pub struct Range {
    /// The first key.
    pub key: Key,
    /// The end.
    pub end: End,
    /// How many records at most.
    pub limit: i8,
    /// The revision to read at.
    pub revision: i8,
    /// Bounds on the modification and creation revisions.
    pub bounds: [u8; 4],
    /// The order's number, known or not.
    pub sort_order: i8,
    /// The order's subject, known or not.
    pub sort_target: i8,
    /// Leaves values out.
    pub keys_only: bool,
    /// Leaves all but the number out.
    pub count_only: bool,
}

impl Range {
    /// As a request.
    pub fn request(&self) -> RangeRequest {
        self.request_in(Setting::FEW)
    }

    /// As a request in this setting.
    pub fn request_in(&self, setting: Setting) -> RangeRequest {
        RangeRequest {
            key: self.key.bytes_in(setting),
            range_end: self.end.bytes_in(setting),
            limit: self.limit.into(),
            revision: match setting.newest {
                None => self.revision.into(),
                Some(newest) => around(newest, self.revision.cast_unsigned()),
            },
            sort_order: self.sort_order.into(),
            sort_target: self.sort_target.into(),
            serializable: false,
            keys_only: self.keys_only,
            count_only: self.count_only,
            min_mod_revision: setting.revision(self.bounds[0]),
            max_mod_revision: setting.revision(self.bounds[1]),
            min_create_revision: setting.revision(self.bounds[2]),
            max_create_revision: setting.revision(self.bounds[3]),
        }
    }
}

/// A condition of a transaction.
#[derive(Arbitrary, Debug, Clone)]
pub struct Condition {
    key: Key,
    end: End,
    result: i8,
    target: i8,
    given: Given,
}

#[derive(Arbitrary, Debug, Clone)]
enum Given {
    Nothing,
    Version(u8),
    Create(u8),
    Mod(u8),
    Value(u8),
    Lease(u8),
}

impl Condition {
    fn request_in(&self, setting: Setting) -> Compare {
        let target_union = match self.given {
            Given::Nothing => None,
            Given::Version(number) => Some(TargetUnion::Version(number.into())),
            Given::Create(number) => Some(TargetUnion::CreateRevision(setting.revision(number))),
            Given::Mod(number) => Some(TargetUnion::ModRevision(setting.revision(number))),
            Given::Value(number) => Some(TargetUnion::Value(value(number))),
            Given::Lease(number) => Some(TargetUnion::Lease(lease(number))),
        };
        Compare {
            result: self.result.into(),
            target: self.target.into(),
            key: self.key.bytes_in(setting),
            range_end: self.end.bytes_in(setting),
            target_union,
        }
    }
}

/// A transaction, nested to any depth the input's length allows.
#[derive(Arbitrary, Debug, Clone)]
pub struct Txn {
    compare: Vec<Condition>,
    success: Vec<Step>,
    failure: Vec<Step>,
}

#[derive(Arbitrary, Debug, Clone)]
enum Step {
    Put(Put),
    Delete(Delete),
    Range(Range),
    Txn(Box<Txn>),
    Unset,
}

impl Txn {
    /// As a request.
    pub fn request(&self) -> TxnRequest {
        self.request_in(Setting::FEW)
    }

    /// As a request in this setting.
    pub fn request_in(&self, setting: Setting) -> TxnRequest {
        TxnRequest {
            compare: self
                .compare
                .iter()
                .map(|it| it.request_in(setting))
                .collect(),
            success: self
                .success
                .iter()
                .map(|it| it.request_in(setting))
                .collect(),
            failure: self
                .failure
                .iter()
                .map(|it| it.request_in(setting))
                .collect(),
        }
    }
}

impl Step {
    fn request_in(&self, setting: Setting) -> RequestOp {
        RequestOp {
            request: match self {
                Step::Put(put) => Some(Request::RequestPut(put.request_in(setting))),
                Step::Delete(delete) => {
                    Some(Request::RequestDeleteRange(delete.request_in(setting)))
                }
                Step::Range(range) => Some(Request::RequestRange(range.request_in(setting))),
                Step::Txn(txn) => Some(Request::RequestTxn(txn.request_in(setting))),
                Step::Unset => None,
            },
        }
    }
}

/// Bytes that stand for a value: empty, short, or longer than any short form.
pub fn value(number: u8) -> Vec<u8> {
    match number {
        0 => Vec::new(),
        1..=199 => vec![number],
        _ => vec![number; usize::from(number) * 4],
    }
}

fn lease(number: u8) -> i64 {
    match number % 8 {
        0..=4 => 0,
        5 | 6 => LEASE,
        _ => LEASE + 1,
    }
}

/// Compacts the store and the model; both say the same.
pub fn compact(store: &mut Store, model: &mut Model, revision: i8) {
    let request = CompactionRequest {
        revision: i64::from(revision).max(0),
        physical: false,
    };
    let compacted = store.compact(&request).map(|_| ());
    assert_eq!(compacted, model.compact(&request));
}

/// A read of all keys there are.
pub fn everything() -> RangeRequest {
    RangeRequest {
        key: vec![0],
        range_end: vec![0],
        ..RangeRequest::default()
    }
}

/// The one lease that targets grant.
pub const LEASE: i64 = 7;

/// A few keys, the illegal one last: they fit into one leaf.
pub const KEYS: [&[u8]; 11] = [
    b"a", b"aa", b"ab", b"b", b"b\0", b"c", b"d", b"\x7f", b"\x80", b"\xff", b"",
];

/// More keys than two leaves of the store hold, the illegal one last.
pub const MANY_KEYS: [&[u8]; 35] = [
    b"a",
    b"a\0",
    b"aa",
    b"aaa",
    b"ab",
    b"ab\0",
    b"abc",
    b"b",
    b"b\0",
    b"ba",
    b"bb",
    b"c",
    b"c\0",
    b"ca",
    b"cb",
    b"cc",
    b"d",
    b"e",
    b"f",
    b"g",
    b"h",
    b"i",
    b"j",
    b"k",
    b"l",
    b"m",
    b"m\xff",
    b"\x7f",
    b"\x80",
    b"\x80\0",
    b"\xfe",
    b"\xff",
    b"\xff\0",
    b"\xff\xff",
    b"",
];
