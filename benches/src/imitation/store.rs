//! A small store with watchers and leases for tests: enough of the API that the runs of this generator can be judged.

use std::collections::BTreeMap;

use metastore_proto::etcdserverpb::compare::TargetUnion;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::watch_request::RequestUnion;
use metastore_proto::etcdserverpb::{
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, TxnRequest, TxnResponse, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use metastore_proto::mvccpb::{Event, KeyValue};
use prost::Message;

use super::{Call, Place, Say};

/// Keys, watchers and leases.
#[derive(Default)]
pub(crate) struct Store {
    revision: i64,
    records: BTreeMap<Vec<u8>, KeyValue>,
    /// Stream, number on the stream, and what is watched.
    watchers: Vec<(Place, i64, WatchCreateRequest)>,
    leases: i64,
    /// Writes whatever the compares say.
    pub(crate) ignores_compares: bool,
}

impl Store {
    /// What the store says to `call`.
    pub(crate) fn answer(&mut self, call: &Call<'_>) -> Vec<Say> {
        match call.path {
            "/etcdserverpb.KV/Put" => {
                let mut said = self.put(decoded::<PutRequest>(call));
                said.push(last(call, &PutResponse::default()));
                said
            }
            "/etcdserverpb.KV/Range" => {
                let range = decoded::<RangeRequest>(call);
                let kvs: Vec<KeyValue> =
                    self.records.get(&range.key).cloned().into_iter().collect();
                let count = i64::from(!kvs.is_empty());
                let response = RangeResponse {
                    kvs,
                    count,
                    ..RangeResponse::default()
                };
                vec![last(call, &response)]
            }
            "/etcdserverpb.KV/Txn" => self.txn(call),
            "/etcdserverpb.Watch/Watch" => self.watch(call),
            "/etcdserverpb.Lease/LeaseGrant" => {
                self.leases += 1;
                let response = LeaseGrantResponse {
                    id: self.leases,
                    ttl: 60,
                    ..LeaseGrantResponse::default()
                };
                vec![last(call, &response)]
            }
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                let id = decoded::<LeaseKeepAliveRequest>(call).id;
                let response = LeaseKeepAliveResponse {
                    id,
                    ttl: if id <= self.leases { 60 } else { 0 },
                    ..LeaseKeepAliveResponse::default()
                };
                vec![more(call.place, &response)]
            }
            path => panic!("{path} is not imitated"),
        }
    }

    /// Writes a key and answers the events for its watchers.
    fn put(&mut self, put: PutRequest) -> Vec<Say> {
        self.revision += 1;
        let before = self.records.get(&put.key);
        let record = KeyValue {
            mod_revision: self.revision,
            version: before.map_or(0, |record| record.version) + 1,
            key: put.key.clone(),
            value: put.value,
            ..KeyValue::default()
        };
        let events = self
            .watchers
            .iter()
            .filter(|(_, _, create)| watches(create, &put.key));
        let said = events.map(|(place, watch_id, _)| {
            let event = Event {
                kv: Some(record.clone()),
                ..Event::default()
            };
            let response = WatchResponse {
                watch_id: *watch_id,
                events: vec![event],
                ..WatchResponse::default()
            };
            more(*place, &response)
        });
        let said = said.collect();
        self.records.insert(put.key, record);
        said
    }

    fn txn(&mut self, call: &Call<'_>) -> Vec<Say> {
        let txn = decoded::<TxnRequest>(call);
        let held = txn.compare.iter().all(|compare| {
            let revision = self
                .records
                .get(&compare.key)
                .map_or(0, |record| record.mod_revision);
            compare.target_union == Some(TargetUnion::ModRevision(revision))
        });
        let succeeded = held || self.ignores_compares;
        let mut said = Vec::new();
        for operation in txn.success.into_iter().filter(|_| succeeded) {
            if let Some(Request::RequestPut(put)) = operation.request {
                said.extend(self.put(put));
            }
        }
        let response = TxnResponse {
            succeeded,
            ..TxnResponse::default()
        };
        said.push(last(call, &response));
        said
    }

    fn watch(&mut self, call: &Call<'_>) -> Vec<Say> {
        let Some(RequestUnion::CreateRequest(create)) = decoded::<WatchRequest>(call).request_union
        else {
            return Vec::new();
        };
        let on_stream = self
            .watchers
            .iter()
            .filter(|(place, ..)| *place == call.place);
        let watch_id = i64::try_from(on_stream.count()).expect("a test has few watchers");
        self.watchers.push((call.place, watch_id, create));
        let response = WatchResponse {
            watch_id,
            created: true,
            ..WatchResponse::default()
        };
        vec![more(call.place, &response)]
    }
}

fn watches(create: &WatchCreateRequest, key: &Vec<u8>) -> bool {
    key == &create.key || (&create.key..&create.range_end).contains(&key)
}

fn decoded<M: Message + Default>(call: &Call<'_>) -> M {
    M::decode(call.message).expect("the client writes good messages")
}

fn last(call: &Call<'_>, message: &impl Message) -> Say {
    Say {
        place: call.place,
        message: message.encode_to_vec(),
        last: true,
    }
}

fn more(place: Place, message: &impl Message) -> Say {
    Say {
        place,
        message: message.encode_to_vec(),
        last: false,
    }
}
