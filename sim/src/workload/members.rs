//! Clients that change the membership through any member: they bring members in, to vote or to learn, make voters of
//! learners, also too early, take members out, also the leader or one that is down, move them to other addresses, and
//! replace those whose machine was destroyed. They begin with new members as an operator would: with an empty disk, some
//! before they are added, some after, some never.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::membership::{MembershipChange, MembershipError};
use metastore_core::output::{MemberInfo, Refusal};

use crate::client::Client;
use crate::cluster::{Cluster, Life};
use crate::driver::Call;
use crate::machines::Standing;
use crate::mailbox::Mailbox;
use crate::sometimes::Situation;
use crate::trace::now;
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

/// Works until faults are over.
pub(crate) async fn change(mut client: Client) {
    while client.goes_on() {
        let rest = client.dice.between(50, 2500);
        sleep(Duration::from_millis(rest)).await;
        if client.cluster.changing.replacing.get() || !client.goes_on() {
            continue;
        }
        let serializable = client.dice.permille(200);
        let listed = client.perform(Op::List { serializable }).await;
        let Ending::Listed(list) = listed else {
            continue;
        };
        if list.is_empty() || client.cluster.changing.replacing.get() {
            continue;
        }
        start_some(&mut client, &list);
        choose(&mut client, &list).await;
    }
}

/// Starts members that were added and have not begun.
fn start_some(client: &mut Client, list: &[MemberInfo]) {
    for info in list {
        let ran = client.cluster.machines.borrow().standing(info.id);
        if ran.is_none() && client.dice.permille(500) {
            client.cluster.join(info.id);
        }
    }
}

async fn choose(client: &mut Client, list: &[MemberInfo]) {
    let voters: Vec<u64> = ids(list, |info| !info.is_learner);
    let learners: Vec<u64> = ids(list, |info| info.is_learner);
    let everybody: Vec<u64> = ids(list, |_| true);
    let some = |client: &mut Client, of: &[u64]| of[client.dice.place(of.len())];
    match client.dice.between(0, 99) {
        0..=34 if list.len() < MEMBERS_MAX => {
            add(client).await;
        }
        0..=54 if !learners.is_empty() => {
            let id = some(client, &learners);
            alter(client, MembershipChange::Promote { id }).await;
        }
        35..=64 => {
            let id = leaver(client, &everybody);
            alter(client, MembershipChange::Remove { id }).await;
        }
        65..=71 => {
            let id = some(client, &everybody);
            let peer_urls = vec![url(client, id)];
            alter(client, MembershipChange::Update { id, peer_urls }).await;
        }
        72..=82 => {
            let id = some(client, &everybody);
            replace(client, id).await;
        }
        83..=89 if !voters.is_empty() => {
            let to = some(client, &voters);
            client.perform(Op::Transfer { to }).await;
        }
        _ => wrong(client, list).await,
    }
}

fn ids(list: &[MemberInfo], which: impl Fn(&MemberInfo) -> bool) -> Vec<u64> {
    let which = list.iter().filter(|info| which(info));
    which.map(|info| info.id).collect()
}

/// Any member, rather the leader or one that is down.
fn leaver(client: &mut Client, everybody: &[u64]) -> u64 {
    let cluster = &client.cluster;
    let here = cluster.life(client.member);
    let leader = here.and_then(|life| life.published.borrow().leader);
    let down = everybody
        .iter()
        .find(|id| cluster.life(**id).is_none())
        .copied();
    let any = everybody[client.dice.place(everybody.len())];
    match client.dice.place(4) {
        0 => leader.filter(|id| everybody.contains(id)).unwrap_or(any),
        1 => down.unwrap_or(any),
        _ => any,
    }
}

/// Adds a member under an id that nobody had, and perhaps begins with it; a learner is sometimes to vote at once. Answers
/// whether it is certainly there.
pub(crate) async fn add(client: &mut Client) -> bool {
    let id = client.cluster.machines.borrow_mut().new_id();
    if client.dice.permille(200) {
        client.cluster.join(id);
    }
    let learner = client.dice.permille(400);
    let peer_urls = vec![url(client, id)];
    let ending = alter(
        client,
        MembershipChange::Add {
            id,
            peer_urls,
            learner,
        },
    )
    .await;
    let added = matches!(ending, Ending::Changed(_));
    if learner && added && client.dice.permille(300) {
        alter(client, MembershipChange::Promote { id }).await;
    }
    if !ending.surely_nothing() && client.dice.permille(700) {
        client.cluster.join(id);
    }
    added
}

/// Changes that must be refused, whatever the state of things.
async fn wrong(client: &mut Client, list: &[MemberInfo]) {
    let place = client.dice.place(list.len());
    let there = &list[place];
    let left = client.cluster.machines.borrow().that(Standing::Left);
    let nobody = client.cluster.machines.borrow_mut().new_id();
    let change = match client.dice.place(4) {
        0 => MembershipChange::Remove { id: nobody },
        1 => MembershipChange::Add {
            id: left.last().copied().unwrap_or(there.id),
            peer_urls: vec![url(client, nobody)],
            learner: false,
        },
        2 => MembershipChange::Add {
            id: nobody,
            peer_urls: there.peer_urls.clone(),
            learner: true,
        },
        _ => MembershipChange::Promote { id: nobody },
    };
    alter(client, change).await;
}

/// An address that nobody else has.
fn url(client: &mut Client, id: u64) -> String {
    let mark = String::from_utf8_lossy(&client.mark()).into_owned();
    format!("http://m{id}/{mark}")
}

/// Asks for one change, and remembers if nobody knows what came of it.
pub(crate) async fn alter(client: &mut Client, change: MembershipChange) -> Ending {
    let cluster = Rc::clone(&client.cluster);
    let under_way = &cluster.changing.under_way;
    under_way.set(under_way.get() + 1);
    let ending = client.perform(Op::Change(change.clone())).await;
    under_way.set(under_way.get() - 1);
    let known = matches!(ending, Ending::Changed(_)) || ending.surely_nothing();
    if let MembershipChange::Remove { id } | MembershipChange::Promote { id } = change
        && !known
    {
        cluster.changing.doubtful.borrow_mut().insert(id);
    }
    ending
}

/// Destroys a member's machine, takes the member out, and brings another in, under an id of its own.
async fn replace(client: &mut Client, id: u64) {
    let cluster = Rc::clone(&client.cluster);
    cluster.changing.replacing.set(true);
    for _ in 0..QUIET_TRIES {
        if cluster.changing.under_way.get() == 0 {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    if cluster.changing.under_way.get() == 0 && client.goes_on() && may_be_lost(&cluster, id) {
        cluster.destroy(id);
        if client.dice.permille(500) {
            sleep(Duration::from_millis(1500)).await;
        }
        let mut out = false;
        while client.goes_on() && !out {
            out = take_out(client, id).await;
            if !out {
                sleep(Duration::from_millis(300)).await;
            }
        }
        let replaced = client.goes_on() && add(client).await && out;
        let some = &cluster.sometimes;
        some.saw_if(replaced, Situation::MachineReplaced);
    }
    cluster.changing.replacing.set(false);
}

/// Takes a member out; answers whether it is.
pub(crate) async fn take_out(client: &mut Client, id: u64) -> bool {
    let gone = Refusal::Membership(MembershipError::NotFound);
    match alter(client, MembershipChange::Remove { id }).await {
        Ending::Changed(_) => true,
        Ending::Refused(refusal) => refusal == gone,
        _ => false,
    }
}

/// Whether the others go on without this member, whatever becomes of changes whose end nobody knows.
pub(crate) fn may_be_lost(cluster: &Cluster, id: u64) -> bool {
    let judges = cluster.judges.borrow();
    let Some(now) = judges.memberships.newest() else {
        return false;
    };
    let machines = cluster.machines.borrow();
    let is_whole = |id: &u64| machines.standing(*id) != Some(Standing::Destroyed);
    let doubtful = cluster.changing.doubtful.borrow();
    let settled = now.voters.len() == 1 && now.voters[0].len() >= 3;
    settled
        && now.members.contains_key(&id)
        && now.members.keys().all(is_whole)
        && !now.members.keys().any(|id| doubtful.contains(id))
        && machines.standing(id) == Some(Standing::Serves)
}

/// Tells the cluster that a member runs, as the server does at each start.
pub(crate) async fn publish(cluster: Rc<Cluster>, life: Rc<Life>) {
    // What is at rest must stay as it is.
    while life.alive.get() && !cluster.at_rest.get() {
        let answer = Mailbox::new();
        let publication = Op::Publish { id: life.id };
        life.inbox.push(Call::Client(publication, answer.clone()));
        // A life that ends before it has looked answers nobody.
        let ending = answer.recv_until(Some(now() + PATIENCE)).await;
        if let Some(Ending::Wrote(_)) = ending {
            return;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Longer than a member lets any request wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most members that a cluster is brought to.
const MEMBERS_MAX: usize = 7;
/// Every tenth of a second, for longer than a change waits for its end.
const QUIET_TRIES: u64 = 60;
