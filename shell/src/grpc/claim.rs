//! Claims on a name, which locks and elections are made of: keys below the name, each as long-lived as a lease. The
//! oldest owns the name; when its key goes, the next oldest does.

use std::future::poll_fn;
use std::task::Poll;

use metastore_core::command::{Command, Request as Replicated};
use metastore_core::output::Outcome;
use metastore_core::watch::Content;
use metastore_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use metastore_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use metastore_proto::etcdserverpb::request_op::Request as Op;
use metastore_proto::etcdserverpb::response_op::Response as Done;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse, WatchCreateRequest,
};
use metastore_proto::mvccpb::KeyValue;
use tonic::Status;

use super::{Context, lease};
use crate::status;
use crate::watching::OpenStream;

/// A key that stands for its owner's wish to own a name. Dropping one that still waits takes the wish back: the client
/// does not wait any more.
pub(super) struct Claim {
    context: Context,
    prefix: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) lease: i64,
    /// The revision that created the key.
    pub(super) revision: i64,
    waits: bool,
}

/// How a claim was made.
pub(super) struct Staked {
    pub(super) claim: Claim,
    /// Of the transaction that made the key, or found it.
    pub(super) header: ResponseHeader,
    /// The record of a key that was there already: the same lease has claimed the name before.
    pub(super) found: Option<KeyValue>,
}

/// How a wait in line ended.
pub(super) enum Turn {
    /// No older claim is left. With the header of the look that saw it; none if there was none from the beginning.
    Owner(Option<ResponseHeader>),
    /// The claim's key is gone: its lease ended, or somebody removed it.
    Lost,
}

/// Seconds that a lease has which the server grants because the client gave none.
const OWN_LEASE_SECONDS: i64 = 60;

/// What a claim is charged against the quota beside its key and value, in bytes.
const OVERHEAD_BYTES: usize = 256;

impl Claim {
    /// Claims a name with a lease, which the server grants if it is 0.
    pub(super) async fn stake(
        context: &Context,
        name: &[u8],
        lease: i64,
        value: Vec<u8>,
    ) -> Result<Staked, Status> {
        let lease = match lease {
            0 => lease::grant_any(context, OWN_LEASE_SECONDS).await?.id,
            lease => lease,
        };
        let prefix = prefix(name);
        let key = [&prefix[..], hexadecimal(lease).as_bytes()].concat();
        let put = PutRequest {
            key: key.clone(),
            value,
            lease,
            ..PutRequest::default()
        };
        let get = RangeRequest {
            key: key.clone(),
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Op::RequestPut(put))],
            failure: vec![op(Op::RequestRange(get))],
        };
        let response = execute(context, request).await?;
        let header = response.header.unwrap_or_default();
        let found = response
            .responses
            .into_iter()
            .find_map(|done| match done.response {
                Some(Done::ResponseRange(range)) => range.kvs.into_iter().next(),
                _ => None,
            });
        let claim = Claim {
            context: context.clone(),
            prefix,
            key,
            lease,
            revision: found
                .as_ref()
                .map_or(header.revision, |kv| kv.create_revision),
            waits: true,
        };
        Ok(Staked {
            claim,
            header,
            found,
        })
    }

    /// Waits until no older claim on the name is left. Keeping the lease alive meanwhile is its holder's business.
    pub(super) async fn until_oldest(&mut self) -> Result<Turn, Status> {
        let mut waited = false;
        loop {
            let view = self.context.published().view.clone();
            let own = view.range(&RangeRequest {
                key: self.key.clone(),
                ..RangeRequest::default()
            });
            let own = own.map_err(|error| status::from_kv(&error))?;
            if own
                .kvs
                .first()
                .is_none_or(|kv| kv.create_revision != self.revision)
            {
                self.waits = false;
                return Ok(Turn::Lost);
            }
            let older = view.range(&RangeRequest {
                max_create_revision: self.revision - 1,
                ..by_creation(&self.prefix, SortOrder::Descend)
            });
            let older = older.map_err(|error| status::from_kv(&error))?;
            let Some(before) = older.kvs.into_iter().next() else {
                self.waits = false;
                return Ok(Turn::Owner(
                    waited.then(|| self.context.header(view.revision())),
                ));
            };
            waited = true;
            Self::until_one_goes(&[&before.key, &self.key], view.revision() + 1).await?;
        }
    }

    /// Waits until one of these keys is deleted, at this revision or later.
    async fn until_one_goes(keys: &[&[u8]], from: i64) -> Result<(), Status> {
        let stream = OpenStream::open();
        for key in keys {
            stream.create(&WatchCreateRequest {
                key: key.to_vec(),
                start_revision: from,
                filters: vec![FilterType::Noput.into()],
                ..WatchCreateRequest::default()
            });
        }
        poll_fn(|cx| {
            loop {
                match stream.poll_next(cx) {
                    Poll::Ready(Ok((response, _))) => match response.content {
                        // What was compacted was so long ago that a new look is due.
                        Content::Events(_) | Content::Compacted { .. } => {
                            return Poll::Ready(Ok(()));
                        }
                        _ => {}
                    },
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(status::server_stopped())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.waits {
            return;
        }
        let (context, key, revision) = (self.context.clone(), self.key.clone(), self.revision);
        tokio::spawn(async move {
            if let Err(status) = withdraw(&context, &key, revision).await {
                // Its lease takes it away in the end.
                tracing::warn!(
                    reason = status.message(),
                    "could not withdraw a claim whose client left"
                );
            }
        });
    }
}

/// Removes the claim with this key if it is still the one that was created at this revision. Answers with the header.
pub(super) async fn withdraw(
    context: &Context,
    key: &[u8],
    revision: i64,
) -> Result<ResponseHeader, Status> {
    let delete = DeleteRangeRequest {
        key: key.to_vec(),
        ..DeleteRangeRequest::default()
    };
    let request = TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Op::RequestDeleteRange(delete))],
        failure: Vec::new(),
    };
    let response = execute(context, request).await?;
    Ok(response.header.unwrap_or_default())
}

/// Gives the claim with this key another value, if it is still the one that was created at this revision. Answers with
/// the header, and whether it was.
pub(super) async fn revalue(
    context: &Context,
    (key, revision, lease): (&[u8], i64, i64),
    value: Vec<u8>,
) -> Result<(ResponseHeader, bool), Status> {
    let put = PutRequest {
        key: key.to_vec(),
        value,
        lease,
        ..PutRequest::default()
    };
    let request = TxnRequest {
        compare: vec![created_at(key, revision)],
        success: vec![op(Op::RequestPut(put))],
        failure: Vec::new(),
    };
    let response = execute(context, request).await?;
    Ok((response.header.unwrap_or_default(), response.succeeded))
}

/// A question for the oldest or the newest claim on a name, by its prefix.
pub(super) fn by_creation(prefix: &[u8], order: SortOrder) -> RangeRequest {
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
pub(super) fn prefix(name: &[u8]) -> Vec<u8> {
    [name, b"/"].concat()
}

/// The first key behind all that begin with this prefix, which ends in a slash.
pub(super) fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
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

async fn execute(context: &Context, request: TxnRequest) -> Result<TxnResponse, Status> {
    let put = request.success.iter().find_map(|op| match &op.request {
        Some(Op::RequestPut(put)) => Some(OVERHEAD_BYTES + put.key.len() + put.value.len()),
        _ => None,
    });
    let charge = put.unwrap_or(0) as u64;
    let command = Command::from(Replicated::Txn(request));
    match context.replicate(command, charge).await? {
        Outcome::Txn(mut response) => {
            context.stamp(&mut response.header);
            Ok(response)
        }
        other => unreachable!("a transaction answered {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_claims_are_the_name_and_the_lease_in_hexadecimal() {
        assert_eq!(prefix(b"name"), b"name/");
        assert_eq!(hexadecimal(0x3269_57F0), "326957f0");
        assert_eq!(hexadecimal(-255), "-ff");
        assert_eq!(hexadecimal(i64::MIN), "-8000000000000000");
    }

    #[test]
    fn an_interval_of_claims_ends_before_other_names() {
        let (prefix, end) = (prefix(b"a"), behind(&prefix(b"a")));
        assert!(prefix.as_slice() <= b"a/ffff".as_slice() && b"a/ffff".as_slice() < end.as_slice());
        assert!(end.as_slice() <= b"a0/1".as_slice());
    }
}
