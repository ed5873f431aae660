//! What clients do, and what must come of it: the rules of the store once more, on a plain map.

use std::collections::BTreeMap;
use std::fmt;

use metastore_core::command::Request;
use metastore_core::key::KeyRange;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request as OpRequest;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use metastore_proto::mvccpb::KeyValue;

/// The keys at one revision.
pub(crate) type Keys = BTreeMap<Vec<u8>, KeyValue>;

/// What one revision did to one key: its new record, or that it is gone.
pub(crate) type KeyChange = (Vec<u8>, Option<KeyValue>);

/// One operation of a client.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// Writes a value that no other operation writes.
    Put { key: Vec<u8>, value: Vec<u8> },
    /// Removes the keys from one up to before another; without an end, the one key.
    Delete { key: Vec<u8>, end: Vec<u8> },
    /// If a key was last changed at this revision (0: does not exist), writes one key and removes another.
    Swap {
        guard: Vec<u8>,
        at: i64,
        put: Vec<u8>,
        value: Vec<u8>,
        delete: Vec<u8>,
    },
    /// Reads an interval, at the newest revision (0) or an older one.
    Read {
        key: Vec<u8>,
        end: Vec<u8>,
        revision: i64,
    },
    /// Gives up what lies before a revision.
    Compact { revision: i64, physical: bool },
}

/// What a write does: its changes, in order, and the number of keys it says it deleted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Effect {
    pub(crate) changes: Vec<KeyChange>,
    pub(crate) deleted: i64,
    pub(crate) succeeded: bool,
}

impl Op {
    /// The command to propose; none for a read.
    pub(crate) fn request(&self) -> Option<Request> {
        Some(match self {
            Op::Read { .. } => return None,
            Op::Put { key, value } => Request::Put(put_request(key, value)),
            Op::Delete { key, end } => Request::DeleteRange(delete_request(key, end)),
            Op::Compact { revision, physical } => Request::Compact(CompactionRequest {
                revision: *revision,
                physical: *physical,
            }),
            Op::Swap {
                guard,
                at,
                put,
                value,
                delete,
            } => {
                let op = |request| RequestOp {
                    request: Some(request),
                };
                Request::Txn(TxnRequest {
                    compare: vec![Compare {
                        result: CompareResult::Equal as i32,
                        target: CompareTarget::Mod as i32,
                        key: guard.clone(),
                        range_end: Vec::new(),
                        target_union: Some(TargetUnion::ModRevision(*at)),
                    }],
                    success: vec![
                        op(OpRequest::RequestPut(put_request(put, value))),
                        op(OpRequest::RequestDeleteRange(delete_request(delete, &[]))),
                    ],
                    failure: vec![op(OpRequest::RequestRange(read_request(guard, &[], 0)))],
                })
            }
        })
    }

    /// The read to make; none for a write.
    pub(crate) fn range(&self) -> Option<RangeRequest> {
        match self {
            Op::Read { key, end, revision } => Some(read_request(key, end, *revision)),
            _ => None,
        }
    }

    /// What the operation does to these keys if it takes the revision after theirs.
    pub(crate) fn effect(&self, keys: &Keys, revision: i64) -> Effect {
        match self {
            Op::Read { .. } | Op::Compact { .. } => Effect::default(),
            Op::Put { key, value } => Effect {
                changes: vec![put(keys, key, value, revision)],
                ..Effect::default()
            },
            Op::Delete { key, end } => {
                let range = KeyRange::new(key, end);
                let doomed = keys.keys().filter(|key| range.contains(key));
                let changes: Vec<KeyChange> = doomed.map(|key| (key.clone(), None)).collect();
                Effect {
                    deleted: changes.len() as i64,
                    changes,
                    succeeded: false,
                }
            }
            Op::Swap {
                guard,
                at,
                put: target,
                value,
                delete,
            } => {
                let last_changed = keys.get(guard).map_or(0, |kv| kv.mod_revision);
                if last_changed != *at {
                    return Effect::default();
                }
                let mut changes = vec![put(keys, target, value, revision)];
                changes.extend(keys.contains_key(delete).then(|| (delete.clone(), None)));
                Effect {
                    deleted: changes.len() as i64 - 1,
                    changes,
                    succeeded: true,
                }
            }
        }
    }

    /// The value that only this operation writes.
    pub(crate) fn own_value(&self) -> Option<&[u8]> {
        match self {
            Op::Put { value, .. } | Op::Swap { value, .. } => Some(value),
            _ => None,
        }
    }
}

/// The keys after these changes.
///
/// # Errors
/// In words, when a change is impossible: its numbers do not follow from the record before it.
pub(crate) fn fold(keys: &Keys, changes: &[KeyChange], revision: i64) -> Result<Keys, String> {
    let mut after = keys.clone();
    for (key, change) in changes {
        match change {
            Some(record) => {
                let (_, expected) = put(&after, key, &record.value, revision);
                if expected.as_ref() != Some(record) {
                    return Err(format!("{record:?} should be {expected:?}"));
                }
                after.insert(key.clone(), record.clone());
            }
            None if after.remove(key).is_none() => {
                return Err(format!(
                    "{} is deleted and was not there",
                    key.escape_ascii()
                ));
            }
            None => {}
        }
    }
    Ok(after)
}

/// The records of an interval, in order.
pub(crate) fn read(keys: &Keys, key: &[u8], end: &[u8]) -> Vec<KeyValue> {
    let range = KeyRange::new(key, end);
    let found = keys.values().filter(|kv| range.contains(&kv.key));
    found.cloned().collect()
}

fn put(keys: &Keys, key: &[u8], value: &[u8], revision: i64) -> KeyChange {
    let before = keys.get(key);
    let record = KeyValue {
        key: key.to_vec(),
        value: value.to_vec(),
        create_revision: before.map_or(revision, |kv| kv.create_revision),
        mod_revision: revision,
        version: before.map_or(1, |kv| kv.version + 1),
        lease: 0,
    };
    (key.to_vec(), Some(record))
}

fn put_request(key: &[u8], value: &[u8]) -> PutRequest {
    PutRequest {
        key: key.to_vec(),
        value: value.to_vec(),
        ..PutRequest::default()
    }
}

fn delete_request(key: &[u8], end: &[u8]) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.to_vec(),
        range_end: end.to_vec(),
        prev_kv: false,
    }
}

fn read_request(key: &[u8], end: &[u8], revision: i64) -> RangeRequest {
    RangeRequest {
        key: key.to_vec(),
        range_end: end.to_vec(),
        revision,
        ..RangeRequest::default()
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |bytes: &[u8]| match bytes.len() {
            0..=20 => bytes.escape_ascii().to_string(),
            length => format!("{}…({length} bytes)", bytes[..12].escape_ascii()),
        };
        match self {
            Op::Put { key, value } => write!(f, "put {}={}", text(key), text(value)),
            Op::Delete { key, end } => write!(f, "delete [{}, {})", text(key), text(end)),
            Op::Swap {
                guard,
                at,
                put,
                value,
                delete,
            } => write!(
                f,
                "if {}@{at} put {}={} delete {}",
                text(guard),
                text(put),
                text(value),
                text(delete)
            ),
            Op::Read { key, end, revision } => {
                write!(f, "read [{}, {}) @{revision}", text(key), text(end))
            }
            Op::Compact { revision, physical } => {
                let how = if *physical { " physically" } else { "" };
                write!(f, "compact {revision}{how}")
            }
        }
    }
}
