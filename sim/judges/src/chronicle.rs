//! One history: members show the same changes under the same revisions, without gaps, each following from the last.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use metastore_core::kv_error::KvError;
use metastore_core::output::Published;

use super::{Failure, sum};
use crate::model::{KeyChange, Keys, fold};

/// The one history of the cluster, as far as any member has shown it.
pub struct Chronicle {
    /// What lies before the revisions that are kept: 1, the empty store's, until something is forgotten.
    base: i64,
    base_keys: Keys,
    /// Those after the base, in order.
    revisions: Vec<Revision>,
    /// Every compact revision that was shown, and since when.
    boundaries: BTreeMap<i64, Duration>,
}

impl Default for Chronicle {
    /// Of an empty store.
    fn default() -> Self {
        Self {
            base: 1,
            base_keys: Keys::new(),
            revisions: Vec::new(),
            boundaries: BTreeMap::new(),
        }
    }
}

/// What one revision changed, and the keys after it.
pub struct Revision {
    /// In the order they were made.
    pub changes: Vec<KeyChange>,
    /// All keys as they are afterwards.
    pub keys: Keys,
    /// When the first member showed it.
    pub shown_at: Duration,
}

impl Chronicle {
    /// The newest revision anybody has shown.
    pub fn last(&self) -> i64 {
        self.base + self.revisions.len() as i64
    }

    /// The oldest revision that can be asked for: that of the empty store, unless what came before was forgotten.
    pub fn base(&self) -> i64 {
        self.base
    }

    /// The revisions that are known with what they changed.
    pub fn known(&self) -> RangeInclusive<i64> {
        self.base + 1..=self.last()
    }

    /// Forgets what led to the newest revision, with which everybody agrees and of which nobody will hear any more.
    pub fn forget(&mut self) {
        if let Some(newest) = self.revisions.last() {
            self.base_keys = newest.keys.clone();
            self.base = self.last();
            self.revisions.clear();
        }
        let newest = self.boundaries.pop_last();
        self.boundaries = newest.into_iter().collect();
    }

    /// What a revision did; none for the empty store's and those not shown.
    pub fn revision(&self, revision: i64) -> Option<&Revision> {
        let place = usize::try_from(revision.checked_sub(self.base + 1)?).ok()?;
        self.revisions.get(place)
    }

    /// The keys at a revision; none before the base.
    pub fn keys(&self, revision: i64) -> Option<Keys> {
        match revision == self.base {
            true => Some(self.base_keys.clone()),
            false => self.revision(revision).map(|it| it.keys.clone()),
        }
    }

    /// Every compact revision that any member showed, ascending.
    pub fn boundaries(&self) -> impl Iterator<Item = i64> + '_ {
        self.boundaries.keys().copied()
    }

    /// Whether a compact revision of at least this was shown by a time.
    pub fn compacted_by(&self, least: i64, time: Duration) -> bool {
        let mut enough = self.boundaries.range(least..);
        enough.any(|(_, since)| *since <= time)
    }

    /// Whether a compact revision of at least this was shown before a time.
    pub fn compacted_before(&self, least: i64, time: Duration) -> bool {
        let mut enough = self.boundaries.range(least..);
        enough.any(|(_, since)| *since < time)
    }

    /// Takes a compact revision that a member acknowledged or may have taken, from a time on.
    pub fn compacted(&mut self, revision: i64, since: Duration) {
        let known = self.boundaries.entry(revision).or_insert(since);
        *known = since.min(*known);
    }

    /// Reads what a member shows from a revision on.
    ///
    /// # Errors
    /// When revisions are missing, or for the reasons of [`Chronicle::learn_revision`].
    pub fn learn(
        &mut self,
        from: i64,
        published: &Published,
        now: Duration,
    ) -> Result<(), Failure> {
        let view = &published.view;
        if view.compact_revision() >= 0 {
            self.compacted(view.compact_revision(), now);
        }
        let from = from.max(view.compact_revision()).max(2);
        if from > view.revision() {
            return Ok(());
        }
        if from > self.last() + 1 {
            let story = format!("revisions {} to {from} were never shown", self.last() + 1);
            return Err(Failure::new("compaction", story));
        }
        let events = view.events(from, usize::MAX).map(|events| {
            events.map(|event| {
                let changes = event.changes.iter().map(|change| {
                    let record = &change.record;
                    let value = (!record.is_tombstone()).then(|| Rc::new(record.to_key_value()));
                    (Rc::from(record.key()), value)
                });
                (event.revision, changes.collect())
            })
        });
        self.learn_events(from..=view.revision(), events, now)
    }

    /// Takes the events that a view has of these revisions, each with its changes, or its refusal to show them.
    fn learn_events(
        &mut self,
        revisions: RangeInclusive<i64>,
        events: Result<impl Iterator<Item = (i64, Vec<KeyChange>)>, KvError>,
        now: Duration,
    ) -> Result<(), Failure> {
        let (from, newest) = revisions.into_inner();
        let broken = |story: String| Err(Failure::new("revisions", story));
        let events = match events {
            Ok(events) => events,
            Err(error) => return broken(format!("no events from revision {from} on: {error}")),
        };
        let mut next = from;
        for (revision, changes) in events {
            if revision != next {
                return broken(format!("revision {revision} follows {}", next - 1));
            }
            next += 1;
            self.learn_revision(revision, changes, now)?;
        }
        if next != newest + 1 {
            return broken(format!(
                "the events end before {next}, the view at {newest}"
            ));
        }
        Ok(())
    }

    /// Takes what one revision changed, the changes in the order they were made. A revision that is known already must
    /// be the same; of one that was forgotten nothing can be said.
    ///
    /// # Errors
    /// When two histories were shown, a record does not follow from the one before it, or the sum of accounts changed.
    ///
    /// # Panics
    /// If the revision before it is not known.
    pub fn learn_revision(
        &mut self,
        revision: i64,
        changes: Vec<KeyChange>,
        now: Duration,
    ) -> Result<(), Failure> {
        if revision <= self.base {
            return Ok(());
        }
        if let Some(known) = self.revision(revision) {
            if known.changes == changes {
                return Ok(());
            }
            let story = format!(
                "revision {revision} is {changes:?}, and has been {:?}",
                known.changes
            );
            return Err(Failure::new("one-history", story));
        }
        let before = self
            .keys(revision - 1)
            .expect("the revision before is known");
        let keys = fold(&before, &changes, revision)
            .map_err(|fault| Failure::new("records", format!("revision {revision}: {fault}")))?;
        sum::conserved(&keys, revision)?;
        self.revisions.push(Revision {
            changes,
            keys,
            shown_at: now,
        });
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    //! Views for the tests of all judges, and this one's own.

    use std::iter;

    use metastore_core::mvcc::{Changes, Store};
    use metastore_proto::etcdserverpb::PutRequest;
    use metastore_proto::mvccpb::KeyValue;

    use super::*;

    /// What a member with this store shows.
    pub fn shown_by(store: &Store, applied: u64, term: u64) -> Published {
        Published {
            view: store.view(),
            bytes_in_use: 0,
            applied,
            committed: applied,
            term,
            leader: Some(1),
            reads_need_no_quorum: false,
            members: [].into(),
            agreed_members: [].into(),
        }
    }

    /// An empty store.
    pub fn shown(applied: u64, term: u64) -> Published {
        shown_by(&Store::new(), applied, term)
    }

    /// A store with one key of this value.
    pub fn store_with(value: &str) -> Store {
        let mut store = Store::new();
        let request = PutRequest {
            key: b"k".to_vec(),
            value: value.into(),
            ..PutRequest::default()
        };
        store
            .put(&request, &mut Changes::new())
            .expect("a plain put");
        store
    }

    #[test]
    fn a_revision_shown_twice_with_other_contents_is_two_histories() {
        let mut chronicle = Chronicle::default();
        let mut learn = |value| {
            let learnt = chronicle.learn(1, &shown_by(&store_with(value), 2, 1), Duration::ZERO);
            learnt.map_err(|failure| failure.judge)
        };
        assert_eq!(learn("a"), Ok(()));
        assert_eq!(learn("a"), Ok(()));
        assert_eq!(learn("b"), Err("one-history"));
    }

    #[test]
    fn what_was_forgotten_is_the_ground_of_what_comes() {
        let mut chronicle = Chronicle::default();
        let mut store = store_with("a");
        let learn = |chronicle: &mut Chronicle, store: &Store| {
            let learnt = chronicle.learn(1, &shown_by(store, 2, 1), Duration::ZERO);
            learnt.map_err(|failure| failure.judge)
        };
        assert_eq!(learn(&mut chronicle, &store), Ok(()));
        chronicle.forget();
        assert_eq!((chronicle.base(), chronicle.last()), (2, 2));
        assert!(chronicle.revision(2).is_none() && chronicle.keys(1).is_none());
        assert_eq!(chronicle.keys(2).map(|keys| keys.len()), Some(1));
        let request = PutRequest {
            key: b"k".to_vec(),
            ..PutRequest::default()
        };
        let mut changes = Changes::new();
        store.put(&request, &mut changes).expect("a plain put");
        assert_eq!(learn(&mut chronicle, &store), Ok(()));
        assert_eq!(chronicle.known(), 3..=3);
        assert_eq!(learn(&mut chronicle, &store_with("b")), Ok(()));
    }

    #[test]
    fn a_history_that_begins_above_what_was_shown_has_a_gap() {
        let mut chronicle = Chronicle::default();
        let mut store = store_with("a");
        let request = PutRequest {
            key: b"k".to_vec(),
            ..PutRequest::default()
        };
        for _ in 0..2 {
            store
                .put(&request, &mut Changes::new())
                .expect("a plain put");
        }
        let learnt = chronicle.learn(4, &shown_by(&store, 4, 1), Duration::ZERO);
        assert_eq!(learnt.map_err(|it| it.judge), Err("compaction"));
    }

    /// The changes of a revision that does nothing but to put a key.
    fn put(key: &str, mod_revision: i64, create_revision: i64, version: i64) -> Vec<KeyChange> {
        let record = KeyValue {
            key: key.into(),
            create_revision,
            mod_revision,
            version,
            ..KeyValue::default()
        };
        vec![(Rc::from(key.as_bytes()), Some(Rc::new(record)))]
    }

    #[test]
    fn a_revision_that_is_missing_among_those_shown_is_a_gap() {
        let verdict = |shown: &[i64]| {
            let events = shown.iter().map(|it| (*it, put("k", *it, 2, it - 1)));
            let learnt = Chronicle::default().learn_events(2..=4, Ok(events), Duration::ZERO);
            learnt.map_err(|failure| failure.judge)
        };
        assert_eq!(verdict(&[2, 3, 4]), Ok(()));
        assert_eq!(verdict(&[2, 4]), Err("revisions"), "one within");
        assert_eq!(verdict(&[3, 4]), Err("revisions"), "the first");
        assert_eq!(verdict(&[2, 3]), Err("revisions"), "the newest");
        assert_eq!(verdict(&[]), Err("revisions"), "all");
    }

    #[test]
    fn a_view_that_refuses_the_events_it_must_have_is_found() {
        let refused = Err::<iter::Empty<_>, _>(KvError::Compacted);
        let learnt = Chronicle::default().learn_events(2..=4, refused, Duration::ZERO);
        assert_eq!(learnt.map_err(|it| it.judge), Err("revisions"));
    }

    #[test]
    fn a_record_whose_numbers_do_not_follow_from_the_one_before_is_found() {
        let verdict = |changes: Vec<KeyChange>| {
            let mut chronicle = Chronicle::default();
            let first = chronicle.learn_revision(2, put("k", 2, 2, 1), Duration::ZERO);
            assert_eq!(first, Ok(()));
            let learnt = chronicle.learn_revision(3, changes, Duration::ZERO);
            learnt.map_err(|failure| failure.judge)
        };
        assert_eq!(verdict(put("k", 3, 2, 2)), Ok(()));
        assert_eq!(verdict(put("k", 3, 2, 3)), Err("records"), "a version");
        assert_eq!(verdict(put("k", 3, 3, 2)), Err("records"), "the creation");
        assert_eq!(verdict(put("k", 4, 2, 2)), Err("records"), "the change");
        assert_eq!(verdict(put("new", 3, 2, 1)), Err("records"), "a new key");
        let deleted = |key: &str| vec![(Rc::from(key.as_bytes()), None)];
        assert_eq!(verdict(deleted("k")), Ok(()));
        assert_eq!(verdict(deleted("l")), Err("records"), "never there");
        let twice = [deleted("k"), deleted("k")].concat();
        assert_eq!(verdict(twice), Err("records"), "no longer there");
    }
}
