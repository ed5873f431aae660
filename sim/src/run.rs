//! One seed from its beginning to its verdict: an act in which anything may break, and an act in which all must heal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use madsim::Config;
use madsim::runtime::Runtime;
use madsim::task::spawn_local;
use madsim::time::sleep;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::driver::{Call, Examined};
use crate::judge::Failure;
use crate::mailbox::Mailbox;
use crate::sweep::sweep;
use crate::trace::now;
use crate::world::{Options, World};

/// Runs a world; prints it first and the verdict last. Answers whether every promise was kept.
pub(crate) fn run(world: World, full_trace: bool) -> bool {
    println!("{world}");
    let cluster = Cluster::new(world.clone(), full_trace);
    remember_panics();
    let runtime = Runtime::with_seed_and_config(world.seed, Config::default());
    let acts = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(acts(Rc::clone(&cluster)))
    }));
    let (time, verdict) = acts.unwrap_or_else(|_| {
        let panic = PANIC.lock().ok().and_then(|panic| panic.clone());
        let (time, story) = panic.expect("the hook keeps the words of every panic");
        (time, Err(Failure::new("invariant", story)))
    });
    cluster.trace.flush();
    match verdict {
        Ok(()) => {
            let counts = &cluster.counts;
            println!(
                "ok seed={} members={} virtual={:.3}s events={} answers={} revisions={} crashes={} checkpoints={} letters={}",
                world.seed,
                world.members,
                time.as_secs_f64(),
                cluster.trace.events(),
                counts.answers.get(),
                cluster.chronicle.borrow().last(),
                counts.crashes.get(),
                counts.checkpoints.get(),
                counts.letters.get(),
            );
            true
        }
        Err(failure) => {
            report(&cluster, time, &failure);
            false
        }
    }
}

fn report(cluster: &Cluster, time: Duration, failure: &Failure) {
    let world = &cluster.world;
    println!(
        "FAILED {} seed={} t={:.6}s",
        failure.judge,
        world.seed,
        time.as_secs_f64()
    );
    for line in failure.story.lines() {
        println!("  {line}");
    }
    println!("  before that:");
    for line in cluster.trace.story() {
        println!("    {line}");
    }
    let options = Options {
        plant: world.plant,
        silent_loss: world.silent_loss,
    };
    let mut words = vec![world.seed.to_string()];
    words.extend(options.words().into_iter().map(str::to_owned));
    let replay = words.join(" ");
    println!("  replay: cargo x sim {replay}");
    println!("  trace:  cargo x sim {replay} --log full");
}

async fn acts(cluster: Rc<Cluster>) -> (Duration, Result<(), Failure>) {
    let verdict = match safety(&cluster).await {
        Ok(()) => liveness(&cluster).await,
        failed => failed,
    };
    let swept =
        verdict.and_then(|()| sweep(&cluster.history.borrow(), &cluster.chronicle.borrow()));
    (now(), swept)
}

async fn safety(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    for id in 1..=cluster.world.members {
        cluster.start(id);
    }
    for number in 1..=cluster.world.clients {
        spawn_local(Client::new(Rc::clone(cluster), number).run());
    }
    if cluster.world.partitions && cluster.world.members > 1 {
        spawn_local(partitions(Rc::clone(cluster)));
    }
    let end = now() + cluster.world.safety_act;
    cluster
        .failures
        .recv_until(Some(end))
        .await
        .map_or(Ok(()), Err)
}

/// Everything heals: soon there is a leader, fresh writes are taken, and all members agree; and what they agree on is
/// what a restart from their disks finds.
async fn liveness(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    cluster.trace.note(format_args!("everything heals"));
    cluster.faulty.set(false);
    for id in 1..=cluster.world.members {
        cluster.cut(id, false);
        cluster.start(id);
    }
    let probe = Client::new(Rc::clone(cluster), PROBE);
    if !probe.probe(PROBES).await {
        return Err(broken_or(
            cluster,
            "no write is acknowledged although nothing is broken",
        ));
    }
    // What the clients still had under way comes to its end.
    sleep(SETTLE).await;
    let before = agreement(cluster).await?;
    for id in 1..=cluster.world.members {
        cluster.crash(id, "on purpose, with nothing being written");
    }
    sleep(Duration::from_millis(cluster.world.down_ms_max) + SETTLE).await;
    let after = agreement(cluster).await?;
    if (after.revision, after.state_hash) != (before.revision, before.state_hash) {
        let story = format!("after the replay {after:?}, before it {before:?}");
        return Err(Failure::new("replay", story));
    }
    cluster
        .failures
        .recv_until(Some(now()))
        .await
        .map_or(Ok(()), Err)
}

/// Waits until all members show one state and one leader.
async fn agreement(cluster: &Rc<Cluster>) -> Result<Examined, Failure> {
    let mut seen = Vec::new();
    for _ in 0..AGREEMENT_TRIES {
        seen.clear();
        for id in 1..=cluster.world.members {
            let Some(life) = cluster.life(id) else {
                continue;
            };
            let answer = Mailbox::new();
            life.inbox.push(Call::Examine(answer.clone()));
            seen.extend(answer.recv_until(Some(now() + SETTLE)).await);
        }
        let complete = seen.len() as u64 == cluster.world.members;
        if complete && seen[0].leader.is_some() && seen.iter().all(|it| *it == seen[0]) {
            return Ok(seen[0]);
        }
        sleep(Duration::from_millis(200)).await;
    }
    let story = format!("the members do not come to agree: {seen:?}");
    Err(broken_or(cluster, &story))
}

/// The failure that came before this one, if any did.
fn broken_or(cluster: &Cluster, story: &str) -> Failure {
    let first = cluster.failures.take_all().into_iter().next();
    first.unwrap_or_else(|| Failure::new("liveness", story))
}

/// Cuts one member off at a time, for a while.
async fn partitions(cluster: Rc<Cluster>) {
    let mut dice = Dice::new(cluster.world.seed, "partitions");
    while cluster.faulty.get() {
        sleep(Duration::from_millis(dice.between(200, 6000))).await;
        let id = dice.between(1, cluster.world.members);
        if !cluster.faulty.get() {
            return;
        }
        cluster.cut(id, true);
        sleep(Duration::from_millis(dice.between(50, 5000))).await;
        cluster.cut(id, false);
    }
}

/// Keeps the words of the first panic: an invariant of the core says in them what was broken.
fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut first) = PANIC.lock() {
            first.get_or_insert_with(|| (now(), panic.to_string()));
        }
    }));
}

static PANIC: Mutex<Option<(Duration, String)>> = Mutex::new(None);
/// The number of the client that asks whether all is well again.
const PROBE: u64 = 1000;
const PROBES: u64 = 150;
const SETTLE: Duration = Duration::from_secs(4);
const AGREEMENT_TRIES: u64 = 100;
