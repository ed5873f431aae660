//! Leases: none ends before its time since the last answered renewal, none long after, all its keys go in one revision,
//! nothing hangs on it afterwards, and whatever is said of one is true.
//!
//! What a holder knows: a renewal that was answered was taken at some time after it was asked for, so the lease lives
//! at least its full time from the asking on. That a clock may run fast is taken into account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metastore_core::lease::{LeaseError, LeaseStatus};
use metastore_core::output::{Outcome, Refusal};

use super::Failure;
use super::chronicle::Chronicle;
use crate::history::{Ending, Moment, Record};
use crate::model::{KeyChange, Keys, Op};
use crate::sweep::Floors;

mod lives;

use lives::{Life, Story, says_gone, stories};

/// Unless a world says otherwise, no member's clock is off by more than this, in millionths: far beyond what quartz does,
/// and little enough to tell an early end from a fast clock.
pub const CLOCK_RATE_PPM_MAX: u64 = 2000;

/// A revision that took away all keys of a lease without a client having asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseEnd {
    /// The lease.
    pub id: i64,
    /// The revision that took its keys away.
    pub revision: i64,
    /// When that was first seen.
    pub shown_at: Duration,
}

/// The lease that these changes are the end of: they delete all its keys, in order, and nothing else.
pub fn lease_ended_by(changes: &[KeyChange], before: &Keys) -> Option<i64> {
    let (first, _) = changes.first()?;
    let id = before.get(first)?.lease;
    let expected = Op::Revoke { id }.effect(before, 0).changes;
    (id != 0 && expected == changes).then_some(id)
}

/// Judges all leases. `ends` are the revisions that nobody asked for; no clock is off by more than `rate_ppm` millionths.
///
/// # Errors
/// When a promise is broken.
pub fn judge(
    history: &[Record],
    chronicle: &Chronicle,
    ends: &[LeaseEnd],
    rate_ppm: u64,
) -> Result<(), Failure> {
    let stories = stories(history, chronicle, ends, rate_ppm);
    for end in ends {
        let told = format!("{end:?}");
        let Some(story) = stories.get(&end.id).filter(|it| !it.lives.is_empty()) else {
            return Err(wrong(
                end.id,
                format!("it ended, and nobody asked for it: {told}"),
            ));
        };
        // Of a first life there is no end that could be that of an earlier one.
        for (place, life) in story.lives.iter().enumerate() {
            let first = place == 0 && life.granted_at.is_none();
            if first || life.began_before(end.revision) {
                not_early(end.id, story, life, end.shown_at, &told)?;
            }
        }
    }
    let floors = Floors::of(history, chronicle.base());
    for record in history {
        let Some((ended, ending)) = &record.ended else {
            continue;
        };
        if let Some(id) = says_gone(&record.op, ending) {
            truly_gone(&stories, id, record, *ended)?;
        }
        truly_there(&stories, record, ending)?;
        match (&record.op, ending) {
            (Op::TimeToLive { id, keys }, Ending::Stands(Some(status))) => {
                let floor = floors.at(record.begun);
                truly_left(&stories, record, (*ended, status), rate_ppm)?;
                truly_keys(chronicle, (*id, *keys), record, (*ended, status), floor)?;
            }
            (Op::Leases, Ending::Leases { ids, shown }) => {
                truly_listed(&stories, record, *ended, ids, *shown)?;
            }
            _ => {}
        }
    }
    nothing_hangs_on_the_dead(history, chronicle, &stories, ends)
}

/// When everything has healed: no lease outlives its full time, an election timeout more and a moment, from its last
/// renewal on or from the beginning of the term in which it ended, under whose leader the countdown began anew. `terms`
/// says when each began, `healed` since when nothing breaks any more and writes are taken.
///
/// # Errors
/// When one ended later.
pub fn none_late(
    history: &[Record],
    ends: &[LeaseEnd],
    terms: &[Duration],
    healed: Duration,
    rate_ppm: u64,
) -> Result<(), Failure> {
    for end in ends.iter().filter(|end| end.shown_at >= healed) {
        let at = end.shown_at;
        let mut last = healed;
        last = terms.iter().fold(last, |last, began| match *began <= at {
            true => last.max(*began),
            false => last,
        });
        let mut full = 0;
        for record in history.iter().filter(|it| it.begun.time <= at) {
            let ended = record.ended.as_ref();
            match record.op {
                Op::Grant { id, ttl_seconds } if id == end.id => {
                    full = full.max(granted_seconds(ttl_seconds));
                }
                Op::Renew { id } if id == end.id => {}
                _ => continue,
            }
            if ended.is_some_and(|(_, ending)| ending.surely_nothing()) {
                continue;
            }
            // What nobody heard the end of may have been taken as long as a member lets anything wait.
            let heard = ended.filter(|(_, ending)| !matches!(ending, Ending::Lost));
            let taken = heard.map_or(record.begun.time + WAIT_MAX, |(ended, _)| ended.time);
            last = last.max(taken.min(at));
        }
        let full = seconds(full);
        let until = last + full + full.mul_f64(rate_ppm as f64 / 1e6) + GRACE;
        if at > until {
            let until = until.as_secs_f64();
            let story = format!("it was over by {until:.3}s: {end:?}");
            return Err(wrong(end.id, story));
        }
    }
    Ok(())
}

/// At the end, when no holder renews any more: no key hangs on any lease.
///
/// # Errors
/// When one does.
pub fn all_ended(keys: &Keys) -> Result<(), Failure> {
    match keys.iter().find(|(_, kv)| kv.lease != 0) {
        None => Ok(()),
        Some((key, kv)) => Err(wrong(
            kv.lease,
            format!(
                "nobody renews it, and {} still hangs on it",
                key.escape_ascii()
            ),
        )),
    }
}

/// For how long a lease of this time surely lives from the asking on: the leader's clock may run fast, by
/// so many millionths at most.
pub fn surely(ttl_seconds: i64, rate_ppm: u64) -> Duration {
    let ttl = seconds(ttl_seconds);
    ttl - ttl.mul_f64(rate_ppm as f64 / 1e6)
}

/// For how long a lease is granted that is asked for with this time, in seconds.
fn granted_seconds(asked: i64) -> i64 {
    asked.max(1)
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// An end that was noticed at a time happened no later; so it must not lie before what the holder knows.
fn not_early(
    id: i64,
    story: &Story<'_>,
    life: &Life<'_>,
    noticed: Duration,
    what: &str,
) -> Result<(), Failure> {
    let until = life.alive_until();
    if noticed >= until || story.end_asked_for(life, noticed) {
        return Ok(());
    }
    let (noticed, until) = (noticed.as_secs_f64(), until.as_secs_f64());
    Err(wrong(
        id,
        format!("gone at {noticed:.3}s, though it must live until {until:.3}s: {what}"),
    ))
}

/// An answer that says that there is no such lease must be true: of all that were granted before it was asked for.
fn truly_gone(
    stories: &BTreeMap<i64, Story<'_>>,
    id: i64,
    record: &Record,
    ended: Moment,
) -> Result<(), Failure> {
    let Some(story) = stories.get(&id) else {
        return Ok(());
    };
    let before = story.lives.iter();
    for life in before.filter(|life| life.granted_before(record.begun)) {
        not_early(id, story, life, ended.time, &record.to_string())?;
    }
    Ok(())
}

/// What an answer says of a lease that lives, there must be a grant for, of that time, whose end nobody had seen before
/// it was asked for: whoever asks is answered from a state that has all that was agreed on before.
fn truly_there(
    stories: &BTreeMap<i64, Story<'_>>,
    record: &Record,
    ending: &Ending,
) -> Result<(), Failure> {
    let (id, told) = match (&record.op, ending) {
        (Op::Grant { id, ttl_seconds }, Ending::Wrote(Outcome::LeaseGranted(answer))) => {
            let granted = granted_seconds(*ttl_seconds);
            return match (answer.id, answer.ttl) == (*id, granted) {
                true => Ok(()),
                false => Err(wrong(
                    *id,
                    format!("granted for {granted}s, and the answer is {answer:?}: {record}"),
                )),
            };
        }
        (Op::Renew { id }, Ending::Renewed { ttl_seconds }) if *ttl_seconds != 0 => {
            (*id, Some(*ttl_seconds))
        }
        (Op::TimeToLive { id, .. }, Ending::Stands(Some(status))) => {
            (*id, Some(status.ttl_seconds))
        }
        (Op::Grant { id, .. }, Ending::Refused(Refusal::Lease(LeaseError::Exists))) => (*id, None),
        (Op::Revoke { .. }, Ending::Refused(Refusal::Lease(LeaseError::NotFound))) => return Ok(()),
        (_, Ending::Refused(Refusal::Lease(error))) => {
            return Err(wrong(0, format!("nothing explains {error}: {record}")));
        }
        _ => return Ok(()),
    };
    let lives = stories.get(&id).into_iter();
    let mut ttls = lives
        .flat_map(|story| story.lives_during(record))
        .map(|life| life.ttl_seconds)
        .peekable();
    if ttls.peek().is_none() {
        let story = format!("it lives, though it never did or its end was known: {record}");
        return Err(wrong(id, story));
    }
    match told.is_none_or(|told| ttls.any(|ttl| ttl == told)) {
        true => Ok(()),
        false => Err(wrong(id, format!("it was granted another time: {record}"))),
    }
}

/// What a lease has left is not less than its holder knows, and not more than its time and what a new leader adds.
fn truly_left(
    stories: &BTreeMap<i64, Story<'_>>,
    record: &Record,
    (ended, status): (Moment, &LeaseStatus),
    rate_ppm: u64,
) -> Result<(), Failure> {
    let Op::TimeToLive { id, .. } = record.op else {
        return Ok(());
    };
    let left = status.remaining_seconds;
    if left < 0 || seconds(left) > seconds(status.ttl_seconds) + ADDED {
        return Err(wrong(id, format!("it cannot have {left}s left: {record}")));
    }
    let lives: Vec<&Life<'_>> = stories
        .get(&id)
        .into_iter()
        .flat_map(|story| story.lives_during(record))
        .collect();
    let [life] = lives[..] else { return Ok(()) };
    let known = life.alive_until_by(record.begun).saturating_sub(ended.time);
    // By a slow clock, and rounded down.
    let known = known - known.mul_f64(rate_ppm as f64 / 1e6);
    match seconds(left + 1) > known {
        true => Ok(()),
        false => Err(wrong(
            id,
            format!("{:.3}s must be left: {record}", known.as_secs_f64()),
        )),
    }
}

/// The keys that hang on a lease are those of some state between question and answer.
fn truly_keys(
    chronicle: &Chronicle,
    (id, asked_for): (i64, bool),
    record: &Record,
    (ended, status): (Moment, &LeaseStatus),
    floor: i64,
) -> Result<(), Failure> {
    if !asked_for {
        return match status.keys.is_empty() {
            true => Ok(()),
            false => Err(wrong(id, format!("nobody asked for its keys: {record}"))),
        };
    }
    let shown = |revision: &i64| {
        let at = chronicle.revision(*revision).map(|it| it.shown_at);
        *revision == floor || at.is_some_and(|at| at <= ended.time)
    };
    for revision in (floor..=chronicle.last()).take_while(shown) {
        let keys = chronicle.keys(revision).unwrap_or_default();
        let hanging = keys.iter().filter(|(_, kv)| kv.lease == id);
        if status.keys.iter().eq(hanging.map(|(key, _)| &**key)) {
            return Ok(());
        }
    }
    let story = format!("these were its keys at no revision from {floor} on: {status:?}, {record}");
    Err(wrong(id, story))
}

/// A list has what surely lives and was granted before what the member showed, and nothing that had ended by then.
fn truly_listed(
    stories: &BTreeMap<i64, Story<'_>>,
    record: &Record,
    ended: Moment,
    ids: &[i64],
    shown: i64,
) -> Result<(), Failure> {
    let listed: BTreeSet<i64> = ids.iter().copied().collect();
    if listed.len() != ids.len() {
        return Err(wrong(0, format!("a list names one twice: {ids:?}")));
    }
    for id in ids {
        let asked_for = |story: &&Story<'_>| {
            let mut lives = story.lives.iter();
            lives.any(|life| life.asked.begun < ended)
        };
        let story = stories.get(id).filter(asked_for);
        if story.is_none_or(|story| !story.may_live_at(shown)) {
            let story = format!("it is not at revision {shown}, and is listed: {record}");
            return Err(wrong(*id, story));
        }
    }
    for (id, story) in stories.iter().filter(|(id, _)| !listed.contains(id)) {
        let lives = |life: &&Life<'_>| {
            life.began_before(shown)
                && life.alive_until_by(record.begun) > ended.time
                && !story.end_asked_for(life, ended.time)
        };
        if let Some(life) = story.lives.iter().find(lives) {
            let until = life.alive_until_by(record.begun).as_secs_f64();
            let story = format!("it lives until {until:.3}s, and is not listed: {record}");
            return Err(wrong(*id, story));
        }
    }
    Ok(())
}

fn nothing_hangs_on_the_dead(
    history: &[Record],
    chronicle: &Chronicle,
    stories: &BTreeMap<i64, Story<'_>>,
    ends: &[LeaseEnd],
) -> Result<(), Failure> {
    let mut ended: BTreeMap<i64, BTreeSet<i64>> = BTreeMap::new();
    for end in ends {
        ended.entry(end.id).or_default().insert(end.revision);
    }
    for record in history {
        if let (Op::Revoke { id }, Some((_, ending @ Ending::Wrote(_)))) =
            (&record.op, &record.ended)
        {
            let revision = ending.revision().unwrap_or(0);
            ended.entry(*id).or_default().insert(revision);
        }
    }
    for revision in chronicle.known() {
        let changes = chronicle
            .revision(revision)
            .map_or(&[][..], |it| &it.changes);
        for (key, record) in changes {
            let lease = record.as_ref().map_or(0, |kv| kv.lease);
            let before = ended.get(&lease).map(|ends| ends.range(..revision));
            let Some(end) = before.and_then(|mut ends| ends.next_back()) else {
                continue;
            };
            // It may have been granted again; nobody knows when, if there was no answer.
            let again = stories.get(&lease).is_some_and(|story| {
                let mut lives = story.lives.iter();
                lives.any(|life| match life.granted_at {
                    Some(granted) => (*end..revision).contains(&granted),
                    None => story.lives.len() > 1,
                })
            });
            if !again {
                let key = key.escape_ascii();
                let story =
                    format!("it ended at revision {end}, and {key} hangs on it at {revision}");
                return Err(wrong(lease, story));
            }
        }
    }
    Ok(())
}

fn wrong(id: i64, story: String) -> Failure {
    Failure::new("leases", format!("lease {id}: {story}"))
}

/// What a new leader adds: an election timeout.
const ADDED: Duration = Duration::from_secs(1);
/// That, and the time to agree on an end and to show it, on slow disks and clocks.
const GRACE: Duration = Duration::from_secs(3);
/// Longer than a member lets any request wait.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
