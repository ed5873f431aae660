//! What one life of a member shows never goes back.

use metastore_core::output::Published;

use super::Failure;

/// What one life of one member has shown before.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    /// The newest revision.
    pub revision: i64,
    /// The compact revision.
    pub compact_revision: i64,
    /// The last entry applied.
    pub applied: u64,
    committed: u64,
    term: u64,
    /// Whether anything was shown at all.
    pub any: bool,
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
            any: false,
        }
    }
}

impl Shown {
    /// Takes what is shown now, which must not lie before what was.
    pub fn move_on(&mut self, published: &Published) -> Result<(), Failure> {
        let now = Shown {
            revision: published.view.revision(),
            compact_revision: published.view.compact_revision(),
            applied: published.applied,
            committed: published.committed,
            term: published.term,
            any: true,
        };
        let went_back = now.revision < self.revision
            || now.compact_revision < self.compact_revision
            || now.applied < self.applied
            || now.committed < self.committed
            || now.term < self.term;
        if went_back {
            let story = format!("{now:?} after {self:?}");
            return Err(Failure::new("monotonic", story));
        }
        if now.applied > now.committed {
            return Err(Failure::new(
                "monotonic",
                format!("applied before it was committed: {now:?}"),
            ));
        }
        *self = now;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::chronicle::tests::shown;
    use super::Shown;

    #[test]
    fn a_member_that_shows_an_older_index_or_term_went_back() {
        let mut seen = Shown::default();
        assert_eq!(seen.move_on(&shown(5, 3)), Ok(()));
        assert_eq!(seen.move_on(&shown(5, 3)), Ok(()));
        let judge = |applied, term| {
            let moved = { seen }.move_on(&shown(applied, term));
            moved.map_err(|failure| failure.judge)
        };
        assert_eq!(judge(4, 3), Err("monotonic"));
        assert_eq!(judge(5, 2), Err("monotonic"));
        assert_eq!(judge(6, 4), Ok(()));
    }
}
