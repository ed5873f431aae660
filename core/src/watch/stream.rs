//! Stream: what one watch stream has to say next, within a number of bytes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::response::Response;

/// The watchers of one stream and the responses that wait to be read.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) watchers: BTreeMap<i64, u32>,
    /// The ids of watchers that a compaction ended and that the client has not cancelled yet.
    pub(super) ended: BTreeSet<i64>,
    /// How many of them read the history.
    pub(super) lagging: usize,
    /// Watchers that asked for regular progress.
    pub(super) progress_watchers: usize,
    /// When the next regular progress is due, while any asked for it.
    pub(super) progress_at: Duration,
    /// No watcher of this stream was asked to start later than here.
    pub(super) latest_start: i64,
    /// Whether the reader knows that there is something to read.
    pub(super) announced: bool,
    queue: VecDeque<Response>,
    /// The watchers that read the history, in turn: key and serial, and how many responses must have been taken before.
    /// It may name watchers that are gone.
    history: VecDeque<(u32, u64, u64)>,
    queued_bytes: usize,
    /// Responses taken so far, and put so far.
    taken: u64,
    put: u64,
    next_id: i64,
    /// Whether the next turn is the history's, where both have something.
    history_turn: bool,
    /// Whether the first response of the queue continues the one taken last.
    in_parts: bool,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            watchers: BTreeMap::new(),
            ended: BTreeSet::new(),
            lagging: 0,
            progress_watchers: 0,
            progress_at: Duration::ZERO,
            latest_start: 0,
            announced: false,
            queue: VecDeque::new(),
            history: VecDeque::new(),
            queued_bytes: 0,
            taken: 0,
            put: 0,
            next_id: 0,
            history_turn: false,
            in_parts: false,
        }
    }

    /// Whether live events may be kept for the reader.
    pub(super) fn has_room(&self, bytes_max: usize) -> bool {
        self.queued_bytes < bytes_max
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.queued_bytes
    }

    pub(super) fn put(&mut self, response: Response) {
        self.queued_bytes += response.weight();
        self.put += 1;
        self.queue.push_back(response);
    }

    /// Puts back what is left of a response that was cut; it comes next, as readers expect the parts in a row.
    pub(super) fn put_back(&mut self, response: Response) {
        self.queued_bytes += response.weight();
        self.taken = self
            .taken
            .checked_sub(1)
            .expect("at least its creation was taken before a watcher says anything");
        self.in_parts = true;
        self.queue.push_front(response);
    }

    /// Takes the next response, unless it is the turn of a watcher that reads the history.
    pub(super) fn take(&mut self) -> Option<Response> {
        if self.history_turn && !self.in_parts && self.may_read_history() {
            return None;
        }
        self.history_turn = true;
        self.in_parts = false;
        let response = self.queue.pop_front()?;
        self.queued_bytes -= response.weight();
        self.taken += 1;
        if self.queue.is_empty() {
            self.queue.shrink_to(IDLE_ENTRIES);
        }
        Some(response)
    }

    /// A watcher reads the history from now on, after the responses that wait already.
    pub(super) fn begin_lagging(&mut self, watcher: u32, serial: u64) {
        self.lagging += 1;
        self.history.push_back((watcher, serial, self.put));
    }

    /// The watcher whose turn it is to read the history, by key and serial. It may be gone.
    pub(super) fn next_lagging(&mut self) -> Option<(u32, u64)> {
        if !self.may_read_history() {
            return None;
        }
        self.history_turn = false;
        let (watcher, serial, _) = self.history.pop_front()?;
        if self.history.is_empty() {
            self.history.shrink_to(IDLE_ENTRIES);
        }
        Some((watcher, serial))
    }

    /// The watcher has more history to read.
    pub(super) fn lag_on(&mut self, watcher: u32, serial: u64) {
        self.history.push_back((watcher, serial, self.taken));
    }

    /// Whether an id is taken.
    pub(super) fn uses(&self, watch_id: i64) -> bool {
        self.watchers.contains_key(&watch_id) || self.ended.contains(&watch_id)
    }

    /// The next free id of the server's choice; it never goes back to a freed one.
    pub(super) fn choose_id(&mut self) -> i64 {
        while self.uses(self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn may_read_history(&self) -> bool {
        let front = self.history.front();
        front.is_some_and(|(_, _, after)| *after <= self.taken)
    }
}

/// Entries that an idle stream keeps room for in each queue.
const IDLE_ENTRIES: usize = 4;
