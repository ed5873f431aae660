//! Bad moments: what happens just when a snapshot is on its way or has come, which no fault that is planned by the clock
//! would hit often.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use madsim::task::spawn_local;
use madsim::time::sleep;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::faults;
use crate::network::Way;
use crate::plan::{Fault, What};
use metastore_judges::model::Op;

/// See the module.
pub(crate) struct Moments {
    dice: RefCell<Dice>,
    /// One of them is under way.
    busy: Cell<bool>,
    count: Cell<u64>,
}

/// What is done to a transfer.
#[derive(Debug, Clone, Copy)]
enum Act {
    Compact,
    CrashReceiver,
    CrashSender,
    SlowReceiver,
}

impl Moments {
    /// Those of a world.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: RefCell::new(Dice::new(seed, "bad moments")),
            busy: Cell::new(false),
            count: Cell::new(0),
        }
    }

    /// Whether this is one of the moments.
    fn strikes(&self, cluster: &Cluster) -> bool {
        let odds = cluster.world.moments_permille;
        let strikes = cluster.faulty.get()
            && odds > 0
            && !self.busy.get()
            && self.dice.borrow_mut().permille(odds);
        if strikes {
            self.busy.set(true);
            self.count.set(self.count.get() + 1);
        }
        strikes
    }

    fn between(&self, low: u64, high: u64) -> u64 {
        self.dice.borrow_mut().between(low, high)
    }
}

/// A piece of a snapshot goes out.
pub(crate) fn piece_goes(cluster: &Rc<Cluster>, way: Way) {
    let moments = &cluster.moments;
    if !moments.strikes(cluster) {
        return;
    }
    let acts = [
        Act::Compact,
        Act::CrashReceiver,
        Act::CrashSender,
        Act::SlowReceiver,
    ];
    let act = acts[moments.dice.borrow_mut().place(acts.len())];
    let wait = Duration::from_millis(moments.between(0, 20));
    let cluster = Rc::clone(cluster);
    spawn_local(async move {
        sleep(wait).await;
        if cluster.faulty.get() {
            disturb(&cluster, way, act).await;
        }
        cluster.moments.busy.set(false);
    });
}

async fn disturb(cluster: &Rc<Cluster>, (from, to): Way, act: Act) {
    match act {
        Act::Compact => compact(cluster).await,
        Act::CrashReceiver => {
            cluster.crash(to, "while a snapshot comes", cluster.down_time());
        }
        Act::CrashSender => {
            cluster.crash(from, "while it sends a snapshot", cluster.down_time());
        }
        Act::SlowReceiver => {
            let times = cluster.moments.between(10, 60);
            let lasts = Duration::from_millis(cluster.moments.between(500, 3000));
            ail(cluster, What::SlowDisk(to, times), lasts).await;
        }
    }
}

/// Compacts as much as there is.
async fn compact(cluster: &Rc<Cluster>) {
    let number = FIRST_CLIENT + cluster.moments.count.get();
    let mut client = Client::new(Rc::clone(cluster), number);
    client.go_anywhere();
    let revision = cluster.newest();
    let physical = client.dice.permille(300);
    client.perform(Op::Compact { revision, physical }).await;
}

/// A member has installed a snapshot: it may be cut off at once, and need another one soon.
pub(crate) fn installed(cluster: &Rc<Cluster>, id: u64) {
    if !cluster.moments.strikes(cluster) {
        return;
    }
    let moments = &cluster.moments;
    let lasts = Duration::from_millis(moments.between(300, 3000));
    let cluster = Rc::clone(cluster);
    spawn_local(async move {
        ail(&cluster, What::Split(vec![id]), lasts).await;
        cluster.moments.busy.set(false);
    });
}

/// A member begins to write a checkpoint: it may take long, how much longer is answered, and the member is cut off
/// meanwhile, so that a snapshot comes before it is done.
pub(crate) fn checkpoint_begins(cluster: &Rc<Cluster>, id: u64) -> Duration {
    let moments = &cluster.moments;
    // Checkpoints are many: most of the moments are left to snapshots.
    if moments.between(1, CHECKPOINTS_PER_MOMENT) > 1 || !moments.strikes(cluster) {
        return Duration::ZERO;
    }
    let lasts = Duration::from_millis(moments.between(500, 4000));
    let cluster = Rc::clone(cluster);
    spawn_local(async move {
        ail(&cluster, What::Split(vec![id]), lasts).await;
        cluster.moments.busy.set(false);
    });
    lasts + 4 * SOON
}

async fn ail(cluster: &Rc<Cluster>, what: What, lasts: Duration) {
    let fault = Fault {
        number: 0,
        at: Duration::ZERO,
        lasts,
        what,
    };
    faults::befall(cluster, &fault).await;
}

/// One in so many checkpoints can be a bad moment.
const CHECKPOINTS_PER_MOMENT: u64 = 8;
/// Within so long a member that is in touch again is sent what it lacks, as the worlds go.
const SOON: Duration = Duration::from_millis(600);
/// The number of the first client that compacts at a bad moment.
const FIRST_CLIENT: u64 = 2000;
