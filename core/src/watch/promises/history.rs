//! The committed history, as watchers are measured against it: every event since revision 2, and the compactions.

use std::collections::BTreeMap;

use metastore_proto::mvccpb::event::EventType;
use metastore_proto::mvccpb::{Event, KeyValue};

use crate::mvcc::Change;

/// What really happened, kept for ever; compactions are noted but take nothing away.
#[derive(Clone, Debug)]
pub struct History {
    /// The revision before the first that is known.
    before: i64,
    /// The events of the revisions after it, in order.
    revisions: Vec<Vec<Event>>,
    /// The keys after the last revision.
    keys: BTreeMap<Vec<u8>, KeyValue>,
    compactions: Vec<i64>,
}

impl History {
    /// The history of an empty store, at revision 1.
    pub fn new() -> Self {
        History::after(FIRST_REVISION, [])
    }

    /// A history of which only what comes after `revision` is known, and the keys there.
    pub fn after(revision: i64, keys: impl IntoIterator<Item = KeyValue>) -> Self {
        let keys = keys.into_iter().map(|kv| (kv.key.clone(), kv));
        History {
            before: revision,
            revisions: Vec::new(),
            keys: keys.collect(),
            compactions: Vec::new(),
        }
    }

    /// Adds one revision with its changes in the order they were executed, and returns its number.
    ///
    /// Of each event only type and record count: the previous record is known from what was committed before.
    /// Panics if there are no events, or if one does not carry the next revision: then the caller has no history.
    pub fn commit(&mut self, events: &[Event]) -> i64 {
        let revision = self.revision() + 1;
        assert!(
            !events.is_empty(),
            "revision {revision} must change something"
        );
        let events: Vec<Event> = events
            .iter()
            .map(|event| self.complete(event, revision))
            .collect();
        for event in &events {
            let kv = event.kv.clone().unwrap_or_default();
            if is_delete(event) {
                self.keys.remove(&kv.key);
            } else {
                self.keys.insert(kv.key.clone(), kv);
            }
        }
        self.revisions.push(events);
        revision
    }

    /// [`History::commit`] with the changes of one command, as the store tells them.
    pub fn commit_changes(&mut self, changes: &[Change]) -> i64 {
        let events: Vec<Event> = changes.iter().map(event_of).collect();
        self.commit(&events)
    }

    /// Notes that the compact revision moved to `revision`.
    pub fn compact(&mut self, revision: i64) {
        assert!(
            (self.compact_revision() + 1..=self.revision()).contains(&revision),
            "the boundary moves up, and not beyond the newest revision: {revision}"
        );
        self.compactions.push(revision);
    }

    /// The newest revision; without any that is known, the one that it comes after.
    pub fn revision(&self) -> i64 {
        self.before + i64::try_from(self.revisions.len()).expect("revisions are counted in i64")
    }

    /// The newest compact revision; -1 without any compaction.
    pub fn compact_revision(&self) -> i64 {
        self.compactions.last().copied().unwrap_or(-1)
    }

    /// Every compact revision there was, ascending.
    pub fn compactions(&self) -> &[i64] {
        &self.compactions
    }

    /// The events of one revision with their previous records; none for a revision that was not committed.
    pub fn events(&self, revision: i64) -> &[Event] {
        let index = usize::try_from(revision - self.before - 1).ok();
        let events = index.and_then(|index| self.revisions.get(index));
        events.map_or(&[], Vec::as_slice)
    }

    /// The event as a watcher that asked for everything receives it, while the revision is not yet applied.
    fn complete(&self, event: &Event, revision: i64) -> Event {
        let kv = event.kv.clone().expect("a committed event has a record");
        assert_eq!(
            kv.mod_revision, revision,
            "an event carries its revision: {event:?}"
        );
        let deleted = is_delete(event);
        let created = !deleted && kv.create_revision == kv.mod_revision;
        let prev_kv = self.keys.get(&kv.key).filter(|_| !created).cloned();
        let kv = match deleted {
            true => KeyValue {
                key: kv.key,
                mod_revision: revision,
                ..KeyValue::default()
            },
            false => kv,
        };
        Event {
            r#type: event.r#type,
            kv: Some(kv),
            prev_kv,
        }
    }
}

impl Default for History {
    fn default() -> Self {
        History::new()
    }
}

/// A change as the event clients know, without the previous record.
///
/// The store's idea of what came before is left out on purpose: within one revision it is the change just before,
/// while a watcher is told the record as of the revision before.
pub fn event_of(change: &Change) -> Event {
    let kind = match change.record.is_tombstone() {
        true => EventType::Delete,
        false => EventType::Put,
    };
    Event {
        r#type: kind.into(),
        kv: Some(change.record.to_key_value()),
        prev_kv: None,
    }
}

pub(super) fn is_delete(event: &Event) -> bool {
    event.r#type == i32::from(EventType::Delete)
}

/// The revision of an empty store.
const FIRST_REVISION: i64 = 1;
