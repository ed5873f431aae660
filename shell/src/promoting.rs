//! Makes voters of learners that have caught up, where the operator asked for that.

use std::time::Duration;

use metastore_core::membership::MembershipChange;
use metastore_core::output::Published;
use tokio::time::sleep;

use crate::grpc::Context;

/// How often a leader looks for learners.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for ever; to be run on a connection thread. What cannot be promoted yet is tried again.
pub(crate) async fn run(context: Context) {
    loop {
        sleep(INTERVAL).await;
        for id in candidates(&context.published(), context.identity.member_id) {
            match context
                .node
                .change_membership(MembershipChange::Promote { id })
                .await
            {
                Ok(_) => tracing::info!(
                    promoted = format!("{id:x}"),
                    "promoted a learner that has caught up"
                ),
                Err(refusal) => tracing::debug!(error = %refusal, "a learner is not promoted yet"),
            }
        }
    }
}

/// The learners that have started, if this member leads.
fn candidates(published: &Published, own: u64) -> Vec<u64> {
    if published.leader != Some(own) {
        return Vec::new();
    }
    let members = published.agreed_members.iter();
    let started = members.filter(|it| it.is_learner && !it.name.is_empty());
    started.map(|member| member.id).collect()
}

#[cfg(test)]
mod tests {
    use metastore_core::mvcc::Store;
    use metastore_core::output::MemberInfo;

    use super::*;

    #[test]
    fn a_leader_asks_for_all_learners_that_have_started() {
        let member = |id, name: &str, is_learner| MemberInfo {
            id,
            name: name.into(),
            peer_urls: Vec::new(),
            client_urls: Vec::new(),
            is_learner,
        };
        let members = [
            member(1, "leader", false),
            member(2, "dead", true),
            member(3, "", true),
            member(4, "alive", true),
        ];
        let published = Published {
            leader: Some(1),
            agreed_members: members.into(),
            ..Published::at_start(Store::new().view(), 0)
        };
        assert_eq!(candidates(&published, 1), [2, 4]);
        assert!(candidates(&published, 4).is_empty());
    }
}
