//! What a transaction answers for each of its operations.

use std::rc::Rc;

use metastore_core::claim;
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, ResponseOp,
};

use super::{Keys, OPEN, Op, created, put, read, within};

impl Op {
    /// The answers to a transaction's operations, in order, where it finds `keys` at `revision`; `past` has the keys of
    /// any revision before. None if it does not have those that are asked for; no answers for what is no transaction.
    pub fn responses(
        &self,
        keys: &Keys,
        revision: i64,
        past: impl FnOnce(i64) -> Option<Keys>,
    ) -> Option<Vec<ResponseOp>> {
        let succeeds = self.effect(keys, revision + 1).succeeded;
        let mut executed = Executed {
            keys: keys.clone(),
            found: revision,
            changed: false,
            responses: Vec::new(),
        };
        match self {
            Op::Txn {
                guards,
                puts,
                deletes,
            } => match guards.first() {
                Some((first, _)) if !succeeds => executed.range(first, &[]),
                _ => {
                    puts.iter()
                        .for_each(|(key, value)| executed.put(key, value, 0));
                    deletes.iter().for_each(|key| executed.delete(key, &[]));
                }
            },
            Op::Recall {
                key,
                end,
                revision,
                to,
                value,
            } => {
                executed.range_of(&past(*revision)?, key, end);
                executed.put(to, value, 0);
            }
            Op::Flash { key, value } => {
                executed.put(key, value, 0);
                executed.delete(key, OPEN);
            }
            Op::Echo { key, end, value } => {
                executed.put(key, value, 0);
                executed.range(key, end);
            }
            Op::Survey(survey) => {
                if succeeds {
                    let (key, end) = &survey.first;
                    match survey.revision {
                        0 => executed.range(key, end),
                        at => executed.range_of(&past(at)?, key, end),
                    }
                }
                executed.range(&survey.second.0, &survey.second.1);
            }
            Op::Stake { name, lease, value } => {
                let key = claim::key(name, *lease);
                match created(keys, &key) {
                    0 => executed.put(&key, value, *lease),
                    _ => executed.range(&key, &[]),
                }
            }
            Op::Withdraw { claim, .. } if succeeds => executed.delete(claim, &[]),
            Op::Mark { key, value, .. } if succeeds => executed.put(key, value, 0),
            _ => {}
        }
        Some(executed.responses)
    }
}

/// A transaction under way: each operation sees what those before it did.
struct Executed {
    keys: Keys,
    /// The revision before it.
    found: i64,
    changed: bool,
    responses: Vec<ResponseOp>,
}

impl Executed {
    fn put(&mut self, key: &[u8], value: &[u8], lease: i64) {
        let (key, record) = put(&self.keys, key, value, lease, self.found + 1);
        self.keys.extend(record.map(|record| (key, record)));
        self.changed = true;
        self.answer(Response::ResponsePut(PutResponse {
            header: self.header(),
            prev_kv: None,
        }));
    }

    fn delete(&mut self, key: &[u8], end: &[u8]) {
        let doomed = within(&self.keys, key, end).map(|(key, _)| Rc::clone(key));
        let doomed: Vec<_> = doomed.collect();
        self.changed |= !doomed.is_empty();
        for key in &doomed {
            self.keys.remove(key);
        }
        self.answer(Response::ResponseDeleteRange(DeleteRangeResponse {
            header: self.header(),
            deleted: doomed.len() as i64,
            prev_kvs: Vec::new(),
        }));
    }

    fn range(&mut self, key: &[u8], end: &[u8]) {
        self.range_of(&self.keys.clone(), key, end);
    }

    fn range_of(&mut self, keys: &Keys, key: &[u8], end: &[u8]) {
        let kvs = read(keys, key, end).into_iter();
        let kvs: Vec<_> = kvs.map(Rc::unwrap_or_clone).collect();
        self.answer(Response::ResponseRange(RangeResponse {
            header: self.header(),
            count: kvs.len() as i64,
            kvs,
            more: false,
        }));
    }

    /// Inside a transaction the revision is that of its changes from the first of them on.
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision: self.found + i64::from(self.changed),
            ..ResponseHeader::default()
        })
    }

    fn answer(&mut self, response: Response) {
        self.responses.push(ResponseOp {
            response: Some(response),
        });
    }
}
