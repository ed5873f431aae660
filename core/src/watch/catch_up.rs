//! Catch-up: one step of a lagging watcher through the history of a view.

use super::event::{Event, previous_of};
use super::hub::Settings;
use super::response::Parts;
use super::watcher::Watcher;
use crate::mvcc::{Record, View};
use crate::plant::Plant;

/// What one step found, and where the next one begins.
pub(super) struct Slice {
    pub(super) events: Option<Parts>,
    /// The first revision that was not looked at.
    pub(super) next: i64,
}

/// Reads on from the watcher's next revision, in whole revisions: until a response is full, a number of revisions is
/// looked at, or the view ends.
pub(super) fn read(view: &View, watcher: &Watcher, settings: &Settings) -> Slice {
    assert!(
        watcher.next >= view.compact_revision(),
        "what is compacted is not read"
    );
    let mut batch = Batch {
        bytes_max: settings.stream_bytes_max,
        newest_as_previous: settings.planted().is(Plant::NewestAsPrevious),
        forgets_previous: settings.planted().is(Plant::ForgetsPrevious),
        ..Batch::default()
    };
    let changes_max = i64::from(settings.changes_per_step.max(1));
    let next = match &watcher.span.end {
        None => read_key(view, watcher, &mut batch, changes_max),
        Some(_) => read_range(view, watcher, &mut batch, changes_max),
    };
    Slice {
        events: batch.into_parts(),
        next,
    }
}

/// The changes of one key are found in its history, however many others changed in between.
fn read_key(view: &View, watcher: &Watcher, batch: &mut Batch, changes_max: i64) -> i64 {
    let history = view.keyspace.get(watcher.span.start.as_bytes());
    let records = history.into_iter().flat_map(|it| it.since(watcher.next));
    let mut last = 0;
    for (looked_at, record) in (0..).zip(records) {
        let revision = record.mod_revision();
        if revision > last {
            if batch.is_full() || looked_at >= changes_max {
                return revision;
            }
            batch.revisions += 1;
            last = revision;
        }
        batch.add(view, watcher, record);
    }
    view.revision() + 1
}

fn read_range(view: &View, watcher: &Watcher, batch: &mut Batch, changes_max: i64) -> i64 {
    let end = view.revision().min(watcher.next + changes_max - 1);
    for revision in watcher.next..=end {
        if batch.is_full() {
            return revision;
        }
        let records = view.log.records(revision);
        assert!(
            revision <= 1 || !records.is_empty(),
            "revision {revision} lies between the boundary and the newest, so it has events"
        );
        let before = batch.ends.len();
        for record in records {
            if watcher.span.contains(record.key()) {
                batch.add(view, watcher, record);
            }
        }
        batch.revisions += i64::from(batch.ends.len() > before);
    }
    end + 1
}

/// The events of one response in the making.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    revisions: i64,
    bytes_max: usize,
    /// Faults on purpose.
    newest_as_previous: bool,
    forgets_previous: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.bytes.len() >= self.bytes_max || self.revisions >= BATCH_REVISIONS
    }

    fn add(&mut self, view: &View, watcher: &Watcher, record: &Record) {
        if !watcher.wants.takes(record) {
            return;
        }
        let previous = watcher
            .wants
            .previous
            .then(|| previous_of(view, record))
            .flatten();
        let newest = || Some(view.keyspace.get(record.key())?.newest());
        let previous = match previous {
            Some(_) if self.newest_as_previous => newest(),
            Some(_) if self.forgets_previous => None,
            previous => previous,
        };
        Event { record, previous }.encode(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    fn into_parts(self) -> Option<Parts> {
        let Batch { bytes, ends, .. } = self;
        (!ends.is_empty()).then_some(Parts::Packed { bytes, ends })
    }
}

/// Revisions that one response bundles at most, as clients know it.
const BATCH_REVISIONS: i64 = 1000;
