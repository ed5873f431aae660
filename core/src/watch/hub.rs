//! Hub: all watchers of one thread of connections, and what each stream is to be told next.

use std::collections::BTreeSet;
use std::time::Duration;

use metastore_proto::etcdserverpb::WatchCreateRequest;
use slab::Slab;

use super::catch_up::{self, Slice};
use super::event::{EncodedEvent, Event, previous_of};
use super::index::Index;
use super::intervals::scrambled;
use super::response::{Content, Events, Parts, Response};
use super::stream::Stream;
use super::watcher::{Wants, Watcher, span_of};
use crate::mvcc::{Record, View};
use crate::plant::{Plant, Planted};

/// Serves watch streams from the published views, and from nothing else.
///
/// The contract:
/// 1. Every verb that takes a [`View`] takes the newest one that is published; a view older than one before changes
///    nothing. Views may be left out, but not the first one with each compact revision: it alone still has what lies
///    before that boundary, and a synced watcher that misses it may be cancelled as compacted.
/// 2. [`Hub::next`] is called for a stream when its reader has room, until it answers [`Next::Idle`]. From then on the
///    stream appears in [`Hub::take_ready`] once as soon as there is something to say again.
/// 3. [`Hub::poll_timeout`] tells when to call [`Hub::handle_timeout`].
///
/// A revision reaches every synced watcher in the moment its view is taken; a watcher whose stream has no room then
/// reads it from the history later. So a reader that does not read holds a bounded number of bytes, loses nothing,
/// and costs the others nothing.
#[derive(Debug)]
pub struct Hub {
    settings: Settings,
    streams: Slab<Stream>,
    watchers: Slab<Watcher>,
    index: Index,
    /// The last revision that synced watchers were given.
    tail: i64,
    ready: Vec<StreamKey>,
    /// Streams with watchers that want regular progress, by when it is due.
    progress: BTreeSet<(Duration, usize)>,
    /// Watchers created so far.
    serial: u64,
    /// Room kept from one dispatch to the next.
    found: Vec<u32>,
}

/// What a hub is told at its start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The time between two progress responses to a watcher that asked for them and hears nothing else.
    pub progress_interval: Duration,
    /// Events of a response that may be cut are cut at this many bytes.
    pub fragment_bytes: usize,
    /// Bytes of responses that may wait for the reader of one stream. Live events beyond that are not kept: their
    /// watchers fall back to the history. One response may exceed it, so that no revision is ever torn.
    pub stream_bytes_max: usize,
    /// Revisions of the log, or changes of a key, that one step through the history looks at.
    pub changes_per_step: u32,
    /// Events that one revision may bring to all watchers together, before they are queued. Where it brings more, all read it
    /// from the history: many changes times many watchers is more than any memory holds.
    pub events_per_revision_max: usize,
    /// A fault on purpose.
    #[cfg(feature = "plant")]
    pub planted: Planted,
}

impl Settings {
    /// Settings with bounds that suit a server: a step through the history takes a few hundred microseconds at most.
    pub fn new(progress_interval: Duration, fragment_bytes: usize) -> Self {
        Self {
            progress_interval,
            fragment_bytes,
            stream_bytes_max: 256 << 10,
            changes_per_step: 4096,
            events_per_revision_max: 1 << 18,
            #[cfg(feature = "plant")]
            planted: Planted::default(),
        }
    }

    /// What is planted in this hub.
    #[cfg(feature = "plant")]
    pub(super) fn planted(&self) -> Planted {
        self.planted
    }

    /// What is planted in this hub.
    #[cfg(not(feature = "plant"))]
    pub(super) fn planted(&self) -> Planted {
        Planted::default()
    }
}

/// Names an open stream of one hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamKey(usize);

/// What [`Hub::next`] found.
#[derive(Debug)]
pub enum Next {
    /// To be sent.
    Response(Response),
    /// Nothing yet, but there is more history to look through: call again after others had their turn.
    Again,
    /// Nothing until the stream is ready again.
    Idle,
}

impl StreamKey {
    /// The number behind it; small, and reused after the stream is closed.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Hub {
    /// A hub that serves what comes after `view`.
    pub fn new(settings: Settings, view: &View) -> Self {
        Self {
            settings,
            streams: Slab::new(),
            watchers: Slab::new(),
            index: Index::new(),
            tail: view.revision(),
            ready: Vec::new(),
            progress: BTreeSet::new(),
            serial: 0,
            found: Vec::new(),
        }
    }

    /// How many streams are open.
    pub fn streams(&self) -> usize {
        self.streams.len()
    }

    /// How many watchers there are.
    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// Bytes that wait for the reader of a stream, shared ones counted in full.
    pub fn waiting_bytes(&self, stream: StreamKey) -> usize {
        self.streams[stream.0].waiting_bytes()
    }

    /// Opens a stream.
    pub fn open(&mut self) -> StreamKey {
        StreamKey(self.streams.insert(Stream::new()))
    }

    /// Closes a stream and forgets its watchers.
    pub fn close(&mut self, stream: StreamKey) {
        let closed = self.streams.remove(stream.0);
        for watcher in closed.watchers.into_values() {
            let watcher = self.watchers.remove(watcher as usize);
            self.unfile(&watcher);
        }
        self.progress.remove(&(closed.progress_at, stream.0));
        self.ready.retain(|ready| *ready != stream);
    }

    /// Creates a watcher, or says why not; either is the next thing the stream is told of it.
    pub fn create(
        &mut self,
        view: &View,
        now: Duration,
        stream: StreamKey,
        request: &WatchCreateRequest,
    ) {
        self.advance(view);
        match self.admit(now, stream, request) {
            Err(reason) => self.say(stream, OF_THE_STREAM, Content::Refused(reason)),
            Ok(watcher) => {
                let Watcher {
                    id,
                    lagging,
                    serial,
                    ..
                } = self.watchers[watcher as usize];
                self.say(stream, id, Content::Created);
                if lagging {
                    self.streams[stream.0].begin_lagging(watcher, serial);
                }
            }
        }
    }

    /// Cancels a watcher; the stream is told, if there is such a watcher.
    pub fn cancel(&mut self, view: &View, stream: StreamKey, watch_id: i64) {
        self.advance(view);
        let open = &mut self.streams[stream.0];
        if let Some(&watcher) = open.watchers.get(&watch_id) {
            self.remove(watcher);
        } else if !open.ended.remove(&watch_id) {
            return;
        }
        self.say(stream, watch_id, Content::Canceled);
    }

    /// Tells the stream how far its watchers are, if all of them have everything.
    pub fn request_progress(&mut self, view: &View, stream: StreamKey) {
        self.advance(view);
        let open = &self.streams[stream.0];
        let waits = |watcher: &u32| self.watchers[*watcher as usize].start > self.tail;
        let any_waits = open.latest_start > self.tail && open.watchers.values().any(waits);
        if !open.watchers.is_empty() && open.lagging == 0 && !any_waits {
            self.say(stream, OF_THE_STREAM, Content::Progress);
        }
    }

    /// Gives every synced watcher what `view` has beyond the views before.
    pub fn advance(&mut self, view: &View) {
        if self.watchers.is_empty() {
            self.tail = self.tail.max(view.revision());
        }
        while self.tail < view.revision() {
            let revision = self.tail + 1;
            match view.log.records(revision) {
                [] => {
                    self.fall_back(view);
                    self.tail = view.revision();
                    return;
                }
                [record] => self.dispatch_one(view, record),
                records => self.dispatch_many(view, records),
            }
            self.tail = revision;
        }
    }

    /// What the stream's reader gets next.
    ///
    /// # Panics
    /// If `view` is older than one before.
    pub fn next(&mut self, view: &View, stream: StreamKey) -> Next {
        self.advance(view);
        assert!(
            self.tail == view.revision(),
            "a reader is served from the newest view"
        );
        loop {
            if let Some(response) = self.streams[stream.0].take() {
                return Next::Response(self.cut_to_fit(stream, response));
            }
            let Some(lagging) = self.streams[stream.0].next_lagging() else {
                self.streams[stream.0].announced = false;
                return Next::Idle;
            };
            if let Some(next) = self.read_history(view, stream, lagging) {
                return next;
            }
        }
    }

    /// The streams that have something to say since they were last idle.
    pub fn take_ready(&mut self) -> impl Iterator<Item = StreamKey> + '_ {
        let streams = &self.streams;
        // A stream that was read to its end in the meantime needs no waking.
        self.ready
            .drain(..)
            .filter(|ready| streams[ready.0].announced)
    }

    /// When to call [`Hub::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.progress.first().map(|(at, _)| *at)
    }

    /// Sends the regular progress that is due.
    pub fn handle_timeout(&mut self, view: &View, now: Duration) {
        self.advance(view);
        while let Some(&(at, key)) = self.progress.first()
            && at <= now
        {
            let next = now + self.interval_of(key);
            self.progress.remove(&(at, key));
            self.progress.insert((next, key));
            self.streams[key].progress_at = next;
            self.tell_progress(StreamKey(key));
        }
    }

    fn tell_progress(&mut self, stream: StreamKey) {
        let too_early = self.settings.planted().is(Plant::ProgressTooEarly);
        let mut told = Vec::new();
        for &watcher in self.streams[stream.0].watchers.values() {
            let watcher = &mut self.watchers[watcher as usize];
            if !watcher.wants.progress {
                continue;
            }
            let caught_up = !watcher.lagging && watcher.start <= self.tail || too_early;
            if std::mem::replace(&mut watcher.quiet, true) && caught_up {
                told.push(watcher.id);
            }
        }
        for id in told {
            // A reader that has not read what waits for it has no use for more of the same.
            if self.streams[stream.0].has_room(self.settings.stream_bytes_max) {
                self.say(stream, id, Content::Progress);
            }
        }
    }

    /// Files a new watcher.
    fn admit(
        &mut self,
        now: Duration,
        stream: StreamKey,
        request: &WatchCreateRequest,
    ) -> Result<u32, &'static str> {
        if request.start_revision < 0 {
            return Err(COMPACTED);
        }
        let span = span_of(request).ok_or(EMPTY_RANGE)?;
        let open = &mut self.streams[stream.0];
        let id = match request.watch_id {
            0 => open.choose_id(),
            id if open.uses(id) => return Err(DUPLICATE_ID),
            id => id,
        };
        let early = self.settings.planted().is(Plant::StartsEarly);
        let start = match request.start_revision {
            ahead if ahead > self.tail && early => 0,
            start => start,
        };
        let wants = Wants::of(request);
        self.serial += 1;
        let entry = self.watchers.vacant_entry();
        let key = key_of(entry.key());
        let place = self.index.insert(&span, key);
        entry.insert(Watcher {
            stream,
            id,
            serial: self.serial,
            span,
            place,
            start,
            next: if start == 0 { self.tail + 1 } else { start },
            lagging: (1..=self.tail).contains(&start),
            quiet: true,
            wants,
        });
        open.watchers.insert(id, key);
        open.latest_start = open.latest_start.max(start);
        if wants.progress {
            open.progress_watchers += 1;
            if open.progress_watchers == 1 {
                let at = now + self.interval_of(stream.0);
                self.streams[stream.0].progress_at = at;
                self.progress.insert((at, stream.0));
            }
        }
        Ok(key)
    }

    fn remove(&mut self, watcher: u32) {
        let gone = self.watchers.remove(watcher as usize);
        let open = &mut self.streams[gone.stream.0];
        open.watchers.remove(&gone.id);
        open.lagging -= usize::from(gone.lagging);
        if gone.wants.progress {
            open.progress_watchers -= 1;
            if open.progress_watchers == 0 {
                self.progress.remove(&(open.progress_at, gone.stream.0));
            }
        }
        self.unfile(&gone);
    }

    fn unfile(&mut self, gone: &Watcher) {
        if let Some(moved) = self.index.remove(&gone.span, gone.place) {
            self.watchers[moved as usize].place = gone.place;
        }
    }

    fn say(&mut self, stream: StreamKey, watch_id: i64, content: Content) {
        let response = Response::new(watch_id, self.tail, content);
        self.streams[stream.0].put(response);
        self.announce(stream);
    }

    fn announce(&mut self, stream: StreamKey) {
        if !std::mem::replace(&mut self.streams[stream.0].announced, true) {
            self.ready.push(stream);
        }
    }

    /// A revision of one change, the usual case: no sorting, and its event is encoded at most twice.
    fn dispatch_one(&mut self, view: &View, record: &Record) {
        let mut found = std::mem::take(&mut self.found);
        self.index.watching(record.key(), &mut found);
        let mut encoded = EventOnce::new(view, record);
        for watcher in found.drain(..) {
            let hears = self.watchers[watcher as usize].hears(record);
            if hears {
                let event = encoded.get(self.watchers[watcher as usize].wants.previous);
                self.give(watcher, record.mod_revision(), Parts::One(event));
            }
        }
        self.found = found;
    }

    fn dispatch_many(&mut self, view: &View, records: &[Record]) {
        let mut heard: Vec<(u32, usize)> = Vec::new();
        let mut found = std::mem::take(&mut self.found);
        for (index, record) in records.iter().enumerate() {
            self.index.watching(record.key(), &mut found);
            let hears = |watcher: &u32| self.watchers[*watcher as usize].hears(record);
            heard.extend(found.drain(..).filter(hears).map(|it| (it, index)));
            if heard.len() > self.settings.events_per_revision_max {
                self.found = found;
                let revision = record.mod_revision();
                return self.read_from_history(revision, revision);
            }
        }
        self.found = found;
        heard.sort_unstable();
        let mut encoded: Vec<EventOnce> = records
            .iter()
            .map(|record| EventOnce::new(view, record))
            .collect();
        for of_one in heard.chunk_by(|a, b| a.0 == b.0) {
            let watcher = of_one[0].0;
            let previous = self.watchers[watcher as usize].wants.previous;
            let events = of_one
                .iter()
                .map(|&(_, index)| encoded[index].get(previous));
            let parts = Parts::Many(events.collect());
            self.give(watcher, records[0].mod_revision(), parts);
        }
    }

    /// Queues the events of one revision for a synced watcher, or lets it read them from the history later.
    fn give(&mut self, key: u32, revision: i64, parts: Parts) {
        let watcher = &mut self.watchers[key as usize];
        watcher.quiet = false;
        let stream = watcher.stream;
        let open = &mut self.streams[stream.0];
        if open.has_room(self.settings.stream_bytes_max) {
            let events = Events::new(parts, watcher.wants.fragments);
            open.put(Response::new(watcher.id, revision, Content::Events(events)));
        } else {
            watcher.lagging = true;
            watcher.next = revision;
            open.begin_lagging(key, watcher.serial);
        }
        self.announce(stream);
    }

    /// The view does not hold what follows the tail: whoever wanted it reads what there is of the history.
    fn fall_back(&mut self, view: &View) {
        let boundary = view.compact_revision();
        assert!(
            self.tail + 1 < boundary,
            "revision {} is not compacted at {boundary}, so the view has it",
            self.tail + 1
        );
        self.read_from_history(self.tail + 1, view.revision());
    }

    /// How many watchers read the history.
    #[cfg(test)]
    pub(super) fn lagging(&self) -> usize {
        let all = self.watchers.iter();
        all.filter(|(_, watcher)| watcher.lagging).count()
    }

    /// Whoever waits for a revision between these reads it from the history.
    fn read_from_history(&mut self, first: i64, last: i64) {
        let mut fallen = Vec::new();
        let synced = self.watchers.iter_mut().filter(|(_, it)| !it.lagging);
        for (key, watcher) in synced {
            watcher.next = watcher.next.max(first);
            if watcher.next <= last {
                watcher.lagging = true;
                self.streams[watcher.stream.0].begin_lagging(key_of(key), watcher.serial);
                fallen.push(watcher.stream);
            }
        }
        for stream in fallen {
            self.announce(stream);
        }
    }

    /// One step of a watcher through the history; nothing if the watcher is gone, or has caught up without an event.
    fn read_history(
        &mut self,
        view: &View,
        stream: StreamKey,
        (key, serial): (u32, u64),
    ) -> Option<Next> {
        let watcher = self.watchers.get_mut(key as usize);
        let watcher = watcher.filter(|it| it.serial == serial)?;
        let id = watcher.id;
        let compact_revision = view.compact_revision();
        if self.settings.planted().is(Plant::SkipsCompacted) {
            watcher.next = watcher.next.max(compact_revision);
        }
        if watcher.next < compact_revision {
            self.remove(key);
            // Clients know the id to be taken until they cancel it themselves.
            self.streams[stream.0].ended.insert(id);
            let content = Content::Compacted { compact_revision };
            return Some(Next::Response(Response::new(id, 0, content)));
        }
        let Slice { events, next } = catch_up::read(view, watcher, &self.settings);
        watcher.next = next;
        watcher.lagging = next <= self.tail;
        let open = &mut self.streams[stream.0];
        if watcher.lagging {
            open.lag_on(key, serial);
        } else {
            open.lagging -= 1;
        }
        let Some(parts) = events else {
            return watcher.lagging.then_some(Next::Again);
        };
        watcher.quiet = false;
        let events = Events::new(parts, watcher.wants.fragments);
        let response = Response::new(id, self.tail, Content::Events(events));
        Some(Next::Response(self.cut_to_fit(stream, response)))
    }

    /// Leaves of a response what may go in one message, and puts the rest back.
    fn cut_to_fit(&mut self, stream: StreamKey, mut response: Response) -> Response {
        if let Content::Events(events) = &mut response.content
            && let Some(rest) = events.cut(self.settings.fragment_bytes)
        {
            let rest = Response::new(response.watch_id, response.revision, Content::Events(rest));
            self.streams[stream.0].put_back(rest);
        }
        response
    }

    /// The interval of a stream's regular progress: streams do not all speak up at once.
    fn interval_of(&self, stream: usize) -> Duration {
        let jitter = u32::try_from(scrambled(stream as u64) % 1024).expect("it is below 1,024");
        self.settings.progress_interval + self.settings.progress_interval / 10 * jitter / 1024
    }
}

fn key_of(index: usize) -> u32 {
    u32::try_from(index).expect("memory holds fewer than 2^32 watchers")
}

/// One event in its two forms, each encoded when it is first wanted.
struct EventOnce<'a> {
    view: &'a View,
    record: &'a Record,
    plain: Option<EncodedEvent>,
    with_previous: Option<EncodedEvent>,
}

impl<'a> EventOnce<'a> {
    fn new(view: &'a View, record: &'a Record) -> Self {
        Self {
            view,
            record,
            plain: None,
            with_previous: None,
        }
    }

    fn get(&mut self, previous: bool) -> EncodedEvent {
        let (view, record) = (self.view, self.record);
        let encoded = if previous {
            self.with_previous.get_or_insert_with(|| {
                let previous = previous_of(view, record);
                Event { record, previous }.to_shared()
            })
        } else {
            let previous = None;
            self.plain
                .get_or_insert_with(|| Event { record, previous }.to_shared())
        };
        EncodedEvent::clone(encoded)
    }
}

/// The id in responses that are of no watcher.
const OF_THE_STREAM: i64 = -1;
const EMPTY_RANGE: &str = "mvcc: watcher range is empty";
const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";
const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
