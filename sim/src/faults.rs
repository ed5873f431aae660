//! What breaks when: the plan is carried out, one task per fault.

use std::rc::Rc;

use madsim::task::spawn_local;
use madsim::time::sleep;

use crate::cluster::Cluster;
use crate::driver::Call;
use crate::network::Way;
use crate::plan::{Fault, What};
use crate::trace::now;

/// Begins to carry out the plan.
pub(crate) fn unleash(cluster: &Rc<Cluster>) {
    for fault in &cluster.world.plan {
        spawn_local(happen(Rc::clone(cluster), fault.clone()));
    }
}

/// One fault, from its beginning to its end. What begins before everything heals ends then at the latest.
async fn happen(cluster: Rc<Cluster>, fault: Fault) {
    sleep(fault.at.saturating_sub(now())).await;
    if !cluster.faulty.get() {
        return;
    }
    cluster.trace.note(format_args!("{fault}"));
    begin(&cluster, &fault);
    let over = now() + fault.lasts;
    while now() < over && cluster.faulty.get() {
        let left = over.saturating_sub(now());
        sleep(left.min(std::time::Duration::from_millis(50))).await;
    }
    let number = fault.number;
    cluster.trace.note(format_args!("fault {number} is over"));
    end(&cluster, &fault.what);
}

fn begin(cluster: &Rc<Cluster>, fault: &Fault) {
    match &fault.what {
        What::Split(side) => {
            for way in across(cluster, side) {
                cut(cluster, way);
            }
        }
        What::OneWay(from, to) => cut(cluster, (*from, *to)),
        What::Clog(from, to) => cluster.network.borrow_mut().clog((*from, *to)),
        What::PowerLoss(id) => cluster.crash(*id, "as planned", fault.lasts),
        What::LogWriteFails(id, error) => {
            if let Some(life) = cluster.life(*id) {
                life.log_fault.set(Some((*error, fault.lasts)));
            }
        }
        What::CheckpointsFail(id) => change(cluster, *id, |ills| ills.checkpoints_fail += 1),
        What::SlowDisk(id, times) => change(cluster, *id, |ills| ills.slow.push(*times)),
        What::Pause(id) => change(cluster, *id, |ills| ills.pauses += 1),
    }
}

fn end(cluster: &Rc<Cluster>, what: &What) {
    match what {
        What::Split(side) => {
            for way in across(cluster, side) {
                cluster.network.borrow_mut().mend(way);
            }
        }
        What::OneWay(from, to) => cluster.network.borrow_mut().mend((*from, *to)),
        What::Clog(from, to) => {
            let held = cluster.network.borrow_mut().unclog((*from, *to));
            for message in held {
                cluster.deliver((*from, *to), message);
            }
        }
        What::PowerLoss(_) | What::LogWriteFails(..) => {}
        What::CheckpointsFail(id) => change(cluster, *id, |ills| ills.checkpoints_fail -= 1),
        What::SlowDisk(id, times) => change(cluster, *id, |ills| {
            let place = ills.slow.iter().position(|slow| slow == times);
            place.map(|place| ills.slow.remove(place));
        }),
        What::Pause(id) => {
            change(cluster, *id, |ills| ills.pauses -= 1);
            if let Some(life) = cluster.life(*id) {
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
}

fn cut(cluster: &Rc<Cluster>, way: Way) {
    let was_open = cluster.network.borrow_mut().cut(way);
    if was_open && !cluster.world.silent_loss {
        cluster.break_connection(way.0, way.1);
    }
}

/// The ways between these members and all others, both directions.
fn across(cluster: &Cluster, side: &[u64]) -> Vec<Way> {
    let mut ways = Vec::new();
    for one in 1..=cluster.world.members {
        for other in 1..=cluster.world.members {
            if one != other && side.contains(&one) != side.contains(&other) {
                ways.push((one, other));
            }
        }
    }
    ways
}
