//! When two servers have served one watcher the same.
//!
//! How events were bundled into responses, and when they came, is not compared; the promises about that
//! are judged for each server by itself. Everything else about a watcher is: how it was created or refused,
//! its events in their order and in all their fields, and what was said about its end.

use super::{
    comparison::{Difference, keep_only_whether_ids_are_filled},
    known_differences::KnownWatchDifference,
    transcript::{Watcher, key_and_revision},
};

/// `None` when the watcher was served as `reference` demands after rewriting it by `known`.
/// Adds to `used` for each known difference that changed what the reference did.
pub(crate) fn watch_difference(
    answered: &Watcher,
    reference: &Watcher,
    known: &[KnownWatchDifference],
    used: &mut [u64],
) -> Option<Difference> {
    let mut expected = reference.clone();
    for (known, used) in known.iter().zip(used) {
        let before = expected.clone();
        (known.rewrite)(answered, &mut expected);
        *used += u64::from(before != expected);
    }
    let mut answered = answered.clone();
    for watcher in [&mut answered, &mut expected] {
        forget_what_a_compaction_may_take(watcher);
        let responses = watcher.ends.iter_mut().chain([&mut watcher.created]);
        for header in responses.filter_map(|it| it.header.as_mut()) {
            keep_only_whether_ids_are_filled(header);
        }
    }
    if answered.cut_short {
        let both = answered.events.len().min(expected.events.len());
        answered.events.truncate(both);
        expected.events.truncate(both);
        if answered.ends.len() != expected.ends.len() {
            forget_a_compaction_told_in_time(&mut answered);
            forget_a_compaction_told_in_time(&mut expected);
        }
    }
    let same = answered.created == expected.created
        && answered.events == expected.events
        && answered.ends == expected.ends;
    (!same).then(|| Difference {
        expected: shown(&expected, &answered),
        answered: shown(&answered, &expected),
    })
}

/// A client that cancels at once may or may not be told first that a compaction has ended its watcher.
fn forget_a_compaction_told_in_time(watcher: &mut Watcher) {
    if let [told, farewell] = watcher.ends.as_slice()
        && told.compact_revision != 0
        && farewell.compact_revision == 0
    {
        watcher.ends.remove(0);
    }
}

/// Of several events of one key at the boundary of compaction, only the last must be kept; how long the
/// others stay depends on when the old records are really removed.
fn forget_what_a_compaction_may_take(watcher: &mut Watcher) {
    if !watcher.creation.starts_at_the_boundary() {
        return;
    }
    let boundary = watcher.creation.compacted;
    let events = std::mem::take(&mut watcher.events);
    for (index, event) in events.iter().enumerate() {
        let mut later = events[index + 1..].iter();
        let place = key_and_revision(event);
        if place.1 != boundary || later.all(|later| key_and_revision(later) != place) {
            watcher.events.push(event.clone());
        }
    }
}

/// A line for each part that differs; of the events, the first few from where they differ.
fn shown(watcher: &Watcher, other: &Watcher) -> String {
    let mut lines = Vec::new();
    if watcher.created != other.created {
        lines.push(format!("created: {:?}", watcher.created));
    }
    if watcher.events != other.events {
        let equal = watcher.events.iter().zip(&other.events);
        let equal = equal.take_while(|(one, other)| one == other).count();
        let differing = watcher.events[equal..].iter().take(EVENTS_SHOWN);
        let differing: Vec<_> = differing.collect();
        let all = watcher.events.len();
        lines.push(format!(
            "of {all} events, after {equal} equal ones: {differing:?}"
        ));
    }
    if watcher.ends != other.ends {
        lines.push(format!("ends: {:?}", watcher.ends));
    }
    lines.join("\n")
}

const EVENTS_SHOWN: usize = 3;
