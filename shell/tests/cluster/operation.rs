//! One request of the key-value API and what a server answered to it, as values to print, replay and compare.

use futures_util::{TryStreamExt, stream};
use metastore_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse, request_op,
    response_op,
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
    Grant(LeaseGrantRequest),
    /// A grant whose ID the server chooses. The lease is revoked at once: two servers choose
    /// differently, so that no later request could name it.
    GrantAnyId {
        ttl: i64,
    },
    Revoke(LeaseRevokeRequest),
    TimeToLive(LeaseTimeToLiveRequest),
    Leases,
    /// Renewals sent at once on one stream, whose sending side is then closed.
    KeepAlive(Vec<LeaseKeepAliveRequest>),
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
    TimeToLive(LeaseTimeToLiveResponse),
    Leases(LeaseLeasesResponse),
    KeepAlive(Vec<LeaseKeepAliveResponse>),
    Refused { code: tonic::Code, message: String },
}

impl Operation {
    pub(crate) async fn send(&self, to: &mut Connection) -> Answer {
        self.call(to)
            .await
            .unwrap_or_else(|status| Answer::Refused {
                code: status.code(),
                message: status.message().to_owned(),
            })
    }

    async fn call(&self, to: &mut Connection) -> Result<Answer, Status> {
        Ok(match self.clone() {
            Self::Range(request) => Answer::Range(to.kv.range(request).await?.into_inner()),
            Self::Put(request) => Answer::Put(to.kv.put(request).await?.into_inner()),
            Self::Delete(request) => {
                Answer::Delete(to.kv.delete_range(request).await?.into_inner())
            }
            Self::Txn(request) => Answer::Txn(to.kv.txn(request).await?.into_inner()),
            Self::Compact(request) => Answer::Compact(to.kv.compact(request).await?.into_inner()),
            Self::Grant(request) => {
                Answer::Grant(to.lease.lease_grant(request).await?.into_inner())
            }
            Self::GrantAnyId { ttl } => {
                let request = LeaseGrantRequest { id: 0, ttl };
                let granted = to.lease.lease_grant(request).await?.into_inner();
                let revocation = LeaseRevokeRequest { id: granted.id };
                to.lease.lease_revoke(revocation).await?;
                Answer::Grant(granted)
            }
            Self::Revoke(request) => {
                Answer::Revoke(to.lease.lease_revoke(request).await?.into_inner())
            }
            Self::TimeToLive(request) => {
                Answer::TimeToLive(to.lease.lease_time_to_live(request).await?.into_inner())
            }
            Self::Leases => {
                let request = LeaseLeasesRequest {};
                Answer::Leases(to.lease.lease_leases(request).await?.into_inner())
            }
            Self::KeepAlive(requests) => {
                let answers = to.lease.lease_keep_alive(stream::iter(requests)).await?;
                Answer::KeepAlive(answers.into_inner().try_collect().await?)
            }
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
            Self::GrantAnyId { .. } => "grant of any id",
            Self::Revoke(_) => "revoke",
            Self::TimeToLive(_) => "time to live",
            Self::Leases => "leases",
            Self::KeepAlive(_) => "keep alive",
        }
    }
}

impl Answer {
    pub(crate) fn headers_mut(&mut self) -> Vec<&mut ResponseHeader> {
        let header = match self {
            Self::Range(answer) => &mut answer.header,
            Self::Put(answer) => &mut answer.header,
            Self::Delete(answer) => &mut answer.header,
            Self::Txn(answer) => &mut answer.header,
            Self::Compact(answer) => &mut answer.header,
            Self::Grant(answer) => &mut answer.header,
            Self::Revoke(answer) => &mut answer.header,
            Self::TimeToLive(answer) => &mut answer.header,
            Self::Leases(answer) => &mut answer.header,
            Self::KeepAlive(answers) => {
                return answers
                    .iter_mut()
                    .filter_map(|it| it.header.as_mut())
                    .collect();
            }
            Self::Refused { .. } => return Vec::new(),
        };
        header.iter_mut().collect()
    }

    /// The revision in the header, where the request was carried out.
    pub(crate) fn revision(&self) -> Option<i64> {
        let mut answer = self.clone();
        let headers = answer.headers_mut();
        headers.iter().map(|header| header.revision).max()
    }

    /// What happened, without the data: the words that a run counts to show what it reached.
    pub(crate) fn outcome(&self) -> String {
        match self {
            Self::Refused { code, message } => format!("{code:?} {message}"),
            Self::Txn(answer) if answer.succeeded => "succeeded".to_owned(),
            Self::Txn(_) => "failed".to_owned(),
            Self::Range(answer) if answer.more => "more".to_owned(),
            Self::Delete(answer) if answer.deleted == 0 => "nothing deleted".to_owned(),
            Self::TimeToLive(answer) if answer.ttl < 0 => "no lease".to_owned(),
            Self::TimeToLive(answer) if !answer.keys.is_empty() => "keys".to_owned(),
            Self::KeepAlive(answers) if answers.iter().any(|it| it.ttl == 0) => {
                "no lease".to_owned()
            }
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
