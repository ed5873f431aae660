//! Audience: the watchers of one thread of connections, the views that reach them, and who waits for what they are told.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use metastore_proto::etcdserverpb::WatchCreateRequest;

use super::hub::{Hub, Next, Settings, StreamKey};
use super::response::Response;
use crate::mvcc::View;
use crate::output::Published;
use crate::plant::Plant;

/// Where an audience has its views from.
pub trait Source {
    /// Says whether views are wanted from now on. One that is published after this was said waits to be taken.
    fn want(&self, wanted: bool);

    /// What everybody sees now.
    fn newest(&self) -> impl Deref<Target = Arc<Published>>;

    /// What was published since the last time and waits, oldest first: all that a [`super::Backlog`] keeps.
    fn take(&self) -> Vec<Arc<Published>>;
}

/// All streams of one thread, fed from a [`Source`].
///
/// Every verb first takes whatever was published, so a write that was acknowledged before lies in the past for every
/// watcher that is created after it.
pub struct Audience<S> {
    source: S,
    settings: Settings,
    /// There is one while there are streams.
    hub: Option<Hub>,
    /// Who waits for a stream, by its index.
    wakers: Vec<Option<Waker>>,
    ended: bool,
}

/// There is nothing to hear any more: the streams end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended;

impl<S: Source> Audience<S> {
    /// One without streams.
    pub fn new(source: S, settings: Settings) -> Self {
        Self {
            source,
            settings,
            hub: None,
            wakers: Vec::new(),
            ended: false,
        }
    }

    /// Where the views come from.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Opens a stream. It stays open until it is closed.
    pub fn open(&mut self) -> StreamKey {
        let key = self.hub().open();
        if self.wakers.len() <= key.index() {
            self.wakers.resize_with(key.index() + 1, || None);
        }
        key
    }

    /// Closes a stream; without any, no views are wanted.
    pub fn close(&mut self, stream: StreamKey) {
        self.wakers[stream.index()] = None;
        let hub = self.hub();
        hub.close(stream);
        if hub.streams() == 0 {
            self.hub = None;
            self.source.want(false);
        }
    }

    /// Creates a watcher, or says on the stream why not. The alarm may be an earlier one afterwards.
    pub fn create(&mut self, now: Duration, stream: StreamKey, request: &WatchCreateRequest) {
        self.with_newest(|hub, view| hub.create(view, now, stream, request));
    }

    /// Cancels a watcher.
    pub fn cancel(&mut self, stream: StreamKey, watch_id: i64) {
        self.with_newest(|hub, view| hub.cancel(view, stream, watch_id));
    }

    /// Asks how far the watchers of a stream are.
    pub fn request_progress(&mut self, stream: StreamKey) {
        self.with_newest(|hub, view| hub.request_progress(view, stream));
    }

    /// The next response of a stream, with the term that goes into its header. Whoever is told to wait is woken.
    ///
    /// # Errors
    /// When the audience was [ended](Audience::end).
    pub fn poll_next(
        &mut self,
        stream: StreamKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Response, u64), Ended>> {
        if self.ended {
            return Poll::Ready(Err(Ended));
        }
        let (next, term) = self.with_newest_published(|hub, published| {
            (hub.next(&published.view, stream), published.term)
        });
        match next {
            Next::Response(response) => return Poll::Ready(Ok((response, term))),
            Next::Again => cx.waker().wake_by_ref(),
            Next::Idle => {}
        }
        let waker = &mut self.wakers[stream.index()];
        match waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Bytes that wait for the reader of a stream, shared ones counted in full.
    pub fn waiting_bytes(&self, stream: StreamKey) -> usize {
        self.hub.as_ref().map_or(0, |hub| hub.waiting_bytes(stream))
    }

    /// When to call [`Audience::turn`], whether views arrive or not.
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.hub.as_ref()?.poll_timeout()
    }

    /// Passes on what arrived and what is due.
    pub fn turn(&mut self, now: Duration) {
        if self.hub.is_some() {
            self.with_newest(|hub, view| hub.handle_timeout(view, now));
        }
    }

    /// Ends all streams, and wakes whoever waits for one.
    pub fn end(&mut self) {
        self.ended = true;
        let waiting = self.wakers.iter_mut().filter_map(Option::take);
        waiting.for_each(Waker::wake);
    }

    /// The hub, made if there is none.
    fn hub(&mut self) -> &mut Hub {
        self.hub.get_or_insert_with(|| {
            // First the wish, then the look: every view after the one seen here arrives.
            self.source.want(true);
            Hub::new(self.settings, &self.source.newest().view)
        })
    }

    /// Calls `act` when the hub has taken every view there is, with the newest one.
    fn with_newest_published<T>(&mut self, act: impl FnOnce(&mut Hub, &Published) -> T) -> T {
        self.hub();
        let hub = self.hub.as_mut().expect("it was just made");
        // First what everybody sees, then what waits: so what waits has all that came before.
        let seen = self.source.newest();
        let waited = self.source.take();
        for published in &waited {
            hub.advance(&published.view);
        }
        let newest: &Arc<Published> = match waited.last() {
            Some(last) if is_newer(&last.view, &seen.view) => last,
            _ => &seen,
        };
        let answer = act(hub, newest);
        let planted = self.settings.planted().is(Plant::LosesWakeUps);
        let loses = planted && newest.view.revision() % 7 == 0;
        // Whoever takes views takes them for all streams of the thread: nobody else will wake the others for these.
        for ready in hub.take_ready() {
            let waker = self.wakers[ready.index()].take();
            if let Some(waker) = waker.filter(|_| !loses) {
                waker.wake();
            }
        }
        answer
    }

    fn with_newest<T>(&mut self, act: impl FnOnce(&mut Hub, &View) -> T) -> T {
        self.with_newest_published(|hub, published| act(hub, &published.view))
    }
}

fn is_newer(one: &View, other: &View) -> bool {
    (one.revision(), one.compact_revision()) > (other.revision(), other.compact_revision())
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::{Ref, RefCell};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use metastore_proto::etcdserverpb::PutRequest;

    use super::super::Backlog;
    use super::*;
    use crate::mvcc::{Changes, Store};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What a store shows.
    struct Shown {
        newest: RefCell<Arc<Published>>,
        backlog: RefCell<Option<Backlog>>,
    }

    impl Shown {
        fn new(store: &Store) -> Self {
            Self {
                newest: RefCell::new(published(store)),
                backlog: RefCell::new(None),
            }
        }

        fn publish(&self, store: &Store) {
            let newest = published(store);
            *self.newest.borrow_mut() = Arc::clone(&newest);
            if let Some(backlog) = &mut *self.backlog.borrow_mut() {
                backlog.put(&newest);
            }
        }
    }

    impl Source for Shown {
        fn want(&self, wanted: bool) {
            *self.backlog.borrow_mut() = wanted.then(Backlog::default);
        }

        fn newest(&self) -> impl Deref<Target = Arc<Published>> {
            Ref::map(self.newest.borrow(), |newest| newest)
        }

        fn take(&self) -> Vec<Arc<Published>> {
            let mut backlog = self.backlog.borrow_mut();
            backlog.as_mut().map_or(Vec::new(), Backlog::take)
        }
    }

    pub(in crate::watch) fn published(store: &Store) -> Arc<Published> {
        Arc::new(Published {
            term: 7,
            ..Published::at_start(store.view(), 0)
        })
    }

    pub(in crate::watch) fn write(store: &mut Store) {
        let request = PutRequest {
            key: b"a".to_vec(),
            ..PutRequest::default()
        };
        store
            .put(&request, &mut Changes::new())
            .expect("a fair put");
    }

    /// Reads a stream to its end; answers how many responses it had.
    fn read(audience: &mut Audience<Shown>, stream: StreamKey, waker: &Waker) -> usize {
        let mut cx = Context::from_waker(waker);
        let mut count = 0;
        while let Poll::Ready(Ok((_, term))) = audience.poll_next(stream, &mut cx) {
            assert_eq!(term, 7);
            count += 1;
        }
        count
    }

    #[test]
    fn a_stream_is_woken_for_a_view_that_another_stream_took() {
        let mut store = Store::new();
        let settings = Settings::new(Duration::from_secs(600), 1 << 20);
        let mut audience = Audience::new(Shown::new(&store), settings);
        let (one, other) = (audience.open(), audience.open());
        let request = WatchCreateRequest {
            key: b"a".to_vec(),
            ..WatchCreateRequest::default()
        };
        let woken = [Arc::<Count>::default(), Arc::default()];
        let [waker, other_waker] = woken.each_ref().map(|it| Waker::from(Arc::clone(it)));
        for (stream, waker) in [(one, &waker), (other, &other_waker)] {
            audience.create(Duration::ZERO, stream, &request);
            assert_eq!(read(&mut audience, stream, waker), 1, "it was created");
        }
        let before = woken[1].0.load(Ordering::SeqCst);
        write(&mut store);
        audience.source().publish(&store);
        // Before anybody is woken for the view, a stream that is read anyway takes it.
        assert_eq!(read(&mut audience, one, &waker), 1);
        assert_eq!(woken[1].0.load(Ordering::SeqCst), before + 1);
        assert_eq!(read(&mut audience, other, &other_waker), 1);
        audience.end();
        let mut cx = Context::from_waker(&waker);
        assert!(matches!(
            audience.poll_next(one, &mut cx),
            Poll::Ready(Err(Ended))
        ));
    }

    #[test]
    fn views_are_wanted_while_there_are_streams() {
        let store = Store::new();
        let settings = Settings::new(Duration::from_secs(600), 1 << 20);
        let mut audience = Audience::new(Shown::new(&store), settings);
        assert!(audience.source().backlog.borrow().is_none());
        let stream = audience.open();
        assert!(audience.source().backlog.borrow().is_some());
        audience.close(stream);
        assert!(audience.source().backlog.borrow().is_none());
    }
}
