//! The invariants of the store, executable.

use super::view::{FIRST_REVISION, NEVER_COMPACTED};
use super::{Record, Store};
use crate::key::KeyRange;

impl Store {
    /// Panics in words if an invariant is broken. Reads everything: for tests and simulation.
    pub fn validate(&self) {
        let view = &self.view;
        assert!(
            view.revision >= FIRST_REVISION,
            "revisions start at {FIRST_REVISION}"
        );
        assert!(
            view.compact_revision >= NEVER_COMPACTED,
            "the boundary starts at {NEVER_COMPACTED}"
        );
        assert!(
            view.compact_revision <= view.revision,
            "the compact revision never exceeds the current one"
        );
        view.keyspace.validate();
        self.validate_histories();
        self.validate_log();
        self.validate_leases();
    }

    fn validate_leases(&self) {
        let mut attached = 0;
        for history in self.view.keyspace.histories(KeyRange::ALL) {
            let newest = history.newest();
            if newest.lease() == 0 {
                continue;
            }
            attached += 1;
            let lease = self.leases.get(newest.lease());
            let lease = lease.unwrap_or_else(|| panic!("the lease of a value exists: {newest:?}"));
            assert!(
                lease.keys.contains(newest.key()),
                "a lease lists its keys: {newest:?}"
            );
        }
        let listed: usize = self.leases.iter().map(|(_, lease)| lease.keys.len()).sum();
        assert_eq!(
            listed, attached,
            "a lease lists only keys whose newest record names it"
        );
    }

    fn validate_histories(&self) {
        let view = &self.view;
        let mut bytes = 0;
        for history in view.keyspace.histories(KeyRange::ALL) {
            let mut previous: Option<&Record> = None;
            for record in history.iter() {
                assert_eq!(record.key(), history.key(), "a history belongs to one key");
                assert!(
                    record.mod_revision() <= view.revision,
                    "no record is newer than the store: {record:?}"
                );
                if let Some(previous) = previous {
                    assert!(
                        previous.position() < record.position(),
                        "a history ascends: {previous:?} {record:?}"
                    );
                    assert!(
                        !(previous.is_tombstone() && record.is_tombstone()),
                        "nothing is deleted twice: {record:?}"
                    );
                    let (create, version) = match previous.is_tombstone() {
                        true => (record.mod_revision(), 1),
                        false => (previous.create_revision(), previous.version() + 1),
                    };
                    let follows = record.create_revision() == create && record.version() == version;
                    assert!(
                        record.is_tombstone() || follows,
                        "a generation counts up from its creation: {record:?}"
                    );
                }
                if record.mod_revision() >= view.compact_revision {
                    let events = view.log.records(record.mod_revision());
                    let event = events.get(record.sub_revision() as usize);
                    assert_eq!(
                        event,
                        Some(record),
                        "every record at or after the boundary has its event"
                    );
                }
                previous = Some(record);
                bytes += record.size();
            }
        }
        assert_eq!(
            bytes, self.bytes_in_use,
            "the bytes in use are those of the records present"
        );
    }

    fn validate_log(&self) {
        let view = &self.view;
        assert_eq!(
            view.log.next_revision(),
            view.revision + 1,
            "the log ends at the current revision"
        );
        let first = view.compact_revision.max(FIRST_REVISION + 1);
        assert!(
            view.log.first_revision() <= first,
            "the log reaches back to the boundary"
        );
        for revision in first..=view.revision {
            let records = view.log.records(revision);
            assert!(!records.is_empty(), "revision {revision} changed something");
            for (sub, record) in (0u32..).zip(records) {
                assert_eq!(
                    record.position(),
                    (revision, sub),
                    "events lie where their position says"
                );
                let history = view
                    .keyspace
                    .get(record.key())
                    .expect("a retained event's key has a history");
                let stored = history
                    .last_at(revision)
                    .filter(|stored| stored.position() >= record.position());
                assert!(stored.is_some(), "every event has its record: {record:?}");
            }
        }
    }
}
