//! The Cluster service: who the members are, and changes of the membership.

use std::time::{SystemTime, UNIX_EPOCH};

use metastore_core::membership::MembershipChange;
use metastore_core::output::MemberInfo;
use metastore_proto::etcdserverpb::cluster_server::Cluster;
use metastore_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse,
    MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse,
    MemberUpdateRequest, MemberUpdateResponse, ResponseHeader,
};
use tonic::{Request, Response, Status};

use super::Context;
use crate::config::{Scheme, Url};
use crate::identity;
use crate::status;

/// See the module.
pub(crate) struct ClusterService {
    context: Context,
}

impl ClusterService {
    pub(crate) fn new(context: Context) -> Self {
        Self { context }
    }

    /// All members after the change.
    async fn change(&self, change: MembershipChange) -> Result<Vec<Member>, Status> {
        let changed = self.context.node.change_membership(change).await;
        let members = changed.map_err(|refusal| status::from_write_refusal(&refusal))?;
        Ok(members.iter().map(wire).collect())
    }

    /// The header of this service carries no revision.
    fn header(&self) -> Option<ResponseHeader> {
        Some(self.context.header(0))
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

/// Peer URLs as they are kept: sorted, each once. At least one, and none that this server cannot connect to.
fn peer_urls(given: &[String]) -> Result<Vec<String>, Status> {
    let invalid = || status::bad_member_urls();
    let mut urls = Vec::new();
    for text in given {
        let url: Url = text.trim().parse().map_err(|_| invalid())?;
        if url.scheme != Scheme::Http {
            return Err(invalid());
        }
        urls.push(url.to_string());
    }
    urls.sort_unstable();
    urls.dedup();
    match urls.is_empty() {
        true => Err(invalid()),
        false => Ok(urls),
    }
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
        Ok(Response::new(MemberListResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_add(
        &self,
        request: Request<MemberAddRequest>,
    ) -> Result<Response<MemberAddResponse>, Status> {
        let request = request.into_inner();
        let peer_urls = peer_urls(&request.peer_ur_ls)?;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = since_epoch.map_or(0, |it| it.as_secs());
        let id = identity::of_added_member(&peer_urls, seconds);
        let add = MembershipChange::Add {
            id,
            peer_urls,
            learner: request.is_learner,
        };
        let members = self.change(add).await?;
        Ok(Response::new(MemberAddResponse {
            header: self.header(),
            member: members.iter().find(|member| member.id == id).cloned(),
            members,
        }))
    }

    async fn member_remove(
        &self,
        request: Request<MemberRemoveRequest>,
    ) -> Result<Response<MemberRemoveResponse>, Status> {
        let id = request.into_inner().id;
        let members = self.change(MembershipChange::Remove { id }).await?;
        Ok(Response::new(MemberRemoveResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_update(
        &self,
        request: Request<MemberUpdateRequest>,
    ) -> Result<Response<MemberUpdateResponse>, Status> {
        let request = request.into_inner();
        let update = MembershipChange::Update {
            id: request.id,
            peer_urls: peer_urls(&request.peer_ur_ls)?,
        };
        let members = self.change(update).await?;
        Ok(Response::new(MemberUpdateResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        let id = request.into_inner().id;
        let members = self.change(MembershipChange::Promote { id }).await?;
        Ok(Response::new(MemberPromoteResponse {
            header: self.header(),
            members,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_urls_are_sorted_and_what_cannot_be_reached_is_refused() {
        let check = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            peer_urls(&urls)
        };
        assert_eq!(
            check(&["http://b:2", " http://a:1", "http://b:2 "]).expect("two URLs"),
            ["http://a:1", "http://b:2"]
        );
        for bad in [
            &[][..],
            &["http://a"],
            &["http://a:1/path"],
            &["ftp://a:1"],
            &["https://a:1"],
            &["http://a:1", "nonsense"],
        ] {
            let refused = check(bad).expect_err("these are no peer URLs");
            assert_eq!(
                refused.message(),
                "etcdserver: given member URLs are invalid",
                "{bad:?}"
            );
        }
    }
}
