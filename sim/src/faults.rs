//! What breaks when: the plan is carried out, one task per fault.
//!
//! A plan names members by their places among those that serve when the fault begins, so that it means something while
//! members come and go. Of the first members each has the place that its id says.

use std::collections::BTreeSet;
use std::rc::Rc;

use madsim::task::spawn_local;
use madsim::time::sleep;

use crate::cluster::Cluster;
use crate::driver::Call;
use crate::network::Way;
use crate::operators;
use crate::plan::{Fault, What};
use crate::rounds;
use crate::sometimes::Situation;
use crate::trace::now;

/// Begins to carry out the plan.
pub(crate) fn unleash(cluster: &Rc<Cluster>) {
    for fault in rounds::plan(cluster) {
        spawn_local(happen(Rc::clone(cluster), fault));
    }
}

/// One fault, from its beginning to its end. What begins before everything heals ends then at the latest.
async fn happen(cluster: Rc<Cluster>, fault: Fault) {
    let at = cluster.round_began.get() + fault.at;
    sleep(at.saturating_sub(now())).await;
    if !cluster.faulty.get() {
        return;
    }
    let Some(what) = meant(&fault.what, &cluster.serving()) else {
        return;
    };
    let fault = Fault { what, ..fault };
    befall(&cluster, &fault).await;
}

/// A fault happens, to the members that it names, until it is over or everything heals.
pub(crate) async fn befall(cluster: &Rc<Cluster>, fault: &Fault) {
    cluster.trace.note(format_args!("{fault}"));
    let led = cluster.noticing.newest_led.get();
    begin(cluster, fault);
    let over = now() + fault.lasts;
    while now() < over && cluster.faulty.get() {
        let left = over.saturating_sub(now());
        sleep(left.min(std::time::Duration::from_millis(50))).await;
    }
    let number = fault.number;
    cluster.trace.note(format_args!("fault {number} is over"));
    let elected = cluster.noticing.newest_led.get() > led;
    end(cluster, &fault.what, elected);
}

fn begin(cluster: &Rc<Cluster>, fault: &Fault) {
    match &fault.what {
        What::Split(side) => {
            let ways = open_across(cluster, side);
            let side = side.iter().copied().collect();
            cluster.network.borrow_mut().split(side);
            ways.into_iter().for_each(|way| closed(cluster, way));
        }
        What::OneWay(from, to) => {
            if cluster.network.borrow_mut().cut((*from, *to)) {
                closed(cluster, (*from, *to));
            }
        }
        What::Clog(from, to) => cluster.network.borrow_mut().clog((*from, *to)),
        What::PowerLoss(id) => cluster.crash(*id, "as planned", fault.lasts),
        What::LogWriteFails(id, error) => {
            if let Some(life) = cluster.life(*id) {
                life.log_fault.set(Some((*error, now() + fault.lasts)));
            }
        }
        What::CheckpointsFail(id) => change(cluster, *id, |ills| ills.checkpoints_fail += 1),
        What::SlowDisk(id, times) => change(cluster, *id, |ills| ills.slow.push(*times)),
        What::Pause(id) => change(cluster, *id, |ills| ills.pauses += 1),
        What::Suspend(id) => {
            change(cluster, *id, |ills| {
                ills.pauses += 1;
                ills.suspensions += 1;
            });
            if let Some(life) = cluster.life(*id) {
                let led = life.leads.get();
                cluster.sometimes.saw_if(led, Situation::SuspendedLeader);
                life.clock.suspend(now());
            }
        }
        What::Transfer(to) => {
            spawn_local(operators::hand_over(Rc::clone(cluster), fault.number, *to));
        }
        What::RollingRestart => {
            spawn_local(operators::roll(Rc::clone(cluster)));
        }
        What::Rot(id) => {
            let (number, lasts) = (fault.number, fault.lasts);
            spawn_local(operators::rot(Rc::clone(cluster), number, *id, lasts));
        }
    }
}

/// A fault is over, during which somebody was elected or nobody.
fn end(cluster: &Rc<Cluster>, what: &What, elected: bool) {
    match what {
        What::Split(side) => {
            let side: BTreeSet<u64> = side.iter().copied().collect();
            cluster.network.borrow_mut().join(&side);
        }
        What::OneWay(from, to) => cluster.network.borrow_mut().mend((*from, *to)),
        What::Clog(from, to) => {
            let held = cluster.network.borrow_mut().unclog((*from, *to));
            for (life, message) in held {
                let arrived = cluster.deliver((*from, *to), message);
                let other = arrived.is_some_and(|arrived| arrived != life);
                cluster
                    .sometimes
                    .saw_if(other, Situation::HeldIntoAnotherLife);
            }
        }
        What::PowerLoss(_)
        | What::LogWriteFails(..)
        | What::Transfer(_)
        | What::RollingRestart
        | What::Rot(_) => {}
        What::CheckpointsFail(id) => change(cluster, *id, |ills| ills.checkpoints_fail -= 1),
        What::SlowDisk(id, times) => change(cluster, *id, |ills| {
            let place = ills.slow.iter().position(|slow| slow == times);
            place.map(|place| ills.slow.remove(place));
        }),
        What::Pause(id) | What::Suspend(id) => {
            let suspension = u64::from(matches!(what, What::Suspend(_)));
            let mut goes_on = false;
            change(cluster, *id, |ills| {
                ills.pauses -= 1;
                ills.suspensions -= suspension;
                goes_on = ills.suspensions == 0;
            });
            if let Some(life) = cluster.life(*id) {
                life.stood_still.set(Some(now()));
                // Of several suspensions the last to end lets the clock go on.
                if goes_on {
                    life.clock.resume(now());
                }
                cluster
                    .sometimes
                    .saw_if(elected, Situation::PausedThroughElection);
                life.inbox.push(Call::Nothing);
            }
        }
    }
}

fn change(cluster: &Cluster, id: u64, how: impl FnOnce(&mut Ills)) {
    how(cluster.ills.borrow_mut().entry(id).or_default());
}

/// What ails a machine, whether its member lives or not.
#[derive(Debug, Default)]
pub(crate) struct Ills {
    pub(crate) checkpoints_fail: u64,
    pub(crate) slow: Vec<u64>,
    pub(crate) pauses: u64,
    /// Those of the pauses in which the clock stands still, too.
    pub(crate) suspensions: u64,
}

/// The fault with the members whose places it names; none if too few serve.
fn meant(what: &What, serving: &[u64]) -> Option<What> {
    let all = u64::try_from(serving.len()).ok().filter(|all| *all > 0)?;
    let at = |place: u64| serving[usize::try_from((place - 1) % all).unwrap_or(0)];
    let two = |from, to| Some((at(from), at(to))).filter(|(from, to)| from != to);
    Some(match what {
        What::Split(side) => {
            let side: BTreeSet<u64> = side.iter().copied().map(at).collect();
            if side.len() == serving.len() {
                return None;
            }
            What::Split(side.into_iter().collect())
        }
        What::OneWay(from, to) => two(*from, *to).map(|(from, to)| What::OneWay(from, to))?,
        What::Clog(from, to) => two(*from, *to).map(|(from, to)| What::Clog(from, to))?,
        What::PowerLoss(place) => What::PowerLoss(at(*place)),
        What::LogWriteFails(place, error) => What::LogWriteFails(at(*place), *error),
        What::CheckpointsFail(place) => What::CheckpointsFail(at(*place)),
        What::SlowDisk(place, times) => What::SlowDisk(at(*place), *times),
        What::Pause(place) => What::Pause(at(*place)),
        What::Suspend(place) => What::Suspend(at(*place)),
        What::Transfer(place) => What::Transfer(at(*place)),
        What::RollingRestart => What::RollingRestart,
        What::Rot(place) => What::Rot(at(*place)),
    })
}

/// What a way that was open until now means for its ends.
fn closed(cluster: &Rc<Cluster>, way: Way) {
    if !cluster.world.silent_loss {
        cluster.break_connection(way.0, way.1);
    }
}

/// The open ways between these members and all others, both directions.
fn open_across(cluster: &Cluster, side: &[u64]) -> Vec<Way> {
    let network = cluster.network.borrow();
    let all = cluster.machines.borrow().all();
    let ways = all
        .iter()
        .flat_map(|from| all.iter().map(|to| (*from, *to)));
    ways.filter(|(from, to)| from != to && side.contains(from) != side.contains(to))
        .filter(|way| network.is_open(*way))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_means_those_who_serve() {
        let serving = [2, 5, 9];
        let meant = |what| meant(&what, &serving);
        assert_eq!(meant(What::Pause(1)), Some(What::Pause(2)));
        assert_eq!(meant(What::PowerLoss(5)), Some(What::PowerLoss(5)));
        assert_eq!(meant(What::Clog(3, 1)), Some(What::Clog(9, 2)));
        assert_eq!(meant(What::OneWay(1, 4)), None);
        assert_eq!(meant(What::Split(vec![1, 4])), Some(What::Split(vec![2])));
        assert_eq!(meant(What::Split(vec![1, 2, 3])), None);
        assert_eq!(super::meant(&What::Pause(1), &[]), None);
    }
}
