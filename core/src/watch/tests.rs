//! The hub, story by story: what happens on the left, what one stream is told on the right.

use std::collections::BTreeSet;
use std::time::Duration;

use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest,
    WatchCreateRequest, WatchResponse, request_op::Request,
};
use metastore_proto::mvccpb::event::EventType;
use prost::Message as _;

use super::*;
use crate::mvcc::{Changes, Store};

mod against_model;

/// A store, a hub, one stream, and what the stream was told.
struct Story {
    store: Store,
    hub: Hub,
    stream: StreamKey,
    now: Duration,
    told: Vec<WatchResponse>,
}

const SETTINGS: Settings = Settings {
    progress_interval: Duration::from_secs(600),
    fragment_bytes: 100,
    stream_bytes_max: 256 << 10,
    changes_per_step: 100,
    events_per_revision_max: 100_000,
};

impl Story {
    fn new() -> Self {
        Self::with(SETTINGS)
    }

    fn with(settings: Settings) -> Self {
        let store = Store::new();
        let mut hub = Hub::new(settings, &store.view());
        let stream = hub.open();
        Self {
            store,
            hub,
            stream,
            now: Duration::ZERO,
            told: Vec::new(),
        }
    }

    /// Lets everything happen that the words say; steps end with a semicolon.
    fn tell(mut self, steps: &str) -> Self {
        for step in steps.split(';').map(str::trim).filter(|it| !it.is_empty()) {
            self.step(step);
        }
        self.read();
        self
    }

    fn step(&mut self, step: &str) {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        match verb {
            "put" | "del" => self.write(step),
            "burst" => (0..number(rest)).for_each(|_| self.write("put burst x")),
            "compact" => {
                let revision = number(rest);
                let request = CompactionRequest {
                    revision,
                    physical: false,
                };
                self.store.compact(&request).expect("a fair compaction");
            }
            "sweep" => while self.store.sweep(100) == crate::mvcc::Sweep::More {},
            "see" => self.hub.advance(&self.store.view()),
            "watch" => {
                let view = self.store.view();
                self.hub.create(&view, self.now, self.stream, &watch(rest));
            }
            "cancel" => {
                self.hub
                    .cancel(&self.store.view(), self.stream, number(rest));
            }
            "progress" => self.hub.request_progress(&self.store.view(), self.stream),
            "wait" => {
                self.now += Duration::from_secs(number(rest).unsigned_abs());
                self.hub.handle_timeout(&self.store.view(), self.now);
            }
            "read" => self.read(),
            _ => panic!("an unknown step: {step}"),
        }
    }

    /// One command, its operations joined by `+`.
    fn write(&mut self, operations: &str) {
        let success = operations
            .split('+')
            .map(|it| RequestOp {
                request: Some(operation(it.trim())),
            })
            .collect();
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let applied = self.store.txn(&txn, &mut Changes::new());
        applied.expect("a fair write");
    }

    fn read(&mut self) {
        let view = self.store.view();
        loop {
            match self.hub.next(&view, self.stream) {
                Next::Response(response) => self.told.push(message(&response)),
                Next::Again => {}
                Next::Idle => return,
            }
        }
    }

    fn told(&self) -> Vec<String> {
        self.told.iter().map(line).collect()
    }
}

fn number(text: &str) -> i64 {
    text.parse()
        .unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn operation(text: &str) -> Request {
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["put", key, value] => Request::RequestPut(PutRequest {
            key: key.into(),
            value: value.into(),
            ..PutRequest::default()
        }),
        ["del", key] => Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            ..DeleteRangeRequest::default()
        }),
        ["del", "from", key] => Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: vec![0],
            ..DeleteRangeRequest::default()
        }),
        _ => panic!("an unknown operation: {text}"),
    }
}

/// `KEY` or `KEY..END`, where an empty end is open; then what else is asked for.
fn watch(text: &str) -> WatchCreateRequest {
    let mut words = text.split(' ');
    let keys = words.next().expect("what to watch");
    let mut request = match keys.split_once("..") {
        None => WatchCreateRequest {
            key: keys.into(),
            ..WatchCreateRequest::default()
        },
        Some((key, end)) => WatchCreateRequest {
            key: key.into(),
            range_end: if end.is_empty() { vec![0] } else { end.into() },
            ..WatchCreateRequest::default()
        },
    };
    while let Some(word) = words.next() {
        match word {
            "from" => request.start_revision = number(words.next().expect("a revision")),
            "id" => request.watch_id = number(words.next().expect("an id")),
            "noput" => request.filters.push(0),
            "nodelete" => request.filters.push(1),
            "prev" => request.prev_kv = true,
            "fragment" => request.fragment = true,
            "progress" => request.progress_notify = true,
            _ => panic!("an unknown wish: {word}"),
        }
    }
    request
}

/// The response as a client gets it; its length is the one announced.
fn message(response: &Response) -> WatchResponse {
    let stamp = ResponseHeader {
        cluster_id: 7,
        member_id: 8,
        revision: 99,
        raft_term: 9,
    };
    let mut bytes = Vec::new();
    response.encode(&stamp, &mut bytes);
    assert_eq!(bytes.len(), response.encoded_len(&stamp));
    let message = WatchResponse::decode(&*bytes).expect("a message of the API");
    assert_eq!(message.encode_to_vec(), bytes, "encoded as anybody would");
    let header = message.header.as_ref().expect("always there");
    assert_eq!(
        (header.cluster_id, header.member_id, header.raft_term),
        (7, 8, 9)
    );
    message
}

fn line(response: &WatchResponse) -> String {
    let revision = response.header.as_ref().map_or(0, |it| it.revision);
    let mut line = format!("{}@{revision}", response.watch_id);
    if response.created {
        line += " created";
    }
    if response.canceled {
        line += " canceled";
    }
    if response.compact_revision != 0 {
        line += &format!(" compacted {}", response.compact_revision);
    }
    if !response.cancel_reason.is_empty() {
        line += &format!(" ({})", response.cancel_reason);
    }
    for event in &response.events {
        let kv = event.kv.as_ref().expect("always there");
        let key = String::from_utf8_lossy(&kv.key);
        if event.r#type == EventType::Delete as i32 {
            line += &format!(" del {key}@{}", kv.mod_revision);
        } else {
            let value = String::from_utf8_lossy(&kv.value);
            line += &format!(" put {key}={value}@{}", kv.mod_revision);
        }
        if let Some(previous) = &event.prev_kv {
            line += &format!("[{}]", String::from_utf8_lossy(&previous.value));
        }
    }
    if response.fragment {
        line += " ...";
    }
    line
}

fn check(story: &str, expected: &[&str]) {
    let told = Story::new().tell(story).told();
    assert_eq!(told, expected, "{story}");
}

#[test]
fn a_watcher_hears_what_happens_to_its_key_after_its_creation() {
    check(
        "put a 1; watch a; put b 2; put a 3; del a; del a",
        &["0@2 created", "0@4 put a=3@4", "0@5 del a@5"],
    );
}

#[test]
fn ranges_end_before_their_end_and_open_ones_nowhere() {
    check(
        "watch a..c; watch b..; watch ..; put a 1; put c 2",
        &[
            "0@1 created",
            "1@1 created",
            "2@1 created",
            "2@2 put a=1@2",
            "0@2 put a=1@2",
            "2@3 put c=2@3",
            "1@3 put c=2@3",
        ],
    );
}

#[test]
fn an_empty_key_without_an_end_is_the_least_key_alone() {
    check(
        "watch; put \0 1; put \0\0 2; put a 3; del \0",
        &["0@1 created", "0@2 put \0=1@2", "0@5 del \0@5"],
    );
    // Behind the verb an empty key.
    check(
        "put \0 1; put a 2; put \0 3; watch  from 2; read; put \0 4",
        &["0@4 created", "0@4 put \0=1@2 put \0=3@4", "0@5 put \0=4@5"],
    );
}

#[test]
fn a_start_in_the_past_is_complete_and_bundled_and_joins_the_present() {
    check(
        "put a 1; put b 2; put a 3; watch a from 2; read; put a 4",
        &["0@4 created", "0@4 put a=1@2 put a=3@4", "0@5 put a=4@5"],
    );
    check(
        "put a 1; put b 2; put a 3; watch a..c from 3; read; put b 4",
        &["0@4 created", "0@4 put b=2@3 put a=3@4", "0@5 put b=4@5"],
    );
}

#[test]
fn a_response_of_the_past_bundles_at_most_a_thousand_revisions() {
    // Neither bytes nor steps set an end before.
    let settings = Settings {
        stream_bytes_max: 1 << 30,
        changes_per_step: 1 << 20,
        ..SETTINGS
    };
    for (watch, events_of_a_revision) in [("watch a from 2", 1), ("watch a..c from 2", 2)] {
        let mut story = Story::with(settings);
        (0..2_500).for_each(|_| story.write("put a 1 + put b 2"));
        let told = story.tell(watch).told;
        let revisions: Vec<usize> = told
            .iter()
            .map(|it| it.events.len() / events_of_a_revision)
            .collect();
        assert_eq!(revisions, [0, 1_000, 1_000, 500], "{watch}");
    }
}

#[test]
fn before_its_start_revision_a_watcher_hears_nothing_not_even_progress() {
    check(
        "watch a from 4 progress; put a 1; progress; wait 700; put a 2; put a 3; progress; wait 700; wait 700",
        &["0@1 created", "0@4 put a=3@4", "-1@4", "0@4"],
    );
}

#[test]
fn the_changes_of_one_revision_come_in_one_response_in_the_order_they_were_made() {
    check(
        "watch a..z; put b 1 + put a 2; put c 3; del from b + put b 4",
        &[
            "0@1 created",
            "0@2 put b=1@2 put a=2@2",
            "0@3 put c=3@3",
            "0@4 del b@4 del c@4 put b=4@4",
        ],
    );
}

#[test]
fn the_previous_value_is_the_one_of_the_revision_before() {
    check(
        "put a 1; watch a prev; put a 2; del a; put a 3; put a 4; put a 5 + del from a",
        &[
            "0@2 created",
            "0@3 put a=2@3[1]",
            "0@4 del a@4[2]",
            "0@5 put a=3@5",
            "0@6 put a=4@6[3]",
            "0@7 put a=5@7[4] del a@7[4]",
        ],
    );
}

#[test]
fn a_previous_value_that_was_compacted_is_absent() {
    check(
        "put a 1; put a 2; put a 3; compact 3; watch a from 3 prev",
        &["0@4 created", "0@4 put a=2@3 put a=3@4[2]"],
    );
}

#[test]
fn filters_leave_out_and_a_response_of_nothing_is_not_sent() {
    check(
        "watch a noput; watch a nodelete; watch a noput nodelete; put a 1; del a",
        &[
            "0@1 created",
            "1@1 created",
            "2@1 created",
            "1@2 put a=1@2",
            "0@3 del a@3",
        ],
    );
}

#[test]
fn refusals_leave_the_stream_usable() {
    check(
        "put a 1; watch b..a; watch a..a; watch a from -1; watch a id 5; watch b id 5; watch b; put b 1",
        &[
            "-1@2 created canceled (mvcc: watcher range is empty)",
            "-1@2 created canceled (mvcc: watcher range is empty)",
            "-1@2 created canceled (etcdserver: mvcc: required revision has been compacted)",
            "5@2 created",
            "-1@2 created canceled (mvcc: duplicate watch ID provided on the WatchStream)",
            "0@2 created",
            "0@3 put b=1@3",
        ],
    );
}

#[test]
fn the_servers_ids_count_on_past_those_in_use_and_never_go_back() {
    check(
        "watch a id 1; watch a; watch a; cancel 0; cancel 1; watch a; watch a id 1",
        &[
            "1@1 created",
            "0@1 created",
            "2@1 created",
            "0@1 canceled",
            "1@1 canceled",
            "3@1 created",
            "1@1 created",
        ],
    );
}

#[test]
fn nothing_comes_after_a_cancellation_and_an_unknown_id_is_not_answered() {
    check(
        "watch a; put a 1; cancel 0; put a 2; cancel 0; cancel 9",
        &["0@1 created", "0@2 put a=1@2", "0@2 canceled"],
    );
}

#[test]
fn a_start_before_the_compact_revision_is_created_then_cancelled() {
    check(
        "put a 1; put a 2; put a 3; compact 3; watch a from 2; watch a from 3; put a 4",
        &[
            "0@4 created",
            "0@0 canceled compacted 3",
            "1@4 created",
            "1@5 put a=2@3 put a=3@4 put a=4@5",
        ],
    );
}

#[test]
fn a_watcher_that_a_compaction_ended_keeps_its_id_until_it_is_cancelled() {
    check(
        "put a 1; put a 2; compact 3; watch a from 2 id 1; read; watch a id 1; watch a; watch a; cancel 1; cancel 1; watch a id 1",
        &[
            "1@3 created",
            "1@0 canceled compacted 3",
            "-1@3 created canceled (mvcc: duplicate watch ID provided on the WatchStream)",
            "0@3 created",
            "2@3 created",
            "1@3 canceled",
            "1@3 created",
        ],
    );
}

#[test]
fn a_watch_at_the_compact_revision_hears_its_delete_event() {
    check(
        "put a 1; del a; compact 3; sweep; watch a from 3",
        &["0@3 created", "0@3 del a@3"],
    );
}

#[test]
fn a_synced_watcher_does_not_fall_to_a_compaction() {
    check(
        "watch a; put a 1; put a 2; compact 3; see; put b 1; put b 2; compact 5; sweep; see; put a 3",
        &[
            "0@1 created",
            "0@2 put a=1@2",
            "0@3 put a=2@3",
            "0@6 put a=3@6",
        ],
    );
}

#[test]
fn a_view_that_lost_what_follows_the_tail_sends_its_watchers_to_the_history() {
    // As when a member takes over a state from another: the events in between are nowhere.
    let steps = "watch a; watch a from 900; read; burst 200; compact 150; sweep";
    let told = Story::new().tell(steps).told();
    assert_eq!(
        told,
        ["0@1 created", "1@1 created", "0@0 canceled compacted 150"]
    );
    check(
        "put a 1; watch a; see; put a 2; put b 1; compact 2; sweep; see",
        &["0@2 created", "0@3 put a=2@3"],
    );
}

#[test]
fn a_watcher_that_reads_the_history_stays_where_it_is_when_a_view_is_left_out() {
    // It lags from its first revision on, and another on its stream is caught up.
    check(
        "burst 20; watch burst from 2; watch a; see; burst 200; compact 150; sweep",
        &[
            "0@21 created",
            "0@0 canceled compacted 150",
            "1@21 created",
            "1@0 canceled compacted 150",
        ],
    );
    // It lags since its stream had no room, and has heard nothing of what follows the boundary either.
    let mut story = Story::new();
    story.step("watch burst..bursu");
    let value = "v".repeat(1000);
    for _ in 0..300 {
        story.write(&format!("put burst {value}"));
        story.step("see");
    }
    let told = story.tell("burst 200; compact 450; sweep; see").told();
    let last = told.last().expect("at least its creation");
    assert_eq!(last, "0@0 canceled compacted 450");
    let heard = told.iter().rev().nth(1).expect("what was queued");
    let (_, revision) = heard.rsplit_once('@').expect("an event");
    assert!((100..302).contains(&number(revision)), "{heard}");
}

#[test]
fn progress_is_told_when_all_watchers_of_the_stream_have_everything() {
    check(
        "progress; put a 1; watch a; watch a from 2; progress; read; progress; put b 1; progress",
        &[
            "0@2 created",
            "1@2 created",
            "1@2 put a=1@2",
            "-1@2",
            "-1@3",
        ],
    );
}

#[test]
fn regular_progress_goes_to_quiet_watchers_only() {
    check(
        "watch a progress; watch b progress; watch c; wait 700; put a 1; wait 700; wait 700",
        &[
            "0@1 created",
            "1@1 created",
            "2@1 created",
            "0@1",
            "1@1",
            "0@2 put a=1@2",
            "1@2",
            "0@2",
            "1@2",
        ],
    );
}

#[test]
fn regular_progress_is_due_after_its_interval_or_up_to_a_tenth_later() {
    let interval = SETTINGS.progress_interval;
    let mut story = Story::new();
    let mut waits = BTreeSet::new();
    // Each stream has its own wait, and the only watcher while it is looked at.
    for _ in 0..200 {
        story.step("watch a progress");
        let mut last = story.now;
        for round in 0..3 {
            let due = story.hub.poll_timeout().expect("progress is due");
            let wait = due - last;
            assert!(wait >= interval, "{wait:?} in round {round}");
            assert!(
                wait <= interval + interval / 10,
                "{wait:?} in round {round}"
            );
            waits.insert(wait);
            last = due;
            story.read();
            story.told.clear();
            let view = story.store.view();
            story
                .hub
                .handle_timeout(&view, due - Duration::from_nanos(1));
            story.read();
            assert_eq!(story.told(), [""; 0], "before its time");
            story.hub.handle_timeout(&view, due);
            story.read();
            assert_eq!(story.told(), ["0@1"]);
        }
        story.now = last;
        story.step("cancel 0");
        assert_eq!(story.hub.poll_timeout(), None);
        story.stream = story.hub.open();
    }
    assert!(waits.len() > 50, "{} waits of 200 streams", waits.len());
}

#[test]
fn a_large_response_is_cut_only_for_who_takes_parts() {
    let value = "x".repeat(40);
    let writes = format!("put a {value} + put b {value} + put c {value}");
    let told = Story::new()
        .tell(&format!(
            "watch a..z fragment; watch a..z; {writes}; put d 1"
        ))
        .told();
    let put = |key: &str| format!(" put {key}={value}@2");
    assert_eq!(
        told,
        [
            "0@1 created".to_owned(),
            "1@1 created".to_owned(),
            format!("0@2{} ...", put("a")),
            format!("0@2{} ...", put("b")),
            format!("0@2{}", put("c")),
            format!("1@2{}{}{}", put("a"), put("b"), put("c")),
            "0@3 put d=1@3".to_owned(),
            "1@3 put d=1@3".to_owned(),
        ]
    );
    let told = Story::new()
        .tell(&format!(
            "{writes}; watch a..z from 2 fragment; read; put d 1"
        ))
        .told();
    assert_eq!(
        told[1..],
        [
            format!("0@2{} ...", put("a")),
            format!("0@2{} ...", put("b")),
            format!("0@2{}", put("c")),
            "0@3 put d=1@3".to_owned(),
        ]
    );
}

#[test]
fn a_reader_that_does_not_read_holds_few_bytes_and_loses_nothing() {
    let mut story = Story::new();
    story.step("watch burst");
    story.step("watch burst..bursu");
    let value = "v".repeat(1000);
    let writes = 5000;
    for _ in 0..writes {
        story.write(&format!("put burst {value}"));
        story.step("see");
    }
    let waiting = story.hub.waiting_bytes(story.stream);
    assert!(waiting < 2 * (256 << 10), "{waiting} bytes wait");
    story.read();
    for id in 0..2 {
        let revisions: Vec<i64> = story
            .told
            .iter()
            .filter(|it| it.watch_id == id)
            .flat_map(|it| &it.events)
            .map(|it| it.kv.as_ref().expect("always there").mod_revision)
            .collect();
        assert_eq!(revisions, (2..2 + writes).collect::<Vec<i64>>(), "{id}");
    }
    assert_eq!(story.hub.waiting_bytes(story.stream), 0);
}

#[test]
fn a_stream_is_ready_once_until_it_is_read_to_its_end() {
    let mut story = Story::new();
    story.step("watch a");
    let ready = |story: &mut Story| story.hub.take_ready().count();
    assert_eq!(ready(&mut story), 1);
    story.tell_ready("put a 1; see; put a 2; see");
    assert_eq!(ready(&mut story), 0, "it has not been read");
    story.read();
    story.tell_ready("put b 1; see");
    assert_eq!(ready(&mut story), 0, "nothing is to be told");
    story.tell_ready("put a 3; see");
    assert_eq!(ready(&mut story), 1);
    let stream = story.stream;
    story.hub.close(stream);
    assert_eq!((story.hub.watchers(), story.hub.streams()), (0, 0));
    story.tell_ready("put a 4; see");
    assert_eq!(ready(&mut story), 0);
}

impl Story {
    /// Like [`Story::tell`], without reading.
    fn tell_ready(&mut self, steps: &str) {
        steps.split(';').for_each(|step| self.step(step.trim()));
    }
}

#[test]
fn a_revision_that_brings_more_than_memory_holds_is_read_from_the_history() {
    let settings = Settings {
        events_per_revision_max: 10,
        ..SETTINGS
    };
    let watchers = "watch a..z; watch a..z; watch a..z; watch a..z; watch a; see";
    let mut story = Story::with(settings).tell(watchers);
    story.told.clear();
    // Thirteen events, then nine.
    for (write, lagging) in [("put a 1+put b 1+put c 1", 5), ("put a 2+put b 2", 0)] {
        story.step(write);
        story.step("see");
        assert_eq!(story.hub.lagging(), lagging, "{write}");
        story.read();
    }
    let events = |id: i64| {
        let told = story.told.iter().filter(|it| it.watch_id == id);
        told.map(|it| it.events.len()).sum::<usize>()
    };
    assert_eq!([0, 1, 2, 3, 4].map(events), [5, 5, 5, 5, 2]);
}
