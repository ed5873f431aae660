//! Equal states at equal indexes: one fingerprint of the keys, on every member and after every replay.
//!
//! A fingerprint reads all that a view retains, so it is taken where it can tell something new: at the first view of a
//! life, at a new boundary, and once in a number of entries. In between the chronicle compares every change.

use std::collections::BTreeMap;

use metastore_core::output::Published;

use super::Failure;
use super::monotonic::Shown;

/// The fingerprints seen.
#[derive(Default)]
pub struct States {
    /// By revision and compact revision.
    by_revision: BTreeMap<(i64, i64), u32>,
    /// By the index of the last entry applied.
    by_index: BTreeMap<u64, u32>,
}

/// Entries between two fingerprints. Members tend to show the same indexes, the ends of the leader's batches.
const ENTRIES: u64 = 32;

impl States {
    /// Forgets all that was seen.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Compares what is shown now; `before` is what the same life showed before.
    pub fn compare(&mut self, before: &Shown, published: &Published) -> Result<(), Failure> {
        let view = &published.view;
        let due = !before.any
            || view.compact_revision() != before.compact_revision
            || published.applied / ENTRIES != before.applied / ENTRIES
            || self.by_index.contains_key(&published.applied);
        if !due || before.applied == published.applied && before.any {
            return Ok(());
        }
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

#[cfg(test)]
mod tests {
    use super::super::chronicle::tests::{shown, shown_by, store_with};
    use super::*;

    #[test]
    fn two_contents_at_one_index_are_told_apart() {
        let mut states = States::default();
        let first = Shown::default();
        assert_eq!(states.compare(&first, &shown(0, 1)), Ok(()));
        assert_eq!(
            states.compare(&first, &shown_by(&store_with("a"), 7, 1)),
            Ok(())
        );
        assert_eq!(
            states.compare(&first, &shown_by(&store_with("a"), 7, 1)),
            Ok(())
        );
        let other = states.compare(&first, &shown_by(&store_with("b"), 7, 1));
        assert_eq!(other.map_err(|it| it.judge), Err("equal-states"));
    }
}
