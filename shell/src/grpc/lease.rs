//! The Lease service: grants, renewals and what is known about leases.

use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use metastore_core::command::{Command, Request as Replicated};
use metastore_core::lease::{LeaseAnswer, LeaseQuestion};
use metastore_core::output::Outcome;
use metastore_proto::etcdserverpb::lease_server::Lease;
use metastore_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    LeaseLeasesRequest, LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
};
use tonic::{Code, Request, Response, Status, Streaming};

use super::Context;
use crate::status;

/// See the module.
pub(crate) struct LeaseService {
    context: Context,
}

/// Renewals of one stream that may wait for the lessor at once.
const RENEWALS_MAX: usize = 64;

impl LeaseService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    async fn ask(&self, question: LeaseQuestion) -> Result<LeaseAnswer, Status> {
        ask(&self.context, question).await
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<LeaseGrantRequest>,
    ) -> Result<Response<LeaseGrantResponse>, Status> {
        let LeaseGrantRequest { id, ttl } = request.into_inner();
        let granted = match id {
            0 => grant_any(&self.context, ttl).await,
            id => grant(&self.context, id, ttl).await,
        };
        granted.map(Response::new)
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let command = Command::from(Replicated::LeaseRevoke(request.into_inner()));
        match self.context.replicate(command).await? {
            Outcome::LeaseRevoked(mut response) => {
                self.context.stamp(&mut response.header);
                Ok(Response::new(response))
            }
            _ => Err(status::answered_otherwise("a revocation")),
        }
    }

    type LeaseKeepAliveStream =
        Pin<Box<dyn Stream<Item = Result<LeaseKeepAliveResponse, Status>> + Send>>;

    /// One answer per request, in the order of the requests; the stream ends well when the client has no more.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let context = self.context.clone();
        let renewals = request.into_inner().map(move |request| {
            let context = context.clone();
            async move { renew(&context, request.map_err(status::of_requests)?.id).await }
        });
        Ok(Response::new(Box::pin(renewals.buffered(RENEWALS_MAX))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let question = LeaseQuestion::TimeToLive { id, keys };
        let LeaseAnswer::TimeToLive(status) = self.ask(question).await? else {
            return Err(status::answered_otherwise("a question about a lease"));
        };
        let header = self.context.header_now();
        let response = status.map_or_else(
            || LeaseTimeToLiveResponse {
                ttl: -1,
                ..LeaseTimeToLiveResponse::default()
            },
            |status| LeaseTimeToLiveResponse {
                ttl: status.remaining_seconds,
                granted_ttl: status.ttl_seconds,
                keys: status.keys.iter().map(<[u8]>::to_vec).collect(),
                ..LeaseTimeToLiveResponse::default()
            },
        );
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: Some(header),
            id,
            ..response
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<LeaseLeasesRequest>,
    ) -> Result<Response<LeaseLeasesResponse>, Status> {
        let LeaseAnswer::List(ids) = self.ask(LeaseQuestion::List).await? else {
            return Err(status::answered_otherwise("a question for all leases"));
        };
        Ok(Response::new(LeaseLeasesResponse {
            header: Some(self.context.header_now()),
            leases: ids.iter().map(|id| LeaseStatus { id: *id }).collect(),
        }))
    }
}

async fn grant(context: &Context, id: i64, ttl: i64) -> Result<LeaseGrantResponse, Status> {
    let ttl = ttl.max(context.limits.lease_ttl_seconds_min);
    let request = LeaseGrantRequest { id, ttl };
    let command = Command::from(Replicated::LeaseGrant(request));
    match context.replicate(command).await? {
        Outcome::LeaseGranted(mut response) => {
            context.stamp(&mut response.header);
            Ok(response)
        }
        _ => Err(status::answered_otherwise("a grant")),
    }
}

/// Grants a lease whose id the server chooses.
pub(super) async fn grant_any(context: &Context, ttl: i64) -> Result<LeaseGrantResponse, Status> {
    loop {
        match grant(context, random_id(), ttl).await {
            // Only an id in use is a failed precondition here: another one will do.
            Err(refused) if refused.code() == Code::FailedPrecondition => {}
            answer => return answer,
        }
    }
}

async fn ask(context: &Context, question: LeaseQuestion) -> Result<LeaseAnswer, Status> {
    context
        .node
        .ask_lease(question)
        .await
        .map_err(|refusal| status::from_refusal(&refusal))
}

async fn renew(context: &Context, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
    // Taken before the renewal, as clients know it.
    let header = context.header_now();
    let LeaseAnswer::Renewed { ttl_seconds } = ask(context, LeaseQuestion::Renew(id)).await? else {
        return Err(status::answered_otherwise("a renewal"));
    };
    Ok(LeaseKeepAliveResponse {
        header: Some(header),
        id,
        ttl: ttl_seconds,
    })
}

/// A positive id that nobody can foretell.
fn random_id() -> i64 {
    let bits = RandomState::new().hash_one("lease");
    i64::try_from(bits >> 1).unwrap_or(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ids_are_positive_and_differ() {
        let ids: Vec<i64> = (0..1000).map(|_| random_id()).collect();
        assert!(ids.iter().all(|id| *id > 0));
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len());
    }
}
