//! What operators do: they hand leadership over, restart all members in turn, and replace a machine whose disk has rotten.

use std::rc::Rc;
use std::time::Duration;

use madsim::time::sleep;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::driver::Call;
use crate::machines::Standing;
use crate::mailbox::Mailbox;
use crate::sometimes::Situation;
use crate::trace::now;
use crate::workload::members::{add, may_be_lost, take_out};
use metastore_judges::history::Ending;
use metastore_judges::model::Op;

/// Has whoever leads hand leadership to a member.
pub(crate) async fn hand_over(cluster: Rc<Cluster>, number: u64, to: u64) {
    let mut client = Client::new(Rc::clone(&cluster), FIRST_CLIENT + number);
    client.member = cluster.leader().unwrap_or(to);
    client.perform(Op::Transfer { to }).await;
}

/// Stops one member after the other in good order, as a new version is rolled out, and starts it again; goes on when it
/// serves, or after a while.
pub(crate) async fn roll(cluster: Rc<Cluster>) {
    for id in cluster.serving() {
        if !cluster.faulty.get() {
            return;
        }
        let Some(life) = cluster.life(id) else {
            continue;
        };
        let led = life.leads.get();
        let answer = Mailbox::new();
        life.inbox.push(Call::StepDown(answer.clone()));
        let ending = answer.recv_until(Some(now() + PATIENCE)).await;
        let handed_over = led && matches!(ending, Some(Ending::Transferred)) && !life.leads.get();
        let some = &cluster.sometimes;
        some.saw_if(handed_over, Situation::SteppedDown);
        // A process that stands still does not hear that it is to stop.
        cluster.until_it_goes(&life).await;
        if !life.alive.get() {
            continue;
        }
        cluster.stop(&life, cluster.down_time());
        while life.alive.get() {
            sleep(Duration::from_millis(1)).await;
        }
        let enough = now() + PATIENCE;
        while now() < enough && cluster.faulty.get() && !serves(&cluster, id) {
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn serves(cluster: &Cluster, id: u64) -> bool {
    let life = cluster.life(id);
    life.is_some_and(|life| life.published.borrow().leader.is_some())
}

/// A bit of a member's disk flips, in what was written long ago. Sooner or later the member reads it back, at a start,
/// and must refuse; then its machine is replaced. Nobody changes the membership meanwhile, so that it can bear the loss.
pub(crate) async fn rot(cluster: Rc<Cluster>, number: u64, id: u64, lasts: Duration) {
    let mut client = Client::new(Rc::clone(&cluster), FIRST_CLIENT + number);
    let changing = &cluster.changing;
    while changing.replacing.get() && client.goes_on() {
        sleep(PAUSE).await;
    }
    if !client.goes_on() {
        return;
    }
    changing.replacing.set(true);
    for _ in 0..QUIET_TRIES {
        if changing.under_way.get() == 0 {
            break;
        }
        sleep(PAUSE).await;
    }
    if changing.under_way.get() == 0 && client.goes_on() && may_be_lost(&cluster, id) {
        let flipped = cluster.disk(id).borrow_mut().rot(&mut client.dice);
        if let Some(what) = flipped {
            let trace = &cluster.trace;
            trace.note(format_args!("a bit flips on the disk of m{id}: {what}"));
            let found = is_found(&cluster, id, lasts).await;
            let some = &cluster.sometimes;
            some.saw_if(!found, Situation::RotNeverRead);
            if found {
                replace(&mut client, id).await;
            }
        }
    }
    changing.replacing.set(false);
}

/// Waits until the member has read what is rotten, for which it loses its power in the end; false if that went away.
async fn is_found(cluster: &Rc<Cluster>, id: u64, lasts: Duration) -> bool {
    let over = now() + lasts;
    let mut crashed = false;
    loop {
        if cluster.machines.borrow().standing(id) == Some(Standing::Destroyed) {
            return true;
        }
        if !cluster.disk(id).borrow().is_rotten() {
            return false;
        }
        let enough = now() > over || !cluster.faulty.get();
        if enough && !crashed && cluster.life(id).is_some() {
            crashed = true;
            let at = "so that its disk is read back";
            cluster.crash(id, at, cluster.down_time());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn replace(client: &mut Client, id: u64) {
    let mut out = false;
    while client.goes_on() && !out {
        out = take_out(client, id).await;
        if !out {
            sleep(3 * PAUSE).await;
        }
    }
    let replaced = client.goes_on() && add(client).await && out;
    let some = &client.cluster.sometimes;
    some.saw_if(replaced, Situation::RottenReplaced);
}

/// The number of the first operator.
const FIRST_CLIENT: u64 = 500;
const PAUSE: Duration = Duration::from_millis(100);
/// Tries for longer than a change waits for its end.
const QUIET_TRIES: u64 = 60;
/// Longer than a member tries to hand leadership over.
const PATIENCE: Duration = Duration::from_secs(4);
