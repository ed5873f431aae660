//! Watchers that go from member to member, some of them together on one stream: two hubs, one of which lags, under
//! writes and compactions. A stream is read as the product reads it, when it was said to be ready. Each stretch keeps
//! every watch promise, and all stretches of a watcher together hold each of its events once, save for those that it was
//! told to be compacted. Where every view arrives, whoever has everything and room for more hears of no compaction.

#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::key::KeyRange;
use metastore_core::mvcc::{Changes, Store, View};
use metastore_core::watch::promises::{self, History, Silence, Watched};
use metastore_core::watch::{Hub, Next, Response, Settings, StreamKey};
use metastore_fuzz::{End, Key, value};
use metastore_judges::watches::resume_at;
use metastore_proto::etcdserverpb::request_op::Request;
use metastore_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, ResponseHeader, TxnRequest,
    WatchCreateRequest, WatchResponse,
};
use metastore_proto::mvccpb::Event;
use prost::Message as _;

#[derive(Arbitrary, Debug)]
struct Input {
    watchers: Vec<Spec>,
    ops: Vec<Op>,
}

#[derive(Arbitrary, Debug)]
struct Spec {
    key: Key,
    end: End,
    start: u8,
    filters: u8,
    flags: u8,
}

#[derive(Arbitrary, Debug)]
enum Op {
    Write(Vec<(Key, u8, bool)>),
    Compact(u8),
    Sweep(u8),
    /// A hub takes the newest view.
    See(bool),
    Wait(bool),
    Progress(u8),
    Read(u8, u8),
    /// A watcher goes on at the other hub.
    Move(u8),
}

/// One member's hub, and how far its member is.
struct Member {
    hub: Hub,
    view: View,
}

/// One stream on its way.
struct Traveller {
    /// The hub it is at.
    at: usize,
    stream: StreamKey,
    created_at: i64,
    responses: Vec<WatchResponse>,
    /// What was compacted at its member when each of them was read.
    boundaries: Vec<i64>,
    silences: Vec<Silence>,
    /// Whether its reader looks for more: it has not been told to wait, or was woken since.
    awake: bool,
    /// Whether it has had everything and room for more ever since it was told to wait, where every view arrives, and no
    /// revision has brought more than is queued.
    caught_up: bool,
    watchers: Vec<Watcher>,
}

/// One watcher of it.
struct Watcher {
    create: WatchCreateRequest,
    /// The first revision it wants at all.
    first: i64,
    delivered: Vec<Event>,
    /// Revisions that it was told to be gone, both included.
    excused: Vec<(i64, i64)>,
}

struct World {
    store: Store,
    history: History,
    /// Views on their way to the member that lags.
    members: [Member; 2],
    late: VecDeque<View>,
    /// How many changes each revision has.
    changes: BTreeMap<i64, usize>,
    travellers: Vec<Traveller>,
    now: Duration,
}

const SETTINGS: Settings = Settings {
    progress_interval: Duration::from_secs(10),
    fragment_bytes: 120,
    stream_bytes_max: 400,
    changes_per_step: 3,
    events_per_revision_max: 24,
};

impl World {
    fn new(specs: &[Spec]) -> Self {
        let store = Store::new();
        let member = || Member {
            hub: Hub::new(SETTINGS, &store.view()),
            view: store.view(),
        };
        let mut world = Self {
            members: [member(), member()],
            history: History::new(),
            late: VecDeque::new(),
            changes: BTreeMap::new(),
            travellers: Vec::new(),
            now: Duration::ZERO,
            store,
        };
        let mut streams: Vec<Vec<Watcher>> = Vec::new();
        for spec in specs.iter().take(WATCHERS_MAX) {
            let create = spec.create();
            if matches!(KeyRange::new(&create.key, &create.range_end),
                KeyRange::Between(start, end) if start >= end)
            {
                continue;
            }
            let watcher = Watcher {
                first: create.start_revision.max(1),
                create,
                delivered: Vec::new(),
                excused: Vec::new(),
            };
            match streams.last_mut() {
                Some(stream) if spec.shares_a_stream() => stream.push(watcher),
                _ => streams.push(vec![watcher]),
            }
        }
        for watchers in streams {
            let traveller = world.open(watchers, 0);
            world.travellers.push(traveller);
        }
        world.notice();
        world
    }

    fn open(&mut self, watchers: Vec<Watcher>, at: usize) -> Traveller {
        let Member { hub, view } = &mut self.members[at];
        let stream = hub.open();
        for watcher in &watchers {
            hub.create(view, self.now, stream, &watcher.create);
        }
        Traveller {
            created_at: view.revision(),
            at,
            stream,
            responses: Vec::new(),
            boundaries: Vec::new(),
            silences: Vec::new(),
            // Nobody is woken for the first look.
            awake: true,
            caught_up: false,
            watchers,
        }
    }

    fn take(&mut self, op: &Op) {
        match op {
            Op::Write(operations) => self.write(operations),
            Op::Compact(part) => self.compact(*part),
            Op::Sweep(changes) => drop(self.store.sweep(usize::from(*changes) + 1)),
            Op::See(late) => self.see(usize::from(*late)),
            Op::Wait(late) => {
                self.now += Duration::from_secs(12);
                let Member { hub, view } = &mut self.members[usize::from(*late)];
                hub.handle_timeout(view, self.now);
            }
            Op::Progress(which) => {
                if let Some(place) = self.place(*which) {
                    let traveller = &self.travellers[place];
                    let Member { hub, view } = &mut self.members[traveller.at];
                    hub.request_progress(view, traveller.stream);
                }
            }
            Op::Read(which, count) => {
                if let Some(place) = self.place(*which) {
                    self.read(place, usize::from(*count));
                }
            }
            Op::Move(which) => {
                if let Some(place) = self.place(*which) {
                    self.go_on(place, 1 - self.travellers[place].at);
                }
            }
        }
        self.notice();
    }

    /// Wakes the readers of streams that are ready, and sees for which there was no room.
    fn notice(&mut self) {
        for (at, member) in self.members.iter_mut().enumerate() {
            let ready: Vec<StreamKey> = member.hub.take_ready().collect();
            for traveller in self.travellers.iter_mut().filter(|it| it.at == at) {
                traveller.awake |= ready.contains(&traveller.stream);
                let waiting = member.hub.waiting_bytes(traveller.stream);
                traveller.caught_up &= waiting < SETTINGS.stream_bytes_max;
            }
        }
    }

    fn place(&self, which: u8) -> Option<usize> {
        usize::from(which).checked_rem(self.travellers.len())
    }

    fn write(&mut self, operations: &[(Key, u8, bool)]) {
        let mut success: Vec<RequestOp> = Vec::new();
        let mut used = Vec::new();
        for (key, number, delete) in operations.iter().take(8) {
            let key = key.legal();
            let again = used.contains(&key);
            if again && !delete {
                continue;
            }
            used.push(key.clone());
            let request = match delete {
                true => Request::RequestDeleteRange(DeleteRangeRequest {
                    key,
                    // What was put may go in the same transaction with all behind it, not alone.
                    range_end: if again { vec![0] } else { Vec::new() },
                    ..DeleteRangeRequest::default()
                }),
                false => Request::RequestPut(PutRequest {
                    key,
                    value: value(*number),
                    ..PutRequest::default()
                }),
            };
            success.push(RequestOp {
                request: Some(request),
            });
        }
        let request = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        let mut changes = Changes::new();
        let written = self.store.txn(&request, &mut changes);
        assert!(written.is_ok(), "a fair write");
        if !changes.is_empty() {
            self.history.commit_changes(changes.as_slice());
            let count = changes.as_slice().len();
            self.changes.insert(self.store.revision(), count);
            self.late.push_back(self.store.view());
        }
    }

    fn compact(&mut self, part: u8) {
        let (from, to) = (self.store.compact_revision().max(0), self.store.revision());
        let request = CompactionRequest {
            revision: from + (to - from) * i64::from(part) / 255,
            physical: false,
        };
        if request.revision > from && self.store.compact(&request).is_ok() {
            self.history.compact(request.revision);
            self.late.push_back(self.store.view());
        }
    }

    /// The first member has the newest state; the other takes one step of what it has not seen.
    fn see(&mut self, which: usize) {
        let newest = self.store.view();
        let view = match which {
            0 => Some(newest),
            _ => self.late.pop_front(),
        };
        if let Some(view) = view {
            let before = self.members[which].view.revision();
            self.members[which].hub.advance(&view);
            self.members[which].view = view;
            self.sees_large(which, before);
        }
        self.notice();
    }

    /// What may be more than a revision is to bring to all watchers of a hub together, they read from the history.
    fn sees_large(&mut self, which: usize, before: i64) {
        let here = |it: &&mut Traveller| it.at == which;
        let watchers = self.travellers.iter_mut().filter(here);
        let watchers: usize = watchers.map(|it| it.watchers.len()).sum();
        let newest = self.members[which].view.revision();
        let mut seen = self.changes.range(before + 1..newest + 1);
        if seen.any(|(_, count)| count * watchers > SETTINGS.events_per_revision_max) {
            let all = self.travellers.iter_mut().filter(here);
            all.for_each(|it| it.caught_up = false);
        }
    }

    /// Reads so many responses, or all there are, if its reader looks for any.
    fn read(&mut self, place: usize, count: usize) {
        let mut left = if count == 0 { usize::MAX } else { count };
        while left > 0 && self.travellers[place].awake {
            let traveller = &mut self.travellers[place];
            let Member { hub, view } = &mut self.members[traveller.at];
            match hub.next(view, traveller.stream) {
                Next::Response(response) => {
                    let response = decoded(&response);
                    let ended = response.canceled;
                    let needless = response.compact_revision > 0 && traveller.caught_up;
                    assert!(!needless, "it was caught up and had room: {response:?}");
                    traveller.responses.push(response);
                    traveller.boundaries.push(view.compact_revision());
                    if ended {
                        let at = traveller.at;
                        return self.go_on(place, at);
                    }
                    left -= 1;
                }
                Next::Again => {}
                Next::Idle => {
                    traveller.awake = false;
                    traveller.caught_up = traveller.at == EVERY_VIEW;
                    traveller.silences.push(Silence {
                        after: traveller.responses.len(),
                        revision: view.revision(),
                    });
                }
            }
            self.notice();
        }
    }

    /// Ends a stretch and begins the next.
    fn go_on(&mut self, place: usize, at: usize) {
        self.end(place, None);
        let watchers = std::mem::take(&mut self.travellers[place].watchers);
        let opened = self.open(watchers, at);
        self.travellers[place] = opened;
    }

    /// Closes a stretch, judges it, and has each watcher ask for what comes next.
    fn end(&mut self, place: usize, complete_to: Option<i64>) {
        let traveller = &mut self.travellers[place];
        self.members[traveller.at].hub.close(traveller.stream);
        let told = promises::places_by_watcher(&traveller.responses);
        let told = told.unwrap_or_else(|broken| panic!("{broken}"));
        assert!(told.len() <= traveller.watchers.len(), "all were asked for");
        let mut told = told.into_iter();
        for watcher in &mut traveller.watchers {
            let places = told.next().unwrap_or_default();
            let of = |at: &usize| traveller.responses[*at].clone();
            let responses: Vec<WatchResponse> = places.iter().map(of).collect();
            let boundaries: Vec<i64> = places.iter().map(|at| traveller.boundaries[*at]).collect();
            let watched = Watched {
                revision_at_creation: Some(traveller.created_at),
                boundaries: &boundaries,
                silences: &promises::silences_of(&places, &traveller.silences),
                complete_to,
                ..Watched::of(&watcher.create, &responses)
            };
            if let Err(broken) = promises::judge(&self.history, &watched) {
                panic!("{broken}\n{:?}\n{responses:?}", watcher.create);
            }
            watcher.take(&responses);
        }
    }

    /// Everything arrives, and each watcher has had what it was to have.
    fn finish(mut self) {
        while !self.late.is_empty() {
            self.see(EVERY_VIEW);
        }
        self.see(0);
        while let Some(last) = self.travellers.len().checked_sub(1) {
            while self.travellers[last].awake {
                self.read(last, 0);
            }
            let newest = self.history.revision();
            self.end(last, Some(newest));
            let arrived = self.travellers.pop();
            let watchers = arrived.iter().flat_map(|it| &it.watchers);
            watchers.for_each(|watcher| self.complete(watcher));
        }
        let watchers = self.members.iter().map(|member| member.hub.watchers());
        assert_eq!(watchers.sum::<usize>(), 0);
    }

    fn complete(&self, watcher: &Watcher) {
        let (create, excused) = (&watcher.create, &watcher.excused);
        let range = KeyRange::new(&create.key, &create.range_end);
        let wanted = |event: &Event| {
            let kv = event.kv.as_ref().expect("an event has a record");
            range.contains(&kv.key) && !create.filters.contains(&event.r#type)
        };
        let excused = |revision: i64| excused.iter().any(|(a, b)| (*a..=*b).contains(&revision));
        let revisions = watcher.first..=self.history.revision();
        let expected: Vec<(i64, Vec<u8>)> = revisions
            .filter(|revision| !excused(*revision))
            .flat_map(|revision| self.history.events(revision))
            .filter(|event| wanted(event))
            .map(name_of)
            .collect();
        let delivered: Vec<(i64, Vec<u8>)> = watcher.delivered.iter().map(name_of).collect();
        assert_eq!(delivered, expected, "{create:?}");
    }
}

impl Watcher {
    /// Takes what a stretch brought, and asks for what comes next.
    fn take(&mut self, responses: &[WatchResponse]) {
        let next = resume_at(&self.create, responses);
        for response in responses {
            self.delivered.extend(response.events.iter().cloned());
            if response.compact_revision > 0 {
                let last = resume_at(&self.create, &before_the_end(responses));
                self.excused.push((last, response.compact_revision - 1));
            }
        }
        // Of a revision that was cut off the rest is still to come, and then it comes again as a whole.
        self.delivered.retain(|event| revision_of(event) < next);
        self.create.start_revision = next.max(1);
    }
}

/// All responses but the one that tells of the compaction.
fn before_the_end(responses: &[WatchResponse]) -> Vec<WatchResponse> {
    let living = responses.iter().filter(|response| !response.canceled);
    living.cloned().collect()
}

fn revision_of(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn name_of(event: &Event) -> (i64, Vec<u8>) {
    let kv = event.kv.clone().unwrap_or_default();
    (kv.mod_revision, kv.key)
}

fn decoded(response: &Response) -> WatchResponse {
    let mut bytes = Vec::new();
    response.encode(&ResponseHeader::default(), &mut bytes);
    WatchResponse::decode(bytes.as_slice()).expect("what the hub encodes can be decoded")
}

impl Spec {
    /// Whether it is on one stream with the watcher before.
    fn shares_a_stream(&self) -> bool {
        self.flags & (1 << 3) != 0
    }

    fn create(&self) -> WatchCreateRequest {
        let flag = |bit: u8| self.flags & (1 << bit) != 0;
        WatchCreateRequest {
            key: self.key.legal(),
            range_end: self.end.bytes(),
            // A start of its own, so that it is known what the watcher has to hear.
            start_revision: i64::from(self.start % 16) + 1,
            filters: match self.filters {
                0..=9 => vec![0],
                10..=19 => vec![1],
                _ => Vec::new(),
            },
            prev_kv: flag(0),
            fragment: flag(1),
            progress_notify: flag(2),
            ..WatchCreateRequest::default()
        }
    }
}

/// Watchers of one input.
const WATCHERS_MAX: usize = 6;
/// The hub that gets every view, one by one.
const EVERY_VIEW: usize = 1;

fuzz_target!(|input: Input| {
    let mut world = World::new(&input.watchers);
    for op in &input.ops {
        world.take(op);
    }
    world.finish();
});
