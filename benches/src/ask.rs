//! Requests that are encoded anew each time, as more in them changes than a prepared one could be patched with.

use crate::message::PREFIX_BYTES;
use crate::wire::{push_bytes, push_length, push_number, push_varint};

/// Room for one prefixed message at a time.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    body: Vec<u8>,
    part: Vec<u8>,
    inner: Vec<u8>,
}

/// One key a transaction depends on and writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Guarded {
    pub(crate) key: Vec<u8>,
    /// The revision at which the key must have been modified last; 0 for a key that must not be there.
    pub(crate) mod_revision: u64,
    pub(crate) value: Vec<u8>,
}

impl Ask {
    /// `PutRequest`; a lease of 0 is none.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], lease: u64) -> &[u8] {
        self.begin();
        push_put(&mut self.body, key, value);
        push_number(&mut self.body, 3, lease);
        self.finished()
    }

    /// `RangeRequest`, linearizable, from `key` to before `end`; without an end, the one key.
    pub(crate) fn range(&mut self, key: &[u8], end: &[u8], count_only: bool) -> &[u8] {
        self.begin();
        push_bytes(&mut self.body, 1, key);
        push_bytes(&mut self.body, 2, end);
        push_number(&mut self.body, 9, count_only.into());
        self.finished()
    }

    /// `WatchRequest` that creates a watcher from now on, with a number of the server's choice.
    pub(crate) fn watch(&mut self, key: &[u8], end: &[u8]) -> &[u8] {
        self.begin();
        self.part.clear();
        push_bytes(&mut self.part, 1, key);
        push_bytes(&mut self.part, 2, end);
        // The create request is one of a choice, so that it is written even if it were empty.
        push_length(&mut self.body, 1, self.part.len());
        self.body.extend_from_slice(&self.part);
        self.finished()
    }

    /// `LeaseGrantRequest` with an id of the server's choice.
    pub(crate) fn lease_grant(&mut self, ttl_seconds: u64) -> &[u8] {
        self.begin();
        push_number(&mut self.body, 1, ttl_seconds);
        self.finished()
    }

    /// `LeaseKeepAliveRequest`.
    pub(crate) fn keep_alive(&mut self, lease: u64) -> &[u8] {
        self.begin();
        push_number(&mut self.body, 1, lease);
        self.finished()
    }

    /// A request without fields, such as `StatusRequest`.
    pub(crate) fn nothing(&mut self) -> &[u8] {
        self.begin();
        self.finished()
    }

    /// `MoveLeaderRequest` to the member with the id `target`.
    pub(crate) fn move_leader(&mut self, target: u64) -> &[u8] {
        self.begin();
        push_number(&mut self.body, 1, target);
        self.finished()
    }

    /// `TxnRequest` that puts every key if none was modified since it was read.
    pub(crate) fn put_unless_modified(&mut self, keys: &[Guarded]) -> &[u8] {
        self.begin();
        for guarded in keys {
            self.part.clear();
            push_number(&mut self.part, 2, COMPARE_MOD_REVISION);
            push_bytes(&mut self.part, 3, &guarded.key);
            // One of a choice: written even if zero.
            push_varint(&mut self.part, 6 << 3);
            push_varint(&mut self.part, guarded.mod_revision);
            push_bytes(&mut self.body, 1, &self.part);
        }
        for guarded in keys {
            self.inner.clear();
            push_put(&mut self.inner, &guarded.key, &guarded.value);
            self.part.clear();
            push_bytes(&mut self.part, 2, &self.inner);
            push_bytes(&mut self.body, 2, &self.part);
        }
        self.finished()
    }

    fn begin(&mut self) {
        self.body.clear();
        self.body.resize(PREFIX_BYTES, 0);
    }

    fn finished(&mut self) -> &[u8] {
        let length =
            u32::try_from(self.body.len() - PREFIX_BYTES).expect("a message is below 4 GiB");
        self.body[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        &self.body
    }
}

fn push_put(body: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    push_bytes(body, 1, key);
    push_bytes(body, 2, value);
}

const COMPARE_MOD_REVISION: u64 = 2;

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
    use metastore_proto::etcdserverpb::request_op::Request;
    use metastore_proto::etcdserverpb::watch_request::RequestUnion;
    use metastore_proto::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, MoveLeaderRequest, PutRequest, RangeRequest,
        StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest,
    };

    use super::{Ask, Guarded};

    fn decoded<M: prost::Message + Default>(body: &[u8]) -> M {
        let (prefix, message) = body.split_at(5);
        assert_eq!(prefix[0], 0, "the message is not compressed");
        let length = u32::from_be_bytes(prefix[1..].try_into().expect("four bytes"));
        assert_eq!(length as usize, message.len());
        M::decode(message).expect("the message is protobuf")
    }

    #[test]
    fn a_put_names_its_lease() {
        let mut ask = Ask::default();
        ask.put(b"longer than what follows", b"v", 0);
        let put: PutRequest = decoded(ask.put(b"k", b"v", 1 << 40));
        let expect = PutRequest {
            key: b"k".to_vec(),
            value: b"v".to_vec(),
            lease: 1 << 40,
            ..PutRequest::default()
        };
        assert_eq!(put, expect);
    }

    #[test]
    fn a_range_may_ask_for_the_count_alone() {
        let range: RangeRequest = decoded(Ask::default().range(b"a", b"b", true));
        let expect = RangeRequest {
            key: b"a".to_vec(),
            range_end: b"b".to_vec(),
            count_only: true,
            ..RangeRequest::default()
        };
        assert_eq!(range, expect);
    }

    #[test]
    fn a_watch_is_a_create_request() {
        let watch: WatchRequest = decoded(Ask::default().watch(b"a", b"c"));
        let create = WatchCreateRequest {
            key: b"a".to_vec(),
            range_end: b"c".to_vec(),
            ..WatchCreateRequest::default()
        };
        assert_eq!(
            watch.request_union,
            Some(RequestUnion::CreateRequest(create))
        );
    }

    #[test]
    fn lease_requests_hold_their_number() {
        let mut ask = Ask::default();
        let grant: LeaseGrantRequest = decoded(ask.lease_grant(60));
        assert_eq!((grant.ttl, grant.id), (60, 0));
        let keep_alive: LeaseKeepAliveRequest = decoded(ask.keep_alive(7_587_861_231_285));
        assert_eq!(keep_alive.id, 7_587_861_231_285);
    }

    #[test]
    fn a_leader_is_moved_to_a_member_and_a_status_asks_for_nothing() {
        let mut ask = Ask::default();
        let moved: MoveLeaderRequest = decoded(ask.move_leader(u64::MAX - 1));
        assert_eq!(moved.target_id, u64::MAX - 1);
        assert_eq!(
            decoded::<StatusRequest>(ask.nothing()),
            StatusRequest::default()
        );
    }

    #[test]
    fn a_transaction_compares_every_key_it_puts() {
        let keys = [0, 900].map(|mod_revision| Guarded {
            key: format!("key {mod_revision}").into_bytes(),
            mod_revision,
            value: vec![1; 200],
        });
        let txn: TxnRequest = decoded(Ask::default().put_unless_modified(&keys));
        assert!(txn.failure.is_empty());
        assert_eq!((txn.compare.len(), txn.success.len()), (2, 2));
        for ((compare, operation), guarded) in txn.compare.iter().zip(&txn.success).zip(&keys) {
            assert_eq!(compare.result(), CompareResult::Equal);
            assert_eq!(compare.target(), CompareTarget::Mod);
            assert_eq!(compare.key, guarded.key);
            let revision = i64::try_from(guarded.mod_revision).expect("a revision");
            assert_eq!(
                compare.target_union,
                Some(TargetUnion::ModRevision(revision))
            );
            let Some(Request::RequestPut(put)) = &operation.request else {
                panic!("every operation puts")
            };
            assert_eq!((&put.key, &put.value), (&guarded.key, &guarded.value));
        }
    }
}
