//! The watchers of one life of a member: the hub of the core, fed with published views as the server feeds it.
//!
//! Views that nobody takes replace each other, save for the first one with each compact revision: so a hub lags behind
//! what is published, and must still lose nothing.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::mvcc::View;
use metastore_core::output::Published;
use metastore_core::plant::Planted;
use metastore_core::watch::{Hub, Next, Response, Settings, StreamKey};
use metastore_proto::etcdserverpb::WatchCreateRequest;

use crate::cluster::Life;
use crate::dice::Dice;
use crate::trace::now;

/// See the module.
pub(crate) struct Watches {
    planted: Planted,
    inner: RefCell<Inner>,
}

#[derive(Default)]
struct Inner {
    hub: Option<Hub>,
    /// What was published and not taken yet.
    waiting: Vec<Arc<Published>>,
    last_is_replaceable: bool,
    boundary: Option<i64>,
    /// Who waits for a stream, by its index.
    wakers: Vec<Option<Waker>>,
    ended: bool,
}

/// The member is gone, and its streams with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl Watches {
    /// Of a member that has just started.
    pub(crate) fn new(planted: Planted) -> Self {
        Self {
            planted,
            inner: RefCell::default(),
        }
    }

    /// Opens a stream.
    pub(crate) fn open(&self, newest: &Published) -> StreamKey {
        let inner = &mut *self.inner.borrow_mut();
        let hub = inner
            .hub
            .get_or_insert_with(|| Hub::new(settings(self.planted), &newest.view));
        let key = hub.open();
        if inner.wakers.len() <= key.index() {
            inner.wakers.resize_with(key.index() + 1, || None);
        }
        key
    }

    /// Closes it.
    pub(crate) fn close(&self, stream: StreamKey) {
        let inner = &mut *self.inner.borrow_mut();
        inner.wakers[stream.index()] = None;
        if let Some(hub) = &mut inner.hub {
            hub.close(stream);
            if hub.streams() == 0 {
                let wakers = std::mem::take(&mut inner.wakers);
                let ended = inner.ended;
                *inner = Inner {
                    wakers,
                    ended,
                    ..Inner::default()
                };
            }
        }
    }

    /// Creates a watcher.
    pub(crate) fn create(
        &self,
        newest: &Published,
        now: Duration,
        stream: StreamKey,
        request: &WatchCreateRequest,
    ) {
        let mut inner = self.inner.borrow_mut();
        inner.with_newest(newest, |hub, view| hub.create(view, now, stream, request));
    }

    /// Asks how far the stream is.
    pub(crate) fn request_progress(&self, newest: &Published, stream: StreamKey) {
        let mut inner = self.inner.borrow_mut();
        inner.with_newest(newest, |hub, view| hub.request_progress(view, stream));
    }

    /// The next response of a stream.
    pub(crate) fn poll_next(
        &self,
        newest: &Published,
        stream: StreamKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response, Gone>> {
        let mut inner = self.inner.borrow_mut();
        if inner.ended {
            return Poll::Ready(Err(Gone));
        }
        match inner.with_newest(newest, |hub, view| hub.next(view, stream)) {
            Next::Response(response) => return Poll::Ready(Ok(response)),
            Next::Again => cx.waker().wake_by_ref(),
            Next::Idle => {}
        }
        inner.wakers[stream.index()] = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Hands over a view that was just published; answers whether anybody wants it.
    pub(crate) fn put(&self, published: &Arc<Published>) -> bool {
        let mut inner = self.inner.borrow_mut();
        if inner.hub.is_none() {
            return false;
        }
        let boundary = Some(published.view.compact_revision());
        let first_of_boundary = inner.boundary != boundary;
        if inner.last_is_replaceable {
            inner.waiting.pop();
        }
        inner.waiting.push(Arc::clone(published));
        inner.last_is_replaceable = !first_of_boundary;
        inner.boundary = boundary;
        true
    }

    /// When regular progress is due.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        self.inner.borrow().hub.as_ref()?.poll_timeout()
    }

    /// Passes on what arrived and what is due.
    pub(crate) fn turn(&self, newest: &Published, now: Duration) {
        let inner = &mut *self.inner.borrow_mut();
        if inner.hub.is_none() {
            return;
        }
        inner.with_newest(newest, |hub, view| {
            hub.advance(view);
            hub.handle_timeout(view, now);
        });
        let hub = inner.hub.as_mut().expect("it was there just now");
        for ready in hub.take_ready() {
            if let Some(waker) = inner.wakers[ready.index()].take() {
                waker.wake();
            }
        }
    }

    /// The member dies.
    pub(crate) fn end(&self) {
        let mut inner = self.inner.borrow_mut();
        inner.ended = true;
        let wakers = inner.wakers.iter_mut().filter_map(Option::take);
        wakers.for_each(Waker::wake);
    }
}

/// Passes on to the watchers of one life what arrives and what is due, sometimes late.
pub(crate) async fn tend(life: Rc<Life>, mut dice: Dice) {
    let lag_ms_max = [1, 5, 50][dice.place(3)];
    loop {
        let alarm = life.watches.alarm().map(|at| life.clock.when(at));
        life.views.recv_until(alarm).await;
        sleep(Duration::from_millis(dice.between(1, lag_ms_max))).await;
        if !life.alive.get() {
            return;
        }
        life.views.take_all();
        let newest = Arc::clone(&life.published.borrow());
        life.watches.turn(&newest, life.clock.at(now()));
    }
}

impl Inner {
    fn with_newest<T>(&mut self, seen: &Published, act: impl FnOnce(&mut Hub, &View) -> T) -> T {
        let waited = std::mem::take(&mut self.waiting);
        self.last_is_replaceable = false;
        let hub = self
            .hub
            .as_mut()
            .expect("there is a hub while there are streams");
        for published in &waited {
            hub.advance(&published.view);
        }
        let newest = match waited.last() {
            Some(last) if is_newer(&last.view, &seen.view) => &last.view,
            _ => &seen.view,
        };
        act(hub, newest)
    }
}

fn is_newer(one: &View, other: &View) -> bool {
    (one.revision(), one.compact_revision()) > (other.revision(), other.compact_revision())
}

/// So small that streams are cut and fall behind.
fn settings(planted: Planted) -> Settings {
    Settings {
        progress_interval: Duration::from_secs(2),
        fragment_bytes: 4096,
        stream_bytes_max: 8192,
        changes_per_step: 16,
        planted,
    }
}
