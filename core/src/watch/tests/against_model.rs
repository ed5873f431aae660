//! The hub under random writes, compactions, creations, cancellations and readers of every pace, held against a naive
//! hub and judged by what a watcher is promised.

use std::collections::BTreeMap;
use std::time::Duration;

use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchResponse, request_op::Request,
};
use proptest::prelude::*;

use super::message;
use crate::mvcc::{Changes, Store};
use crate::watch::model::{Due, Handle, WatchModel};
use crate::watch::promises::{History, Silence, Watched, judge, places_by_watcher, silences_of};
use crate::watch::{Hub, Next, Settings, StreamKey};

const STREAMS: usize = 3;

/// Everything is small, so that every bound is met often.
const SETTINGS: Settings = Settings {
    progress_interval: Duration::from_secs(10),
    fragment_bytes: 120,
    stream_bytes_max: 500,
    changes_per_step: 3,
    events_per_revision_max: 5,
};

#[derive(Clone, Debug)]
enum Step {
    Write(Vec<(u8, u8, bool)>),
    Compact(u8),
    Sweep,
    /// The hub takes the newest view without anybody asking for anything.
    See,
    Create(usize, Box<WatchCreateRequest>),
    Cancel(usize, i64),
    AskProgress(usize),
    Wait,
    Read(usize, usize),
    Reopen(usize),
}

fn key(number: u8) -> Vec<u8> {
    vec![b'a' + number % 6]
}

fn create() -> impl Strategy<Value = WatchCreateRequest> {
    let end = prop_oneof![
        3 => Just(Vec::new()),
        3 => (0u8..8).prop_map(key),
        1 => Just(vec![0])
    ];
    let start = prop_oneof![4 => Just(0i64), 4 => 1i64..40, 1 => 40i64..80, 1 => Just(-1)];
    let filters = prop::collection::vec(0i32..2, 0..2);
    let id = prop_oneof![4 => Just(0i64), 1 => 1i64..4];
    (0u8..6, end, start, filters, id, any::<[bool; 3]>()).prop_map(
        |(number, range_end, start_revision, filters, watch_id, flags)| WatchCreateRequest {
            key: key(number),
            range_end,
            start_revision,
            filters,
            watch_id,
            prev_kv: flags[0],
            fragment: flags[1],
            progress_notify: flags[2],
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop::collection::vec((any::<u8>(), any::<u8>(), prop::bool::weighted(0.2)), 1..4);
    prop_oneof![
        10 => write.prop_map(Step::Write),
        1 => any::<u8>().prop_map(Step::Compact),
        1 => Just(Step::Sweep),
        3 => Just(Step::See),
        4 => (0..STREAMS, create()).prop_map(|(stream, it)| Step::Create(stream, Box::new(it))),
        1 => (0..STREAMS, 0i64..5).prop_map(|(stream, id)| Step::Cancel(stream, id)),
        1 => (0..STREAMS).prop_map(Step::AskProgress),
        1 => Just(Step::Wait),
        6 => (0..STREAMS, 0usize..6).prop_map(|(stream, count)| Step::Read(stream, count)),
        1 => (0..STREAMS).prop_map(Step::Reopen),
    ]
}

/// One stream from its opening to its end.
struct Reader {
    key: StreamKey,
    /// Its name in the model.
    name: u64,
    responses: Vec<WatchResponse>,
    /// The compact revision when each of them was read.
    boundaries: Vec<i64>,
    silences: Vec<Silence>,
    /// What was asked for, in order.
    creates: Vec<Asked>,
    /// The watchers that live, by id.
    live: BTreeMap<i64, Handle>,
    /// Answers to manual requests that must come, and that may.
    progress: (usize, usize),
}

struct Asked {
    create: WatchCreateRequest,
    at_revision: i64,
    handle: Option<Handle>,
    cancelled: bool,
}

struct World {
    store: Store,
    hub: Hub,
    model: WatchModel,
    history: History,
    readers: Vec<Reader>,
    opened: u64,
    now: Duration,
    fallen_back: bool,
}

impl World {
    fn new() -> Self {
        let store = Store::new();
        let hub = Hub::new(SETTINGS, &store.view());
        let mut world = Self {
            store,
            hub,
            model: WatchModel::new(),
            history: History::new(),
            readers: Vec::new(),
            opened: 0,
            now: Duration::ZERO,
            fallen_back: false,
        };
        for _ in 0..STREAMS {
            let reader = world.open();
            world.readers.push(reader);
        }
        world
    }

    fn open(&mut self) -> Reader {
        self.opened += 1;
        Reader {
            key: self.hub.open(),
            name: self.opened,
            responses: Vec::new(),
            boundaries: Vec::new(),
            silences: Vec::new(),
            creates: Vec::new(),
            live: BTreeMap::new(),
            progress: (0, 0),
        }
    }

    fn take(&mut self, step: Step) {
        let view = self.store.view();
        match step {
            Step::Write(operations) => self.write(&operations),
            Step::Compact(part) => self.compact(part),
            Step::Sweep => {
                self.store.sweep(3);
            }
            Step::See => self.hub.advance(&view),
            Step::Create(stream, create) => self.create(stream, *create),
            Step::Cancel(stream, id) => self.cancel(stream, id),
            Step::AskProgress(stream) => {
                let reader = &mut self.readers[stream];
                self.hub.request_progress(&view, reader.key);
                match self.model.progress(reader.name) {
                    Due::Never => {}
                    Due::Perhaps(_) => reader.progress.1 += 1,
                    Due::Certainly(_) => reader.progress.0 += 1,
                }
            }
            Step::Wait => {
                self.now += Duration::from_secs(12);
                self.hub.handle_timeout(&view, self.now);
            }
            Step::Read(stream, count) => self.read(stream, count),
            Step::Reopen(stream) => {
                let fresh = self.open();
                let old = std::mem::replace(&mut self.readers[stream], fresh);
                self.hub.close(old.key);
                self.judge(&old, None);
            }
        }
        for ready in self.hub.take_ready().collect::<Vec<_>>() {
            assert!(self.readers.iter().any(|it| it.key == ready));
        }
    }

    fn write(&mut self, operations: &[(u8, u8, bool)]) {
        let mut keys: Vec<u8> = operations.iter().map(|(number, ..)| number % 6).collect();
        keys.sort_unstable();
        keys.dedup();
        let success = operations.iter().filter_map(|(number, length, delete)| {
            let at = keys.iter().position(|it| *it == number % 6)?;
            keys.remove(at);
            let request = if *delete {
                Request::RequestDeleteRange(DeleteRangeRequest {
                    key: key(*number),
                    ..DeleteRangeRequest::default()
                })
            } else {
                Request::RequestPut(PutRequest {
                    key: key(*number),
                    value: vec![*number; usize::from(*length % 90)],
                    ..PutRequest::default()
                })
            };
            let request = Some(request);
            Some(RequestOp { request })
        });
        let request = TxnRequest {
            success: success.collect(),
            ..TxnRequest::default()
        };
        let mut changes = Changes::new();
        self.store
            .txn(&request, &mut changes)
            .expect("a fair write");
        if !changes.is_empty() {
            self.model.apply(changes.as_slice());
            self.history.commit_changes(changes.as_slice());
        }
    }

    /// Compacts somewhere between the boundary and now. The view with a new boundary is never left out.
    fn compact(&mut self, part: u8) {
        let (from, to) = (self.store.compact_revision().max(0), self.store.revision());
        let revision = from + (to - from) * i64::from(part) / 255;
        let physical = false;
        let request = CompactionRequest { revision, physical };
        if revision > from && self.store.compact(&request).is_ok() {
            self.model.compact(revision);
            self.history.compact(revision);
            self.hub.advance(&self.store.view());
        }
    }

    fn create(&mut self, stream: usize, create: WatchCreateRequest) {
        let view = self.store.view();
        let reader = &mut self.readers[stream];
        self.hub.create(&view, self.now, reader.key, &create);
        let handle = match self.model.create(reader.name, &create) {
            Ok(created) => {
                reader.live.insert(created.watch_id, created.handle);
                Some(created.handle)
            }
            Err(_) => None,
        };
        reader.creates.push(Asked {
            create,
            at_revision: view.revision(),
            handle,
            cancelled: false,
        });
    }

    fn cancel(&mut self, stream: usize, id: i64) {
        let view = self.store.view();
        let reader = &mut self.readers[stream];
        self.hub.cancel(&view, reader.key, id);
        if let Some(handle) = self.model.cancel(reader.name, id) {
            reader.live.remove(&id);
            let asked = reader.creates.iter_mut();
            for asked in asked.filter(|it| it.handle == Some(handle)) {
                asked.cancelled = true;
            }
        }
    }

    /// Reads so many responses, or all there are.
    fn read(&mut self, stream: usize, count: usize) {
        let view = self.store.view();
        let reader = &mut self.readers[stream];
        let mut left = if count == 0 { usize::MAX } else { count };
        let mut pauses = 0;
        while left > 0 {
            let response = match self.hub.next(&view, reader.key) {
                Next::Response(response) => message(&response),
                Next::Again => {
                    pauses += 1;
                    assert!(pauses < 10_000, "the history ends");
                    continue;
                }
                Next::Idle => {
                    for handle in reader.live.values() {
                        self.model.delivered(*handle, view.revision());
                    }
                    reader.silences.push(Silence {
                        after: reader.responses.len(),
                        revision: view.revision(),
                    });
                    return;
                }
            };
            left -= 1;
            if response.compact_revision != 0 {
                let handle = reader.live.remove(&response.watch_id);
                let handle = handle.expect("only who lives is cancelled");
                let cancelled = self
                    .model
                    .cancel_compacted(handle, response.compact_revision);
                cancelled.expect("who has everything is not cancelled");
                self.fallen_back = true;
            }
            reader.responses.push(response);
            reader.boundaries.push(view.compact_revision());
        }
    }

    fn finish(mut self) {
        for stream in 0..STREAMS {
            self.read(stream, 0);
            assert_eq!(self.hub.waiting_bytes(self.readers[stream].key), 0);
        }
        let all = Some(self.store.revision());
        for reader in &std::mem::take(&mut self.readers) {
            self.judge(reader, all);
            let told = reader.responses.iter();
            let answers = told.filter(|it| it.watch_id == -1 && !it.canceled).count();
            let (certain, possible) = reader.progress;
            assert!(
                (certain..=certain + possible).contains(&answers),
                "{answers} answers to {certain} and perhaps {possible} more requests for progress"
            );
            self.hub.close(reader.key);
        }
        assert_eq!((self.hub.streams(), self.hub.watchers()), (0, 0));
    }

    fn judge(&self, reader: &Reader, complete_to: Option<i64>) {
        let told = places_by_watcher(&reader.responses).unwrap_or_else(|broken| panic!("{broken}"));
        assert!(told.len() <= reader.creates.len());
        if complete_to.is_some() {
            assert_eq!(
                told.len(),
                reader.creates.len(),
                "every creation is answered"
            );
        }
        for (places, asked) in told.iter().zip(&reader.creates) {
            let responses: Vec<WatchResponse> = places
                .iter()
                .map(|at| reader.responses[*at].clone())
                .collect();
            let boundaries: Vec<i64> = places.iter().map(|at| reader.boundaries[*at]).collect();
            assert_eq!(responses[0].canceled, asked.handle.is_none(), "{asked:?}");
            let watched = Watched {
                revision_at_creation: Some(asked.at_revision),
                boundaries: &boundaries,
                silences: &silences_of(places, &reader.silences),
                complete_to: complete_to.filter(|_| !asked.cancelled),
                ..Watched::of(&asked.create, &responses)
            };
            if let Err(broken) = judge(&self.history, &watched) {
                panic!("{broken}\n{asked:?}\n{responses:#?}");
            }
        }
    }
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} at {}", self.create, self.at_revision)
    }
}

proptest! {
    #[test]
    fn every_watcher_gets_what_it_is_promised(steps in prop::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.finish();
    }
}
