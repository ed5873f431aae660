//! One request of the key-value API and what a server answered to it, as values to print, replay and compare.

use metastore_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest,
    TxnResponse, request_op, response_op,
};
use tonic::Status;

use super::connection::Connection;

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    /// Leases live far longer than a run, so that no clock has a say in the answers.
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
    Compact(CompactionResponse),
    Grant(LeaseGrantResponse),
    Revoke(LeaseRevokeResponse),
    Refused { code: tonic::Code, message: String },
}

impl Operation {
    pub(crate) async fn send(&self, to: &mut Connection) -> Answer {
        let answered = match self.clone() {
            Self::Range(request) => to
                .kv
                .range(request)
                .await
                .map(|a| Answer::Range(a.into_inner())),
            Self::Put(request) => to
                .kv
                .put(request)
                .await
                .map(|a| Answer::Put(a.into_inner())),
            Self::Delete(request) => to
                .kv
                .delete_range(request)
                .await
                .map(|a| Answer::Delete(a.into_inner())),
            Self::Txn(request) => to
                .kv
                .txn(request)
                .await
                .map(|a| Answer::Txn(a.into_inner())),
            Self::Compact(request) => to
                .kv
                .compact(request)
                .await
                .map(|a| Answer::Compact(a.into_inner())),
            Self::Grant(request) => to
                .lease
                .lease_grant(request)
                .await
                .map(|a| Answer::Grant(a.into_inner())),
            Self::Revoke(request) => to
                .lease
                .lease_revoke(request)
                .await
                .map(|a| Answer::Revoke(a.into_inner())),
        };
        answered.unwrap_or_else(|status: Status| Answer::Refused {
            code: status.code(),
            message: status.message().to_owned(),
        })
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Range(_) => "range",
            Self::Put(_) => "put",
            Self::Delete(_) => "delete",
            Self::Txn(_) => "txn",
            Self::Compact(_) => "compact",
            Self::Grant(_) => "grant",
            Self::Revoke(_) => "revoke",
        }
    }
}

impl Answer {
    pub(crate) fn header_mut(&mut self) -> Option<&mut ResponseHeader> {
        match self {
            Self::Range(answer) => answer.header.as_mut(),
            Self::Put(answer) => answer.header.as_mut(),
            Self::Delete(answer) => answer.header.as_mut(),
            Self::Txn(answer) => answer.header.as_mut(),
            Self::Compact(answer) => answer.header.as_mut(),
            Self::Grant(answer) => answer.header.as_mut(),
            Self::Revoke(answer) => answer.header.as_mut(),
            Self::Refused { .. } => None,
        }
    }

    /// The revision in the header, where the request was carried out.
    pub(crate) fn revision(&self) -> Option<i64> {
        self.clone().header_mut().map(|header| header.revision)
    }

    /// What happened, without the data: the words that a run counts to show what it reached.
    pub(crate) fn outcome(&self) -> String {
        match self {
            Self::Refused { code, message } => format!("{code:?} {message}"),
            Self::Txn(answer) if answer.succeeded => "succeeded".to_owned(),
            Self::Txn(_) => "failed".to_owned(),
            Self::Range(answer) if answer.more => "more".to_owned(),
            Self::Delete(answer) if answer.deleted == 0 => "nothing deleted".to_owned(),
            _ => "ok".to_owned(),
        }
    }
}

/// Calls `visit` with every executed range of a request and its two answers, nested transactions
/// included. Answers of different shapes are not entered: comparing them whole tells them apart.
pub(crate) fn for_each_range(
    operation: &Operation,
    left: &mut Answer,
    right: &mut Answer,
    visit: &mut dyn FnMut(&RangeRequest, &mut RangeResponse, &mut RangeResponse),
) {
    match (operation, left, right) {
        (Operation::Range(request), Answer::Range(left), Answer::Range(right)) => {
            visit(request, left, right)
        }
        (Operation::Txn(request), Answer::Txn(left), Answer::Txn(right)) => {
            for_each_range_of_txn(request, left, right, visit);
        }
        _ => {}
    }
}

fn for_each_range_of_txn(
    request: &TxnRequest,
    left: &mut TxnResponse,
    right: &mut TxnResponse,
    visit: &mut dyn FnMut(&RangeRequest, &mut RangeResponse, &mut RangeResponse),
) {
    if left.succeeded != right.succeeded || left.responses.len() != right.responses.len() {
        return;
    }
    let executed: &[RequestOp] = if left.succeeded {
        &request.success
    } else {
        &request.failure
    };
    let answers = left.responses.iter_mut().zip(&mut right.responses);
    for (op, (left, right)) in executed.iter().zip(answers) {
        visit_op(op, left, right, visit);
    }
}

fn visit_op(
    op: &RequestOp,
    left: &mut ResponseOp,
    right: &mut ResponseOp,
    visit: &mut dyn FnMut(&RangeRequest, &mut RangeResponse, &mut RangeResponse),
) {
    use request_op::Request;
    use response_op::Response;
    match (&op.request, &mut left.response, &mut right.response) {
        (
            Some(Request::RequestRange(request)),
            Some(Response::ResponseRange(left)),
            Some(Response::ResponseRange(right)),
        ) => visit(request, left, right),
        (
            Some(Request::RequestTxn(request)),
            Some(Response::ResponseTxn(left)),
            Some(Response::ResponseTxn(right)),
        ) => for_each_range_of_txn(request, left, right, visit),
        _ => {}
    }
}
