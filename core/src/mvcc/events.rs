//! Events: the changes of past revisions, as watchers that lag behind read them.

use super::view::FIRST_REVISION;
use super::{Change, Record, View};

/// All changes of one revision, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionEvents {
    /// The revision they share.
    pub revision: i64,
    /// What it changed. The value before is missing where it was compacted away.
    pub changes: Vec<Change>,
}

/// The iterator of [`View::events`].
pub struct Events<'a> {
    view: &'a View,
    next: i64,
    /// The first revision not to be yielded any more.
    end: i64,
}

impl<'a> Events<'a> {
    pub(crate) fn new(view: &'a View, from_revision: i64, revisions_max: usize) -> Self {
        let next = from_revision.max(FIRST_REVISION + 1);
        let end = next.saturating_add(i64::try_from(revisions_max).unwrap_or(i64::MAX));
        Events {
            view,
            next,
            end: end.min(view.revision + 1),
        }
    }
}

impl Iterator for Events<'_> {
    type Item = RevisionEvents;

    fn next(&mut self) -> Option<RevisionEvents> {
        if self.next >= self.end {
            return None;
        }
        let revision = self.next;
        self.next += 1;
        let records = self.view.log.records(revision);
        assert!(
            !records.is_empty(),
            "revision {revision} lies between the boundary and the newest, so it has events"
        );
        let changes = records.iter().map(|record| {
            let history = self
                .view
                .keyspace
                .get(record.key())
                .expect("a key with a retained event has a history");
            let before = history.last_before(record.position());
            // The value before an event of the boundary's own revision lies below the boundary: swept or not yet,
            // it is never shown, so that all members agree. Above the boundary it always survives.
            let kept = |before: &Record| {
                revision > self.view.compact_revision || before.mod_revision() == revision
            };
            let previous = before.filter(|before| !before.is_tombstone() && kept(before));
            Change {
                record: record.clone(),
                previous: previous.cloned(),
            }
        });
        Some(RevisionEvents {
            revision,
            changes: changes.collect(),
        })
    }
}
