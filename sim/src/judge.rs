//! The judge that watches: what members show must be one history, and never take back what was acknowledged.

use std::collections::BTreeMap;

use metastore_core::output::Published;

use crate::model::{KeyChange, Keys, fold};

/// A broken promise: which one, and what was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) judge: &'static str,
    pub(crate) story: String,
}

impl Failure {
    pub(crate) fn new(judge: &'static str, story: impl Into<String>) -> Self {
        Self {
            judge,
            story: story.into(),
        }
    }
}

/// The one history of the cluster, as far as any member has shown it.
pub(crate) struct Chronicle {
    /// The first is revision 2, the first that changes anything.
    revisions: Vec<Revision>,
    /// The fingerprint of the keys by revision and compact revision: the same on every member and after every replay.
    by_revision: BTreeMap<(i64, i64), u32>,
    /// The same by the index of the last entry applied.
    by_index: BTreeMap<u64, u32>,
}

/// What one revision changed, and the keys after it.
pub(crate) struct Revision {
    pub(crate) changes: Vec<KeyChange>,
    pub(crate) keys: Keys,
}

/// What one life of one member has shown before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    revision: i64,
    compact_revision: i64,
    applied: u64,
    committed: u64,
    term: u64,
}

impl Default for Shown {
    /// Before anything was shown. The boundary of a store that was never compacted is -1.
    fn default() -> Self {
        Self {
            revision: 0,
            compact_revision: -1,
            applied: 0,
            committed: 0,
            term: 0,
        }
    }
}

impl Chronicle {
    pub(crate) fn new() -> Self {
        Self {
            revisions: Vec::new(),
            by_revision: BTreeMap::new(),
            by_index: BTreeMap::new(),
        }
    }

    /// The newest revision anybody has shown.
    pub(crate) fn last(&self) -> i64 {
        self.revisions.len() as i64 + 1
    }

    /// What a revision did; none for the empty store's and those not shown.
    pub(crate) fn revision(&self, revision: i64) -> Option<&Revision> {
        let place = usize::try_from(revision.checked_sub(2)?).ok()?;
        self.revisions.get(place)
    }

    /// The keys at a revision; those of the empty store below the first.
    pub(crate) fn keys(&self, revision: i64) -> Option<Keys> {
        match revision {
            ..=0 => None,
            1 => Some(Keys::new()),
            _ => self.revision(revision).map(|it| it.keys.clone()),
        }
    }

    /// Holds what a member shows against what it and the others showed before. `acknowledged` is the newest revision
    /// that any client was told of.
    pub(crate) fn observe(
        &mut self,
        shown: &mut Shown,
        published: &Published,
        acknowledged: i64,
    ) -> Result<(), Failure> {
        let view = &published.view;
        let now = Shown {
            revision: view.revision(),
            compact_revision: view.compact_revision(),
            applied: published.applied,
            committed: published.committed,
            term: published.term,
        };
        let went_back = now.revision < shown.revision
            || now.compact_revision < shown.compact_revision
            || now.applied < shown.applied
            || now.committed < shown.committed
            || now.term < shown.term;
        if went_back {
            return Err(Failure::new(
                "monotonic",
                format!("{now:?} after {shown:?}"),
            ));
        }
        if published.reads_need_no_quorum && now.revision < acknowledged {
            let story = format!(
                "the only voter leads at revision {}, but {acknowledged} was acknowledged",
                now.revision
            );
            return Err(Failure::new("durable", story));
        }
        self.learn(shown.revision + 1, published)?;
        self.compare_fingerprints(published)?;
        *shown = now;
        Ok(())
    }

    fn learn(&mut self, from: i64, published: &Published) -> Result<(), Failure> {
        let view = &published.view;
        let from = from.max(view.compact_revision()).max(2);
        if from > view.revision() {
            return Ok(());
        }
        if from > self.last() + 1 {
            let story = format!("revisions {} to {from} were never shown", self.last() + 1);
            return Err(Failure::new("compaction", story));
        }
        let events = view
            .events(from, usize::MAX)
            .map_err(|error| Failure::new("events", error.to_string()))?;
        let mut next = from;
        for event in events {
            if event.revision != next {
                let story = format!("revision {} follows {}", event.revision, next - 1);
                return Err(Failure::new("revisions", story));
            }
            next += 1;
            let changes: Vec<KeyChange> = event
                .changes
                .iter()
                .map(|change| {
                    let record = &change.record;
                    let value = (!record.is_tombstone()).then(|| record.to_key_value());
                    (record.key().to_vec(), value)
                })
                .collect();
            self.learn_revision(event.revision, changes)?;
        }
        if next != view.revision() + 1 {
            let story = format!(
                "the events end before {next}, the view at {}",
                view.revision()
            );
            return Err(Failure::new("revisions", story));
        }
        Ok(())
    }

    fn learn_revision(&mut self, revision: i64, changes: Vec<KeyChange>) -> Result<(), Failure> {
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
        self.revisions.push(Revision { changes, keys });
        Ok(())
    }

    fn compare_fingerprints(&mut self, published: &Published) -> Result<(), Failure> {
        let view = &published.view;
        let hash = view.state_hash();
        let revision = (view.revision(), view.compact_revision());
        let at_revision = *self.by_revision.entry(revision).or_insert(hash);
        let at_index = *self.by_index.entry(published.applied).or_insert(hash);
        if hash == at_revision && hash == at_index {
            return Ok(());
        }
        let story = format!(
            "at entry {} and revisions {revision:?} the fingerprint is {hash:08x}; there it has been {at_index:08x} \
             and {at_revision:08x}",
            published.applied
        );
        Err(Failure::new("equal-states", story))
    }
}
