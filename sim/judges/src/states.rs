//! Equal states at equal indexes: one fingerprint of the keys, and one of all that is replicated, on every member and
//! after every replay.
//!
//! A fingerprint reads all that a view retains, so it is taken where it can tell something new: at the first view of a
//! life, at a new boundary, and once in a number of entries. In between the chronicle compares every change. That of the
//! whole state has the leases, with what was recorded of their time, the members and who left; no view shows those, so
//! the member itself is asked, once more when its life ends: what a replay makes of it is compared with that.

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
    /// Of the whole state, by the index of the last entry applied.
    whole: BTreeMap<u64, u64>,
}

/// How far the whole state of one life was when it was last looked at.
#[derive(Debug, Clone, Copy, Default)]
pub struct Examined(Option<u64>);

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

    /// Compares the whole state of a member that has applied this entry, where that is due: `last` is how far the same
    /// life was before.
    ///
    /// # Errors
    /// When it is not what the state has been at this entry elsewhere.
    pub fn examine(
        &mut self,
        last: &mut Examined,
        applied: u64,
        hash: impl FnOnce() -> u64,
    ) -> Result<(), Failure> {
        let before = last.0.replace(applied);
        let due = before.is_none_or(|before| {
            let known = self.whole.contains_key(&applied);
            before != applied && (known || before / ENTRIES != applied / ENTRIES)
        });
        match due {
            true => self.know(applied, hash()),
            false => Ok(()),
        }
    }

    /// Takes the whole state that a member had when its life ended.
    ///
    /// # Errors
    /// As [`States::examine`].
    pub fn ended(&mut self, applied: u64, hash: u64) -> Result<(), Failure> {
        self.know(applied, hash)
    }

    fn know(&mut self, applied: u64, hash: u64) -> Result<(), Failure> {
        let known = *self.whole.entry(applied).or_insert(hash);
        if hash == known {
            return Ok(());
        }
        let story = format!(
            "at entry {applied} the fingerprint of the whole state is {hash:016x}; there it has been {known:016x}"
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

    #[test]
    fn two_whole_states_at_one_index_are_told_apart_where_they_are_looked_at() {
        let mut states = States::default();
        let (mut one, mut other) = (Examined::default(), Examined::default());
        let mut verdict = |life: &mut Examined, applied, hash| {
            let judged = states.examine(life, applied, || hash);
            judged.map_err(|failure| failure.judge)
        };
        assert_eq!(verdict(&mut one, 3, 30), Ok(()), "the first of a life");
        assert_eq!(verdict(&mut one, 40, 400), Ok(()), "32 entries later");
        assert_eq!(verdict(&mut one, 41, 410), Ok(()));
        assert_eq!(verdict(&mut other, 2, 20), Ok(()));
        assert_eq!(verdict(&mut other, 41, 411), Ok(()), "another step");
        let mut third = Examined::default();
        assert_eq!(verdict(&mut third, 40, 401), Err("equal-states"));
        assert_eq!(verdict(&mut third, 40, 401), Ok(()), "nothing moved");
        let mut fourth = Examined::default();
        assert_eq!(verdict(&mut fourth, 39, 390), Ok(()));
        assert_eq!(verdict(&mut fourth, 40, 402), Err("equal-states"));
        assert_eq!(states.ended(50, 500), Ok(()));
        let replayed = states.examine(&mut Examined::default(), 50, || 501);
        assert_eq!(replayed.map_err(|it| it.judge), Err("equal-states"));
    }
}
