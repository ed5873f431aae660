//! The Maintenance service: the state of this member. The rest is not built yet.

use std::pin::Pin;

use futures_util::Stream;
use metastore_core::mvcc::View;
use metastore_proto::etcdserverpb::alarm_request::AlarmAction;
use metastore_proto::etcdserverpb::maintenance_server::Maintenance;
use metastore_proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest,
    StatusResponse,
};
use tonic::{Request, Response, Status};

use super::Context;
use super::long_read::{self, Extent};
use crate::{status, version};

/// See the module.
pub(crate) struct MaintenanceService {
    context: Context,
}

impl MaintenanceService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

/// The bytes in use in whole pages, one at least: clients divide by it.
fn allocated(bytes_in_use: u64) -> i64 {
    let pages = bytes_in_use.div_ceil(PAGE_BYTES).max(1);
    i64::try_from(pages.saturating_mul(PAGE_BYTES)).unwrap_or(i64::MAX)
}

const PAGE_BYTES: u64 = 4096;

/// The quota that is told where there is none; 0 would be taken for the default.
const NO_QUOTA: i64 = -1;

fn not_built<T>(what: &str) -> Result<Response<T>, Status> {
    Err(Status::unimplemented(format!(
        "{what} is not implemented yet"
    )))
}

#[tonic::async_trait]
impl Maintenance for MaintenanceService {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let published = self.context.published();
        let errors = match published.leader {
            Some(_) => vec![],
            None => vec!["etcdserver: no leader".to_owned()],
        };
        let in_use = i64::try_from(published.bytes_in_use).unwrap_or(i64::MAX);
        Ok(Response::new(StatusResponse {
            header: Some(self.context.header(published.view.revision())),
            version: version::ETCD.to_owned(),
            db_size: allocated(published.bytes_in_use),
            leader: published.leader.unwrap_or(0),
            raft_index: published.committed,
            raft_term: published.term,
            raft_applied_index: published.applied,
            errors,
            db_size_in_use: in_use,
            is_learner: self.context.is_learner(),
            storage_version: version::ETCD.to_owned(),
            db_size_quota: self
                .context
                .limits
                .quota_bytes
                .map_or(NO_QUOTA, |quota| i64::try_from(quota).unwrap_or(i64::MAX)),
            downgrade_info: Some(DowngradeInfo::default()),
        }))
    }

    async fn alarm(
        &self,
        request: Request<AlarmRequest>,
    ) -> Result<Response<AlarmResponse>, Status> {
        if request.into_inner().action != AlarmAction::Get as i32 {
            return not_built("raising and clearing alarms");
        }
        // Nothing raises an alarm yet, so there is none to list.
        let header = self
            .context
            .header(self.context.published().view.revision());
        Ok(Response::new(AlarmResponse {
            header: Some(header),
            alarms: vec![],
        }))
    }

    async fn defragment(
        &self,
        _: Request<DefragmentRequest>,
    ) -> Result<Response<DefragmentResponse>, Status> {
        not_built("defragment")
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        not_built("hash")
    }

    async fn hash_kv(
        &self,
        request: Request<HashKvRequest>,
    ) -> Result<Response<HashKvResponse>, Status> {
        let revision = request.into_inner().revision;
        // It reads all that the store retains.
        let hash = move |view: &View| view.hash_kv(revision);
        let hashed = long_read::compute(&self.context, Extent::Unlimited, hash);
        let mut response = hashed.await?;
        self.context.stamp(&mut response.header);
        Ok(Response::new(response))
    }

    type SnapshotStream = Pin<Box<dyn Stream<Item = Result<SnapshotResponse, Status>> + Send>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        not_built("snapshot")
    }

    async fn move_leader(
        &self,
        request: Request<MoveLeaderRequest>,
    ) -> Result<Response<MoveLeaderResponse>, Status> {
        let to = request.into_inner().target_id;
        let moved = self.context.node.transfer_leader(to).await;
        moved.map_err(|refusal| status::from_refusal(&refusal))?;
        // Clients know this answer without a header.
        Ok(Response::new(MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        _: Request<DowngradeRequest>,
    ) -> Result<Response<DowngradeResponse>, Status> {
        not_built("downgrade")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_store_takes_a_page_and_no_size_is_too_large() {
        let sizes = [0, 1, 4096, 4097, u64::MAX].map(allocated);
        assert_eq!(sizes, [4096, 4096, 4096, 8192, i64::MAX]);
    }
}
