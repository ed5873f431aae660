//! The Lock service: one owner at a time, the others wait in line.

use metastore_core::check;
use metastore_core::command::{Command, Request as Replicated};
use metastore_core::output::Outcome;
use metastore_proto::etcdserverpb::DeleteRangeRequest;
use metastore_proto::v3lockpb::lock_server::Lock;
use metastore_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status};

use super::Context;
use super::claim::{Claim, Turn};
use crate::status;

/// See the module.
pub(crate) struct LockService {
    context: Context,
}

impl LockService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    async fn lock_it(&self, request: LockRequest) -> Result<LockResponse, Status> {
        let LockRequest { name, lease } = request;
        let mut staked = Claim::stake(&self.context, &name, lease, Vec::new()).await?;
        match staked.claim.until_oldest().await? {
            Turn::Owner(seen) => Ok(LockResponse {
                header: Some(seen.unwrap_or(staked.header)),
                key: staked.claim.key.clone(),
            }),
            Turn::Lost => Err(Status::unknown("mutex: session is expired")),
        }
    }

    async fn unlock_it(&self, key: Vec<u8>) -> Result<UnlockResponse, Status> {
        let request = DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        };
        let shape = &self.context.limits.shape;
        check::delete_range(&request, shape).map_err(|error| status::from_kv(&error))?;
        let command = Command::from(Replicated::DeleteRange(request));
        match self.context.replicate(command).await? {
            Outcome::DeleteRange(mut response) => {
                self.context.stamp(&mut response.header);
                Ok(UnlockResponse {
                    header: response.header,
                })
            }
            _ => Err(status::answered_otherwise("a deletion")),
        }
    }
}

#[tonic::async_trait]
impl Lock for LockService {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let locked = self.lock_it(request.into_inner()).await;
        locked.map(Response::new).map_err(status::as_unknown)
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let unlocked = self.unlock_it(request.into_inner().key).await;
        unlocked.map(Response::new).map_err(status::as_unknown)
    }
}
