//! The watchers of this connection thread: the hub of the core, the views that reach it, and who waits for it.
//!
//! A stream of watches lives on one connection thread, and so does everything it needs: creating a watcher or reading
//! an event takes no lock that another thread holds for longer than it takes to hand over a pointer.

use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use metastore_core::mvcc::View;
use metastore_core::output::Published;
use metastore_core::watch::{Hub, Next, Response, Settings, StreamKey};
use metastore_proto::etcdserverpb::WatchCreateRequest;

use crate::feed::Feed;
use crate::node::Node;

thread_local! {
    static WATCHES: RefCell<Option<Watches>> = const { RefCell::new(None) };
}

/// See the module.
struct Watches {
    node: Node,
    feed: Feed,
    settings: Settings,
    origin: Instant,
    /// There is one while there are streams.
    hub: Option<Hub>,
    /// Who waits for a stream, by its index.
    wakers: Vec<Option<Waker>>,
    stopping: bool,
}

/// An open stream of this thread; dropping it closes the stream.
pub(crate) struct OpenStream {
    key: StreamKey,
}

/// The server stops: the stream ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stopping;

/// Makes this thread one that can serve watchers.
pub(crate) fn begin(node: Node, feed: Feed, settings: Settings) {
    WATCHES.set(Some(Watches {
        node,
        feed,
        settings,
        origin: Instant::now(),
        hub: None,
        wakers: Vec::new(),
        stopping: false,
    }));
}

/// Passes on to the watchers of this thread what arrives and what is due, for ever.
pub(crate) async fn run(feed: Feed) {
    loop {
        match here(|watches| watches.time_to_alarm()) {
            Some(time) => {
                // Either way it is time to look.
                let _ = tokio::time::timeout(time, feed.arrival()).await;
            }
            None => feed.arrival().await,
        }
        here(Watches::turn);
    }
}

/// Ends all streams of this thread: the server stops.
pub(crate) fn stop() {
    here(|watches| {
        watches.stopping = true;
        watches
            .wakers
            .iter_mut()
            .filter_map(Option::take)
            .for_each(Waker::wake);
    });
}

fn here<T>(act: impl FnOnce(&mut Watches) -> T) -> T {
    WATCHES.with_borrow_mut(|watches| {
        act(watches
            .as_mut()
            .expect("a connection thread serves watches from its start on"))
    })
}

impl OpenStream {
    pub(crate) fn open() -> Self {
        here(|watches| {
            let key = watches.hub().open();
            if watches.wakers.len() <= key.index() {
                watches.wakers.resize_with(key.index() + 1, || None);
            }
            Self { key }
        })
    }

    pub(crate) fn create(&self, request: &WatchCreateRequest) {
        here(|watches| {
            let now = watches.origin.elapsed();
            watches.with_newest(|hub, view| hub.create(view, now, self.key, request));
            if request.progress_notify {
                // The alarm may be an earlier one now.
                watches.feed.rouse();
            }
        });
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        here(|watches| watches.with_newest(|hub, view| hub.cancel(view, self.key, watch_id)));
    }

    pub(crate) fn request_progress(&self) {
        here(|watches| watches.with_newest(|hub, view| hub.request_progress(view, self.key)));
    }

    /// The next response, with the raft term that goes into its header.
    pub(crate) fn poll_next(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Response, u64), Stopping>> {
        here(|watches| {
            if watches.stopping {
                return Poll::Ready(Err(Stopping));
            }
            let (next, term) = watches.with_newest_published(|hub, published| {
                (hub.next(&published.view, self.key), published.term)
            });
            match next {
                Next::Response(response) => return Poll::Ready(Ok((response, term))),
                Next::Again => cx.waker().wake_by_ref(),
                Next::Idle => {}
            }
            let waker = &mut watches.wakers[self.key.index()];
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            Poll::Pending
        })
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        here(|watches| {
            watches.wakers[self.key.index()] = None;
            let hub = watches.hub();
            hub.close(self.key);
            if hub.streams() == 0 {
                watches.hub = None;
                watches.feed.want(false);
            }
        });
    }
}

impl Watches {
    /// The hub, made if there is none.
    fn hub(&mut self) -> &mut Hub {
        self.hub.get_or_insert_with(|| {
            // First the wish, then the look: every view after the one seen here arrives.
            self.feed.want(true);
            Hub::new(self.settings, &self.node.published().view)
        })
    }

    /// Calls `act` when the hub has taken every view there is, with the newest one.
    fn with_newest_published<T>(&mut self, act: impl FnOnce(&mut Hub, &Published) -> T) -> T {
        // First what everybody sees, then what waits: so what waits has all that came before.
        let seen = self.node.published();
        let waited = self.feed.take();
        self.hub();
        let hub = self.hub.as_mut().expect("it was just made");
        for published in &waited {
            hub.advance(&published.view);
        }
        let newest: &Arc<Published> = match waited.last() {
            Some(last) if is_newer(&last.view, &seen.view) => last,
            _ => &seen,
        };
        let answer = act(hub, newest);
        // Whoever takes views takes them for all streams of the thread: nobody else will wake the others for these.
        for ready in hub.take_ready() {
            if let Some(waker) = self.wakers[ready.index()].take() {
                waker.wake();
            }
        }
        answer
    }

    fn with_newest<T>(&mut self, act: impl FnOnce(&mut Hub, &View) -> T) -> T {
        self.with_newest_published(|hub, published| act(hub, &published.view))
    }

    fn time_to_alarm(&self) -> Option<Duration> {
        let at = self.hub.as_ref()?.poll_timeout()?;
        Some(at.saturating_sub(self.origin.elapsed()))
    }

    /// Passes on what arrived and what is due.
    fn turn(&mut self) {
        if self.hub.is_none() {
            return;
        }
        let now = self.origin.elapsed();
        self.with_newest(|hub, view| hub.handle_timeout(view, now));
    }
}

fn is_newer(one: &View, other: &View) -> bool {
    (one.revision(), one.compact_revision()) > (other.revision(), other.compact_revision())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use arc_swap::ArcSwap;
    use metastore_core::mvcc::{Changes, Store};
    use metastore_proto::etcdserverpb::PutRequest;

    use super::*;
    use crate::inbox;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn published(store: &Store) -> Arc<Published> {
        Arc::new(Published {
            view: store.view(),
            bytes_in_use: 0,
            applied: 0,
            committed: 0,
            term: 7,
            leader: None,
            reads_need_no_quorum: false,
            members: Arc::new([]),
            agreed_members: Arc::new([]),
        })
    }

    /// Reads a stream to its end; answers how many responses it had.
    fn read(stream: &OpenStream, waker: &Waker) -> usize {
        let mut cx = Context::from_waker(waker);
        let mut count = 0;
        while let Poll::Ready(Ok((_, term))) = stream.poll_next(&mut cx) {
            assert_eq!(term, 7);
            count += 1;
        }
        count
    }

    #[test]
    fn a_stream_is_woken_for_a_view_that_another_stream_took() {
        let mut store = Store::new();
        let shown = Arc::new(ArcSwap::new(published(&store)));
        let (calls, _receiver) = inbox::new();
        let feed = Feed::default();
        let settings = Settings::new(Duration::from_secs(600), 1 << 20);
        begin(Node::new(calls, Arc::clone(&shown)), feed.clone(), settings);
        let (one, other) = (OpenStream::open(), OpenStream::open());
        let request = WatchCreateRequest {
            key: b"a".to_vec(),
            ..WatchCreateRequest::default()
        };
        let woken = [Arc::<Count>::default(), Arc::default()];
        let [waker, other_waker] = woken.each_ref().map(|it| Waker::from(Arc::clone(it)));
        for (stream, waker) in [(&one, &waker), (&other, &other_waker)] {
            stream.create(&request);
            assert_eq!(read(stream, waker), 1, "it was created");
        }
        let before = woken[1].0.load(Ordering::SeqCst);

        let put = PutRequest {
            key: b"a".to_vec(),
            ..PutRequest::default()
        };
        store.put(&put, &mut Changes::new()).expect("a fair put");
        let newest = published(&store);
        shown.store(Arc::clone(&newest));
        feed.put(&newest);
        // Before the thread is woken for the view, a stream that is read anyway takes it.
        assert_eq!(read(&one, &waker), 1);
        feed.wake();
        assert_eq!(woken[1].0.load(Ordering::SeqCst), before + 1);
        assert_eq!(read(&other, &other_waker), 1);
    }
}
