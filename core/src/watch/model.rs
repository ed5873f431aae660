//! A naive watch hub for tests: a list of watchers, and the whole history scanned for every question.
//!
//! It delivers nothing. It says what each watcher must receive in total, and what it may be told. How far the real
//! hub has come is its own affair, as long as it tells the model: [`WatchModel::delivered`].

use std::collections::BTreeMap;

use metastore_proto::etcdserverpb::WatchCreateRequest;
use metastore_proto::etcdserverpb::watch_create_request::FilterType;
use metastore_proto::mvccpb::event::EventType;
use metastore_proto::mvccpb::{Event, KeyValue};

use crate::key::KeyRange;
use crate::mvcc::Change;

/// A watcher's place in the list of all that were ever created.
pub(crate) type Handle = usize;

pub(crate) struct WatchModel {
    /// By revision; 0 and 1 have no events. Without previous records.
    revisions: Vec<Vec<Event>>,
    compactions: Vec<i64>,
    watchers: Vec<ModelWatcher>,
    /// The id the server would choose next, by stream.
    next_ids: BTreeMap<u64, i64>,
}

struct ModelWatcher {
    stream: u64,
    watch_id: i64,
    create: WatchCreateRequest,
    /// The first revision it wants.
    start: i64,
    /// The first revision that is not known to be delivered.
    needed: i64,
    /// Its start was compacted before it was created.
    too_late: bool,
    /// The revision when it was cancelled.
    ended: Option<i64>,
    /// The client has cancelled it, so that its id is free.
    forgotten: bool,
}

/// A watcher came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Created {
    pub(crate) handle: Handle,
    pub(crate) watch_id: i64,
    /// For the header.
    pub(crate) revision: i64,
}

/// Whether something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due<T> {
    Never,
    /// If the watcher, or one of the stream, lags behind.
    Perhaps(T),
    Certainly(T),
}

impl WatchModel {
    pub(crate) fn new() -> Self {
        WatchModel {
            revisions: vec![Vec::new(); 2],
            compactions: Vec::new(),
            watchers: Vec::new(),
            next_ids: BTreeMap::new(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revisions.len() as i64 - 1
    }

    pub(crate) fn compact_revision(&self) -> i64 {
        self.compactions.last().copied().unwrap_or(-1)
    }

    /// The changes of one command; none make no revision.
    pub(crate) fn apply(&mut self, changes: &[Change]) {
        if changes.is_empty() {
            return;
        }
        let events = changes.iter().map(|Change { record, .. }| {
            assert_eq!(record.mod_revision(), self.revision() + 1);
            Event {
                r#type: match record.is_tombstone() {
                    true => EventType::Delete as i32,
                    false => EventType::Put as i32,
                },
                kv: Some(record.to_key_value()),
                prev_kv: None,
            }
        });
        self.revisions.push(events.collect());
    }

    /// A compaction that the store accepted.
    pub(crate) fn compact(&mut self, revision: i64) {
        assert!(self.compact_revision() < revision && revision <= self.revision());
        self.compactions.push(revision);
    }

    /// Creates a watcher, or tells the reasons to refuse it: of several, any may be given.
    pub(crate) fn create(
        &mut self,
        stream: u64,
        create: &WatchCreateRequest,
    ) -> Result<Created, Vec<&'static str>> {
        let mut create = create.clone();
        if create.key.is_empty() {
            create.key = vec![0];
        }
        let reasons = self.refusals(stream, &create);
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let revision = self.revision();
        let start = match create.start_revision {
            0 => revision + 1,
            asked => asked,
        };
        let watch_id = match create.watch_id {
            0 => self.choose_id(stream),
            asked => asked,
        };
        self.watchers.push(ModelWatcher {
            stream,
            watch_id,
            create,
            start,
            needed: start,
            too_late: start < self.compact_revision(),
            ended: None,
            forgotten: false,
        });
        Ok(Created {
            handle: self.watchers.len() - 1,
            watch_id,
            revision,
        })
    }

    /// A client's wish to cancel; `None`, and no response, if the stream has no such watcher.
    pub(crate) fn cancel(&mut self, stream: u64, watch_id: i64) -> Option<Handle> {
        let handle = self.holder(stream, watch_id)?;
        let revision = self.revision();
        let watcher = &mut self.watchers[handle];
        watcher.ended.get_or_insert(revision);
        watcher.forgotten = true;
        Some(handle)
    }

    /// The client was handed everything up to `revision`.
    pub(crate) fn delivered(&mut self, handle: Handle, revision: i64) {
        assert!(revision <= self.revision());
        let watcher = &mut self.watchers[handle];
        watcher.needed = watcher.needed.max(revision + 1);
    }

    /// Whether a watcher is cancelled by compaction, and which boundaries may then be named.
    pub(crate) fn compacted(&self, handle: Handle) -> Due<Vec<i64>> {
        let watcher = &self.watchers[handle];
        let passed = |boundary: &i64| *boundary > watcher.needed;
        let boundaries: Vec<i64> = self.compactions.iter().copied().filter(passed).collect();
        match (watcher.ended, watcher.too_late, boundaries.is_empty()) {
            (Some(_), ..) | (None, false, true) => Due::Never,
            (None, true, _) => Due::Certainly(boundaries),
            (None, false, false) => Due::Perhaps(boundaries),
        }
    }

    /// The real hub cancelled a watcher and named `boundary`; it keeps its id until the client cancels it.
    pub(crate) fn cancel_compacted(&mut self, handle: Handle, boundary: i64) -> Result<(), String> {
        match self.compacted(handle) {
            Due::Perhaps(allowed) | Due::Certainly(allowed) if allowed.contains(&boundary) => {
                self.watchers[handle].ended = Some(self.revision());
                Ok(())
            }
            due => Err(format!(
                "watcher {handle} was cancelled at {boundary}, due was {due:?}"
            )),
        }
    }

    /// The answer to a progress request. Never on a stream without watchers, or with one that has not begun.
    pub(crate) fn progress(&self, stream: u64) -> Due<i64> {
        let revision = self.revision();
        let running = self.watchers.iter();
        let running = running.filter(|watcher| watcher.stream == stream && watcher.ended.is_none());
        let mut count = 0;
        let mut caught_up = true;
        for watcher in running {
            count += 1;
            if watcher.create.start_revision > revision || watcher.too_late {
                return Due::Never;
            }
            caught_up &= watcher.needed > revision;
        }
        match (count, caught_up) {
            (0, _) => Due::Never,
            (_, true) => Due::Certainly(revision),
            (_, false) => Due::Perhaps(revision),
        }
    }

    /// Everything a watcher must receive by now, or until its end, with the previous record if it asked for it.
    pub(crate) fn must_receive(&self, handle: Handle) -> Vec<Event> {
        let watcher = &self.watchers[handle];
        let mut events = Vec::new();
        let last = watcher.ended.unwrap_or(self.revision());
        for event in self.revisions.iter().flatten() {
            let kv = event.kv.as_ref().expect("every event has a record");
            let revision = kv.mod_revision;
            let timely = watcher.start <= revision && revision <= last && !watcher.too_late;
            if !timely || !wants(&watcher.create, event) {
                continue;
            }
            let created = kv.create_revision == revision;
            let asked = watcher.create.prev_kv && !created;
            events.push(Event {
                prev_kv: asked
                    .then(|| self.record_before(revision, &kv.key))
                    .flatten(),
                ..event.clone()
            });
        }
        events
    }

    /// Judges all that one watcher received. `drained`: the real hub says that nothing is left to hand out.
    ///
    /// A cancelled watcher may miss whole revisions at the end that were not yet delivered. A previous record may
    /// be missing where it was compacted.
    pub(crate) fn check(
        &self,
        handle: Handle,
        received: &[Event],
        drained: bool,
    ) -> Result<(), String> {
        let watcher = &self.watchers[handle];
        let due = self.must_receive(handle);
        for (index, event) in received.iter().enumerate() {
            let wanted = due.get(index);
            let bare = wanted.map(|wanted| Event {
                prev_kv: None,
                ..wanted.clone()
            });
            let compacted =
                wanted.is_some_and(|wanted| revision_of(wanted) <= self.compact_revision());
            if wanted != Some(event) && !(compacted && bare.as_ref() == Some(event)) {
                return Err(format!(
                    "watcher {handle}, event {index}: {event:?}, due was {wanted:?}"
                ));
            }
        }
        let Some(missing) = due.get(received.len()) else {
            return Ok(());
        };
        let excused = !drained || watcher.ended.is_some();
        let halved = received.last().map(revision_of) == Some(revision_of(missing));
        match excused && !halved && revision_of(missing) >= watcher.needed {
            true => Ok(()),
            false => Err(format!("watcher {handle} misses {missing:?}")),
        }
    }

    fn refusals(&self, stream: u64, create: &WatchCreateRequest) -> Vec<&'static str> {
        let mut reasons = Vec::new();
        let end = &create.range_end;
        if !end.is_empty() && *end != [0] && *end <= create.key {
            reasons.push("mvcc: watcher range is empty");
        }
        if create.watch_id != 0 && self.holder(stream, create.watch_id).is_some() {
            reasons.push("mvcc: duplicate watch ID provided on the WatchStream");
        }
        if create.start_revision < 0 {
            reasons.push("etcdserver: mvcc: required revision has been compacted");
        }
        reasons
    }

    fn choose_id(&mut self, stream: u64) -> i64 {
        let mut id = self.next_ids.get(&stream).copied().unwrap_or(0);
        while self.holder(stream, id).is_some() {
            id += 1;
        }
        self.next_ids.insert(stream, id + 1);
        id
    }

    fn holder(&self, stream: u64, watch_id: i64) -> Option<Handle> {
        self.watchers.iter().position(|watcher| {
            watcher.stream == stream && watcher.watch_id == watch_id && !watcher.forgotten
        })
    }

    /// The record of a key before a revision, all its own changes left out.
    fn record_before(&self, revision: i64, key: &[u8]) -> Option<KeyValue> {
        let mut of_key = self.revisions.iter().flatten().filter(|event| {
            let same_key = event.kv.as_ref().is_some_and(|kv| kv.key == key);
            same_key && revision_of(event) < revision
        });
        let last = of_key.next_back()?;
        last.kv
            .clone()
            .filter(|_| last.r#type == EventType::Put as i32)
    }
}

fn wants(create: &WatchCreateRequest, event: &Event) -> bool {
    let filter = match event.r#type == EventType::Put as i32 {
        true => FilterType::Noput,
        false => FilterType::Nodelete,
    };
    let key = &event.kv.as_ref().expect("every event has a record").key;
    let in_range = KeyRange::new(&create.key, &create.range_end).contains(key);
    in_range && !create.filters.contains(&(filter as i32))
}

fn revision_of(event: &Event) -> i64 {
    event
        .kv
        .as_ref()
        .expect("every event has a record")
        .mod_revision
}

#[cfg(test)]
mod tests;
