//! Long runs: one cluster through round after round of both acts. After each everybody agrees, so what led there can be
//! judged and forgotten, and a run of many hours needs no more memory than a short one.

use std::rc::Rc;
use std::time::Duration;

use madsim::runtime::Handle;
use madsim::time::sleep;

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::machines::Standing;
use crate::plan::{self, Fault};
use crate::trace::now;
use metastore_judges::Failure;

/// Waits until no client has anything under way.
///
/// # Errors
/// When one never comes to an end.
pub(crate) async fn all_rest(cluster: &Cluster) -> Result<(), Failure> {
    let enough = now() + PATIENCE;
    while cluster.at_work.get() > 0 {
        if now() > enough {
            let left = cluster.at_work.get();
            let story = format!("{left} clients do not come to an end");
            return Err(Failure::new("liveness", story));
        }
        sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// Forgets the round that ended, and begins the next: with faults of its own, on what the members have.
pub(crate) fn begin_next(cluster: &Rc<Cluster>) {
    scrap(cluster);
    cluster.judges.borrow_mut().forget();
    cluster.history.borrow_mut().clear();
    cluster.stretches.borrow_mut().clear();
    cluster.streams.borrow_mut().clear();
    cluster.looks.borrow_mut().clear();
    cluster.tenures.borrow_mut().clear();
    cluster.terms.borrow_mut().clear();
    // The runtime remembers each task that ever was until it is asked how many there are.
    let tasks = Handle::current().metrics().num_tasks();
    assert!(tasks < TASKS_MAX, "{tasks} tasks are left of a round");
    let round = cluster.round.get() + 1;
    cluster.round.set(round);
    cluster.round_began.set(now());
    cluster.faulty.set(true);
    cluster.at_rest.set(false);
    cluster.network.borrow_mut().rouse(&cluster.world);
    let trace = &cluster.trace;
    trace.note(format_args!("round {} begins", round + 1));
}

/// The faults of the round that begins; those of the first are in the world.
pub(crate) fn plan(cluster: &Cluster) -> Vec<Fault> {
    let (world, round) = (&cluster.world, cluster.round.get());
    if round == 0 {
        return world.plan.clone();
    }
    let mut dice = Dice::new(world.seed, &format!("round {round}"));
    let count = [0, 3, 8, 16][dice.place(4)];
    let (seed, seats) = (dice.roll(), cluster.serving().len() as u64);
    let mut faults = plan::draw(seed, seats, world.safety_act, count);
    faults.extend(plan::draw_more(seed, seats, world.safety_act, count));
    named_by_round(&mut faults, round);
    faults.retain(|fault| world.may_befall(fault) && !world.without.contains(&fault.number));
    (*cluster.planned.borrow_mut()).clone_from(&faults);
    faults
}

/// Gives the faults of a round numbers that no other round has.
fn named_by_round(faults: &mut [Fault], round: u64) {
    for fault in faults {
        fault.number += round * NUMBERS_PER_ROUND;
    }
}

/// Takes away the machines of members that left, which nobody will start again.
fn scrap(cluster: &Rc<Cluster>) {
    let members: Vec<u64> = {
        let judges = cluster.judges.borrow();
        let newest = judges.memberships.newest();
        newest.map_or(Vec::new(), |now| now.members.keys().copied().collect())
    };
    let all = cluster.machines.borrow().all();
    for id in all.into_iter().filter(|id| !members.contains(id)) {
        let standing = cluster.machines.borrow().standing(id);
        if standing != Some(Standing::Destroyed) {
            cluster.destroy(id);
        }
        cluster.machines.borrow_mut().scrap(id);
        cluster.network.borrow_mut().scrap(id);
        cluster.ills.borrow_mut().remove(&id);
        cluster.changing.doubtful.borrow_mut().remove(&id);
    }
}

/// Far more than a round has faults.
const NUMBERS_PER_ROUND: u64 = 1000;
/// Far more than the lives of all members have, with the letters under way.
const TASKS_MAX: usize = 10_000;
/// Longer than any client waits for an answer, and any watcher for rest.
const PATIENCE: Duration = Duration::from_secs(15);
