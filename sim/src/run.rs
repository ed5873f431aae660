//! One seed from its beginning to its verdict: an act in which anything may break, and an act in which all must heal.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use madsim::Config;
use madsim::runtime::{Handle, Runtime};
use madsim::time::sleep;

use crate::client::Client;
use crate::cluster::Cluster;
use crate::driver::{Call, Examined};
use crate::healing::{mend_membership, tell_the_removed};
use crate::mailbox::Mailbox;
use crate::sometimes::{self, SHOWN, Situation};
use crate::trace::{follow_clock, now};
use crate::world::World;
use crate::{faults, majority, rounds, workload};
use metastore_judges::history::Ending;
use metastore_judges::model::Op;
use metastore_judges::sweep::sweep;
use metastore_judges::{Failure, changes, claims, fairness, leases, registers, room, watches};

/// Runs a world; prints it first and the verdict last. Answers whether every promise was kept. `replay` are the words
/// that make the same run again.
pub(crate) fn run(world: World, full_trace: bool, replay: &str) -> bool {
    println!("{world}");
    let cluster = Cluster::new(world.clone(), full_trace);
    remember_panics();
    let runtime = Runtime::with_seed_and_config(world.seed, Config::default());
    let acts = catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(begin(Rc::clone(&cluster)))
    }));
    let (time, verdict) = acts.unwrap_or_else(|_| {
        let panic = PANIC.lock().ok().and_then(|panic| panic.clone());
        let (time, story) = panic.expect("the hook keeps the words of every panic");
        (time, Err(Failure::new("invariant", story)))
    });
    cluster.trace.flush();
    if cluster.world.counts {
        cluster
            .sometimes
            .lines()
            .for_each(|line| println!("{line}"));
    }
    if let Some(shows) = cluster.world.shows {
        println!("{}", sometimes::line(shows(&cluster), SHOWN));
    }
    let kept = verdict.is_ok();
    match verdict {
        Ok(()) => praise(&cluster, time),
        Err(failure) => report(&cluster, time, &failure, replay),
    }
    kept
}

fn praise(cluster: &Cluster, time: Duration) {
    let (counts, judges) = (&cluster.counts, cluster.judges.borrow());
    println!(
        "ok seed={} members={} virtual={:.3}s events={} answers={} revisions={} crashes={} checkpoints={} letters={} \
         watched={} leases={} registers={} given-up={} cut={} memberships={} removed={} handed-on={} full={}",
        cluster.world.seed,
        cluster.world.members,
        time.as_secs_f64(),
        cluster.trace.events(),
        counts.answers.get(),
        judges.chronicle.last(),
        counts.crashes.get(),
        counts.checkpoints.get(),
        counts.letters.get(),
        counts.events.get(),
        counts.leases_ended.get(),
        counts.registers.get(),
        counts.registers_given_up.get(),
        counts.registers_cut.get(),
        judges.memberships.agreed().count(),
        counts.removed.get(),
        counts.handed_on.get(),
        counts.full.get(),
    );
}

fn report(cluster: &Cluster, time: Duration, failure: &Failure, replay: &str) {
    println!(
        "FAILED {} seed={} commit={} t={:.6}s",
        failure.judge,
        cluster.world.seed,
        commit(),
        time.as_secs_f64()
    );
    for line in failure.story.lines() {
        println!("  {line}");
    }
    println!("  before that:");
    for line in cluster.trace.story() {
        println!("    {line}");
    }
    let planned = cluster.planned.borrow();
    if !planned.is_empty() {
        println!("  planned in round {}:", cluster.round.get() + 1);
        planned
            .iter()
            .for_each(|fault| println!("{PLANNED}{fault}"));
    }
    println!("  replay: cargo x sim {replay}");
    println!("  trace:  cargo x sim {replay} --log full");
}

/// What the failure belongs to: the commit, and whether files differ from it.
fn commit() -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    match changed {
        Some(changes) if !changes.is_empty() => format!("{hash}+changes"),
        _ => hash,
    }
}

/// Begins the acts. Those of a long run go on a node of their own: of the main one the runtime never forgets a task, and
/// each letter is one.
async fn begin(cluster: Rc<Cluster>) -> Verdict {
    follow_clock();
    if cluster.world.lasts.is_zero() {
        return acts(cluster).await;
    }
    let verdict = Mailbox::new();
    STAGE.set(Some((cluster, verdict.clone())));
    let runtime = Handle::current();
    let node = runtime.create_node();
    // The runtime hands tasks to a node only by way of what could be sent to another thread.
    let _node = node
        .init(|| async {
            let (cluster, verdict) = STAGE.take().expect("one run has one stage");
            verdict.push(acts(cluster).await);
        })
        .build();
    verdict.recv().await
}

async fn acts(cluster: Rc<Cluster>) -> Verdict {
    loop {
        let verdict = round(&cluster).await;
        if verdict.is_err() || now() >= cluster.world.lasts {
            return (now(), verdict);
        }
        if let Err(failure) = rounds::all_rest(&cluster).await {
            return (now(), Err(failure));
        }
        rounds::begin_next(&cluster);
    }
}

/// Both acts, and what the judges say of them.
async fn round(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    safety(cluster).await?;
    liveness(cluster).await?;
    judge(cluster)
}

/// What the clients wrote down, judged by everybody who reads it.
fn judge(cluster: &Cluster) -> Result<(), Failure> {
    let history = cluster.history.borrow();
    let judges = cluster.judges.borrow();
    let chronicle = &judges.chronicle;
    let ends = sweep(&history, chronicle)?;
    let ran_out = ends.len() as u64;
    let leases_ended = &cluster.counts.leases_ended;
    leases_ended.set(leases_ended.get() + ran_out);
    cluster.sometimes.saw_times(Situation::RanOut, ran_out);
    let clocks = cluster.world.clock_rate_ppm_max;
    leases::judge(&history, chronicle, &ends, clocks)?;
    let (terms, healed) = (cluster.terms.borrow(), cluster.healed.get());
    leases::none_late(&history, &ends, &terms, healed, clocks)?;
    let (looks, tenures) = (cluster.looks.borrow(), cluster.tenures.borrow());
    let changes_hands = claims::judge(&history, chronicle, &looks, &tenures, clocks)?;
    let handed_on = &cluster.counts.handed_on;
    handed_on.set(handed_on.get() + changes_hands);
    if cluster.world.storm_leases > 0 {
        let mut shown: Vec<Duration> = ends.iter().map(|end| end.shown_at).collect();
        shown.sort_unstable();
        if let (Some(first), Some(last)) = (shown.first(), shown.last()) {
            fairness::judge(&history, (*first, *last), STORM_PATIENCE)?;
        }
    }
    if let Some(patience) = cluster.world.patience {
        // When there is a leader, until everything heals.
        let began = cluster.round_began.get();
        let within = (began + WITHOUT_LEADER, began + cluster.world.safety_act);
        fairness::judge(&history, within, patience)?;
    }
    changes::judge(&history, &judges.memberships)?;
    watches::judge(
        &cluster.stretches.borrow(),
        &cluster.streams.borrow(),
        chronicle,
    )?;
    let at_first = chronicle.keys(chronicle.base()).unwrap_or_default();
    let searched = registers::judge(&history, &at_first)?;
    let counts = &cluster.counts;
    let more = |count: &Cell<u64>, by| count.set(count.get() + by);
    more(&counts.registers, searched.decided);
    more(&counts.registers_given_up, searched.given_up);
    more(&counts.registers_cut, searched.cut);
    let found = Situation::OrderFound;
    cluster.sometimes.saw_times(found, searched.decided);
    room::judge(&history, chronicle, cluster.world.quota_bytes)
}

async fn safety(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    // In a round that is not the first all run, but for those who crash just now.
    for id in cluster.serving() {
        cluster.start(id);
    }
    workload::begin(cluster);
    faults::unleash(cluster);
    let end = now() + cluster.world.safety_act;
    let first = cluster.failures.recv_until(Some(end)).await;
    first.map_or(Ok(()), Err)
}

/// Everything heals: soon there is a leader, fresh writes are taken, leases that nobody renews end, and all members
/// agree; and what they agree on is what a restart from their disks finds.
async fn liveness(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    cluster.trace.note(format_args!("everything heals"));
    cluster.faulty.set(false);
    cluster.network.borrow_mut().calm();
    // The planned faults notice.
    sleep(Duration::from_millis(100)).await;
    for id in cluster.serving() {
        cluster.start(id);
    }
    if cluster.world.membership_changes() {
        let mended = mend_membership(cluster).await;
        mended.map_err(|failure| broken_or(cluster, failure))?;
    }
    if cluster.world.quota_bytes.is_some() {
        make_room(cluster).await;
    }
    let probe = Client::new(Rc::clone(cluster), PROBE);
    if !probe.probe(PROBES).await {
        let story = "no write is acknowledged although nothing is broken";
        return Err(broken_or(cluster, Failure::new("liveness", story)));
    }
    // A leader may have been without a quorum that has its log until now, and counted nothing down.
    cluster.healed.set(now());
    // What the clients still had under way comes to its end.
    sleep(SETTLE).await;
    if cluster.world.contenders > 0 {
        let client = Client::new(Rc::clone(cluster), CLAIMANT);
        let round = workload::claims::come_round(client).await;
        round.map_err(|failure| broken_or(cluster, failure))?;
    }
    let ended = leases_end(cluster).await;
    ended.map_err(|failure| broken_or(cluster, failure))?;
    everybody_serves(cluster).await?;
    let served = majority::serves(cluster).await;
    served.map_err(|failure| broken_or(cluster, failure))?;
    if cluster.world.membership_changes() {
        let told = tell_the_removed(cluster).await;
        told.map_err(|failure| broken_or(cluster, failure))?;
    }
    agreement(cluster).await?;
    cluster.at_rest.set(true);
    sleep(SETTLE).await;
    let before = agreement(cluster).await?;
    for id in cluster.serving() {
        let at = "on purpose, with nothing being written";
        cluster.crash(id, at, cluster.down_time());
    }
    sleep(Duration::from_millis(cluster.world.down_ms_max) + SETTLE).await;
    let after = agreement(cluster).await?;
    let found = |it: &Examined| (it.revision, it.state_hash);
    if found(&after) != found(&before) {
        let story = format!("after the replay {after:?}, before it {before:?}");
        return Err(Failure::new("replay", story));
    }
    let last = cluster.failures.recv_until(Some(now())).await;
    last.map_or(Ok(()), Err)
}

/// A store that is full takes deletions and compactions, and afterwards everything else again.
async fn make_room(cluster: &Rc<Cluster>) {
    let mut client = Client::new(Rc::clone(cluster), CLEANER);
    for _ in 0..PROBES {
        let delete = Op::Delete {
            // Not what other judges count.
            key: b"h".to_vec(),
            end: vec![0],
        };
        let compacted = match client.perform(delete).await {
            Ending::Wrote(_) => {
                let compact = Op::Compact {
                    revision: client.seen,
                    physical: true,
                };
                client.perform(compact).await
            }
            ending => ending,
        };
        if let Ending::Wrote(_) = compacted {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every voter takes writes, and linearizable reads.
async fn everybody_serves(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    let voters: Vec<u64> = {
        let judges = cluster.judges.borrow();
        let newest = judges.memberships.newest();
        let votes = |id: &u64| newest.is_some_and(|newest| newest.is_voter(*id));
        cluster.serving().into_iter().filter(votes).collect()
    };
    let mut client = Client::new(Rc::clone(cluster), VISITOR);
    for id in voters {
        let key = b"k00".to_vec();
        for op in [
            Op::put(key.clone(), client.value()),
            Op::read(key, Vec::new()),
        ] {
            let mut endings = Vec::new();
            while !matches!(
                endings.last(),
                Some(Ending::Wrote(_) | Ending::Full | Ending::Read(_))
            ) {
                if endings.len() == VISITS {
                    let story = format!("m{id} does not serve {op}: {endings:?}");
                    return Err(broken_or(cluster, Failure::new("liveness", story)));
                }
                client.member = id;
                endings.push(client.perform(op.clone()).await);
            }
        }
    }
    Ok(())
}

/// Every lease ends, those without keys among them, whose end no view shows.
async fn leases_end(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    let mut verdict = Ok(());
    for _ in 0..LEASE_TRIES {
        let all_ended = {
            let judges = cluster.judges.borrow();
            let chronicle = &judges.chronicle;
            let keys = chronicle.keys(chronicle.last());
            leases::all_ended(&keys.unwrap_or_default())
        };
        verdict = match all_ended {
            Ok(()) => nobody_lists_any(cluster).await,
            failure => failure,
        };
        if verdict.is_ok() {
            break;
        }
        sleep(Duration::from_millis(200)).await;
    }
    verdict
}

/// Asks every member for its leases.
async fn nobody_lists_any(cluster: &Rc<Cluster>) -> Result<(), Failure> {
    let mut client = Client::new(Rc::clone(cluster), LISTER);
    for id in members(cluster) {
        client.member = id;
        let answer = client.perform(Op::Leases).await;
        let judge = match &answer {
            Ending::Leases { ids, .. } if ids.is_empty() => continue,
            Ending::Leases { .. } => "leases",
            _ => "liveness",
        };
        let story = format!("nobody renews any lease, and m{id} says: {answer}");
        return Err(Failure::new(judge, story));
    }
    Ok(())
}

/// Waits until all members show one state and one leader.
async fn agreement(cluster: &Rc<Cluster>) -> Result<Examined, Failure> {
    let mut seen = Vec::new();
    for _ in 0..AGREEMENT_TRIES {
        seen.clear();
        let members = members(cluster);
        for id in &members {
            let Some(life) = cluster.life(*id) else {
                continue;
            };
            let answer = Mailbox::new();
            life.inbox.push(Call::Examine(answer.clone()));
            seen.extend(answer.recv_until(Some(now() + SETTLE)).await);
        }
        let complete = seen.len() == members.len() && !seen.is_empty();
        if complete && seen[0].leader.is_some() && seen.iter().all(|it| *it == seen[0]) {
            return Ok(seen[0]);
        }
        sleep(Duration::from_millis(200)).await;
    }
    let story = format!("the members do not come to agree: {seen:?}");
    Err(broken_or(cluster, Failure::new("liveness", story)))
}

/// The failure that came before this one, if any did.
fn broken_or(cluster: &Cluster, failure: Failure) -> Failure {
    let first = cluster.failures.take_all().into_iter().next();
    first.unwrap_or(failure)
}

/// Those of the newest membership.
fn members(cluster: &Cluster) -> Vec<u64> {
    let judges = cluster.judges.borrow();
    let newest = judges.memberships.newest();
    newest.map_or(Vec::new(), |now| now.members.keys().copied().collect())
}

/// Keeps the words of the first panic: an invariant of the core says in them what was broken.
fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut first) = PANIC.lock() {
            first.get_or_insert_with(|| (now(), panic.to_string()));
        }
    }));
}

/// Before each fault of a later round, in a report.
pub(crate) const PLANNED: &str = "    planned: ";

/// When a run ended, and how.
type Verdict = (Duration, Result<(), Failure>);

thread_local! {
    /// What a node is to begin with.
    static STAGE: Cell<Option<(Rc<Cluster>, Mailbox<Verdict>)>> = const { Cell::new(None) };
}

static PANIC: Mutex<Option<(Duration, String)>> = Mutex::new(None);
/// The number of the client that asks whether all is well again.
const PROBE: u64 = 1000;
const PROBES: u64 = 150;
/// The numbers of those that free a full store, and that wait for every name.
const CLEANER: u64 = 1002;
const CLAIMANT: u64 = 1003;
/// The number of the client that asks every voter, and how often it does.
const VISITOR: u64 = 1004;
const VISITS: usize = 3;
/// The number of the one that asks whether any lease is left.
const LISTER: u64 = 1005;
const SETTLE: Duration = Duration::from_secs(4);
/// Within so long the first members have a leader.
const WITHOUT_LEADER: Duration = Duration::from_secs(5);
/// How long anybody may wait while a storm of leases ends.
const STORM_PATIENCE: Duration = Duration::from_millis(500);
const AGREEMENT_TRIES: u64 = 100;
/// Every fifth of a second, for much longer than any lease is granted for.
const LEASE_TRIES: u64 = 200;
