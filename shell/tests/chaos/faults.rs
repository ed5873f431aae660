//! Carries the plan out.

use std::rc::Rc;
use std::time::Duration;

use metastore_judges::Failure;
use metastore_proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberRemoveRequest, MoveLeaderRequest,
    StatusRequest,
};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::client::Client;
use super::links::Condition;
use super::plan::{Fault, Plan, Planned, Target};
use super::run::Run;
use crate::cluster::connection::Connection;

/// Begins both schedules; they end, each with the fault it is at, when the first act does.
pub(crate) fn unleash(run: &Rc<Run>, plan: Plan) -> [JoinHandle<()>; 2] {
    [plan.processes, plan.links].map(|schedule| {
        let run = Rc::clone(run);
        spawn_local(async move {
            for planned in schedule {
                sleep(planned.after).await;
                if !run.faulty.get() {
                    return;
                }
                happen(&run, &planned).await;
            }
        })
    })
}

async fn happen(run: &Rc<Run>, planned: &Planned) {
    run.say(&planned.to_string());
    let members = &run.members;
    let all = 0..members.count();
    match planned.fault {
        Fault::Kill(target) => {
            let place = who(run, target).await;
            members.kill(place);
            sleep(planned.lasts).await;
            members.start(place);
        }
        Fault::KillAll => {
            all.clone().for_each(|place| members.kill(place));
            sleep(planned.lasts.min(POWER_CUT_MAX)).await;
            all.for_each(|place| members.start(place));
        }
        Fault::Pause(target) => {
            let place = who(run, target).await;
            members.pause(place);
            sleep(planned.lasts).await;
            members.go_on(place);
        }
        Fault::Restart(target) => {
            let place = who(run, target).await;
            if let Err(why) = members.stop(place).await {
                run.fail(Failure::new("stop", why));
            }
            members.start(place);
        }
        Fault::Replace(target) => {
            let place = who(run, target).await;
            replace(run, place).await;
        }
        Fault::Transfer => transfer(run).await,
        _ => bend(run, planned).await,
    }
}

/// A fault of the links.
async fn bend(run: &Run, planned: &Planned) {
    let cut = Condition {
        cut: true,
        ..Condition::default()
    };
    let (pairs, condition) = match planned.fault {
        Fault::Isolate(target) => (both(around(run, who(run, target).await)), cut),
        Fault::HalfIsolate { target, outgoing } => {
            let pairs = around(run, who(run, target).await);
            let pairs = match outgoing {
                true => pairs,
                false => pairs.into_iter().map(|(from, to)| (to, from)).collect(),
            };
            (pairs, cut)
        }
        Fault::Cut { from, to } => (vec![(from, to)], cut),
        Fault::Delay { target, by } => {
            let late = Condition {
                delay: by,
                ..Condition::default()
            };
            (both(around(run, who(run, target).await)), late)
        }
        Fault::Throttle {
            target,
            bytes_per_second,
        } => {
            let narrow = Condition {
                bytes_per_second: Some(bytes_per_second),
                ..Condition::default()
            };
            (both(around(run, who(run, target).await)), narrow)
        }
        _ => return,
    };
    let links = &run.members.links;
    for (from, to) in &pairs {
        links.set(*from, *to, condition);
    }
    sleep(planned.lasts).await;
    links.heal();
    if planned.resets {
        for (from, to) in &pairs {
            links.reset(*from, *to);
        }
    }
}

/// The ways from one member to all others.
fn around(run: &Run, place: usize) -> Vec<(usize, usize)> {
    let others = (0..run.members.count()).filter(|other| *other != place);
    others.map(|other| (place, other)).collect()
}

fn both(pairs: Vec<(usize, usize)>) -> Vec<(usize, usize)> {
    let back: Vec<(usize, usize)> = pairs.iter().map(|(from, to)| (*to, *from)).collect();
    pairs.into_iter().chain(back).collect()
}

async fn who(run: &Run, target: Target) -> usize {
    match target {
        Target::Place(place) => place,
        Target::Leader => leader(run).await.unwrap_or(0),
    }
}

/// The place of the member that says it leads.
async fn leader(run: &Run) -> Option<usize> {
    for place in 0..run.members.count() {
        let Some(mut connection) = connect(run, place).await else {
            continue;
        };
        let asked = connection.maintenance.status(StatusRequest {});
        let Ok(Ok(status)) = timeout(GLANCE, asked).await else {
            continue;
        };
        let status = status.into_inner();
        let own = status.header.map(|header| header.member_id);
        if own == Some(status.leader) && status.leader != 0 {
            return Some(place);
        }
    }
    None
}

async fn connect(run: &Run, place: usize) -> Option<Connection> {
    let opened = Connection::open(run.members.client_address(place));
    timeout(GLANCE, opened).await.ok()?.ok()
}

/// Asks the leader to hand over to somebody else. It may refuse.
async fn transfer(run: &Run) {
    let Some(place) = leader(run).await else {
        return;
    };
    let Some(mut connection) = connect(run, place).await else {
        return;
    };
    let own = run.members.name(place);
    let Some(members) = members_known(&mut connection).await else {
        return;
    };
    if let Some(other) = members
        .iter()
        .find(|it| it.name != own && !it.name.is_empty())
    {
        let request = MoveLeaderRequest {
            target_id: other.id,
        };
        let asked = timeout(PATIENCE, connection.maintenance.move_leader(request)).await;
        run.say(&format!(
            "asked to hand over to {}: {}",
            other.name,
            outcome(asked)
        ));
    }
}

async fn members_known(connection: &mut Connection) -> Option<Vec<Member>> {
    let request = MemberListRequest { linearizable: true };
    let asked = timeout(PATIENCE, connection.cluster.member_list(request)).await;
    asked.ok()?.ok().map(|list| list.into_inner().members)
}

/// Its disk is lost: the others remove it, and a new one takes its place. Whatever the cluster refuses because of the
/// other faults is asked for again; in the end the member must be back.
async fn replace(run: &Rc<Run>, place: usize) {
    run.members.kill(place);
    let mut removed = false;
    for number in 0..REPLACE_TRIES {
        let other = (place + 1 + number % (run.members.count() - 1)) % run.members.count();
        let step = replace_by(run, place, other, &mut removed).await;
        if let Some(true) = step {
            until_it_votes(run, place).await;
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    if removed {
        let story = format!("the member in place {place} was removed and could not be added again");
        run.fail(Failure::new("membership", story));
    } else {
        run.say("never removed: it comes back as if it had only been down");
        run.members.start(place);
    }
}

/// Starts a new member, as often as that takes, until it serves, and so has caught up; from then on it votes. Before
/// that another member's disk must not be lost: two of three would be.
async fn until_it_votes(run: &Rc<Run>, place: usize) {
    // A number of its own, so that no value is written twice.
    let number = PROBES + run.moment().ordinal;
    let mut probe = Client::new(Rc::clone(run), number);
    let deadline = Instant::now() + JOIN_LIMIT;
    while Instant::now() < deadline {
        run.members.start(place);
        if probe.is_served_by(place).await {
            run.members.joined(place);
            sleep(Duration::from_secs(1)).await;
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let story = format!("the new member in place {place} serves nothing after {JOIN_LIMIT:?}");
    run.fail(Failure::new("liveness", story));
}

/// The next step, asked of another member. Whether the new member can start; none where nobody answered.
async fn replace_by(run: &Run, place: usize, other: usize, removed: &mut bool) -> Option<bool> {
    let url = run.members.peer_url(place);
    let mut connection = connect(run, other).await?;
    let known = members_known(&mut connection).await?;
    match known.iter().find(|it| it.peer_ur_ls.contains(&url)) {
        Some(old) if !*removed => {
            let request = MemberRemoveRequest { id: old.id };
            let asked = timeout(PATIENCE, connection.cluster.member_remove(request)).await;
            run.say(&format!("asked to remove {}: {}", old.name, outcome(asked)));
            Some(false)
        }
        Some(_) => {
            let others = known.iter().filter(|it| !it.peer_ur_ls.contains(&url));
            let others: Vec<(String, String)> = others
                .map(|it| (it.name.clone(), it.peer_ur_ls.join(",")))
                .collect();
            run.members.replace(place, &others);
            Some(true)
        }
        None => {
            *removed = true;
            let request = MemberAddRequest {
                peer_ur_ls: vec![url],
                is_learner: false,
            };
            let asked = timeout(PATIENCE, connection.cluster.member_add(request)).await;
            run.say(&format!("asked to add a new one: {}", outcome(asked)));
            Some(false)
        }
    }
}

fn outcome<T>(asked: Result<Result<T, Status>, Elapsed>) -> String {
    match asked {
        Ok(Ok(_)) => "done".to_owned(),
        Ok(Err(status)) => status.message().to_owned(),
        Err(_) => "no answer".to_owned(),
    }
}

/// The first number of the clients that ask whether a new member serves.
const PROBES: u64 = 10_000;
/// With other faults in its way meanwhile.
const JOIN_LIMIT: Duration = Duration::from_secs(90);
const GLANCE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(8);
const POWER_CUT_MAX: Duration = Duration::from_millis(500);
const REPLACE_TRIES: usize = 300;
