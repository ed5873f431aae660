//! What one server said on one watch stream: sorted by watcher, and held against what a watch promises.

use std::collections::{BTreeMap, VecDeque};

use metastore_proto::{
    etcdserverpb::{
        ResponseHeader, WatchCreateRequest, WatchResponse, watch_create_request::FilterType,
    },
    mvccpb::{Event, event::EventType},
};

/// A request for a watcher, and what was so when it was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Creation {
    pub(crate) request: WatchCreateRequest,
    /// The newest revision.
    pub(crate) newest: i64,
    /// The boundary of compaction, -1 before the first.
    pub(crate) compacted: i64,
    /// For a start at the boundary itself: the events there that a compaction must keep.
    pub(crate) kept_at_start: Vec<Event>,
}

impl Creation {
    /// The first revision whose events are the watcher's.
    pub(crate) fn start(&self) -> i64 {
        match self.request.start_revision {
            0 => self.newest + 1,
            start => start,
        }
    }

    /// Whether the start is in the compacted past, so that the watcher can only be ended.
    pub(crate) fn starts_too_early(&self) -> bool {
        self.request.start_revision != 0 && self.request.start_revision < self.compacted
    }

    pub(crate) fn starts_at_the_boundary(&self) -> bool {
        self.request.start_revision == self.compacted
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        let filter = if is_delete(event) {
            FilterType::Nodelete
        } else {
            FilterType::Noput
        };
        let key = &key_and_revision(event).0;
        !self.request.filters.contains(&(filter as i32)) && self.covers(key)
    }

    fn covers(&self, key: &[u8]) -> bool {
        let first: &[u8] = if self.request.key.is_empty() {
            &[0]
        } else {
            &self.request.key
        };
        match self.request.range_end.as_slice() {
            [] => key == first,
            [0] => key >= first,
            end => key >= first && key < end,
        }
    }
}

/// One watcher as one server served it, since it was last compared.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Watcher {
    pub(crate) creation: Creation,
    pub(crate) created: WatchResponse,
    /// The start that was named on this stream, 0 for none: before it there is no progress either.
    named_start: i64,
    pub(crate) events: Vec<Event>,
    /// What was said about its end.
    pub(crate) ends: Vec<WatchResponse>,
    ended: bool,
    /// The revision of the last event, 0 before the first.
    pub(crate) delivered: i64,
    /// Everything up to this revision has been compared.
    pub(crate) settled: i64,
    /// Progress said that everything up to this revision is delivered.
    promised: i64,
    /// Cancelled while events may have been on their way: the two servers may have got differently far.
    pub(crate) cut_short: bool,
    /// The last response was a part, and more of its revision may follow.
    in_parts: bool,
}

impl Watcher {
    pub(crate) fn is_alive(&self) -> bool {
        !self.created.canceled && !self.ended
    }

    /// Whether events of `history` up to its end, or the end of the watcher, are still to come.
    /// etcd 3.5 may have lost deletions at the boundary of compaction: only `contract` waits for them.
    pub(crate) fn lacks(&self, history: &[Event], contract: bool) -> bool {
        if !self.is_alive() {
            return false;
        }
        if self.creation.starts_too_early() || self.in_parts {
            return true;
        }
        let from = self
            .delivered
            .max(self.settled)
            .max(self.creation.start() - 1);
        let unseen = history.partition_point(|event| key_and_revision(event).1 <= from);
        let boundary = self
            .creation
            .starts_at_the_boundary()
            .then_some(self.creation.compacted);
        history[unseen..]
            .iter()
            .filter(|event| self.creation.wants(event))
            .any(|event| {
                Some(key_and_revision(event).1) != boundary
                    || self.creation.kept_at_start.contains(event)
                        && (contract || !is_delete(event))
            })
    }

    /// Forgets what was compared.
    pub(crate) fn settle(&mut self, newest: i64) {
        self.events.clear();
        self.ends.clear();
        self.creation.kept_at_start.clear();
        self.settled = newest;
    }

    /// The request that goes on where this watcher stopped.
    pub(crate) fn resumption(&self) -> WatchCreateRequest {
        let next = self.delivered.max(self.settled) + 1;
        WatchCreateRequest {
            start_revision: next.max(self.creation.start()),
            watch_id: self.created.watch_id,
            ..self.creation.request.clone()
        }
    }

    /// Takes over what a watcher before a restart had delivered.
    pub(crate) fn continue_from(&mut self, before: Watcher) {
        self.events = before.events;
        self.delivered = before.delivered;
        self.settled = before.settled;
        self.creation = before.creation;
    }
}

/// One stream of one server.
#[derive(Debug)]
pub(crate) struct Transcript {
    /// Whether progress is held against the contract. etcd 3.5 answers a progress request at once,
    /// whatever is still on its way and even without a watcher.
    contract: bool,
    asked: VecDeque<Creation>,
    /// By the number of the request for it, on this stream.
    pub(crate) watchers: BTreeMap<u64, Watcher>,
    by_id: BTreeMap<i64, u64>,
    answered: u64,
    /// The newest revision of which an event came.
    delivered: i64,
    /// The newest revision of which progress says that all is delivered.
    pub(crate) progress: i64,
    pub(crate) progress_is_asked_for: bool,
}

impl Transcript {
    pub(crate) fn new(contract: bool) -> Self {
        Self {
            contract,
            asked: VecDeque::new(),
            watchers: BTreeMap::new(),
            by_id: BTreeMap::new(),
            answered: 0,
            delivered: 0,
            progress: 0,
            progress_is_asked_for: false,
        }
    }

    pub(crate) fn ask(&mut self, creation: Creation) {
        self.asked.push_back(creation);
    }

    pub(crate) fn is_held_to_the_contract(&self) -> bool {
        self.contract
    }

    pub(crate) fn has_answered_all(&self) -> bool {
        self.asked.is_empty()
    }

    pub(crate) fn by_id_mut(&mut self, id: i64) -> Option<&mut Watcher> {
        self.watchers.get_mut(self.by_id.get(&id)?)
    }

    /// Whether the contract demands an answer to a progress request by now, if all is delivered.
    pub(crate) fn owes_progress(&self, newest: i64) -> bool {
        let mut known = self.by_id.values().map(|number| &self.watchers[number]);
        !self.by_id.is_empty() && known.all(|it| it.is_alive() && it.named_start <= newest)
    }

    /// Forgets what was compared, and watchers that cannot say anything more.
    pub(crate) fn settle(&mut self, newest: i64) {
        let by_id = &self.by_id;
        self.watchers
            .retain(|number, it| it.is_alive() || by_id.values().any(|other| other == number));
        for watcher in self.watchers.values_mut() {
            watcher.settle(newest);
        }
    }

    /// Takes the next response; `newest` is the newest revision now.
    ///
    /// # Errors
    ///
    /// The promise that the response breaks, in words.
    pub(crate) fn take(&mut self, response: WatchResponse, newest: i64) -> Result<(), String> {
        let header = response.header.ok_or("a response without a header")?;
        if header.cluster_id == 0 || header.member_id == 0 || header.raft_term == 0 {
            return Err("a header without ids".to_owned());
        }
        if header.revision > newest {
            return Err(format!("revision {} is not there yet", header.revision));
        }
        if (response.created || response.canceled) && !response.events.is_empty() {
            return Err("events in a response about a watcher itself".to_owned());
        }
        if response.created {
            self.take_creation(response)
        } else if response.canceled {
            self.take_end(response)
        } else if response.events.is_empty() {
            self.take_progress(response.watch_id, header)
        } else {
            self.take_events(response, header)
        }
    }

    fn take_creation(&mut self, created: WatchResponse) -> Result<(), String> {
        let creation = self.asked.pop_front().ok_or("created without a request")?;
        if !created.canceled {
            let before = self.by_id.get(&created.watch_id);
            if before.is_some_and(|number| self.watchers[number].is_alive()) {
                return Err(format!("id {} is given twice", created.watch_id));
            }
            self.by_id.insert(created.watch_id, self.answered);
        }
        self.watchers.insert(
            self.answered,
            Watcher {
                named_start: creation.request.start_revision,
                creation,
                created,
                events: Vec::new(),
                ends: Vec::new(),
                ended: false,
                delivered: 0,
                settled: 0,
                promised: 0,
                cut_short: false,
                in_parts: false,
            },
        );
        self.answered += 1;
        Ok(())
    }

    fn take_end(&mut self, end: WatchResponse) -> Result<(), String> {
        let id = end.watch_id;
        let watcher = self.by_id_mut(id).ok_or("the end of no watcher")?;
        if end.compact_revision != 0 && !watcher.is_alive() {
            return Err("a watcher is ended twice".to_owned());
        }
        // The client may still cancel a watcher that the server has ended.
        let by_client = end.compact_revision == 0;
        watcher.ended = true;
        watcher.ends.push(end);
        if by_client {
            self.by_id.remove(&id);
        }
        Ok(())
    }

    fn take_progress(&mut self, id: i64, header: ResponseHeader) -> Result<(), String> {
        self.progress = self.progress.max(header.revision);
        if !self.contract {
            return Ok(());
        }
        let all_of_stream = id == ALL_WATCHERS;
        let mut about = self
            .by_id
            .iter()
            .filter(|(of, _)| all_of_stream || **of == id);
        let mut count = 0;
        let early = about.any(|(_, number)| {
            count += 1;
            self.watchers[number].named_start > header.revision
        });
        if early {
            return Err("progress before the start of a watcher".to_owned());
        }
        if count == 0 {
            return Err("progress of no watcher".to_owned());
        }
        if header.revision < self.delivered && all_of_stream {
            return Err(format!("progress is behind {}", self.delivered));
        }
        // A watcher that is created later may still start in the past.
        for number in self
            .by_id
            .iter()
            .filter(|(of, _)| all_of_stream || **of == id)
        {
            if let Some(watcher) = self.watchers.get_mut(number.1) {
                watcher.promised = watcher.promised.max(header.revision);
            }
        }
        if all_of_stream {
            return Ok(());
        }
        let watcher = self.by_id_mut(id).ok_or("progress of no watcher")?;
        if !watcher.is_alive() || !watcher.creation.request.progress_notify {
            return Err("progress that nobody asked for".to_owned());
        }
        Ok(())
    }

    fn take_events(
        &mut self,
        response: WatchResponse,
        header: ResponseHeader,
    ) -> Result<(), String> {
        let watcher = self
            .by_id_mut(response.watch_id)
            .ok_or("events of no watcher")?;
        if !watcher.is_alive() {
            return Err("events after the end of the watcher".to_owned());
        }
        if response.compact_revision != 0 || !response.cancel_reason.is_empty() {
            return Err("events with a reason to end".to_owned());
        }
        if response.fragment && !watcher.creation.request.fragment {
            return Err("a part, where a whole was asked for".to_owned());
        }
        let revisions: Vec<i64> = response
            .events
            .iter()
            .map(|it| key_and_revision(it).1)
            .collect();
        let (first, last) = (revisions[0], revisions[revisions.len() - 1]);
        if !revisions.is_sorted() {
            return Err("events out of order".to_owned());
        }
        if first < watcher.delivered || first == watcher.delivered && !watcher.in_parts {
            return Err(format!("revision {first} after {}", watcher.delivered));
        }
        if first < watcher.creation.start() {
            return Err(format!("revision {first} is before the start"));
        }
        if last > header.revision {
            return Err(format!(
                "revision {last} under the header {}",
                header.revision
            ));
        }
        if first <= watcher.promised {
            return Err(format!(
                "revision {first} after progress to {}",
                watcher.promised
            ));
        }
        watcher.in_parts = response.fragment;
        watcher.delivered = last;
        watcher.events.extend(response.events);
        self.delivered = self.delivered.max(last);
        Ok(())
    }
}

pub(crate) fn is_delete(event: &Event) -> bool {
    event.r#type == EventType::Delete as i32
}

/// The key of an event and its revision; nothing and 0 for an event without a record.
pub(crate) fn key_and_revision(event: &Event) -> (&[u8], i64) {
    let kv = event.kv.as_ref();
    kv.map_or((&[], 0), |kv| (&kv.key, kv.mod_revision))
}

/// The events at `revision` that a compaction exactly there keeps: the last of each key.
pub(crate) fn kept_by_a_compaction_at(history: &[Event], revision: i64) -> Vec<Event> {
    let from = history.partition_point(|event| key_and_revision(event).1 < revision);
    let until = history.partition_point(|event| key_and_revision(event).1 <= revision);
    let there = &history[from..until];
    let is_last = |index: usize, event: &Event| {
        let key = key_and_revision(event).0;
        there[index + 1..]
            .iter()
            .all(|later| key_and_revision(later).0 != key)
    };
    let kept = there.iter().enumerate();
    kept.filter(|(index, event)| is_last(*index, event))
        .map(|(_, event)| event.clone())
        .collect()
}

/// The id of a response that is about all watchers of its stream.
pub(crate) const ALL_WATCHERS: i64 = -1;
