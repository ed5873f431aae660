//! The membership in the second act: what clients left half done is finished, and then every member takes part.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::output::MemberInfo;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::machines::Standing;
use crate::workload::members::take_out;
use metastore_judges::Failure;
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

/// Takes out whoever has no machine any more, starts whoever never began, and waits until all who were added to vote do;
/// then the newest voter must be able to lead.
pub(crate) async fn mend_membership(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    let mut client = Client::new(Rc::clone(cluster), MENDER);
    // What others asked for comes to its end first, and what leaders still do about it.
    while cluster.changing.under_way.get() > 0 || cluster.changing.replacing.get() {
        sleep(PAUSE).await;
    }
    sleep(SETTLE).await;
    for _ in 0..TRIES {
        if let Ending::Listed(list) = client
            .perform(Op::List {
                serializable: false,
            })
            .await
            && take_part(&mut client, &list).await
        {
            return newest_voter_leads(cluster, &mut client).await;
        }
        sleep(PAUSE).await;
    }
    let judges = cluster.judges.borrow();
    let story = format!(
        "the members do not all come to take part: {:?}",
        judges.memberships.newest()
    );
    Err(Failure::new("liveness", story))
}

/// Does what there is to do about the members of a list; answers whether there was nothing.
async fn take_part(client: &mut Client, list: &[MemberInfo]) -> bool {
    let cluster = Rc::clone(&client.cluster);
    let mut all = true;
    for info in list {
        let standing = cluster.machines.borrow().standing(info.id);
        match standing {
            Some(Standing::Serves) => {}
            None => {
                all = false;
                cluster.join(info.id);
            }
            Some(Standing::Left | Standing::Destroyed) => {
                all = false;
                take_out(client, info.id).await;
            }
        }
    }
    let judges = cluster.judges.borrow();
    let settled = judges.memberships.newest().is_some_and(|now| {
        now.is_listed_as(list)
            && now.voters.len() == 1
            && list
                .iter()
                .all(|info| info.is_learner || now.is_voter(info.id))
    });
    all && settled
}

async fn newest_voter_leads(cluster: &Rc<Cluster>, client: &mut Client) -> Result<(), Failure> {
    let voter = {
        let judges = cluster.judges.borrow();
        let now = judges.memberships.newest();
        now.and_then(|now| now.voters.iter().flatten().max().copied())
    };
    let to = voter.ok_or_else(|| Failure::new("liveness", "there is no voter"))?;
    for _ in 0..TRIES {
        let asked = client.perform(Op::Transfer { to }).await;
        let leads = cluster.life(to).is_some_and(|life| {
            let published = life.published.borrow();
            published.leader == Some(to)
        });
        if matches!(asked, Ending::Transferred) || leads {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    let story = format!("m{to} votes and never comes to lead");
    Err(Failure::new("liveness", story))
}

/// Starts all that were removed once more, and waits until those are told who know anybody to ask. A learner asks
/// nobody, and waits to be told.
pub(crate) async fn tell_the_removed(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    for id in cluster.machines.borrow().that(Standing::Left) {
        cluster.revive(id);
    }
    let mut left = Vec::new();
    for _ in 0..TRIES {
        left = still_there(cluster);
        if left.is_empty() {
            return Ok(());
        }
        sleep(PAUSE).await;
    }
    let story = format!("removed members do not hear of it: {left:?}");
    Err(Failure::new("liveness", story))
}

/// The removed members that run, and voted in the newest membership they know together with somebody who serves.
fn still_there(cluster: &Cluster) -> Vec<u64> {
    let judges = cluster.judges.borrow();
    let Some(now) = judges.memberships.newest() else {
        return Vec::new();
    };
    let all = cluster.machines.borrow().all();
    let removed = all.into_iter().filter(|id| !now.members.contains_key(id));
    let knows_whom_to_ask = |id: &u64| {
        let newest = cluster
            .life(*id)
            .and_then(|life| life.newest.borrow().clone());
        newest.is_some_and(|newest| {
            let others = newest.voters.iter().flatten();
            newest.is_voter(*id) && others.clone().any(|other| now.members.contains_key(other))
        })
    };
    removed.filter(knows_whom_to_ask).collect()
}

/// The number of the client that finishes what others began.
const MENDER: u64 = 1001;
const TRIES: u64 = 300;
const PAUSE: Duration = Duration::from_millis(200);
/// Longer than a leader works on a change for a client.
const SETTLE: Duration = Duration::from_secs(4);
