//! Claims on a name, which locks and elections are made of: how one is staked, waited with and given up by a handler.
//! What a claim is and where it stands is for the core to say.

use std::future::poll_fn;
use std::ops::Deref;
use std::task::Poll;

use metastore_core::check;
use metastore_core::claim::{self, Place};
use metastore_core::command::{Command, Request as Replicated};
use metastore_core::output::Outcome;
use metastore_core::watch::Content;
use metastore_proto::etcdserverpb::{ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest};
use metastore_proto::mvccpb::KeyValue;
use tonic::Status;

use super::{Context, lease};
use crate::status;
use crate::watching::OpenStream;

/// A claim that a handler holds. Dropping one that still waits takes the wish back: the client does not wait any more.
pub(super) struct Claim {
    context: Context,
    claim: claim::Claim,
    /// Whether it was last seen behind an older claim. Until then nothing is taken back: the key may be one that the
    /// lease had before, and its owner wanted no more than another value.
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
        let response = execute(context, claim::stake(name, lease, value)).await?;
        let header = response.header.unwrap_or_default();
        let (claim, found) = claim::Claim::staked(name, lease, header.revision, response);
        let claim = Claim {
            context: context.clone(),
            claim,
            waits: false,
        };
        Ok(Staked {
            claim,
            header,
            found,
        })
    }

    /// Waits until no older claim on the name is left. Keeping the lease alive meanwhile is its holder's business.
    pub(super) async fn until_oldest(&mut self) -> Result<Turn, Status> {
        loop {
            let (place, revision) = self.look()?;
            match place {
                Place::Lost => {
                    self.waits = false;
                    return Ok(Turn::Lost);
                }
                Place::Owner => {
                    let waited = std::mem::take(&mut self.waits);
                    let seen = waited.then(|| self.context.header(revision));
                    return Ok(Turn::Owner(seen));
                }
                Place::Behind(before) => {
                    self.waits = true;
                    let watches = self.claim.watches(&before, revision + 1);
                    Self::until_one_goes(&watches).await?;
                }
            }
        }
    }

    /// Where the claim stands, and as of which revision. The view that says so is let go: through a wait it would keep in
    /// memory all that is replaced meanwhile.
    fn look(&self) -> Result<(Place, i64), Status> {
        let view = self.context.published().view.clone();
        let place = self.claim.place(&view);
        Ok((
            place.map_err(|error| status::from_kv(&error))?,
            view.revision(),
        ))
    }

    /// Waits until one of the watched keys is deleted.
    async fn until_one_goes(watches: &[WatchCreateRequest]) -> Result<(), Status> {
        let stream = OpenStream::open();
        watches.iter().for_each(|request| stream.create(request));
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

impl Deref for Claim {
    type Target = claim::Claim;

    fn deref(&self) -> &Self::Target {
        &self.claim
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
    let response = execute(context, claim::withdrawal(key, revision)).await?;
    Ok(response.header.unwrap_or_default())
}

/// Gives the claim with this key another value, if it is still the one that was created at this revision. Answers with
/// the header, and whether it was.
pub(super) async fn revalue(
    context: &Context,
    (key, revision, lease): (&[u8], i64, i64),
    value: Vec<u8>,
) -> Result<(ResponseHeader, bool), Status> {
    let request = claim::revaluation(key, revision, lease, value);
    let response = execute(context, request).await?;
    Ok((response.header.unwrap_or_default(), response.succeeded))
}

/// Carries a transaction out, checked like one of a client: names, keys and revisions are what a client says.
async fn execute(context: &Context, request: TxnRequest) -> Result<TxnResponse, Status> {
    check::txn(&request, &context.limits.shape).map_err(|error| status::from_kv(&error))?;
    let command = Command::from(Replicated::Txn(request));
    match context.replicate(command).await? {
        Outcome::Txn(mut response) => {
            context.stamp(&mut response.header);
            Ok(response)
        }
        Outcome::TxnUntold { .. } => Err(status::answer_too_large()),
        _ => Err(status::answered_otherwise("a transaction")),
    }
}
