//! Leases: none ends before its time since the last answered renewal, all its keys go in one revision, and nothing
//! hangs on it afterwards.
//!
//! What a holder knows: a renewal that was answered was taken at some time after it was asked for, so the lease lives
//! at least its full time from the asking on. That a clock may run fast is taken into account.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::lease::LeaseError;
use metastore_core::output::{Outcome, Refusal};

use super::Failure;
use super::chronicle::Chronicle;
use crate::history::{Ending, Record};
use crate::model::{KeyChange, Keys, Op};

/// Without another word no member's clock is off by more than this, in millionths: far beyond what quartz does, and little enough to tell an
/// early end from a fast clock.
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

/// What the clients know of one lease.
#[derive(Default)]
struct Known<'a> {
    granted: Option<&'a Record>,
    /// The asking for the grant or renewal that was answered and keeps it alive longest: until then it must live.
    alive_until: Duration,
    /// The first asking for its end, whatever came of it.
    revoke_begun: Option<Duration>,
    /// The first answer that says it is gone, the first revision that shows it.
    revoked: Option<&'a Record>,
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
    let known = known(history, rate_ppm);
    let mut ended = BTreeMap::new();
    for end in ends {
        let Some(lease) = known.get(&end.id) else {
            return Err(wrong(
                end.id,
                format!("it ended, and nobody asked for it: {end:?}"),
            ));
        };
        not_early(end.id, lease, end.shown_at, &format!("{end:?}"))?;
        ended.insert(end.id, end.revision);
    }
    for record in history {
        says_gone(&known, record)?;
    }
    gone_stays_gone(history, ends)?;
    for (id, lease) in &known {
        if let Some((_, ending)) = lease.revoked.and_then(|it| it.ended.as_ref()) {
            let revision = ending.revision().unwrap_or(0);
            ended.entry(*id).or_insert(revision);
        }
    }
    nothing_hangs_on_the_dead(chronicle, &ended)
}

/// When nothing is broken: no key hangs on a lease longer than its full time, an election timeout more and a moment, from
/// its last renewal on or from the beginning of the present term, under whose leader the countdown began anew.
pub fn none_late(
    keys: &Keys,
    history: &[Record],
    term_began: Duration,
    now: Duration,
    rate_ppm: u64,
) -> Result<(), Failure> {
    let hanging: BTreeSet<i64> = keys
        .values()
        .map(|kv| kv.lease)
        .filter(|id| *id != 0)
        .collect();
    let mut known: BTreeMap<i64, (Duration, Duration)> = BTreeMap::new();
    for record in history {
        let (id, ttl) = match &record.op {
            Op::Grant { id, ttl_seconds } => (*id, seconds(*ttl_seconds)),
            Op::Renew { id } => (*id, Duration::ZERO),
            _ => continue,
        };
        // What nobody heard the end of may have been taken as long as a member lets anything wait.
        let heard = record
            .ended
            .as_ref()
            .filter(|(_, ending)| !matches!(ending, Ending::Lost));
        let taken = heard.map_or(record.begun.time + WAIT_MAX, |(ended, _)| ended.time);
        let (last, full) = known.entry(id).or_default();
        (*last, *full) = (taken.max(*last), ttl.max(*full));
    }
    for (id, (last, ttl)) in known.into_iter().filter(|(id, _)| hanging.contains(id)) {
        let slow = ttl.mul_f64(rate_ppm as f64 / 1e6);
        let until = term_began.max(last) + ttl + slow + GRACE;
        if now > until {
            let (now, until) = (now.as_secs_f64(), until.as_secs_f64());
            let story = format!("keys hang on it at {now:.3}s, and it was over by {until:.3}s");
            return Err(wrong(id, story));
        }
    }
    Ok(())
}

/// At the end, when no holder renews any more: no key hangs on any lease.
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

fn known(history: &[Record], rate_ppm: u64) -> BTreeMap<i64, Known<'_>> {
    let mut known: BTreeMap<i64, Known<'_>> = BTreeMap::new();
    let mut ttl = BTreeMap::new();
    for record in history {
        let ending = record.ended.as_ref().map(|(_, ending)| ending);
        match (&record.op, ending) {
            (Op::Grant { id, ttl_seconds }, ending) => {
                let lease = known.entry(*id).or_default();
                ttl.insert(*id, *ttl_seconds);
                if let Some(Ending::Wrote(Outcome::LeaseGranted(_))) = ending {
                    lease.granted = Some(record);
                    lease.live_from(record, *ttl_seconds, rate_ppm);
                }
            }
            (Op::Renew { id }, Some(Ending::Renewed { ttl_seconds })) if *ttl_seconds > 0 => {
                let granted = ttl.get(id).copied().unwrap_or(*ttl_seconds);
                let lease = known.entry(*id).or_default();
                lease.live_from(record, granted, rate_ppm);
            }
            (Op::Revoke { id }, ending) => {
                let lease = known.entry(*id).or_default();
                lease.revoke_begun.get_or_insert(record.begun.time);
                if let Some(Ending::Wrote(_)) = ending {
                    lease.revoked.get_or_insert(record);
                }
            }
            _ => {}
        }
    }
    known
}

impl Known<'_> {
    fn live_from(&mut self, record: &Record, ttl_seconds: i64, rate_ppm: u64) {
        let until = record.begun.time + surely(ttl_seconds, rate_ppm);
        self.alive_until = self.alive_until.max(until);
    }
}

/// For how long a lease of this time surely lives from the asking on: the leader's clock may run fast, by
/// so many millionths at most.
pub fn surely(ttl_seconds: i64, rate_ppm: u64) -> Duration {
    let ttl = seconds(ttl_seconds);
    ttl - ttl.mul_f64(rate_ppm as f64 / 1e6)
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// An end that was noticed at a time happened no later; so it must not lie before what the holder knows.
fn not_early(id: i64, lease: &Known<'_>, noticed: Duration, what: &str) -> Result<(), Failure> {
    let asked_for = lease.revoke_begun.is_some_and(|begun| begun <= noticed);
    if asked_for || noticed >= lease.alive_until {
        return Ok(());
    }
    let (noticed, until) = (noticed.as_secs_f64(), lease.alive_until.as_secs_f64());
    Err(wrong(
        id,
        format!("gone at {noticed:.3}s, though it must live until {until:.3}s: {what}"),
    ))
}

/// An answer that says that there is no such lease must be true, and stays true.
fn says_gone(known: &BTreeMap<i64, Known<'_>>, record: &Record) -> Result<(), Failure> {
    let Some((ended, ending)) = &record.ended else {
        return Ok(());
    };
    let id = match (&record.op, ending) {
        (Op::Renew { id }, Ending::Renewed { ttl_seconds: 0 }) => *id,
        (
            Op::Put { lease, .. } | Op::Stake { lease, .. },
            Ending::Refused(Refusal::Kv(KvError::LeaseNotFound)),
        ) => *lease,
        (Op::Revoke { id }, Ending::Refused(Refusal::Lease(LeaseError::NotFound))) => *id,
        (Op::Renew { id }, Ending::Renewed { .. }) => {
            let revoked = known.get(id).and_then(|lease| lease.revoked);
            let gone = revoked.and_then(|it| it.ended.as_ref());
            return match gone {
                Some((gone, _)) if *gone < record.begun => Err(wrong(
                    *id,
                    format!("renewed after it was revoked: {record}"),
                )),
                _ => Ok(()),
            };
        }
        (_, Ending::Refused(Refusal::Lease(error))) => {
            return Err(wrong(0, format!("nothing explains {error}: {record}")));
        }
        _ => return Ok(()),
    };
    let Some(lease) = known.get(&id) else {
        return Ok(());
    };
    let existed = lease.granted.is_some_and(|granted| {
        let end = granted.ended.as_ref();
        end.is_some_and(|(granted, _)| *granted < record.begun)
    });
    let own_revoke = matches!(record.op, Op::Revoke { .. });
    match existed && !own_revoke {
        true => not_early(id, lease, ended.time, &record.to_string()),
        false => Ok(()),
    }
}

/// Whoever asks after anybody saw the end of a lease hears that it is gone: a renewal is answered by a leader that the
/// quorum still followed after it was asked for, from a state that has all that was agreed on before.
fn gone_stays_gone(history: &[Record], ends: &[LeaseEnd]) -> Result<(), Failure> {
    let mut seen: BTreeMap<i64, Duration> = ends.iter().map(|end| (end.id, end.shown_at)).collect();
    for record in history {
        let told_gone = match (&record.op, &record.ended) {
            (Op::Renew { id }, Some((ended, Ending::Renewed { ttl_seconds: 0 }))) => {
                Some((*id, ended.time))
            }
            (
                Op::Put { lease, .. } | Op::Stake { lease, .. },
                Some((ended, Ending::Refused(Refusal::Kv(KvError::LeaseNotFound)))),
            ) => Some((*lease, ended.time)),
            _ => None,
        };
        if let Some((id, at)) = told_gone {
            let first = seen.entry(id).or_insert(at);
            *first = at.min(*first);
        }
    }
    for record in history {
        let (Op::Renew { id }, Some((_, Ending::Renewed { ttl_seconds }))) =
            (&record.op, &record.ended)
        else {
            continue;
        };
        let before = seen.get(id).filter(|seen| **seen < record.begun.time);
        if let Some(gone) = before.filter(|_| *ttl_seconds > 0) {
            let gone = gone.as_secs_f64();
            let story = format!("renewed, though its end was seen at {gone:.3}s: {record}");
            return Err(wrong(*id, story));
        }
    }
    Ok(())
}

fn nothing_hangs_on_the_dead(
    chronicle: &Chronicle,
    ended: &BTreeMap<i64, i64>,
) -> Result<(), Failure> {
    for revision in chronicle.known() {
        let changes = chronicle
            .revision(revision)
            .map_or(&[][..], |it| &it.changes);
        for (key, record) in changes {
            let lease = record.as_ref().map_or(0, |kv| kv.lease);
            if let Some(end) = ended.get(&lease).filter(|end| **end < revision) {
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

/// One election timeout, and the time to agree on an end and to show it, on slow disks and clocks.
const GRACE: Duration = Duration::from_secs(3);
/// Longer than a member lets any request wait.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
