//! Over random histories: a perfectly served watcher passes, and whatever is spoilt is called by its name.

use metastore_proto::etcdserverpb::{ResponseHeader, WatchResponse};
use metastore_proto::mvccpb::{Event, KeyValue};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::perfect::{Served, served};
use super::{NO_WATCH_ID, Promise, is_progress};

/// Where the events are: response, and place within it.
fn places(served: &Served) -> Vec<(usize, usize)> {
    let responses = served.responses.iter().enumerate();
    responses
        .flat_map(|(response, has)| (0..has.events.len()).map(move |event| (response, event)))
        .collect()
}

fn event(served: &Served, (response, event): (usize, usize)) -> &Event {
    &served.responses[response].events[event]
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Two events that no client could tell apart.
fn alike(a: &Event, b: &Event) -> bool {
    a.kv == b.kv && a.r#type == b.r#type
}

fn verdict(served: &Served) -> Option<Promise> {
    served.verdict().err().map(|broken| broken.promise)
}

/// Takes an event away, with its response if that was all of it.
fn take(served: &mut Served, (response, event): (usize, usize)) -> Event {
    let taken = served.responses[response].events.remove(event);
    if served.responses[response].events.is_empty() {
        served.responses.remove(response);
    }
    taken
}

#[test]
fn perfect_runs_meet_every_situation() {
    let mut runner = TestRunner::deterministic();
    let mut met = [0; 7];
    for _ in 0..150 {
        let tree = served().new_tree(&mut runner).expect("nothing is rejected");
        let served = tree.current();
        let responses = &served.responses;
        let any = |holds: &dyn Fn(&WatchResponse) -> bool| responses.iter().any(holds);
        let several = |response: &WatchResponse| {
            let events = &response.events;
            events.first().map(revision_of) != events.last().map(revision_of)
        };
        let situations = [
            any(&|response| response.fragment),
            any(&is_progress),
            any(&several),
            any(&|response| response.compact_revision != 0) && responses.len() == 2,
            any(&|response| response.compact_revision != 0) && responses.len() > 2,
            any(&|response| response.canceled && response.compact_revision == 0),
            any(&|response| response.events.iter().any(|event| event.prev_kv.is_some())),
        ];
        for (count, holds) in met.iter_mut().zip(situations) {
            *count += i32::from(holds);
        }
    }
    assert!(met.iter().all(|count| *count > 0), "{met:?}");
}

/// A quarter of what is usual, for there are many of these; `PROPTEST_CASES` asks for more.
fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases.div_ceil(4),
        max_global_rejects: 100_000,
        ..usual
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_perfectly_served_watcher_breaks_no_promise(served in served()) {
        prop_assert_eq!(served.verdict(), Ok(()));
    }

    #[test]
    fn a_dropped_event_is_noticed(mut served in served(), pick: prop::sample::Index) {
        let places = places(&served);
        let compacted = served.responses.last().is_some_and(|last| last.compact_revision != 0);
        // The last event before a compaction may as well not have been delivered.
        let owed = places.len().saturating_sub(usize::from(compacted));
        prop_assume!(owed > 0);
        let index = pick.index(owed);
        let first = index == 0 && places.len() > 1 && served.create.start_revision > 0;
        // Of events alike it is the last that is missing, and then the next tells.
        let neighbours_alike = places[index + 1..].iter()
            .any(|later| alike(event(&served, *later), event(&served, places[index])));
        prop_assume!(!neighbours_alike);
        take(&mut served, places[index]);
        let wanted = if first { Promise::Resumable } else { Promise::Reliable };
        prop_assert_eq!(verdict(&served), Some(wanted));
    }

    #[test]
    fn a_duplicated_event_is_noticed(
        mut served in served(),
        pick: prop::sample::Index,
        onto: prop::sample::Index,
    ) {
        let places = places(&served);
        prop_assume!(!places.is_empty());
        let again = event(&served, places[pick.index(places.len())]).clone();
        let (response, at) = places[onto.index(places.len())];
        served.responses[response].events.insert(at, again);
        prop_assert_eq!(verdict(&served), Some(Promise::Unique));
    }

    #[test]
    fn swapped_events_are_noticed(mut served in served(), pick: prop::sample::Index) {
        let places = places(&served);
        prop_assume!(places.len() > 1);
        let index = pick.index(places.len() - 1);
        let (a, b) = (places[index], places[index + 1]);
        let (first, second) = (event(&served, a).clone(), event(&served, b).clone());
        prop_assume!(!alike(&first, &second));
        served.responses[a.0].events[a.1] = second;
        served.responses[b.0].events[b.1] = first;
        prop_assert_eq!(verdict(&served), Some(Promise::Ordered));
    }

    #[test]
    fn a_split_revision_is_noticed(mut served in served(), pick: prop::sample::Index) {
        let halves: Vec<_> = places(&served).into_iter().filter(|(response, event)| {
            let events = &served.responses[*response].events;
            let same = *event > 0 && revision_of(&events[event - 1]) == revision_of(&events[*event]);
            same && !served.responses[*response].fragment
        }).collect();
        prop_assume!(!halves.is_empty());
        let (response, at) = halves[pick.index(halves.len())];
        let whole = &mut served.responses[response];
        let rest = WatchResponse { events: whole.events.split_off(at), ..whole.clone() };
        served.responses.insert(response + 1, rest);
        prop_assert_eq!(verdict(&served), Some(Promise::Atomic));
    }

    #[test]
    fn an_early_progress_is_noticed(mut served in served(), pick: prop::sample::Index, how_early: u8) {
        // Before a response that does not continue another.
        let begins: Vec<usize> = (1..served.responses.len())
            .filter(|at| !served.responses[*at].events.is_empty() && !served.responses[at - 1].fragment)
            .collect();
        prop_assume!(!begins.is_empty());
        let at = begins[pick.index(begins.len())];
        let revision = revision_of(&served.responses[at].events[0]) + i64::from(how_early % 4);
        let progress = WatchResponse {
            header: Some(ResponseHeader { revision, ..ResponseHeader::default() }),
            watch_id: if served.create.progress_notify { 0 } else { NO_WATCH_ID },
            ..WatchResponse::default()
        };
        served.responses.insert(at, progress);
        prop_assert_eq!(verdict(&served), Some(Promise::Bookmarkable));
    }

    #[test]
    fn a_wrong_previous_record_is_noticed(mut served in served(), pick: prop::sample::Index) {
        let places = places(&served);
        prop_assume!(!places.is_empty());
        let (response, at) = places[pick.index(places.len())];
        let other = KeyValue { version: 99, ..KeyValue::default() };
        served.responses[response].events[at].prev_kv = Some(other);
        prop_assert_eq!(verdict(&served), Some(Promise::PrevKv));
    }

    #[test]
    fn a_missing_previous_record_is_noticed(mut served in served(), pick: prop::sample::Index) {
        let boundary = served.history.compact_revision();
        let owed: Vec<_> = places(&served).into_iter().filter(|place| {
            let event = event(&served, *place);
            event.prev_kv.is_some() && revision_of(event) > boundary
        }).collect();
        prop_assume!(!owed.is_empty());
        let (response, at) = owed[pick.index(owed.len())];
        served.responses[response].events[at].prev_kv = None;
        prop_assert_eq!(verdict(&served), Some(Promise::PrevKv));
    }

    #[test]
    fn a_wrong_record_is_noticed(mut served in served(), pick: prop::sample::Index) {
        let places = places(&served);
        prop_assume!(!places.is_empty());
        let (response, at) = places[pick.index(places.len())];
        let kv = served.responses[response].events[at].kv.as_mut().expect("set");
        kv.lease += 1;
        prop_assert_eq!(verdict(&served), Some(Promise::Content));
    }

    #[test]
    fn an_event_before_the_start_is_noticed(mut served in served(), pick: prop::sample::Index) {
        let places = places(&served);
        prop_assume!(!places.is_empty());
        let first = revision_of(event(&served, places[0]));
        let earlier: Vec<Event> = (2..first).flat_map(|revision| served.history.events(revision)).cloned().collect();
        prop_assume!(!earlier.is_empty());
        let stray = earlier[pick.index(earlier.len())].clone();
        served.responses[places[0].0].events.insert(0, stray);
        prop_assert_eq!(verdict(&served), Some(Promise::Reliable));
    }
}
