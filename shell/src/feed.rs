//! Published views on their way to the watchers of one connection thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metastore_core::output::Published;
use tokio::sync::Notify;

/// From the member thread to one connection thread; cloning gives another handle.
///
/// Views that nobody takes replace each other, save for the first one with each compact revision: it alone still holds
/// everything that came before, because nothing is swept before it is published.
#[derive(Clone, Default)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there are watchers on the thread.
    wanted: AtomicBool,
    /// Whether anything waits: spares a look behind the lock.
    waits: AtomicBool,
    waiting: Mutex<Waiting>,
    arrival: Notify,
}

#[derive(Default)]
struct Waiting {
    views: Vec<Arc<Published>>,
    /// Whether the last view may be replaced by a newer one.
    last_is_replaceable: bool,
    /// The compact revision of the last view that was put here.
    boundary: Option<i64>,
}

impl Feed {
    /// Hands over a view, if the thread wants any; call it only after the view can be read by everybody.
    pub(crate) fn put(&self, published: &Arc<Published>) {
        if !self.0.wanted.load(Ordering::SeqCst) {
            return;
        }
        let mut waiting = self.lock();
        let boundary = Some(published.view.compact_revision());
        let first_of_boundary = waiting.boundary != boundary;
        if waiting.last_is_replaceable {
            waiting.views.pop();
        }
        waiting.views.push(Arc::clone(published));
        waiting.last_is_replaceable = !first_of_boundary;
        waiting.boundary = boundary;
        self.0.waits.store(true, Ordering::SeqCst);
    }

    /// Wakes the thread if something waits for it.
    pub(crate) fn wake(&self) {
        if self.0.waits.load(Ordering::SeqCst) {
            self.rouse();
        }
    }

    /// Wakes the thread in any case.
    pub(crate) fn rouse(&self) {
        self.0.arrival.notify_one();
    }

    /// Says whether the thread wants views from now on. A view that is published after this was said arrives.
    pub(crate) fn want(&self, wanted: bool) {
        self.0.wanted.store(wanted, Ordering::SeqCst);
        if !wanted {
            *self.lock() = Waiting::default();
            self.0.waits.store(false, Ordering::SeqCst);
        }
    }

    /// All that waits, oldest first.
    pub(crate) fn take(&self) -> Vec<Arc<Published>> {
        if !self.0.waits.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut waiting = self.lock();
        self.0.waits.store(false, Ordering::SeqCst);
        waiting.last_is_replaceable = false;
        std::mem::take(&mut waiting.views)
    }

    /// Returns when somebody woke the thread since the last time.
    pub(crate) async fn arrival(&self) {
        self.0.arrival.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use metastore_core::mvcc::{Changes, Store};
    use metastore_proto::etcdserverpb::{CompactionRequest, PutRequest};

    use super::*;

    fn published(store: &Store) -> Arc<Published> {
        Arc::new(Published {
            view: store.view(),
            bytes_in_use: 0,
            applied: 0,
            committed: 0,
            term: 0,
            leader: None,
            reads_need_no_quorum: false,
            members: Arc::new([]),
            agreed_members: Arc::new([]),
        })
    }

    fn write(store: &mut Store) {
        let request = PutRequest {
            key: b"a".to_vec(),
            ..PutRequest::default()
        };
        store
            .put(&request, &mut Changes::new())
            .expect("a fair put");
    }

    #[test]
    fn views_replace_each_other_but_the_first_after_each_compaction_stays() {
        let feed = Feed::default();
        let mut store = Store::new();
        feed.put(&published(&store));
        assert!(feed.take().is_empty(), "nobody wanted any");
        feed.want(true);
        for revision in 2..8 {
            write(&mut store);
            if revision % 3 == 0 {
                let physical = false;
                let request = CompactionRequest { revision, physical };
                store.compact(&request).expect("a fair compaction");
            }
            feed.put(&published(&store));
        }
        let kept: Vec<i64> = feed.take().iter().map(|it| it.view.revision()).collect();
        // Boundaries -1, 3 and 6 begin with revisions 2, 3 and 6.
        assert_eq!(kept, [2, 3, 6, 7]);
        assert!(feed.take().is_empty());
    }
}
