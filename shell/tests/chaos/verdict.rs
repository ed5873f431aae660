//! The two acts and the verdict: first anything may break, then everything heals and must be well again; at the end
//! the judges read what the clients wrote down.

use std::rc::Rc;
use std::time::Duration;

use metastore_judges::history::Ending;
use metastore_judges::model::{Keys, Op};
use metastore_judges::sweep::sweep;
use metastore_judges::{Failure, leases, registers, watches};
use metastore_proto::etcdserverpb::HashKvRequest;
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep, timeout};

use super::client::Client;
use super::plan::Plan;
use super::run::Run;
use super::{faults, watchers, workload};
use crate::cluster::connection::Connection;

/// Plays both acts and judges them.
pub(crate) async fn acts(run: &Rc<Run>, plan: Plan, length: Duration) -> Result<(), Failure> {
    for place in 0..run.members.count() {
        run.members.start(place);
    }
    let mut probe = Client::new(Rc::clone(run), PROBE);
    writes_are_served(&mut probe, START_LIMIT).await?;
    run.say("the cluster serves");
    let chronicler = Client::new(Rc::clone(run), CHRONICLER);
    let chronicler = spawn_local(watchers::chronicle(chronicler));
    workload::begin(run);
    let faults = faults::unleash(run, plan);
    let end = Instant::now() + length;
    while Instant::now() < end {
        sleep(Duration::from_millis(100)).await;
        look(run)?;
    }
    run.say("everything heals");
    run.faulty.set(false);
    for schedule in faults {
        schedule.await.expect("a schedule does not panic");
    }
    look(run)?;
    for place in 0..run.members.count() {
        run.members.start(place);
    }
    writes_are_served(&mut probe, HEAL_LIMIT).await?;
    run.say("the cluster serves again");
    sleep(SETTLE).await;
    leases_end(run, &mut probe).await?;
    all_agree(run, &mut probe).await?;
    run.at_rest.set(true);
    chronicler.await.expect("the chronicler does not panic");
    sleep(SETTLE).await;
    look(run)?;
    judge(run)
}

/// What has been seen to go wrong so far.
fn look(run: &Run) -> Result<(), Failure> {
    if let Some(fallen) = run.members.fallen().into_iter().next() {
        run.fail(Failure::new("stands", fallen));
    }
    run.failure.borrow().clone().map_or(Ok(()), Err)
}

/// Through each member in turn, since every one of them has to serve.
async fn writes_are_served(probe: &mut Client, limit: Duration) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    for place in 0..probe.run.members.count() {
        loop {
            look(&probe.run)?;
            if probe.is_served_by(place).await {
                break;
            }
            if Instant::now() > deadline {
                let story = format!("the member in place {place} serves no write after {limit:?}");
                return Err(Failure::new("liveness", story));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Nobody renews a lease any more, so soon no key hangs on one.
async fn leases_end(run: &Run, probe: &mut Client) -> Result<(), Failure> {
    let deadline = Instant::now() + LEASES_LIMIT;
    loop {
        catch_up(run, probe).await?;
        let verdict = {
            let chronicle = run.chronicle.borrow();
            let keys = chronicle.keys(chronicle.last());
            leases::all_ended(&keys.unwrap_or_default())
        };
        if verdict.is_ok() || Instant::now() > deadline {
            return verdict;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until the chronicle has everything up to now.
async fn catch_up(run: &Run, probe: &mut Client) -> Result<(), Failure> {
    let deadline = Instant::now() + HEAL_LIMIT;
    loop {
        look(run)?;
        let read = probe.perform(Op::read(b"k00".to_vec(), Vec::new())).await;
        let newest = read.and_then(|ending| ending.revision());
        if newest.is_some_and(|newest| newest <= run.chronicle.borrow().last()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            let story = format!(
                "revision {newest:?} was read, but no watch of everything got beyond {}",
                run.chronicle.borrow().last()
            );
            return Err(Failure::new("liveness", story));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Every member tells the same history and has the same keys.
async fn all_agree(run: &Run, probe: &mut Client) -> Result<(), Failure> {
    catch_up(run, probe).await?;
    let revision = run.chronicle.borrow().last();
    let mut hashes = Vec::new();
    for place in 0..run.members.count() {
        probe.turn_to(place);
        let from = revision - COMPARED_REVISIONS.min(revision - 1);
        let boundaries = compactions(run).map(|(boundary, _)| boundary);
        let compacted = boundaries.max().unwrap_or(0);
        watchers::read_on(probe, from.max(compacted + 1), |_| true).await?;
        let hash = hash_of(run, place, revision).await;
        hashes.push(hash.map_err(|why| Failure::new("equal-states", format!("{place}: {why}")))?);
    }
    if hashes.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(());
    }
    let story = format!("at revision {revision} the members' hashes and boundaries are {hashes:?}");
    Err(Failure::new("equal-states", story))
}

async fn hash_of(run: &Run, place: usize, revision: i64) -> Result<(u32, i64), String> {
    let address = run.members.client_address(place);
    let mut connection = Connection::open(address).await?;
    let asked = connection.maintenance.hash_kv(HashKvRequest { revision });
    let answer = timeout(HEAL_LIMIT, asked).await;
    let answer = answer.map_err(|_| "no answer".to_owned())?;
    let answer = answer.map_err(|status| status.to_string())?.into_inner();
    Ok((answer.hash, answer.compact_revision))
}

/// The boundaries of all compactions that happened, or may have, each with the time from which on.
fn compactions(run: &Run) -> impl Iterator<Item = (i64, Duration)> {
    let history = run.history.borrow();
    let asked = history.iter().filter_map(|record| match record.op {
        Op::Compact { revision, .. } => {
            let ending = record.ended.as_ref().map(|(_, ending)| ending);
            let boundary = (revision, record.begun.time);
            (!ending.is_some_and(Ending::surely_nothing)).then_some(boundary)
        }
        _ => None,
    });
    asked.collect::<Vec<_>>().into_iter()
}

fn judge(run: &Run) -> Result<(), Failure> {
    let mut chronicle = run.chronicle.borrow_mut();
    for (boundary, since) in compactions(run) {
        chronicle.compacted(boundary, since);
    }
    let history = run.history.borrow();
    let ends = sweep(&history, &chronicle)?;
    leases::judge(&history, &chronicle, &ends, leases::CLOCK_RATE_PPM_MAX)?;
    let stretches = run.stretches.borrow();
    watches::judge(&stretches, &[], &chronicle)?;
    let searched = registers::judge(&history, &Keys::new())?;
    let registers = searched.decided;
    let answered = history
        .iter()
        .filter(|record| matches!(&record.ended, Some((_, ending)) if ending.revision().is_some()));
    let watched: usize = stretches.iter().map(|it| it.responses.len()).sum();
    let at_rest = stretches.iter().filter(|it| it.to_the_end).count();
    let answered = answered.count();
    println!(
        "ok seed={} calls={} answered={answered} revisions={} leases ended={} watched={watched} in {} stretches, {at_rest} \
         to the end; registers={registers} given-up={} cut={}",
        run.seed,
        history.len(),
        chronicle.last(),
        ends.len(),
        stretches.len(),
        searched.given_up,
        searched.cut,
    );
    if answered == 0 || watched == 0 || at_rest == 0 || registers == 0 {
        return Err(Failure::new("work", "the clients saw too little to judge"));
    }
    Ok(())
}

/// The numbers of the clients that belong to the run itself.
const PROBE: u64 = 1000;
const CHRONICLER: u64 = 1001;
const START_LIMIT: Duration = Duration::from_secs(30);
/// Long enough for a member that has to be sent the whole state over a link that was narrow.
const HEAL_LIMIT: Duration = Duration::from_secs(30);
const SETTLE: Duration = Duration::from_secs(4);
/// Longer than any lease is granted for, with what new leaders add.
const LEASES_LIMIT: Duration = Duration::from_secs(30);
/// How much of its history each member is asked for once more.
const COMPARED_REVISIONS: i64 = 2000;
