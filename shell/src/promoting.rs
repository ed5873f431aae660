//! Makes voters of learners that have caught up, where the operator asked for that.

use std::time::Duration;

use metastore_core::membership::MembershipChange;
use tokio::time::sleep;

use crate::grpc::Context;

/// How often a leader looks for learners.
const INTERVAL: Duration = Duration::from_secs(1);

/// Looks for ever; to be run on a connection thread. What cannot be promoted yet is tried again.
pub(crate) async fn run(context: Context) {
    loop {
        sleep(INTERVAL).await;
        let Some(id) = candidate(&context) else {
            continue;
        };
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

/// A learner that has started, if this member leads.
fn candidate(context: &Context) -> Option<u64> {
    let published = context.published();
    if published.leader != Some(context.identity.member_id) {
        return None;
    }
    let mut learners = published.agreed_members.iter().filter(|it| it.is_learner);
    let started = learners.find(|it| !it.name.is_empty());
    started.map(|member| member.id)
}
