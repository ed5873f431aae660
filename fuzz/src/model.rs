//! What the store has to answer, as plain as can be: every revision as a whole map.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use metastore_core::key::KeyRange;
use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseError;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use metastore_proto::mvccpb::KeyValue;

/// The keys of one revision. Revisions share what is the same in them.
pub type Keys = BTreeMap<Rc<[u8]>, Rc<KeyValue>>;

/// One change of a revision.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The record; of a delete only key and revision.
    pub kv: Rc<KeyValue>,
    /// Whether the key was deleted.
    pub deleted: bool,
    /// The record before it.
    pub before: Option<Rc<KeyValue>>,
}

/// A store for requests that pass the door.
pub struct Model {
    /// Revision 0 does not exist and 1 is the empty store.
    revisions: Vec<Keys>,
    /// What each revision changed, in order.
    events: Vec<Vec<Event>>,
    compacted: i64,
    leases: BTreeSet<i64>,
}

/// One command in the making.
struct Draft {
    keys: Keys,
    before: i64,
    events: Vec<Event>,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(&[])
    }
}

impl Model {
    /// An empty store with these leases.
    pub fn new(leases: &[i64]) -> Self {
        Self {
            revisions: vec![Keys::new(), Keys::new()],
            events: vec![Vec::new(), Vec::new()],
            compacted: -1,
            leases: leases.iter().copied().collect(),
        }
    }

    /// The newest revision.
    pub fn revision(&self) -> i64 {
        self.revisions.len() as i64 - 1
    }

    /// The boundary; -1 without any.
    pub fn compact_revision(&self) -> i64 {
        self.compacted
    }

    /// The keys there are now.
    pub fn newest(&self) -> &Keys {
        &self.revisions[self.revisions.len() - 1]
    }

    /// What a revision changed when it came to be, in order.
    pub fn changes(&self, revision: i64) -> &[Event] {
        &self.events[place(revision)]
    }

    /// What a revision changed, as it is told later. The record before an event is not told where a compaction took it:
    /// before an event of the boundary's own revision only what is of that revision too.
    pub fn events(&self, revision: i64) -> Vec<Event> {
        let mut events = self.changes(revision).to_vec();
        if revision <= self.compacted {
            for event in &mut events {
                event.before.take_if(|it| it.mod_revision != revision);
            }
        }
        events
    }

    /// The leases there are.
    pub fn leases(&self) -> &BTreeSet<i64> {
        &self.leases
    }

    /// The keys that hang on a lease, in order.
    pub fn keys_of(&self, lease: i64) -> Vec<&[u8]> {
        let attached = self.newest().iter().filter(|(_, kv)| kv.lease == lease);
        attached.map(|(key, _)| &**key).collect()
    }

    /// A range, at the newest revision for 0 and below.
    pub fn range(&self, request: &RangeRequest) -> Result<RangeResponse, KvError> {
        let keys = match request.revision {
            ..=0 => self.newest(),
            asked => self.readable(asked)?,
        };
        Ok(read(keys, self.revision(), request))
    }

    /// A put.
    pub fn put(&mut self, request: &PutRequest) -> Result<PutResponse, KvError> {
        self.check_put(request)?;
        let mut draft = self.draft();
        let response = draft.put(request);
        self.commit(draft);
        Ok(response)
    }

    /// A delete of a range.
    pub fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let mut draft = self.draft();
        let response = draft.delete_range(request);
        self.commit(draft);
        response
    }

    /// A transaction: guards at every depth and everything that could refuse it are looked at before anything happens.
    pub fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse, KvError> {
        self.check(request)?;
        let mut draft = self.draft();
        let mut response = self.run(request, &mut draft);
        response.header = draft.header();
        self.commit(draft);
        Ok(response)
    }

    /// A grant of a lease that nobody has.
    pub fn grant(&mut self, lease: i64) -> Result<(), LeaseError> {
        match self.leases.insert(lease) {
            true => Ok(()),
            false => Err(LeaseError::Exists),
        }
    }

    /// The end of a lease: its keys go in one revision, in order. Answers the revision after it.
    pub fn revoke(&mut self, lease: i64) -> Result<i64, LeaseError> {
        if !self.leases.remove(&lease) {
            return Err(LeaseError::NotFound);
        }
        let mut draft = self.draft();
        draft.delete_where(|kv| kv.lease == lease);
        self.commit(draft);
        Ok(self.revision())
    }

    /// A compaction.
    pub fn compact(&mut self, request: &CompactionRequest) -> Result<(), KvError> {
        if request.revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if request.revision <= self.compacted {
            return Err(KvError::Compacted);
        }
        self.compacted = request.revision;
        Ok(())
    }

    fn readable(&self, revision: i64) -> Result<&Keys, KvError> {
        if revision > self.revision() {
            return Err(KvError::FutureRevision);
        }
        if revision < self.compacted {
            return Err(KvError::Compacted);
        }
        Ok(&self.revisions[place(revision)])
    }

    fn draft(&self) -> Draft {
        Draft {
            keys: self.newest().clone(),
            before: self.revision(),
            events: Vec::new(),
        }
    }

    fn commit(&mut self, draft: Draft) {
        if draft.changed() {
            self.revisions.push(draft.keys);
            self.events.push(draft.events);
        }
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), KvError> {
        if request.lease != 0 && !self.leases.contains(&request.lease) {
            return Err(KvError::LeaseNotFound);
        }
        let keeps = request.ignore_value || request.ignore_lease;
        if keeps && !self.newest().contains_key(&request.key[..]) {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    fn branch<'a>(&self, request: &'a TxnRequest) -> (bool, &'a [RequestOp]) {
        let mut guards = request.compare.iter();
        match guards.all(|guard| holds(self.newest(), guard)) {
            true => (true, &request.success),
            false => (false, &request.failure),
        }
    }

    fn check(&self, request: &TxnRequest) -> Result<(), KvError> {
        for operation in self.branch(request).1 {
            match operation.request.as_ref() {
                Some(Request::RequestRange(range)) if range.revision != 0 => {
                    if range.revision < self.compacted {
                        return Err(KvError::Compacted);
                    }
                    if range.revision > self.revision() {
                        return Err(KvError::FutureRevision);
                    }
                }
                Some(Request::RequestPut(put)) => self.check_put(put)?,
                Some(Request::RequestTxn(nested)) => self.check(nested)?,
                Some(Request::RequestRange(_) | Request::RequestDeleteRange(_)) => {}
                None => return Err(KvError::KeyNotFound),
            }
        }
        Ok(())
    }

    fn run(&self, request: &TxnRequest, draft: &mut Draft) -> TxnResponse {
        let (succeeded, operations) = self.branch(request);
        let mut responses = Vec::new();
        for operation in operations {
            let response = match operation.request.as_ref().expect("it was checked") {
                Request::RequestRange(range) => Response::ResponseRange(match range.revision {
                    // Only what is positive names a revision.
                    ..=0 => read(&draft.keys, draft.revision(), range),
                    asked => {
                        let keys = self.readable(asked).expect("it was checked");
                        read(keys, draft.revision(), range)
                    }
                }),
                Request::RequestPut(put) => Response::ResponsePut(draft.put(put)),
                Request::RequestDeleteRange(delete) => {
                    Response::ResponseDeleteRange(draft.delete_range(delete))
                }
                Request::RequestTxn(nested) => Response::ResponseTxn(self.run(nested, draft)),
            };
            responses.push(ResponseOp {
                response: Some(response),
            });
        }
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded,
            responses,
        }
    }
}

impl Draft {
    fn changed(&self) -> bool {
        !self.events.is_empty()
    }

    fn revision(&self) -> i64 {
        self.before + i64::from(self.changed())
    }

    fn header(&self) -> Option<ResponseHeader> {
        header(self.revision())
    }

    fn put(&mut self, request: &PutRequest) -> PutResponse {
        let revision = self.before + 1;
        let before = self.keys.get(&request.key[..]).cloned();
        let old = before.as_deref().cloned().unwrap_or(KeyValue {
            create_revision: revision,
            ..KeyValue::default()
        });
        let kv = Rc::new(KeyValue {
            key: request.key.clone(),
            value: match request.ignore_value {
                true => old.value,
                false => request.value.clone(),
            },
            lease: match request.ignore_lease {
                true => old.lease,
                false => request.lease,
            },
            create_revision: old.create_revision,
            mod_revision: revision,
            version: old.version + 1,
        });
        self.keys.insert(Rc::from(&request.key[..]), Rc::clone(&kv));
        self.events.push(Event {
            kv,
            deleted: false,
            before: before.clone(),
        });
        let asked = before.filter(|_| request.prev_kv);
        PutResponse {
            header: self.header(),
            prev_kv: asked.as_deref().cloned(),
        }
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let range = KeyRange::new(&request.key, &request.range_end);
        let deleted = self.delete_where(|kv| range.contains(&kv.key));
        DeleteRangeResponse {
            header: self.header(),
            deleted: deleted.len() as i64,
            prev_kvs: match request.prev_kv {
                true => deleted.iter().map(|kv| (**kv).clone()).collect(),
                false => Vec::new(),
            },
        }
    }

    fn delete_where(&mut self, doomed: impl Fn(&KeyValue) -> bool) -> Vec<Rc<KeyValue>> {
        let all = self.keys.values().filter(|kv| doomed(kv));
        let deleted: Vec<Rc<KeyValue>> = all.cloned().collect();
        self.keys.retain(|_, kv| !doomed(kv));
        for before in &deleted {
            let tombstone = KeyValue {
                key: before.key.clone(),
                mod_revision: self.before + 1,
                ..KeyValue::default()
            };
            self.events.push(Event {
                kv: Rc::new(tombstone),
                deleted: true,
                before: Some(Rc::clone(before)),
            });
        }
        deleted
    }
}

/// Where a list by revisions holds this one.
fn place(revision: i64) -> usize {
    usize::try_from(revision).expect("revisions are positive")
}

fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader {
        revision,
        ..ResponseHeader::default()
    })
}

fn read(keys: &Keys, revision: i64, request: &RangeRequest) -> RangeResponse {
    let range = KeyRange::new(&request.key, &request.range_end);
    let matching = keys.values().filter(|kv| range.contains(&kv.key));
    let mut found: Vec<KeyValue> = matching.map(|kv| (**kv).clone()).collect();
    let count = found.len() as i64;
    let answer = RangeResponse {
        header: header(revision),
        count,
        ..RangeResponse::default()
    };
    if request.count_only {
        return answer;
    }
    let limit = usize::try_from(request.limit).ok().filter(|it| *it > 0);
    let bounds = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    found.retain(|kv| {
        let within = |at: i64, min: i64, max: i64| at >= min && (max == 0 || at <= max);
        within(kv.mod_revision, bounds[0], bounds[1])
            && within(kv.create_revision, bounds[2], bounds[3])
    });
    let by_key = request.sort_target == SortTarget::Key as i32;
    let unordered = request.sort_order == SortOrder::None as i32;
    if unordered && !by_key && bounds == [0; 4] {
        // Clients know it so: what the limit leaves is sorted, not what there is.
        found.truncate(limit.map_or(usize::MAX, |limit| limit + 1));
    }
    if !(unordered && by_key) {
        let rank = |kv: &KeyValue| match request.sort_target {
            1 => (kv.version, Vec::new()),
            2 => (kv.create_revision, Vec::new()),
            3 => (kv.mod_revision, Vec::new()),
            4 => (0, kv.value.clone()),
            _ => (0, kv.key.clone()),
        };
        found.sort_by_key(rank);
        if request.sort_order == SortOrder::Descend as i32 {
            // Equal ones stay in the order of their keys.
            found.sort_by_key(|kv| std::cmp::Reverse(rank(kv)));
        }
    }
    let more = limit.is_some_and(|limit| found.len() > limit);
    found.truncate(limit.unwrap_or(usize::MAX));
    if request.keys_only {
        let by_value = request.sort_target == SortTarget::Value as i32;
        for kv in &mut found {
            kv.value.clear();
            kv.lease = if by_value { kv.lease } else { 0 };
        }
    }
    RangeResponse {
        kvs: found,
        more,
        ..answer
    }
}

/// Whether a guard holds for all keys that it names and that are there.
fn holds(keys: &Keys, guard: &Compare) -> bool {
    let range = KeyRange::new(&guard.key, &guard.range_end);
    let named = keys.values().filter(|kv| range.contains(&kv.key));
    let mut named = named.peekable();
    if named.peek().is_none() {
        let by_value = guard.target == CompareTarget::Value as i32;
        return !by_value && holds_for(&KeyValue::default(), guard);
    }
    named.all(|kv| holds_for(kv, guard))
}

fn holds_for(kv: &KeyValue, guard: &Compare) -> bool {
    let target = CompareTarget::try_from(guard.target);
    let number = |of: CompareTarget| match (&guard.target_union, of) {
        (Some(TargetUnion::Version(it)), CompareTarget::Version)
        | (Some(TargetUnion::CreateRevision(it)), CompareTarget::Create)
        | (Some(TargetUnion::ModRevision(it)), CompareTarget::Mod)
        | (Some(TargetUnion::Lease(it)), CompareTarget::Lease) => *it,
        _ => 0,
    };
    let order = match target {
        Err(_) => std::cmp::Ordering::Equal,
        Ok(CompareTarget::Value) => match &guard.target_union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value.cmp(&Vec::new()),
        },
        Ok(CompareTarget::Version) => kv.version.cmp(&number(CompareTarget::Version)),
        Ok(CompareTarget::Create) => kv.create_revision.cmp(&number(CompareTarget::Create)),
        Ok(CompareTarget::Mod) => kv.mod_revision.cmp(&number(CompareTarget::Mod)),
        Ok(CompareTarget::Lease) => kv.lease.cmp(&number(CompareTarget::Lease)),
    };
    match CompareResult::try_from(guard.result) {
        Ok(CompareResult::Equal) => order.is_eq(),
        Ok(CompareResult::NotEqual) => order.is_ne(),
        Ok(CompareResult::Greater) => order.is_gt(),
        Ok(CompareResult::Less) => order.is_lt(),
        Err(_) => true,
    }
}
