//! Each promise, seen to break.

use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::etcdserverpb::*;
use metastore_proto::mvccpb::KeyValue;

use super::Promise::*;
use super::*;
use crate::mvcc::{Changes, Store};

/// A run that keeps every promise, for tests to spoil.
struct Run {
    history: History,
    create: WatchCreateRequest,
    responses: Vec<WatchResponse>,
    boundaries: Vec<i64>,
    silences: Vec<Silence>,
    complete_to: Option<i64>,
}

impl Run {
    fn verdict(&self) -> Option<Promise> {
        let watched = Watched {
            boundaries: &self.boundaries,
            silences: &self.silences,
            complete_to: self.complete_to,
            ..Watched::of(&self.create, &self.responses)
        };
        judge(&self.history, &watched)
            .err()
            .map(|broken| broken.promise)
    }
}

/// The verdict on a good run after `spoil`.
fn spoilt(spoil: impl FnOnce(&mut Run)) -> Option<Promise> {
    let mut run = good();
    spoil(&mut run);
    run.verdict()
}

fn put(key: &str, value: &str) -> RequestOp {
    let put = PutRequest {
        key: key.into(),
        value: value.into(),
        ..PutRequest::default()
    };
    RequestOp {
        request: Some(Request::RequestPut(put)),
    }
}

fn delete(key: &str, range_end: &[u8]) -> RequestOp {
    let delete = DeleteRangeRequest {
        key: key.into(),
        range_end: range_end.to_vec(),
        prev_kv: false,
    };
    RequestOp {
        request: Some(Request::RequestDeleteRange(delete)),
    }
}

fn history_of(txns: impl IntoIterator<Item = Vec<RequestOp>>) -> History {
    let (mut store, mut history) = (Store::new(), History::new());
    for success in txns {
        let mut changes = Changes::new();
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        store
            .txn(&txn, &mut changes)
            .expect("nothing depends on the state");
        history.commit_changes(changes.as_slice());
    }
    history
}

fn response(revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        }),
        watch_id: 7,
        ..WatchResponse::default()
    }
}

fn created(revision: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..response(revision)
    }
}

fn canceled(revision: i64) -> WatchResponse {
    WatchResponse {
        canceled: true,
        ..response(revision)
    }
}

fn compacted(boundary: i64) -> WatchResponse {
    WatchResponse {
        compact_revision: boundary,
        ..canceled(0)
    }
}

fn refused(reason: &str) -> WatchResponse {
    WatchResponse {
        watch_id: -1,
        canceled: true,
        cancel_reason: reason.into(),
        ..created(4)
    }
}

/// Revisions 2 to 6 over the keys a, b and c; the watcher is created at 4 and asks for everything.
fn good() -> Run {
    let history = history_of([
        vec![put("a", "1")],
        vec![put("b", "2")],
        vec![put("a", "3"), delete("b", b"")],
        vec![put("c", "4")],
        vec![delete("a", b"")],
    ]);
    let events = |header: i64, revisions: std::ops::RangeInclusive<i64>| WatchResponse {
        events: revisions
            .flat_map(|revision| history.events(revision))
            .cloned()
            .collect(),
        ..response(header)
    };
    let responses = vec![
        created(4),
        events(4, 2..=4),
        events(5, 5..=5),
        response(5),
        events(6, 6..=6),
        canceled(6),
    ];
    Run {
        create: WatchCreateRequest {
            key: vec![0],
            range_end: vec![0],
            start_revision: 2,
            progress_notify: true,
            prev_kv: true,
            watch_id: 7,
            ..WatchCreateRequest::default()
        },
        responses,
        boundaries: Vec::new(),
        silences: Vec::new(),
        history,
        complete_to: Some(6),
    }
}

#[test]
fn a_good_run_and_every_beginning_of_it_keep_all_promises() {
    let mut run = good();
    assert_eq!(run.verdict(), None);
    run.complete_to = None;
    while run.responses.pop().is_some() {
        assert_eq!(run.verdict(), None, "{:?}", run.responses);
    }
}

#[test]
fn events_out_of_order_break_ordered() {
    let revisions = |run: &mut Run| run.responses.swap(2, 4);
    assert_eq!(spoilt(revisions), Some(Ordered));
    let within_one = |run: &mut Run| run.responses[1].events.swap(2, 3);
    assert_eq!(spoilt(within_one), Some(Ordered));
}

#[test]
fn an_event_told_twice_breaks_unique() {
    let in_one_response = |run: &mut Run| {
        let event = run.responses[1].events[3].clone();
        run.responses[1].events.push(event);
    };
    assert_eq!(spoilt(in_one_response), Some(Unique));
    let again_later = |run: &mut Run| {
        let event = run.responses[1].events[0].clone();
        run.responses[4].events.push(event);
    };
    assert_eq!(spoilt(again_later), Some(Unique));
}

#[test]
fn a_revision_in_two_responses_breaks_atomic() {
    let split = |run: &mut Run| {
        let events = run.responses[1].events.split_off(3);
        let rest = WatchResponse {
            events,
            ..response(4)
        };
        run.responses.insert(2, rest);
    };
    assert_eq!(spoilt(split), Some(Atomic));
    let cut_off = |run: &mut Run| {
        run.complete_to = None;
        run.responses.truncate(2);
        run.responses[1].events.pop();
    };
    assert_eq!(spoilt(cut_off), Some(Atomic));
}

/// The history in three parts, cut in the middle of a revision.
fn in_parts(run: &mut Run) {
    run.create.fragment = true;
    let mut parts = vec![run.responses.remove(1)];
    for at in [1, 2] {
        let last = parts.last_mut().expect("there is one");
        let events = last.events.split_off(at);
        last.fragment = true;
        parts.push(WatchResponse {
            events,
            ..response(4)
        });
    }
    run.responses.splice(1..1, parts);
}

#[test]
fn parts_of_a_response_are_flagged_and_contiguous_or_break_atomic() {
    let after = |spoil: fn(&mut Run)| {
        spoilt(|run| {
            in_parts(run);
            spoil(run);
        })
    };
    assert_eq!(after(|_| ()), None);
    assert_eq!(after(|run| run.create.fragment = false), Some(Atomic));
    assert_eq!(
        after(|run| run.responses[2].fragment = false),
        Some(Atomic),
        "a part in the middle without the flag"
    );
    assert_eq!(
        after(|run| run.responses.insert(2, response(4))),
        Some(Atomic),
        "something in between"
    );
    assert_eq!(
        after(|run| run.responses[3].header = response(5).header),
        Some(Atomic),
        "another header"
    );
    let empty = WatchResponse {
        fragment: true,
        ..response(5)
    };
    assert_eq!(
        spoilt(|run| {
            run.create.fragment = true;
            run.responses[3] = empty;
        }),
        Some(Atomic),
        "a part of nothing"
    );
    let unfinished = |run: &mut Run| {
        run.responses.truncate(2);
        run.complete_to = Some(2);
    };
    assert_eq!(after(unfinished), Some(Atomic), "the last part is missing");
    let under_way = |run: &mut Run| {
        run.responses.truncate(2);
        run.complete_to = None;
    };
    assert_eq!(after(under_way), None, "the last part may still come");
}

#[test]
fn a_missing_event_breaks_reliable() {
    assert_eq!(
        spoilt(|run| drop(run.responses.remove(2))),
        Some(Reliable),
        "a whole revision"
    );
    assert_eq!(
        spoilt(|run| drop(run.responses[1].events.remove(3))),
        Some(Reliable),
        "the end of a revision"
    );
    assert_eq!(
        spoilt(|run| drop(run.responses.remove(4))),
        Some(Reliable),
        "the last event"
    );
    let from_now_on = |run: &mut Run| {
        run.create.start_revision = 0;
        run.responses.drain(1..=2);
    };
    assert_eq!(spoilt(from_now_on), Some(Reliable), "the first event");
}

#[test]
fn an_event_for_somebody_else_breaks_reliable() {
    let other_key = |run: &mut Run| {
        run.create.key = b"a".to_vec();
        run.create.range_end = b"c".to_vec();
    };
    assert_eq!(spoilt(other_key), Some(Reliable));
    let filtered = |run: &mut Run| run.create.filters = vec![FilterType::Nodelete.into()];
    assert_eq!(spoilt(filtered), Some(Reliable));
    let before_the_start = |run: &mut Run| run.create.start_revision = 3;
    assert_eq!(spoilt(before_the_start), Some(Reliable));
    let invented = |run: &mut Run| {
        let mut event = run.responses[2].events[0].clone();
        event.kv.as_mut().expect("set").key = b"x".to_vec();
        run.responses[2].events.push(event);
    };
    assert_eq!(spoilt(invented), Some(Reliable));
}

#[test]
fn an_empty_key_means_the_first_key_there_is() {
    let everything = |run: &mut Run| run.create.key.clear();
    assert_eq!(spoilt(everything), None);
    let only_the_first = |run: &mut Run| {
        run.create.key.clear();
        run.create.range_end.clear();
    };
    assert_eq!(spoilt(only_the_first), Some(Reliable));
}

#[test]
fn a_resumed_watcher_that_misses_its_first_event_breaks_resumable() {
    let skipped = |run: &mut Run| drop(run.responses[1].events.remove(0));
    assert_eq!(spoilt(skipped), Some(Resumable));
}

#[test]
fn only_a_watcher_behind_the_boundary_is_cancelled_by_compaction() {
    // After the events up to `at`, at the boundary 5.
    let cut = |at: usize, end: WatchResponse| {
        spoilt(|run| {
            run.history.compact(5);
            run.responses.truncate(at);
            run.responses.push(end);
        })
    };
    assert_eq!(cut(1, compacted(5)), None, "nothing was delivered");
    assert_eq!(
        cut(2, compacted(5)),
        Some(Resumable),
        "5 is needed and there"
    );
    assert_eq!(cut(4, compacted(5)), Some(Resumable), "5 is passed");
    assert_eq!(cut(1, compacted(4)), Some(Resumable), "no such boundary");
    let reasoned = WatchResponse {
        cancel_reason: "compacted".into(),
        ..compacted(5)
    };
    assert_eq!(cut(1, reasoned), Some(Resumable));
    let with_revision = WatchResponse {
        header: response(6).header,
        ..compacted(5)
    };
    assert_eq!(cut(1, with_revision), Some(Header));
    let told = |run: &mut Run| {
        run.history.compact(5);
        run.create.start_revision = 0;
        run.responses = vec![created(2), response(4), compacted(5)];
        run.create.filters = vec![FilterType::Noput.into(), FilterType::Nodelete.into()];
    };
    assert_eq!(spoilt(told), Some(Resumable), "progress says 4 is passed");
}

#[test]
fn a_caught_up_watcher_that_a_compaction_cancels_breaks_resumable() {
    // After the events up to 4, at the boundary 6, with a silence after so many responses.
    let cut = |after: usize, revision: i64| {
        spoilt(|run| {
            run.create.filters = vec![FilterType::Nodelete.into()];
            run.responses.truncate(2);
            run.responses[1].events.retain(|event| event.r#type == 0);
            run.history.compact(6);
            run.responses.push(compacted(6));
            run.silences = vec![Silence { after, revision }];
        })
    };
    assert_eq!(cut(2, 4), None, "5 is needed and gone");
    assert_eq!(cut(2, 5), Some(Reliable), "5 had not come");
    let of_others = |after: usize, revision: i64| {
        spoilt(|run| {
            run.create.key = b"z".to_vec();
            run.history.compact(6);
            run.responses = vec![created(4), compacted(6)];
            run.silences = vec![Silence { after, revision }];
        })
    };
    assert_eq!(of_others(1, 4), None, "5 is needed and gone");
    assert_eq!(of_others(1, 5), Some(Resumable), "only 6 is needed");
    assert_eq!(of_others(2, 5), None, "it had ended already");
}

#[test]
fn an_event_that_comes_after_its_time_breaks_reliable() {
    let silent = |after: usize, revision: i64| {
        spoilt(|run| run.silences = vec![Silence { after, revision }])
    };
    assert_eq!(silent(1, 1), None, "before the first event");
    assert_eq!(silent(1, 2), Some(Reliable), "all came, but late");
    assert_eq!(silent(3, 5), None);
    assert_eq!(silent(3, 6), Some(Reliable), "6 came late");
    assert_eq!(silent(6, 6), None, "after the cancellation");
    let unanswered = |run: &mut Run| {
        run.responses.clear();
        run.complete_to = None;
        run.silences = vec![Silence {
            after: 0,
            revision: 1,
        }];
    };
    assert_eq!(spoilt(unanswered), Some(Lifecycle));
}

#[test]
fn progress_that_overtakes_an_event_breaks_bookmarkable() {
    let overtakes = |run: &mut Run| run.responses.swap(2, 3);
    assert_eq!(spoilt(overtakes), Some(Bookmarkable));
    let of_the_stream = |run: &mut Run| {
        run.responses[3].watch_id = -1;
        run.create.progress_notify = false;
    };
    assert_eq!(spoilt(of_the_stream), None);
    let both = |run: &mut Run| {
        of_the_stream(run);
        overtakes(run);
    };
    assert_eq!(spoilt(both), Some(Bookmarkable));
}

#[test]
fn progress_that_goes_back_breaks_bookmarkable() {
    let below_the_last_event = |run: &mut Run| run.responses[3] = response(4);
    assert_eq!(spoilt(below_the_last_event), Some(Bookmarkable));
    let below_the_last_progress = |run: &mut Run| {
        run.create.filters = vec![FilterType::Noput.into(), FilterType::Nodelete.into()];
        run.responses = vec![created(4), response(6), response(5)];
    };
    assert_eq!(spoilt(below_the_last_progress), Some(Bookmarkable));
}

#[test]
fn progress_before_the_start_or_unasked_breaks_bookmarkable() {
    let future = |run: &mut Run| {
        run.create.start_revision = 6;
        run.responses = vec![created(4), response(5)];
        run.complete_to = None;
    };
    assert_eq!(spoilt(future), Some(Bookmarkable));
    let unasked = |run: &mut Run| run.create.progress_notify = false;
    assert_eq!(spoilt(unasked), Some(Bookmarkable));
    let from_now_on = |run: &mut Run| {
        run.create.start_revision = 0;
        run.responses = vec![created(4), response(4)];
        run.complete_to = None;
    };
    assert_eq!(spoilt(from_now_on), None, "nothing has happened since");
}

#[test]
fn a_record_other_than_the_committed_one_breaks_content() {
    let value = |run: &mut Run| {
        let kv = run.responses[1].events[0].kv.as_mut();
        kv.expect("set").value = b"other".to_vec();
    };
    assert_eq!(spoilt(value), Some(Content));
    let full_delete = |run: &mut Run| {
        let kv = run.responses[4].events[0].kv.as_mut();
        kv.expect("set").version = 2;
    };
    assert_eq!(spoilt(full_delete), Some(Content));
}

#[test]
fn a_wrong_previous_record_breaks_prev_kv() {
    let missing = |run: &mut Run| run.responses[4].events[0].prev_kv = None;
    assert_eq!(spoilt(missing), Some(PrevKv));
    let after_compaction = |run: &mut Run| {
        missing(run);
        run.history.compact(6);
    };
    assert_eq!(spoilt(after_compaction), None);
    let still_readable = |run: &mut Run| {
        missing(run);
        run.history.compact(5);
    };
    assert_eq!(spoilt(still_readable), Some(PrevKv), "5 is at the boundary");
    let later = |boundaries: [i64; 6]| {
        spoilt(|run| {
            missing(run);
            run.history.compact(6);
            run.boundaries = boundaries.into();
        })
    };
    assert_eq!(later([-1, -1, -1, -1, 6, 6]), None);
    assert_eq!(later([-1, -1, -1, -1, 5, 6]), Some(PrevKv), "6 was later");
    let older = |run: &mut Run| {
        let first = run.responses[1].events[0].kv.clone();
        run.responses[4].events[0].prev_kv = first;
    };
    assert_eq!(spoilt(older), Some(PrevKv));
    let of_a_creation =
        |run: &mut Run| run.responses[2].events[0].prev_kv = Some(KeyValue::default());
    assert_eq!(spoilt(of_a_creation), Some(PrevKv));
    assert_eq!(
        spoilt(|run| run.create.prev_kv = false),
        Some(PrevKv),
        "unasked"
    );
}

#[test]
fn the_previous_record_is_that_of_the_revision_before_not_of_the_change_before() {
    let history = history_of([
        vec![put("k", "old")],
        vec![put("k", "new"), delete("k", b"\0")],
        vec![delete("k", b"\0"), put("k", "again"), delete("k", b"\0")],
    ]);
    let before = |event: &metastore_proto::mvccpb::Event| {
        let value = event.prev_kv.as_ref().map(|kv| kv.value.clone());
        value.map(|value| String::from_utf8(value).expect("text"))
    };
    let told: Vec<_> = history.events(3).iter().map(before).collect();
    assert_eq!(told, [Some("old".to_owned()), Some("old".to_owned())]);
    let told: Vec<_> = history.events(4).iter().map(before).collect();
    assert_eq!(
        told,
        [None, None],
        "a creation, and a delete of nothing before"
    );
}

#[test]
fn a_header_that_cannot_be_breaks_header() {
    let below_its_event = |run: &mut Run| run.responses[2].header = response(4).header;
    assert_eq!(spoilt(below_its_event), Some(Header));
    let goes_back = |run: &mut Run| run.responses[5] = canceled(5);
    assert_eq!(spoilt(goes_back), Some(Header));
    let uncommitted = |run: &mut Run| run.responses[5] = canceled(7);
    assert_eq!(spoilt(uncommitted), Some(Header));
    let creation = |run: &mut Run| run.responses[0] = created(7);
    assert_eq!(spoilt(creation), Some(Header));
    let none = |run: &mut Run| run.responses[2].header = None;
    assert_eq!(spoilt(none), Some(Header));
}

#[test]
fn the_revision_of_the_creation_must_be_the_known_one() {
    let run = good();
    let watched = |at| Watched {
        revision_at_creation: Some(at),
        ..Watched::of(&run.create, &run.responses)
    };
    assert_eq!(judge(&run.history, &watched(4)), Ok(()));
    let broken = judge(&run.history, &watched(5)).expect_err("4 is not 5");
    assert_eq!(
        broken.to_string(),
        "watch/Header: the creation says revision 4, the member was at 5"
    );
}

#[test]
fn a_life_out_of_order_breaks_lifecycle() {
    let no_creation = |run: &mut Run| drop(run.responses.remove(0));
    assert_eq!(spoilt(no_creation), Some(Lifecycle));
    assert_eq!(spoilt(|run| run.responses.clear()), Some(Lifecycle));
    let twice = |run: &mut Run| run.responses.insert(3, created(5));
    assert_eq!(spoilt(twice), Some(Lifecycle));
    let events_after_the_end = |run: &mut Run| run.responses.swap(4, 5);
    assert_eq!(spoilt(events_after_the_end), Some(Lifecycle));
    let progress_after_the_end = |run: &mut Run| run.responses.push(response(6));
    assert_eq!(spoilt(progress_after_the_end), Some(Lifecycle));
    let other_watcher = |run: &mut Run| run.responses[2].watch_id = 8;
    assert_eq!(spoilt(other_watcher), Some(Lifecycle));
    let other_id = |run: &mut Run| run.create.watch_id = 8;
    assert_eq!(spoilt(other_id), Some(Lifecycle));
    let events_at_once = |run: &mut Run| {
        run.responses[0].events = run.responses[1].events.clone();
    };
    assert_eq!(spoilt(events_at_once), Some(Lifecycle));
    let a_reason = |run: &mut Run| run.responses[0].cancel_reason = DUPLICATE_ID.into();
    assert_eq!(spoilt(a_reason), Some(Lifecycle));
    let last_words = |run: &mut Run| {
        let last = run.responses.remove(4);
        run.responses[4].events = last.events;
    };
    assert_eq!(spoilt(last_words), Some(Lifecycle));
    let unflagged = |run: &mut Run| run.responses[5].canceled = false;
    assert_eq!(spoilt(unflagged), None, "that is progress");
    let unflagged = |run: &mut Run| {
        run.responses[5].canceled = false;
        run.responses[5].compact_revision = 3;
    };
    assert_eq!(spoilt(unflagged), Some(Lifecycle));
}

#[test]
fn a_refusal_has_its_cause_and_a_cause_its_refusal() {
    let answered = |change: fn(&mut WatchCreateRequest), answer: WatchResponse| {
        spoilt(|run| {
            change(&mut run.create);
            run.responses = vec![answer];
            run.complete_to = None;
        })
    };
    let inverted = |create: &mut WatchCreateRequest| {
        create.key = b"b".to_vec();
        create.range_end = b"b".to_vec();
    };
    let negative = |create: &mut WatchCreateRequest| create.start_revision = -1;
    assert_eq!(answered(inverted, refused(EMPTY_RANGE)), None);
    assert_eq!(answered(negative, refused(NEGATIVE_START)), None);
    assert_eq!(answered(|_| (), refused(DUPLICATE_ID)), None);
    assert_eq!(answered(|_| (), refused("permission denied")), None);
    assert_eq!(answered(inverted, created(4)), Some(Lifecycle));
    assert_eq!(answered(negative, created(4)), Some(Lifecycle));
    assert_eq!(answered(|_| (), refused(EMPTY_RANGE)), Some(Lifecycle));
    assert_eq!(answered(|_| (), refused(NEGATIVE_START)), Some(Lifecycle));
    assert_eq!(answered(|_| (), refused("")), Some(Lifecycle));
    let chosen = |create: &mut WatchCreateRequest| create.watch_id = 0;
    assert_eq!(answered(chosen, refused(DUPLICATE_ID)), Some(Lifecycle));
    let under_an_id = WatchResponse {
        watch_id: 7,
        ..refused(DUPLICATE_ID)
    };
    assert_eq!(answered(|_| (), under_an_id), Some(Lifecycle));
    let goes_on = |run: &mut Run| run.responses[0] = refused(DUPLICATE_ID);
    assert_eq!(spoilt(goes_on), Some(Lifecycle));
}

#[test]
fn a_stream_is_taken_apart_by_watcher() {
    let of = |watch_id: i64, response: WatchResponse| WatchResponse {
        watch_id,
        ..response
    };
    let stream = [
        of(0, created(1)),
        of(1, created(1)),
        refused(DUPLICATE_ID),
        of(-1, response(2)),
        of(0, canceled(3)),
        of(0, created(4)),
        of(-1, response(5)),
        of(0, response(6)),
    ];
    let revisions = |responses: &Vec<WatchResponse>| -> Vec<i64> {
        responses.iter().map(header_revision).collect()
    };
    let watchers = by_watcher(&stream).expect("every response has its watcher");
    let told: Vec<Vec<i64>> = watchers.iter().map(revisions).collect();
    assert_eq!(
        told,
        [vec![1, 2, 3], vec![1, 2, 5], vec![4], vec![4, 5, 6]],
        "the third was refused, the fourth has the id of the first"
    );
    let silence = |after: usize, revision: i64| Silence { after, revision };
    let places = places_by_watcher(&stream).expect("every response has its watcher");
    assert_eq!(places[3], [5, 6, 7]);
    assert_eq!(
        silences_of(&places[3], &[silence(5, 3), silence(6, 4), silence(7, 5)]),
        [silence(1, 4), silence(2, 5)],
        "the first was before its creation"
    );
    assert_eq!(
        silences_of(&places[2], &[silence(4, 3), silence(8, 6)]),
        [silence(1, 6)],
        "nothing came in between for this one"
    );
    let orphan = by_watcher(&stream[4..]).expect_err("its watcher is not created here");
    assert_eq!(orphan.promise, Lifecycle);
}
