//! The Cluster service: who the members are. Changing the membership is not built yet.

use metastore_core::output::MemberInfo;
use metastore_proto::etcdserverpb::cluster_server::Cluster;
use metastore_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse,
};
use tonic::{Request, Response, Status};

use super::Context;
use crate::status;

/// See the module.
pub(crate) struct ClusterService {
    context: Context,
}

impl ClusterService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }
}

fn wire(member: &MemberInfo) -> Member {
    Member {
        id: member.id,
        name: member.name.clone(),
        peer_ur_ls: member.peer_urls.clone(),
        client_ur_ls: member.client_urls.clone(),
        is_learner: member.is_learner,
    }
}

fn not_built<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented(
        "membership changes are not implemented yet",
    ))
}

#[tonic::async_trait]
impl Cluster for ClusterService {
    async fn member_list(
        &self,
        request: Request<MemberListRequest>,
    ) -> Result<Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.context
                .node
                .barrier()
                .await
                .map_err(|refusal| status::from_refusal(&refusal))?;
        }
        let published = self.context.published();
        let members = published.agreed_members.iter().map(wire).collect();
        // The header of this service carries no revision.
        Ok(Response::new(MemberListResponse {
            header: Some(self.context.header(0)),
            members,
        }))
    }

    async fn member_add(
        &self,
        _: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        not_built()
    }

    async fn member_remove(
        &self,
        _: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        not_built()
    }

    async fn member_update(
        &self,
        _: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        not_built()
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        not_built()
    }
}
