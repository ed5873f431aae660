//! Published views on their way to the watchers of one connection thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metastore_core::output::Published;
use metastore_core::watch::Backlog;
use tokio::sync::Notify;

/// From the member thread to one connection thread; cloning gives another handle.
#[derive(Clone, Default)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there are watchers on the thread.
    wanted: AtomicBool,
    /// Whether anything waits: spares a look behind the lock.
    waits: AtomicBool,
    backlog: Mutex<Backlog>,
    arrival: Notify,
}

impl Feed {
    /// Hands over a view, if the thread wants any; call it only after the view can be read by everybody.
    pub(crate) fn put(&self, published: &Arc<Published>) {
        if !self.0.wanted.load(Ordering::SeqCst) {
            return;
        }
        let mut backlog = self.lock();
        backlog.put(published);
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
            *self.lock() = Backlog::default();
            self.0.waits.store(false, Ordering::SeqCst);
        }
    }

    /// All that waits, oldest first.
    pub(crate) fn take(&self) -> Vec<Arc<Published>> {
        if !self.0.waits.load(Ordering::SeqCst) {
            return Vec::new();
        }
        let mut backlog = self.lock();
        self.0.waits.store(false, Ordering::SeqCst);
        backlog.take()
    }

    /// Returns when somebody woke the thread since the last time.
    pub(crate) async fn arrival(&self) {
        self.0.arrival.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.0
            .backlog
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use metastore_core::mvcc::Store;

    use super::*;

    #[test]
    fn only_who_wants_views_gets_them() {
        let published = Arc::new(Published::at_start(Store::new().view(), 0));
        let feed = Feed::default();
        feed.put(&published);
        assert!(feed.take().is_empty(), "nobody wanted any");
        feed.want(true);
        feed.put(&published);
        assert_eq!(feed.take().len(), 1);
        assert!(feed.take().is_empty());
        feed.put(&published);
        feed.want(false);
        assert!(feed.take().is_empty(), "nobody wants any more");
    }
}
