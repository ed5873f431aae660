//! Claims on names, which locks and elections are made of: a name never has two owners at once, owners follow each other
//! in the order in which their keys were made, and what they write says so.
//!
//! What an owner knows: it was told that no older claim is left, and its lease lives for its full time from the asking
//! for the grant or the last renewal that was answered. It owns the name as long as both hold, and not a moment longer,
//! whatever really happened to its key.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use metastore_core::claim::{self, Claim, Place};
use metastore_core::output::Outcome;

use super::Failure;
use super::chronicle::Chronicle;
use super::leases::surely;
use crate::history::{Ending, Moment, Record};
use crate::model::{Key, Keys, Op, at_or_after};

/// Keys of claims begin with this, as names do.
pub const PREFIX: &[u8] = b"c/";

/// Where the owners of a name leave a mark.
pub const MARKS: &[u8] = b"c/mark/";

/// What a member said of a claim.
#[derive(Debug, Clone)]
pub struct Look {
    /// Whose claim it is.
    pub client: u64,
    /// The claim.
    pub claim: Claim,
    /// The revision of the view that was looked at.
    pub at: i64,
    /// Where the claim stood.
    pub place: Place,
}

/// The time for which a client took itself for the owner of a name.
#[derive(Debug, Clone)]
pub struct Tenure {
    /// Who.
    pub client: u64,
    /// The claim by which it did.
    pub claim: Claim,
    /// When it heard that it was.
    pub since: Moment,
    /// When it gave the name up, or heard that it had lost it; none if it did neither.
    pub until: Option<Duration>,
}

/// A mark that only the owner of a name can leave: the revision of its claim, and a word of its own.
pub fn mark(claim: &Claim, own: &[u8]) -> Vec<u8> {
    [claim.revision.to_string().as_bytes(), b" ", own].concat()
}

/// Judges every look and every tenure; no clock is off by more than so many millionths. Answers how often a name changed
/// hands.
pub fn judge(
    history: &[Record],
    chronicle: &Chronicle,
    looks: &[Look],
    tenures: &[Tenure],
    rate_ppm: u64,
) -> Result<u64, Failure> {
    looks
        .iter()
        .try_for_each(|look| true_look(chronicle, look))?;
    marks_grow(chronicle)?;
    let spans = spans(history, tenures, rate_ppm);
    let mut changes = 0;
    for spans in spans.values() {
        for (before, after) in spans.iter().zip(&spans[1..]) {
            follow(before, after)?;
            changes += u64::from(before.claim != after.claim);
        }
    }
    Ok(changes)
}

/// A look is answered as the records of its revision say, and never from before the claim was made.
fn true_look(chronicle: &Chronicle, look: &Look) -> Result<(), Failure> {
    let Look { claim, at, .. } = look;
    if *at < claim.revision {
        return Err(wrong(format!("{look:?} was answered from before its time")));
    }
    let keys = chronicle.keys(*at);
    let keys = keys.ok_or_else(|| wrong(format!("{look:?}, and there is no such revision")))?;
    let expected = place(&keys, claim);
    match look.place == expected {
        true => Ok(()),
        false => Err(wrong(format!("{look:?} should be {expected:?}"))),
    }
}

/// The rule once more, on a plain map.
fn place(keys: &Keys, claim: &Claim) -> Place {
    let own = keys.get(claim.key.as_slice()).map(|kv| kv.create_revision);
    if own != Some(claim.revision) {
        return Place::Lost;
    }
    let end = claim::behind(&claim.prefix);
    let all = at_or_after(keys, &claim.prefix).take_while(|(key, _)| ***key < *end);
    let older = all.filter(|(_, kv)| kv.create_revision < claim.revision);
    let next = older.max_by_key(|(_, kv)| kv.create_revision);
    next.map_or(Place::Owner, |(key, _)| Place::Behind(key.to_vec()))
}

/// What owners write names the revision of their claim, and no owner writes after a later one.
fn marks_grow(chronicle: &Chronicle) -> Result<(), Failure> {
    let mut newest: BTreeMap<Key, i64> = BTreeMap::new();
    for revision in chronicle.known() {
        let changes = chronicle
            .revision(revision)
            .map_or(&[][..], |it| &it.changes);
        for (key, record) in changes {
            let Some(record) = record.as_ref().filter(|_| key.starts_with(MARKS)) else {
                continue;
            };
            let text = std::str::from_utf8(&record.value).unwrap_or_default();
            let fence = text.split(' ').next().and_then(|word| word.parse().ok());
            let fence = fence.ok_or_else(|| wrong(format!("{text:?} is no mark of an owner")))?;
            let before = newest.insert(Rc::clone(key), fence).unwrap_or(0);
            if fence < before {
                let key = key.escape_ascii();
                return Err(wrong(format!(
                    "the owner by revision {fence} wrote {key} at {revision}, after the one by {before}"
                )));
            }
        }
    }
    Ok(())
}

/// A time for which a client knew that it owned a name.
struct Span<'a> {
    claim: &'a Claim,
    client: u64,
    from: Duration,
    to: Duration,
}

/// What the clients knew, by name and in order.
fn spans<'a>(
    history: &[Record],
    tenures: &'a [Tenure],
    rate_ppm: u64,
) -> BTreeMap<&'a [u8], Vec<Span<'a>>> {
    let lives = lives(history, rate_ppm);
    let mut spans: BTreeMap<&[u8], Vec<Span<'_>>> = BTreeMap::new();
    for tenure in tenures {
        let until = tenure.until.unwrap_or(Duration::MAX);
        let known = lives
            .get(&tenure.claim.lease)
            .map_or(&[][..], Vec::as_slice);
        for (heard, lives_until) in known {
            let (from, to) = ((*heard).max(tenure.since.time), (*lives_until).min(until));
            if from < to {
                spans.entry(&tenure.claim.prefix).or_default().push(Span {
                    claim: &tenure.claim,
                    client: tenure.client,
                    from,
                    to,
                });
            }
        }
    }
    for spans in spans.values_mut() {
        spans.sort_by_key(|span| (span.from, span.claim.revision));
    }
    spans
}

/// For each lease, in order: when its holder heard of its life, and until when it then surely lives.
fn lives(history: &[Record], rate_ppm: u64) -> BTreeMap<i64, Vec<(Duration, Duration)>> {
    let mut lives: BTreeMap<i64, Vec<(Duration, Duration)>> = BTreeMap::new();
    let mut granted = BTreeMap::new();
    for record in history {
        let Some((ended, ending)) = &record.ended else {
            continue;
        };
        let (id, ttl_seconds) = match (&record.op, ending) {
            (Op::Grant { id, ttl_seconds }, Ending::Wrote(Outcome::LeaseGranted(_))) => {
                granted.insert(*id, *ttl_seconds);
                (*id, *ttl_seconds)
            }
            (Op::Renew { id }, Ending::Renewed { ttl_seconds }) if *ttl_seconds > 0 => {
                (*id, granted.get(id).copied().unwrap_or(*ttl_seconds))
            }
            _ => continue,
        };
        let until = record.begun.time + surely(ttl_seconds, rate_ppm);
        lives.entry(id).or_default().push((ended.time, until));
    }
    lives
}

/// One owner follows another only when that is over, and only if it came later into the line.
fn follow(before: &Span<'_>, after: &Span<'_>) -> Result<(), Failure> {
    if before.claim == after.claim {
        return Ok(());
    }
    let name = before.claim.prefix.escape_ascii();
    let told = |span: &Span<'_>| {
        format!(
            "client {} by revision {} from {:.3}s to {:.3}s",
            span.client,
            span.claim.revision,
            span.from.as_secs_f64(),
            span.to.as_secs_f64()
        )
    };
    if after.from < before.to {
        let story = format!(
            "{name} had two owners: {} and {}",
            told(before),
            told(after)
        );
        return Err(wrong(story));
    }
    if after.claim.revision <= before.claim.revision {
        let story = format!(
            "{name} went to who came first: {} before {}",
            told(before),
            told(after)
        );
        return Err(wrong(story));
    }
    Ok(())
}

fn wrong(story: String) -> Failure {
    Failure::new("claims", story)
}

#[cfg(test)]
mod tests;
