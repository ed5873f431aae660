//! The watchers of this connection thread: the hub of the core, the views that reach it, and who waits for it.
//!
//! A stream of watches lives on one connection thread, and so does everything it needs: creating a watcher or reading
//! an event takes no lock that another thread holds for longer than it takes to hand over a pointer.

use std::cell::RefCell;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use metastore_core::output::Published;
use metastore_core::watch::{Audience, Ended, Response, Settings, Source, StreamKey};
use metastore_proto::etcdserverpb::WatchCreateRequest;

use crate::feed::Feed;
use crate::node::Node;

thread_local! {
    static WATCHES: RefCell<Option<Watches>> = const { RefCell::new(None) };
}

/// See the module.
struct Watches {
    audience: Audience<Views>,
    origin: Instant,
}

/// The views that reach this thread.
struct Views {
    node: Node,
    feed: Feed,
}

impl Source for Views {
    fn want(&self, wanted: bool) {
        self.feed.want(wanted);
    }

    fn newest(&self) -> impl Deref<Target = Arc<Published>> {
        self.node.published()
    }

    fn take(&self) -> Vec<Arc<Published>> {
        self.feed.take()
    }
}

/// An open stream of this thread; dropping it closes the stream.
pub(crate) struct OpenStream {
    key: StreamKey,
}

/// Makes this thread one that can serve watchers.
pub(crate) fn begin(node: Node, feed: Feed, settings: Settings) {
    WATCHES.set(Some(Watches {
        audience: Audience::new(Views { node, feed }, settings),
        origin: Instant::now(),
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
    here(|watches| watches.audience.end());
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
        here(|watches| Self {
            key: watches.audience.open(),
        })
    }

    pub(crate) fn create(&self, request: &WatchCreateRequest) {
        here(|watches| {
            let now = watches.origin.elapsed();
            watches.audience.create(now, self.key, request);
            if request.progress_notify {
                // The alarm may be an earlier one now.
                watches.audience.source().feed.rouse();
            }
        });
    }

    pub(crate) fn cancel(&self, watch_id: i64) {
        here(|watches| watches.audience.cancel(self.key, watch_id));
    }

    pub(crate) fn request_progress(&self) {
        here(|watches| watches.audience.request_progress(self.key));
    }

    /// The next response, with the raft term that goes into its header.
    pub(crate) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<(Response, u64), Ended>> {
        here(|watches| watches.audience.poll_next(self.key, cx))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        here(|watches| watches.audience.close(self.key));
    }
}

impl Watches {
    fn time_to_alarm(&self) -> Option<Duration> {
        let at = self.audience.poll_timeout()?;
        Some(at.saturating_sub(self.origin.elapsed()))
    }

    /// Passes on what arrived and what is due.
    fn turn(&mut self) {
        self.audience.turn(self.origin.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

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
            term: 7,
            ..Published::at_start(store.view(), 0)
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
