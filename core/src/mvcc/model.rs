//! A naive model of the store for tests: the full state of every revision, kept for ever.

use std::collections::BTreeMap;

use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::*;
use metastore_proto::mvccpb::KeyValue;

use crate::key::KeyRange;
use crate::kv_error::KvError;

pub(crate) type State = BTreeMap<Vec<u8>, KeyValue>;
/// A change: the key, and its new value unless it was deleted.
pub(crate) type ModelChange = (Vec<u8>, Option<KeyValue>);

pub(crate) struct Model {
    /// By revision; 0 is unused.
    pub(crate) states: Vec<State>,
    pub(crate) events: Vec<Vec<ModelChange>>,
    pub(crate) compact_revision: i64,
    pub(crate) leases: Vec<i64>,
}

/// A command in progress on a copy of the state.
struct Work {
    before: i64,
    state: State,
    changes: Vec<ModelChange>,
}

impl Model {
    pub(crate) fn new() -> Self {
        let nothing = || vec![Default::default(); 2];
        Model {
            states: nothing(),
            events: vec![Vec::new(); 2],
            compact_revision: -1,
            leases: Vec::new(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.states.len() as i64 - 1
    }

    pub(crate) fn newest(&self) -> &State {
        self.states.last().expect("revision 1 exists")
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        let at = if request.revision <= 0 {
            self.revision()
        } else {
            request.revision
        };
        if at > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if request.revision > 0 && at < self.compact_revision {
            return Err(KvError::Compacted);
        }
        Ok(read(&self.states[at as usize], request, self.revision()))
    }

    pub(crate) fn put(&mut self, request: &PutRequest) -> Result<PutResponse, KvError> {
        self.check_put(request)?;
        let mut work = self.work();
        let response = work.put(request);
        self.commit(work);
        Ok(response)
    }

    pub(crate) fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut work = self.work();
        let response = work.delete_range(request);
        self.commit(work);
        response
    }

    pub(crate) fn compact(&mut self, revision: i64) -> Result<CompactionResponse, KvError> {
        if revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if revision <= self.compact_revision {
            return Err(KvError::Compacted);
        }
        self.compact_revision = revision;
        Ok(CompactionResponse {
            header: header(self.revision()),
        })
    }

    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, KvError> {
        self.check_txn(request)?;
        let mut work = self.work();
        let mut response = self.run(request, &mut work);
        response.header = header(work.revision());
        self.commit(work);
        Ok(response)
    }

    /// Takes a lease and all its keys away, and tells the revision; none if there is no such lease.
    pub(crate) fn revoke(&mut self, id: i64) -> Option<i64> {
        let place = self.leases.iter().position(|lease| *lease == id)?;
        self.leases.remove(place);
        let mut work = self.work();
        let kept = |kv: &KeyValue| kv.lease != id;
        for kv in self.newest().values().filter(|kv| !kept(kv)) {
            work.changes.push((kv.key.clone(), None));
        }
        work.state.retain(|_, kv| kept(kv));
        self.commit(work);
        Some(self.revision())
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), KvError> {
        if request.lease != 0 && !self.leases.contains(&request.lease) {
            return Err(KvError::LeaseNotFound);
        }
        let missing = !self.newest().contains_key(&request.key);
        if (request.ignore_value || request.ignore_lease) && missing {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    fn branch<'a>(&self, request: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let succeeded = request.compare.iter().all(|compare| self.holds(compare));
        (
            succeeded,
            if succeeded {
                &request.success
            } else {
                &request.failure
            },
        )
    }

    fn check_txn(&self, request: &TxnRequest) -> Result<(), KvError> {
        for operation in self.branch(request).1 {
            match operation.request.as_ref().ok_or(KvError::KeyNotFound)? {
                Request::RequestRange(range) if range.revision > self.revision() => {
                    return Err(KvError::FutureRevision);
                }
                Request::RequestRange(range)
                    if range.revision != 0 && range.revision < self.compact_revision =>
                {
                    return Err(KvError::Compacted);
                }
                Request::RequestPut(put) => self.check_put(put)?,
                Request::RequestTxn(txn) => self.check_txn(txn)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Runs a branch; everything in it passed the check.
    fn run(&self, request: &TxnRequest, work: &mut Work) -> TxnResponse {
        let (succeeded, list) = self.branch(request);
        let mut responses = Vec::new();
        for operation in list {
            let response = match operation.request.as_ref().expect("checked") {
                Request::RequestRange(range) if range.revision > 0 => {
                    Response::ResponseRange(read(
                        &self.states[range.revision as usize],
                        range,
                        work.revision(),
                    ))
                }
                Request::RequestRange(range) => {
                    Response::ResponseRange(read(&work.state, range, work.revision()))
                }
                Request::RequestPut(put) => Response::ResponsePut(work.put(put)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(work.delete_range(delete))
                }
                Request::RequestTxn(txn) => Response::ResponseTxn(self.run(txn, work)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: header(0),
            succeeded,
            responses,
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let range = KeyRange::new(&compare.key, &compare.range_end);
        let found: Vec<&KeyValue> = self
            .newest()
            .values()
            .filter(|kv| range.contains(&kv.key))
            .collect();
        let missing = KeyValue::default();
        if found.is_empty() {
            return compare.target != CompareTarget::Value as i32 && holds_for(&missing, compare);
        }
        found.iter().all(|kv| holds_for(kv, compare))
    }

    fn work(&self) -> Work {
        Work {
            before: self.revision(),
            state: self.newest().clone(),
            changes: Vec::new(),
        }
    }

    fn commit(&mut self, work: Work) {
        if !work.changes.is_empty() {
            self.states.push(work.state);
            self.events.push(work.changes);
        }
    }
}

impl Work {
    fn revision(&self) -> i64 {
        self.before + i64::from(!self.changes.is_empty())
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let revision = self.before + 1;
        let old = self.state.get(&request.key).cloned();
        let new = KeyValue {
            key: request.key.clone(),
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(1, |old| old.version + 1),
            value: match request.ignore_value {
                true => old
                    .as_ref()
                    .map(|old| old.value.clone())
                    .unwrap_or_default(),
                false => request.value.clone(),
            },
            lease: match request.ignore_lease {
                true => old.as_ref().map_or(0, |old| old.lease),
                false => request.lease,
            },
        };
        self.changes.push((request.key.clone(), Some(new.clone())));
        self.state.insert(request.key.clone(), new);
        PutResponse {
            header: header(self.revision()),
            prev_kv: old.filter(|_| request.prev_kv),
        }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(&request.key, &request.range_end);
        let doomed: Vec<KeyValue> = self
            .state
            .values()
            .filter(|kv| range.contains(&kv.key))
            .cloned()
            .collect();
        for kv in &doomed {
            self.state.remove(&kv.key);
            self.changes.push((kv.key.clone(), None));
        }
        DeleteRangeResponse {
            header: header(self.revision()),
            deleted: doomed.len() as i64,
            prev_kvs: if request.prev_kv { doomed } else { Vec::new() },
        }
    }
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        cluster_id: 0,
        member_id: 0,
        revision,
        raft_term: 0,
    })
}

/// The rules of a range, written down once more in the plainest way.
fn read(state: &State, request: &RangeRequest, revision: i64) -> RangeResponse {
    let range = KeyRange::new(&request.key, &request.range_end);
    let all: Vec<KeyValue> = state
        .values()
        .filter(|kv| range.contains(&kv.key))
        .cloned()
        .collect();
    let count = all.len() as i64;
    if request.count_only {
        return RangeResponse {
            header: header(revision),
            kvs: Vec::new(),
            more: false,
            count,
        };
    }
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    let mut kvs: Vec<KeyValue> = all
        .into_iter()
        .filter(|kv| bounds[0] == 0 || kv.mod_revision >= bounds[0])
        .filter(|kv| bounds[1] == 0 || kv.mod_revision <= bounds[1])
        .filter(|kv| bounds[2] == 0 || kv.create_revision >= bounds[2])
        .filter(|kv| bounds[3] == 0 || kv.create_revision <= bounds[3])
        .collect();
    let limit = if request.limit > 0 {
        request.limit as usize
    } else {
        usize::MAX
    };
    if request.sort_order == 0 && request.sort_target != 0 && bounds == [0; 4] {
        kvs.truncate(limit.saturating_add(1));
    }
    kvs.sort_by(|a, b| match request.sort_target {
        1 => a.version.cmp(&b.version),
        2 => a.create_revision.cmp(&b.create_revision),
        3 => a.mod_revision.cmp(&b.mod_revision),
        4 => a.value.cmp(&b.value),
        _ => a.key.cmp(&b.key),
    });
    if request.sort_order == 2 {
        kvs.sort_by(|a, b| match request.sort_target {
            1 => b.version.cmp(&a.version).then(a.key.cmp(&b.key)),
            2 => b
                .create_revision
                .cmp(&a.create_revision)
                .then(a.key.cmp(&b.key)),
            3 => b.mod_revision.cmp(&a.mod_revision).then(a.key.cmp(&b.key)),
            4 => b.value.cmp(&a.value).then(a.key.cmp(&b.key)),
            _ => b.key.cmp(&a.key),
        });
    }
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if request.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
            kv.lease = if request.sort_target == 4 {
                kv.lease
            } else {
                0
            };
        }
    }
    RangeResponse {
        header: header(revision),
        kvs,
        more,
        count,
    }
}

fn holds_for(kv: &KeyValue, compare: &Compare) -> bool {
    let ordering = match (
        CompareTarget::try_from(compare.target),
        &compare.target_union,
    ) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(given))) => kv.version.cmp(given),
        (Ok(CompareTarget::Version), _) => kv.version.cmp(&0),
        (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(given))) => {
            kv.create_revision.cmp(given)
        }
        (Ok(CompareTarget::Create), _) => kv.create_revision.cmp(&0),
        (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(given))) => {
            kv.mod_revision.cmp(given)
        }
        (Ok(CompareTarget::Mod), _) => kv.mod_revision.cmp(&0),
        (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(given))) => kv.lease.cmp(given),
        (Ok(CompareTarget::Lease), _) => kv.lease.cmp(&0),
        (Ok(CompareTarget::Value), Some(TargetUnion::Value(given))) => kv.value.cmp(given),
        (Ok(CompareTarget::Value), _) => kv.value.cmp(&Vec::new()),
        (Err(_), _) => std::cmp::Ordering::Equal,
    };
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => !ordering.is_eq(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
