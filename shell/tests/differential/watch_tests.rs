//! What the judgement of watch streams lets pass and what it catches, on responses made by hand.

use metastore_proto::{
    etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse},
    mvccpb::{Event, KeyValue, event::EventType},
};

use super::{
    known_differences::KNOWN_WATCH_DIFFERENCES,
    transcript::{ALL_WATCHERS, Creation, Transcript, Watcher, kept_by_a_compaction_at},
    watch_comparison::watch_difference,
};

#[test]
fn a_flawless_stream_breaks_no_promise() {
    let heard = hear(
        &everything(5),
        &[
            created(0),
            events(0, 9, &[put("a", 6), put("b", 6), put("a", 8)]),
            events(0, 9, &[delete("a", 9)]),
            progress(ALL_WATCHERS, 9),
            events(0, 11, &[put("a", 10), put("a", 11)]),
            end(0, 0),
        ],
    );
    let watcher = heard.expect("no promise is broken").watchers[&0].clone();
    assert_eq!((watcher.events.len(), watcher.ends.len()), (6, 1));
    assert_eq!(watcher.delivered, 11);
}

#[test]
fn each_broken_promise_is_named() {
    let cases: [(&str, &[WatchResponse]); 16] = [
        (
            "after 6",
            &[events(0, 9, &[put("a", 6)]), events(0, 9, &[put("b", 6)])],
        ),
        (
            "after 7",
            &[events(0, 9, &[put("a", 7)]), events(0, 9, &[put("b", 6)])],
        ),
        ("out of order", &[events(0, 9, &[put("a", 7), put("b", 6)])]),
        ("before the start", &[events(0, 9, &[put("a", 4)])]),
        ("under the header 8", &[events(0, 8, &[put("a", 9)])]),
        ("is not there yet", &[events(0, NEWEST + 1, &[put("a", 9)])]),
        ("events of no watcher", &[events(1, 9, &[put("a", 9)])]),
        ("after the end", &[end(0, 7), events(0, 9, &[put("a", 9)])]),
        (
            "events of no watcher",
            &[end(0, 0), events(0, 9, &[put("a", 9)])],
        ),
        ("ended twice", &[end(0, 7), end(0, 7)]),
        ("the end of no watcher", &[end(1, 0)]),
        ("created without a request", &[created(1)]),
        (
            "after progress to 9",
            &[progress(ALL_WATCHERS, 9), events(0, 9, &[put("a", 9)])],
        ),
        (
            "progress is behind 9",
            &[events(0, 9, &[put("a", 9)]), progress(ALL_WATCHERS, 8)],
        ),
        (
            "before the start of a watcher",
            &[progress(ALL_WATCHERS, 4)],
        ),
        ("nobody asked", &[progress(0, 9)]),
    ];
    for (promise, responses) in cases {
        let responses = [&[created(0)], responses].concat();
        let broken = hear(&everything(5), &responses).expect_err(promise);
        assert!(broken.contains(promise), "{broken} where {promise} was due");
    }
}

#[test]
fn progress_binds_the_watchers_that_are_there_and_no_later_one() {
    let mut transcript = hear(&everything(5), &[created(0), progress(ALL_WATCHERS, 9)])
        .expect("no promise is broken");
    transcript.ask(transcript.watchers[&0].creation.clone());
    let mut take = |response| transcript.take(response, NEWEST);
    take(created(1)).expect("a second watcher");
    take(events(1, 9, &[put("a", 6)])).expect("the past of a later watcher");
    take(events(0, 9, &[put("a", 6)])).expect_err("what is said to be delivered");
}

#[test]
fn a_header_is_demanded_with_its_ids() {
    for spoil in [
        (|it| it.header = None) as fn(&mut WatchResponse),
        |it| it.header.as_mut().expect("a header").member_id = 0,
        |it| it.header.as_mut().expect("a header").cluster_id = 0,
        |it| it.header.as_mut().expect("a header").raft_term = 0,
    ] {
        let mut response = created(0);
        spoil(&mut response);
        hear(&everything(5), &[response]).expect_err("a spoilt header");
    }
}

#[test]
fn a_revision_may_be_cut_only_where_parts_were_asked_for() {
    let part = WatchResponse {
        fragment: true,
        ..events(0, 9, &[put("a", 6)])
    };
    let parts = [created(0), part, events(0, 9, &[put("b", 6)])];
    hear(&everything(5), &parts).expect_err("a part that nobody asked for");
    let mut in_parts = everything(5);
    in_parts.fragment = true;
    hear(&in_parts, &parts).expect("parts were asked for");
    let unmarked = [created(0), parts[2].clone(), parts[2].clone()];
    hear(&in_parts, &unmarked).expect_err("a revision twice, not marked as a part");
}

#[test]
fn progress_is_owed_only_where_all_watchers_of_a_stream_are_in_the_present() {
    let owes = |request: &WatchCreateRequest, responses: &[WatchResponse]| {
        let heard = hear(request, responses).expect("no promise is broken");
        heard.owes_progress(NEWEST)
    };
    assert!(owes(&everything(5), &[created(0)]));
    assert!(owes(&everything(0), &[created(0)]));
    assert!(!owes(&everything(NEWEST + 1), &[created(0)]));
    assert!(!owes(&everything(5), &[created(0), end(0, 7)]));
    assert!(!owes(&everything(5), &[created(0), end(0, 0)]));
}

#[test]
fn a_watcher_lacks_what_it_wants_and_has_not_got() {
    let history = [put("a", 6), put("b", 7), delete("a", 8)];
    let lacks = |request: &WatchCreateRequest, responses: &[WatchResponse]| {
        let responses = [&[created(0)], responses].concat();
        let heard = hear(request, &responses).expect("no promise is broken");
        heard.watchers[&0].lacks(&history, true)
    };
    let mut request = WatchCreateRequest {
        key: b"a".to_vec(),
        start_revision: 5,
        ..WatchCreateRequest::default()
    };
    let to_6 = events(0, 9, &[put("a", 6)]);
    assert!(lacks(&request, &[]));
    assert!(lacks(&request, std::slice::from_ref(&to_6)));
    assert!(!lacks(
        &request,
        &[to_6.clone(), events(0, 9, &[delete("a", 8)])]
    ));
    request.filters = vec![1];
    assert!(!lacks(&request, &[to_6]), "deletions are filtered");
    request.filters = vec![0, 1];
    assert!(!lacks(&request, &[]));
    request.filters.clear();
    request.start_revision = 9;
    assert!(!lacks(&request, &[]));
    request.key = b"c".to_vec();
    request.start_revision = 5;
    assert!(!lacks(&request, &[]));
    request.start_revision = COMPACTED - 1;
    assert!(lacks(&request, &[]), "its end");
    assert!(!lacks(&request, &[end(0, COMPACTED)]));
}

#[test]
fn each_changed_field_of_what_was_watched_is_a_difference() {
    let good = watcher(
        &everything(5),
        &[created(0), events(0, 9, &[put("a", 6), delete("a", 7)])],
    );
    let changes: [fn(&mut Watcher); 12] = [
        |w| w.events.swap(0, 1),
        |w| w.events.truncate(1),
        |w| w.events.push(put("z", 9)),
        |w| w.events[0].r#type = EventType::Delete as i32,
        |w| w.events[0].prev_kv = Some(KeyValue::default()),
        |w| record(w).value.clear(),
        |w| record(w).lease = 7,
        |w| record(w).version += 1,
        |w| record(w).create_revision += 1,
        |w| w.created.watch_id = 4,
        |w| w.created.header.as_mut().expect("a header").revision += 1,
        |w| w.ends.push(end(0, 7)),
    ];
    assert!(same(&good, &good));
    for (index, change) in changes.into_iter().enumerate() {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(!same(&bad, &good), "change {index} went unseen");
    }
}

#[test]
fn the_bundling_of_events_into_responses_is_no_difference() {
    let one = events(0, 9, &[put("a", 6), put("b", 7)]);
    let (first, second) = (events(0, 6, &[put("a", 6)]), events(0, 7, &[put("b", 7)]));
    let bundled = watcher(&everything(5), &[created(0), one]);
    let apart = watcher(&everything(5), &[created(0), first, second]);
    assert!(same(&bundled, &apart));
}

#[test]
fn of_two_watchers_cut_short_one_may_have_got_further_but_not_elsewhere() {
    let cut = |heard: &[Event]| {
        let mut cut = watcher(&everything(5), &[created(0), events(0, 9, heard)]);
        cut.cut_short = true;
        cut
    };
    let further = cut(&[put("a", 6), put("b", 7)]);
    assert!(same(&cut(&[put("a", 6)]), &further));
    assert!(!same(&cut(&[put("b", 6)]), &further));
}

#[test]
fn a_compaction_may_be_told_or_not_only_to_who_cancels_at_once() {
    let ended = |ends: &[WatchResponse], cut_short: bool| {
        let mut watcher = watcher(&everything(5), &[created(0)]);
        watcher.ends = ends.to_vec();
        watcher.cut_short = cut_short;
        watcher
    };
    let (compacted, farewell) = (end(0, 7), end(0, 0));
    let both = [compacted.clone(), farewell.clone()];
    assert!(same(&ended(&both, true), &ended(&both[1..], true)));
    assert!(same(&ended(&both[1..], true), &ended(&both, true)));
    assert!(!same(&ended(&both, false), &ended(&both[1..], false)));
    assert!(!same(&ended(&both[..1], true), &ended(&both[1..], true)));
    assert!(!same(&ended(&both, true), &ended(&both[..1], true)));
}

#[test]
fn a_negative_start_must_be_refused_as_the_newer_api_says() {
    let request = everything(-3);
    let old = watcher(&request, &[created(4242), end(4242, 7)]);
    let mut new = old.clone();
    new.ends.clear();
    new.created.canceled = true;
    new.created.watch_id = -1;
    new.created.cancel_reason = "etcdserver: mvcc: required revision has been compacted".to_owned();
    assert!(same(&new, &old));
    assert!(!same(&old, &old));
    let mut inverted = new.clone();
    inverted.created.cancel_reason = "mvcc: watcher range is empty".to_owned();
    assert!(same(&new, &inverted));
    assert!(!same(&inverted, &inverted));
    new.created.watch_id = 4242;
    assert!(!same(&new, &old));
}

#[test]
fn a_deletion_at_the_boundary_must_be_heard_of() {
    let boundary = [
        put("a", COMPACTED),
        delete("b", COMPACTED),
        put("c", COMPACTED),
    ];
    let history = [&[put("b", 1)], &boundary[..]].concat();
    let request = everything(COMPACTED);
    let served = |heard: &[Event]| {
        let mut served = watcher(&request, &[created(0), events(0, 9, heard)]);
        served.creation.kept_at_start = kept_by_a_compaction_at(&history, COMPACTED);
        served
    };
    let old = served(&[boundary[0].clone(), boundary[2].clone(), put("a", 9)]);
    let new = served(&[&boundary[..], &[put("a", 9)]].concat());
    assert!(same(&new, &old));
    assert!(!same(&old, &old), "the deletion is missing");
    assert!(!same(&served(&boundary[1..]), &old), "a put is missing");
}

#[test]
fn of_several_events_of_a_key_at_the_boundary_only_the_last_must_be_kept() {
    let history = [put("a", 6), put("b", 6), delete("a", 6), put("a", 7)];
    let kept = kept_by_a_compaction_at(&history, 6);
    assert_eq!(kept, [put("b", 6), delete("a", 6)]);
    let served = |heard: &[Event]| {
        let mut served = watcher(&everything(COMPACTED), &[created(0), events(0, 9, heard)]);
        served.creation.compacted = COMPACTED;
        served
    };
    let [first, last] = [put("a", COMPACTED), put("a", COMPACTED)];
    assert!(same(&served(&[first, last.clone()]), &served(&[last])));
}

fn hear(request: &WatchCreateRequest, responses: &[WatchResponse]) -> Result<Transcript, String> {
    let mut transcript = Transcript::new(true);
    transcript.ask(Creation {
        request: request.clone(),
        newest: NEWEST,
        compacted: COMPACTED,
        kept_at_start: Vec::new(),
    });
    for response in responses {
        transcript.take(response.clone(), NEWEST)?;
    }
    Ok(transcript)
}

fn watcher(request: &WatchCreateRequest, responses: &[WatchResponse]) -> Watcher {
    hear(request, responses)
        .expect("no promise is broken")
        .watchers[&0]
        .clone()
}

fn same(answered: &Watcher, reference: &Watcher) -> bool {
    let used = &mut [0; KNOWN_WATCH_DIFFERENCES.len()];
    watch_difference(answered, reference, &KNOWN_WATCH_DIFFERENCES, used).is_none()
}

fn everything(start_revision: i64) -> WatchCreateRequest {
    WatchCreateRequest {
        key: vec![0],
        range_end: vec![0],
        start_revision,
        ..WatchCreateRequest::default()
    }
}

fn response(watch_id: i64, revision: i64) -> WatchResponse {
    WatchResponse {
        header: Some(ResponseHeader {
            cluster_id: 11,
            member_id: 12,
            revision,
            raft_term: 2,
        }),
        watch_id,
        ..WatchResponse::default()
    }
}

fn created(watch_id: i64) -> WatchResponse {
    WatchResponse {
        created: true,
        ..response(watch_id, 5)
    }
}

fn progress(watch_id: i64, revision: i64) -> WatchResponse {
    response(watch_id, revision)
}

fn events(watch_id: i64, revision: i64, events: &[Event]) -> WatchResponse {
    WatchResponse {
        events: events.to_vec(),
        ..response(watch_id, revision)
    }
}

/// By the client with `compact_revision` 0.
fn end(watch_id: i64, compact_revision: i64) -> WatchResponse {
    WatchResponse {
        canceled: true,
        compact_revision,
        ..response(watch_id, 0)
    }
}

fn put(key: &str, revision: i64) -> Event {
    Event {
        r#type: EventType::Put as i32,
        kv: Some(KeyValue {
            key: key.into(),
            create_revision: revision,
            mod_revision: revision,
            version: 1,
            value: b"v".to_vec(),
            lease: 0,
        }),
        prev_kv: None,
    }
}

fn delete(key: &str, revision: i64) -> Event {
    Event {
        r#type: EventType::Delete as i32,
        kv: Some(KeyValue {
            key: key.into(),
            mod_revision: revision,
            ..KeyValue::default()
        }),
        prev_kv: None,
    }
}

fn record(watcher: &mut Watcher) -> &mut KeyValue {
    watcher.events[0].kv.as_mut().expect("a record")
}

const NEWEST: i64 = 12;
const COMPACTED: i64 = 4;
