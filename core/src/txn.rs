//! Transactions: compare, choose a branch at every depth, check it, then apply it as a whole.

use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::response_op::Response;
use metastore_proto::etcdserverpb::{
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use prost::Message as _;

use crate::kv_error::KvError;
use crate::mvcc::write::Write;
use crate::mvcc::{Changes, Store, View, header};

mod compare;

/// Whether a transaction can only read, whichever branch runs; such a one needs no log entry.
///
/// One with a nested transaction counts as a write, even if that only reads.
pub fn is_read_only(request: &TxnRequest) -> bool {
    operations(request).all(|operation| matches!(operation.request, Some(Request::RequestRange(_))))
}

/// Whether a read-only transaction may be answered without confirming that this member is up to date: every range
/// must allow it. One without operations does, so its compares may see the past.
pub fn is_serializable(request: &TxnRequest) -> bool {
    operations(request).all(|operation| {
        matches!(&operation.request, Some(Request::RequestRange(range)) if range.serializable)
    })
}

fn operations(request: &TxnRequest) -> impl Iterator<Item = &RequestOp> {
    request.success.iter().chain(&request.failure)
}

impl Store {
    /// Applies a transaction: all of the branch that its compares choose, or nothing.
    ///
    /// Compares at every depth are decided on the state before the transaction; its operations see each other.
    pub fn txn(
        &mut self,
        request: &TxnRequest,
        changes: &mut Changes,
    ) -> Result<TxnResponse, KvError> {
        let all = &mut Room(usize::MAX);
        self.txn_within(request, changes, all)
            .map(|answer| answer.response)
    }

    /// The same, with an answer for which there may be no room.
    pub(crate) fn txn_within(
        &mut self,
        request: &TxnRequest,
        changes: &mut Changes,
        room: &mut Room,
    ) -> Result<Answer, KvError> {
        let branch = Branch::choose(&self.view, request);
        branch.check(&self.view, &|put| self.check_put(put))?;
        let mut write = Write::begin(self, changes);
        let response = branch.apply(&mut write, room);
        let revision = write.revision();
        write.commit();
        Ok(Answer {
            response: TxnResponse {
                header: header(revision),
                ..response
            },
            is_whole: room.0 > 0,
        })
    }
}

/// Bytes of ranges that the answer of a transaction may still take; 0 once there was no room, and from then on nothing is
/// read any more, as nobody is told.
///
/// A small transaction can ask for the same range thousands of times, and every member executes it, also when it starts
/// again: what it asks for must not be more than any of them has memory.
pub(crate) struct Room(usize);

impl Room {
    /// For whoever waits for the answer: far more than any client takes.
    pub(crate) const WAITED_FOR: Self = Self(512 << 20);
    /// Where nobody waits.
    pub(crate) const NONE: Self = Self(0);

    /// The answer of a range, if there is room for it.
    fn read(&mut self, write: &Write<'_>, request: &RangeRequest) -> Option<RangeResponse> {
        if self.0 == 0 {
            return None;
        }
        #[cfg(test)]
        tests::READ.set(tests::READ.get() + 1);
        let response = write.range(request);
        self.0 = self.0.saturating_sub(response.encoded_len());
        (self.0 > 0).then_some(response)
    }
}

/// What comes of a transaction.
pub(crate) struct Answer {
    pub(crate) response: TxnResponse,
    /// Whether all that was read is in the response.
    pub(crate) is_whole: bool,
}

impl View {
    /// Answers a transaction that [`is_read_only`].
    pub fn txn_read_only(&self, request: &TxnRequest) -> Result<TxnResponse, KvError> {
        assert!(
            is_read_only(request),
            "a transaction that may write needs the store"
        );
        let branch = Branch::choose(self, request);
        branch.check(self, &|_| {
            unreachable!("a read-only transaction has no put")
        })?;
        let responses = branch.operations.iter().map(|operation| {
            let Operation::Range(request) = operation else {
                unreachable!("only ranges are read-only")
            };
            let at_newest = RangeRequest {
                revision: request.revision.max(0),
                ..(*request).clone()
            };
            let response = self.range(&at_newest).expect("the revision was checked");
            ResponseOp {
                response: Some(Response::ResponseRange(response)),
            }
        });
        let responses = responses.collect();
        Ok(TxnResponse {
            header: header(self.revision()),
            succeeded: branch.succeeded,
            responses,
        })
    }
}

/// The branch of a transaction that runs, with those of its nested transactions.
struct Branch<'a> {
    succeeded: bool,
    operations: Vec<Operation<'a>>,
}

enum Operation<'a> {
    Range(&'a RangeRequest),
    Put(&'a metastore_proto::etcdserverpb::PutRequest),
    DeleteRange(&'a metastore_proto::etcdserverpb::DeleteRangeRequest),
    Txn(Branch<'a>),
    Unset,
}

impl<'a> Branch<'a> {
    /// Evaluates the compares, those of nested transactions too, on the state before the transaction.
    fn choose(view: &View, request: &'a TxnRequest) -> Branch<'a> {
        let succeeded = request
            .compare
            .iter()
            .all(|compare| compare::holds(view, compare));
        let list = if succeeded {
            &request.success
        } else {
            &request.failure
        };
        let operations = list.iter().map(|operation| match &operation.request {
            Some(Request::RequestRange(request)) => Operation::Range(request),
            Some(Request::RequestPut(request)) => Operation::Put(request),
            Some(Request::RequestDeleteRange(request)) => Operation::DeleteRange(request),
            Some(Request::RequestTxn(request)) => Operation::Txn(Branch::choose(view, request)),
            None => Operation::Unset,
        });
        Branch {
            succeeded,
            operations: operations.collect(),
        }
    }

    /// Everything that could refuse an operation of the branch, judged on the state before the transaction.
    fn check(
        &self,
        view: &View,
        check_put: &dyn Fn(&metastore_proto::etcdserverpb::PutRequest) -> Result<(), KvError>,
    ) -> Result<(), KvError> {
        for operation in &self.operations {
            match operation {
                Operation::Range(request) => check_revision(view, request.revision)?,
                Operation::Put(request) => check_put(request)?,
                Operation::DeleteRange(_) => {}
                Operation::Txn(branch) => branch.check(view, check_put)?,
                Operation::Unset => return Err(KvError::KeyNotFound),
            }
        }
        Ok(())
    }

    /// Runs the branch; the response's header is empty, as nested ones stay.
    fn apply(&self, write: &mut Write<'_>, room: &mut Room) -> TxnResponse {
        let responses = self.operations.iter().map(|operation| {
            let response = match operation {
                Operation::Range(request) => room.read(write, request).map(Response::ResponseRange),
                Operation::Put(request) => Some(Response::ResponsePut(write.put(request))),
                Operation::DeleteRange(request) => {
                    Some(Response::ResponseDeleteRange(write.delete_range(request)))
                }
                Operation::Txn(branch) => Some(Response::ResponseTxn(branch.apply(write, room))),
                Operation::Unset => unreachable!("refused by the check"),
            };
            ResponseOp { response }
        });
        let responses = responses.collect();
        TxnResponse {
            header: Some(ResponseHeader::default()),
            succeeded: self.succeeded,
            responses,
        }
    }
}

/// The revision rule inside a transaction: 0 is the newest, and negative ones are compared like any other.
fn check_revision(view: &View, revision: i64) -> Result<(), KvError> {
    match revision {
        0 => Ok(()),
        _ if revision > view.revision() => Err(KvError::FutureRevision),
        _ if revision < view.compact_revision() => Err(KvError::Compacted),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
