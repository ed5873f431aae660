//! Backlog: published views that a hub has not taken yet.

use std::sync::Arc;

use crate::output::Published;

/// Views on their way to one hub.
///
/// Those that nobody takes replace each other, save for the first one with each compact revision: it alone still holds
/// everything that came before, because nothing is swept before it is published. So a hub that takes what waits here
/// before it looks at the newest view is never overtaken by a compaction, however late it comes.
#[derive(Default)]
pub struct Backlog {
    views: Vec<Arc<Published>>,
    /// Whether the last view may be replaced by a newer one.
    last_is_replaceable: bool,
    /// The compact revision of the last view that was put here.
    boundary: Option<i64>,
}

impl Backlog {
    /// Adds the view that was published last.
    pub fn put(&mut self, published: &Arc<Published>) {
        let boundary = Some(published.view.compact_revision());
        let first_of_boundary = self.boundary != boundary;
        if self.last_is_replaceable {
            self.views.pop();
        }
        self.views.push(Arc::clone(published));
        self.last_is_replaceable = !first_of_boundary;
        self.boundary = boundary;
    }

    /// All that waits, oldest first.
    pub fn take(&mut self) -> Vec<Arc<Published>> {
        self.last_is_replaceable = false;
        std::mem::take(&mut self.views)
    }
}

#[cfg(test)]
mod tests {
    use metastore_proto::etcdserverpb::CompactionRequest;

    use super::super::audience::tests::{published, write};
    use super::*;
    use crate::mvcc::Store;

    #[test]
    fn views_replace_each_other_but_the_first_after_each_compaction_stays() {
        let mut backlog = Backlog::default();
        let mut store = Store::new();
        for revision in 2..8 {
            write(&mut store);
            if revision % 3 == 0 {
                let physical = false;
                let request = CompactionRequest { revision, physical };
                store.compact(&request).expect("a fair compaction");
            }
            backlog.put(&published(&store));
        }
        let kept: Vec<i64> = backlog.take().iter().map(|it| it.view.revision()).collect();
        // Boundaries -1, 3 and 6 begin with revisions 2, 3 and 6.
        assert_eq!(kept, [2, 3, 6, 7]);
        assert!(backlog.take().is_empty());
    }

    #[test]
    fn what_was_taken_is_replaced_by_nothing() {
        let mut backlog = Backlog::default();
        let mut store = Store::new();
        for _ in 0..2 {
            write(&mut store);
            backlog.put(&published(&store));
        }
        assert_eq!(backlog.take().len(), 2);
        for _ in 0..3 {
            write(&mut store);
            backlog.put(&published(&store));
        }
        let kept: Vec<i64> = backlog.take().iter().map(|it| it.view.revision()).collect();
        assert_eq!(kept, [6]);
    }
}
