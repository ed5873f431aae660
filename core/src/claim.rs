//! Claims on a name, which locks and elections are made of: keys below the name, each as long-lived as a lease. The
//! oldest owns the name; when its key goes, the next oldest does.

use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::request_op::Request as Op;
use metastore_proto::etcdserverpb::response_op::Response as Done;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse,
    WatchCreateRequest,
};
use metastore_proto::mvccpb::KeyValue;

use crate::kv_error::KvError;
use crate::mvcc::View;

/// A key that stands for its owner's wish to own a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What the keys of all claims on the name begin with.
    pub prefix: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// The lease it lives with.
    pub lease: i64,
    /// The revision that created the key: claims stand in line by it.
    pub revision: i64,
}

/// Where a claim stands in a view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// No older claim is left.
    Owner,
    /// The next older claim has this key.
    Behind(Vec<u8>),
    /// Its key is gone: its lease ended, or somebody removed it.
    Lost,
}

impl Claim {
    /// The claim that came of [`stake`], and the record of its key if that was there already: the same lease has
    /// claimed the name before. `revision` is that of the answer.
    pub fn staked(
        name: &[u8],
        lease: i64,
        revision: i64,
        response: TxnResponse,
    ) -> (Self, Option<KeyValue>) {
        let mut responses = response.responses.into_iter();
        let found = responses.find_map(|done| match done.response {
            Some(Done::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        });
        let claim = Self {
            prefix: prefix(name),
            key: key(name, lease),
            lease,
            revision: found.as_ref().map_or(revision, |kv| kv.create_revision),
        };
        (claim, found)
    }

    /// Where the claim stands in a view, which must not be older than the answer it was staked with.
    ///
    /// # Errors
    /// None that a view of the store gives to a range of its newest revision.
    pub fn place(&self, view: &View) -> Result<Place, KvError> {
        let own = view.range(&RangeRequest {
            key: self.key.clone(),
            ..RangeRequest::default()
        })?;
        let still = own.kvs.first().map(|kv| kv.create_revision) == Some(self.revision);
        if !still {
            return Ok(Place::Lost);
        }
        let older = view.range(&RangeRequest {
            max_create_revision: self.revision - 1,
            ..by_creation(&self.prefix, SortOrder::Descend)
        })?;
        let before = older.kvs.into_iter().next();
        Ok(before.map_or(Place::Owner, |kv| Place::Behind(kv.key)))
    }

    /// What to watch until the claim before this one goes, or this one does, at this revision or later.
    pub fn watches(&self, before: &[u8], from: i64) -> [WatchCreateRequest; 2] {
        [before, &self.key].map(|key| WatchCreateRequest {
            key: key.to_vec(),
            start_revision: from,
            filters: vec![FilterType::Noput.into()],
            ..WatchCreateRequest::default()
        })
    }
}

/// Claims a name with a lease; where the lease has done so before, reads its claim.
pub fn stake(name: &[u8], lease: i64, value: Vec<u8>) -> TxnRequest {
    let key = key(name, lease);
    let get = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    TxnRequest {
        failure: vec![op(Op::RequestRange(get))],
        ..revaluation(&key, 0, lease, value)
    }
}

/// Gives the claim with this key another value, if it is still the one that was created at this revision.
pub fn revaluation(key: &[u8], revision: i64, lease: i64, value: Vec<u8>) -> TxnRequest {
    let put = PutRequest {
        key: key.to_vec(),
        value,
        lease,
        ..PutRequest::default()
    };
    TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Op::RequestPut(put))],
        failure: Vec::new(),
    }
}

/// Removes the claim with this key, if it is still the one that was created at this revision.
pub fn withdrawal(key: &[u8], revision: i64) -> TxnRequest {
    let delete = DeleteRangeRequest {
        key: key.to_vec(),
        ..DeleteRangeRequest::default()
    };
    TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Op::RequestDeleteRange(delete))],
        failure: Vec::new(),
    }
}

/// A question for the oldest or the newest claim on a name, by its prefix.
pub fn by_creation(prefix: &[u8], order: SortOrder) -> RangeRequest {
    RangeRequest {
        key: prefix.to_vec(),
        range_end: behind(prefix),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..RangeRequest::default()
    }
}

/// Keys of claims on a name begin with this.
pub fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The first key behind all that begin with this prefix, which ends in a slash.
pub fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// The key of a lease's claim on a name.
pub fn key(name: &[u8], lease: i64) -> Vec<u8> {
    [&prefix(name)[..], hexadecimal(lease).as_bytes()].concat()
}

/// In lower case without padding; a negative number with its sign.
fn hexadecimal(lease: i64) -> String {
    let sign = if lease < 0 { "-" } else { "" };
    format!("{sign}{:x}", lease.unsigned_abs())
}

fn created_at(key: &[u8], revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.to_vec(),
        range_end: Vec::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::{Changes, Store};

    #[test]
    fn keys_of_claims_are_the_name_and_the_lease_in_hexadecimal() {
        assert_eq!(key(b"name", 0x3269_57F0), b"name/326957f0");
        assert_eq!(key(b"name", -255), b"name/-ff");
        assert_eq!(hexadecimal(i64::MIN), "-8000000000000000");
    }

    #[test]
    fn an_interval_of_claims_ends_before_other_names() {
        let (prefix, end) = (prefix(b"a"), behind(&prefix(b"a")));
        assert!(prefix.as_slice() <= b"a/ffff".as_slice() && b"a/ffff".as_slice() < end.as_slice());
        assert!(end.as_slice() <= b"a0/1".as_slice());
    }

    #[test]
    fn claims_stand_in_line_by_the_revision_of_their_keys() {
        let mut store = Store::new();
        let mut put = |key: &[u8]| {
            let request = PutRequest {
                key: key.to_vec(),
                ..PutRequest::default()
            };
            let put = store.put(&request, &mut Changes::new());
            put.expect("a fair put");
            store.view()
        };
        let claim = |lease, revision| Claim {
            prefix: prefix(b"n"),
            key: key(b"n", lease),
            lease,
            revision,
        };
        let before = put(b"n/2");
        let after = put(b"n/1");
        assert_eq!(claim(2, 2).place(&before), Ok(Place::Owner));
        assert_eq!(
            claim(1, 3).place(&after),
            Ok(Place::Behind(b"n/2".to_vec()))
        );
        assert_eq!(claim(2, 2).place(&after), Ok(Place::Owner));
        assert_eq!(claim(3, 4).place(&after), Ok(Place::Lost));
        assert_eq!(claim(1, 2).place(&after), Ok(Place::Lost));
    }
}
