//! What clients do, and what must come of it: the rules of the store once more, on a plain map.

use std::ops::Bound;
use std::rc::Rc;

use im::OrdMap;
use metastore_core::claim;
use metastore_core::command::{MemberAttributes, Request};
use metastore_core::key::KeyRange;
use metastore_core::lease::LeaseQuestion;
use metastore_core::membership::MembershipChange;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request as OpRequest;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use metastore_proto::mvccpb::KeyValue;

mod responses;
mod selection;
mod survey;
mod words;

pub use selection::{Selected, Selection};
pub use survey::Survey;

/// A key.
pub type Key = Rc<[u8]>;

/// The keys at one revision; a copy costs nothing.
pub type Keys = OrdMap<Key, Rc<KeyValue>>;

/// What one revision did to one key: its new record, or that it is gone.
pub type KeyChange = (Key, Option<Rc<KeyValue>>);

/// A first key, and what lies behind the last; without that, the one key.
pub type Interval = (Vec<u8>, Vec<u8>);

/// The end of an interval that has none.
pub const OPEN: &[u8] = &[0];

/// One operation of a client.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Writes a value that no other operation writes.
    Put {
        /// Where.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
        /// The lease it hangs on, unless that is 0.
        lease: i64,
    },
    /// Removes keys.
    Delete {
        /// The first.
        key: Vec<u8>,
        /// What lies behind the last; without it, the one key.
        end: Vec<u8>,
    },
    /// If all guards hold, writes some keys and removes others; otherwise reads the first.
    Txn {
        /// Keys, and the revisions they must have been changed at last; 0 for a key that must not exist.
        guards: Vec<(Vec<u8>, i64)>,
        /// Keys with their new values.
        puts: Vec<(Vec<u8>, Vec<u8>)>,
        /// Keys to remove.
        deletes: Vec<Vec<u8>>,
    },
    /// Reads an interval.
    Read {
        /// Its first key.
        key: Vec<u8>,
        /// What lies behind the last; without it, the one key.
        end: Vec<u8>,
        /// At which revision; 0 for the newest.
        revision: i64,
        /// Whether whatever the asked member has is good enough.
        serializable: bool,
    },
    /// Gives up what lies before a revision.
    Compact {
        /// The revision.
        revision: i64,
        /// Whether the answer waits for the records to be gone.
        physical: bool,
    },
    /// Reads an interval as of a revision and writes a key, both in one transaction without guards.
    Recall {
        /// The first key to read.
        key: Vec<u8>,
        /// What lies behind the last; without it, the one key.
        end: Vec<u8>,
        /// At which revision.
        revision: i64,
        /// Where to write.
        to: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Writes a key and removes it with all keys behind it, in one transaction: in that revision it changes twice.
    Flash {
        /// Which.
        key: Vec<u8>,
        /// What it holds in between.
        value: Vec<u8>,
    },
    /// Writes a key and then reads from it on, both in one transaction: it sees what it has just written.
    Echo {
        /// Which.
        key: Vec<u8>,
        /// What lies behind the last key to read; without it, the one key.
        end: Vec<u8>,
        /// What to write.
        value: Vec<u8>,
    },
    /// Reads two intervals in one transaction that writes nothing.
    Survey(Survey),
    /// Reads what an interval has of a kind.
    Select(Selection),
    /// Claims a name with a lease, unless the lease has done so before.
    Stake {
        /// The name.
        name: Vec<u8>,
        /// The lease.
        lease: i64,
        /// What to leave under the claim's key.
        value: Vec<u8>,
    },
    /// Takes a claim back, if it still is the one that was made.
    Withdraw {
        /// Its key.
        claim: Vec<u8>,
        /// The revision that made it.
        revision: i64,
    },
    /// Writes a key if a claim still is the one that was made.
    Mark {
        /// The claim's key.
        claim: Vec<u8>,
        /// The revision that made it.
        revision: i64,
        /// Where to write.
        key: Vec<u8>,
        /// What.
        value: Vec<u8>,
    },
    /// Asks for a lease.
    Grant {
        /// Its id, not 0.
        id: i64,
        /// Its time in seconds.
        ttl_seconds: i64,
    },
    /// Gives a lease back.
    Revoke {
        /// Its id.
        id: i64,
    },
    /// Asks for a lease's full time again.
    Renew {
        /// Its id.
        id: i64,
    },
    /// Asks how a lease stands.
    TimeToLive {
        /// Its id.
        id: i64,
        /// Whether its keys are asked for, too.
        keys: bool,
    },
    /// Asks which leases there are, as far as the asked member knows.
    Leases,
    /// A member says that it runs, as each does when it starts.
    Publish {
        /// Its id.
        id: u64,
    },
    /// Changes the membership.
    Change(MembershipChange),
    /// Asks who is a member.
    List {
        /// Whether whoever the asked one knows of will do.
        serializable: bool,
    },
    /// Asks for another leader.
    Transfer {
        /// Who is to lead.
        to: u64,
    },
}

/// What a write does: its changes, in order, and the number of keys it says it deleted.
#[derive(Debug, Default, PartialEq)]
pub struct Effect {
    /// In the order they are made.
    pub changes: Vec<KeyChange>,
    /// How many keys it says it deleted.
    pub deleted: i64,
    /// Whether a transaction's guards held.
    pub succeeded: bool,
}

impl Op {
    /// A put without a lease.
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        Op::Put {
            key,
            value,
            lease: 0,
        }
    }

    /// A linearizable read of the newest revision.
    pub fn read(key: Vec<u8>, end: Vec<u8>) -> Self {
        Op::Read {
            key,
            end,
            revision: 0,
            serializable: false,
        }
    }

    /// The command to propose; none for what needs no entry.
    pub fn request(&self) -> Option<Request> {
        Some(match self {
            Op::Read { .. }
            | Op::Survey(_)
            | Op::Select(_)
            | Op::Renew { .. }
            | Op::TimeToLive { .. }
            | Op::Leases
            | Op::Change(_)
            | Op::List { .. }
            | Op::Transfer { .. } => return None,
            Op::Publish { id } => Request::Publish(MemberAttributes {
                member_id: *id,
                name: format!("m{id}"),
                client_urls: Vec::new(),
            }),
            Op::Put { key, value, lease } => Request::Put(put_request(key, value, *lease)),
            Op::Delete { key, end } => Request::DeleteRange(delete_request(key, end)),
            Op::Compact { revision, physical } => Request::Compact(CompactionRequest {
                revision: *revision,
                physical: *physical,
            }),
            Op::Recall {
                key,
                end,
                revision,
                to,
                value,
            } => both(
                OpRequest::RequestRange(read_request(key, end, *revision)),
                OpRequest::RequestPut(put_request(to, value, 0)),
            ),
            Op::Flash { key, value } => both(
                OpRequest::RequestPut(put_request(key, value, 0)),
                OpRequest::RequestDeleteRange(delete_request(key, OPEN)),
            ),
            Op::Echo { key, end, value } => both(
                OpRequest::RequestPut(put_request(key, value, 0)),
                OpRequest::RequestRange(read_request(key, end, 0)),
            ),
            Op::Stake { name, lease, value } => {
                Request::Txn(claim::stake(name, *lease, value.clone()))
            }
            Op::Withdraw { claim, revision } => Request::Txn(claim::withdrawal(claim, *revision)),
            Op::Mark {
                claim,
                revision,
                key,
                value,
            } => Request::Txn(mark_request(claim, *revision, key, value)),
            Op::Grant { id, ttl_seconds } => Request::LeaseGrant(LeaseGrantRequest {
                id: *id,
                ttl: *ttl_seconds,
            }),
            Op::Revoke { id } => Request::LeaseRevoke(LeaseRevokeRequest { id: *id }),
            Op::Txn {
                guards,
                puts,
                deletes,
            } => txn_request(guards, puts, deletes),
        })
    }

    /// The read to make; none for anything else.
    pub fn range(&self) -> Option<RangeRequest> {
        match self {
            Op::Read {
                key, end, revision, ..
            } => Some(read_request(key, end, *revision)),
            Op::Select(selection) => Some(selection.request()),
            _ => None,
        }
    }

    /// The transaction to answer from a view; none for what is no transaction, or writes.
    pub fn inquiry(&self) -> Option<TxnRequest> {
        match self {
            Op::Survey(survey) => Some(survey.request()),
            _ => None,
        }
    }

    /// The revision that is read at; 0 for the newest, and where nothing is read.
    pub fn reads_at(&self) -> i64 {
        match self {
            Op::Read { revision, .. } | Op::Recall { revision, .. } => *revision,
            Op::Survey(survey) => survey.revision,
            Op::Select(selection) => selection.revision,
            _ => 0,
        }
    }

    /// What the request is charged for the room it takes, in bytes; 0 for what needs none.
    pub fn charge(&self) -> u64 {
        let put = |key: &[u8], value: &[u8]| PUT_BYTES + (key.len() + value.len()) as u64;
        match self {
            Op::Put { key, value, .. }
            | Op::Recall { to: key, value, .. }
            | Op::Flash { key, value }
            | Op::Echo { key, value, .. }
            | Op::Mark { key, value, .. } => put(key, value),
            Op::Stake { name, lease, value } => put(&claim::key(name, *lease), value),
            Op::Txn { puts, .. } => puts.iter().map(|(key, value)| put(key, value)).sum(),
            Op::Grant { .. } => GRANT_BYTES,
            _ => 0,
        }
    }

    /// The question to the lessor; none for anything else.
    pub fn question(&self) -> Option<LeaseQuestion> {
        match self {
            Op::Renew { id } => Some(LeaseQuestion::Renew(*id)),
            Op::TimeToLive { id, keys } => Some(LeaseQuestion::TimeToLive {
                id: *id,
                keys: *keys,
            }),
            Op::Leases => Some(LeaseQuestion::List),
            _ => None,
        }
    }

    /// Whether any state of the asked member will do for the answer.
    pub fn is_serializable(&self) -> bool {
        match self {
            Op::Read { serializable, .. } | Op::List { serializable } => *serializable,
            Op::Survey(survey) => survey.is_serializable(),
            Op::Select(selection) => selection.serializable,
            _ => false,
        }
    }

    /// What the operation does to these keys if it takes the revision after theirs.
    pub fn effect(&self, keys: &Keys, revision: i64) -> Effect {
        match self {
            Op::Read { .. }
            | Op::Select(_)
            | Op::Compact { .. }
            | Op::Grant { .. }
            | Op::Renew { .. }
            | Op::TimeToLive { .. }
            | Op::Leases
            | Op::Publish { .. }
            | Op::Change(_)
            | Op::List { .. }
            | Op::Transfer { .. } => Effect::default(),
            Op::Survey(survey) => Effect {
                succeeded: hold(&survey.guards, keys),
                ..Effect::default()
            },
            Op::Put { key, value, lease } => Effect {
                changes: vec![put(keys, key, value, *lease, revision)],
                ..Effect::default()
            },
            Op::Delete { key, end } => {
                let doomed = within(keys, key, end).map(|(key, _)| key);
                removal(doomed.cloned().collect())
            }
            Op::Revoke { id } => {
                let doomed = keys.iter().filter(|(_, kv)| kv.lease == *id);
                removal(doomed.map(|(key, _)| Rc::clone(key)).collect())
            }
            Op::Recall { to, value, .. } => {
                only_if(true, || vec![put(keys, to, value, 0, revision)])
            }
            Op::Flash { key, value } => {
                let mut changes = vec![put(keys, key, value, 0, revision)];
                let behind = within(keys, key, OPEN).map(|(key, _)| Rc::clone(key));
                let behind = behind.filter(|it| **it != **key);
                let gone = removal([Rc::from(&key[..])].into_iter().chain(behind).collect());
                changes.extend(gone.changes);
                Effect {
                    changes,
                    deleted: gone.deleted,
                    succeeded: true,
                }
            }
            Op::Echo { key, value, .. } => {
                only_if(true, || vec![put(keys, key, value, 0, revision)])
            }
            Op::Stake { .. } | Op::Withdraw { .. } | Op::Mark { .. } => {
                self.effect_on_claims(keys, revision)
            }
            Op::Txn {
                guards,
                puts,
                deletes,
            } => {
                if !hold(guards, keys) {
                    return Effect::default();
                }
                swapped(keys, puts, deletes, revision)
            }
        }
    }

    /// What comes of what is done to claims, and under their guard.
    fn effect_on_claims(&self, keys: &Keys, revision: i64) -> Effect {
        match self {
            Op::Stake { name, lease, value } => {
                let key = claim::key(name, *lease);
                only_if(created(keys, &key) == 0, || {
                    vec![put(keys, &key, value, *lease, revision)]
                })
            }
            Op::Withdraw {
                claim,
                revision: made,
            } => {
                if created(keys, claim) != *made {
                    return Effect::default();
                }
                Effect {
                    succeeded: true,
                    ..removal(vec![Rc::from(&claim[..])])
                }
            }
            Op::Mark {
                claim,
                revision: made,
                key,
                value,
            } => only_if(created(keys, claim) == *made, || {
                vec![put(keys, key, value, 0, revision)]
            }),
            _ => unreachable!("only what is done to claims comes here"),
        }
    }

    /// The value that only this operation writes.
    pub fn own_value(&self) -> Option<&[u8]> {
        match self {
            Op::Put { value, .. }
            | Op::Recall { value, .. }
            | Op::Flash { value, .. }
            | Op::Echo { value, .. }
            | Op::Stake { value, .. }
            | Op::Mark { value, .. } => Some(value),
            Op::Txn { puts, .. } => puts.first().map(|(_, value)| value.as_slice()),
            _ => None,
        }
    }
}

/// The keys after these changes.
///
/// # Errors
/// In words, when a change is impossible: its numbers do not follow from the record before it.
pub fn fold(keys: &Keys, changes: &[KeyChange], revision: i64) -> Result<Keys, String> {
    let mut after = keys.clone();
    for (key, change) in changes {
        match change {
            Some(record) => {
                let (_, expected) = put(&after, key, &record.value, record.lease, revision);
                if expected.as_ref() != Some(record) {
                    return Err(format!("{record:?} should be {expected:?}"));
                }
                after.insert(Rc::clone(key), Rc::clone(record));
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
pub fn read(keys: &Keys, key: &[u8], end: &[u8]) -> Vec<Rc<KeyValue>> {
    within(keys, key, end)
        .map(|(_, kv)| Rc::clone(kv))
        .collect()
}

fn within<'a>(
    keys: &'a Keys,
    key: &'a [u8],
    end: &'a [u8],
) -> impl Iterator<Item = (&'a Key, &'a Rc<KeyValue>)> {
    let range = KeyRange::new(key, end);
    at_or_after(keys, key).take_while(move |(key, _)| range.contains(key))
}

/// The records from a key on, in order.
pub fn at_or_after<'a>(
    keys: &'a Keys,
    key: &'a [u8],
) -> impl Iterator<Item = (&'a Key, &'a Rc<KeyValue>)> {
    keys.range::<_, [u8]>((Bound::Included(key), Bound::Unbounded))
}

/// The revision that made a key; 0 if it is not there.
fn created(keys: &Keys, key: &[u8]) -> i64 {
    keys.get(key).map_or(0, |kv| kv.create_revision)
}

/// Whether keys were changed last at these revisions; 0 for those that must not be there.
fn hold(guards: &[(Vec<u8>, i64)], keys: &Keys) -> bool {
    guards
        .iter()
        .all(|(key, at)| keys.get(key.as_slice()).map_or(0, |kv| kv.mod_revision) == *at)
}

fn only_if(holds: bool, changes: impl FnOnce() -> Vec<KeyChange>) -> Effect {
    Effect {
        changes: if holds { changes() } else { Vec::new() },
        deleted: 0,
        succeeded: holds,
    }
}

/// What a transaction does whose guards hold.
fn swapped(keys: &Keys, puts: &[(Vec<u8>, Vec<u8>)], deletes: &[Vec<u8>], revision: i64) -> Effect {
    let changes = puts.iter();
    let changes = changes.map(|(key, value)| put(keys, key, value, 0, revision));
    let mut changes: Vec<KeyChange> = changes.collect();
    let doomed = deletes
        .iter()
        .filter(|key| keys.contains_key(key.as_slice()));
    let gone: Vec<KeyChange> = doomed.map(|key| (Rc::from(&key[..]), None)).collect();
    let deleted = gone.len() as i64;
    changes.extend(gone);
    Effect {
        deleted,
        changes,
        succeeded: true,
    }
}

fn removal(doomed: Vec<Key>) -> Effect {
    Effect {
        deleted: doomed.len() as i64,
        changes: doomed.into_iter().map(|key| (key, None)).collect(),
        succeeded: false,
    }
}

fn put(keys: &Keys, key: &[u8], value: &[u8], lease: i64, revision: i64) -> KeyChange {
    let before = keys.get(key);
    let record = KeyValue {
        key: key.to_vec(),
        value: value.to_vec(),
        create_revision: before.map_or(revision, |kv| kv.create_revision),
        mod_revision: revision,
        version: before.map_or(1, |kv| kv.version + 1),
        lease,
    };
    (Rc::from(key), Some(Rc::new(record)))
}

/// One after the other, whatever there is.
fn both(one: OpRequest, other: OpRequest) -> Request {
    let success = [one, other].map(|op| RequestOp { request: Some(op) });
    Request::Txn(TxnRequest {
        success: success.into(),
        ..TxnRequest::default()
    })
}

fn txn_request(
    guards: &[(Vec<u8>, i64)],
    puts: &[(Vec<u8>, Vec<u8>)],
    deletes: &[Vec<u8>],
) -> Request {
    let op = |request| RequestOp {
        request: Some(request),
    };
    let puts = puts
        .iter()
        .map(|(key, value)| op(OpRequest::RequestPut(put_request(key, value, 0))));
    let deletes = deletes
        .iter()
        .map(|key| op(OpRequest::RequestDeleteRange(delete_request(key, &[]))));
    let first = guards.first().map_or(&[][..], |(key, _)| key.as_slice());
    Request::Txn(TxnRequest {
        compare: compares(guards),
        success: puts.chain(deletes).collect(),
        failure: vec![op(OpRequest::RequestRange(read_request(first, &[], 0)))],
    })
}

fn compares(guards: &[(Vec<u8>, i64)]) -> Vec<Compare> {
    let compare = |(key, at): &(Vec<u8>, i64)| Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Mod as i32,
        key: key.clone(),
        range_end: Vec::new(),
        target_union: Some(TargetUnion::ModRevision(*at)),
    };
    guards.iter().map(compare).collect()
}

/// Guarded as a claim's withdrawal is.
fn mark_request(claim: &[u8], revision: i64, key: &[u8], value: &[u8]) -> TxnRequest {
    let put = OpRequest::RequestPut(put_request(key, value, 0));
    TxnRequest {
        success: vec![RequestOp { request: Some(put) }],
        ..claim::withdrawal(claim, revision)
    }
}

fn put_request(key: &[u8], value: &[u8], lease: i64) -> PutRequest {
    PutRequest {
        key: key.to_vec(),
        value: value.to_vec(),
        lease,
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

/// What a put is charged beside its key and value, and a grant at all.
const PUT_BYTES: u64 = 256;
const GRANT_BYTES: u64 = 64;
