//! The watchers of one life of a member: the core's audience, fed with published views as the server feeds its own.

use std::cell::{Ref, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use madsim::time::sleep;
use metastore_core::output::Published;
use metastore_core::plant::Planted;
use metastore_core::watch::{Audience, Backlog, Ended, Response, Settings, Source, StreamKey};
use metastore_proto::etcdserverpb::WatchCreateRequest;

use crate::cluster::{Cluster, Life};
use crate::dice::Dice;
use crate::trace::now;
use metastore_judges::{Failure, bounds};

/// What a life shows, and what of it its watchers have not taken yet.
#[derive(Clone)]
pub(crate) struct Views(Rc<Shown>);

struct Shown {
    newest: RefCell<Arc<Published>>,
    /// There is one while views are wanted.
    backlog: RefCell<Option<Backlog>>,
}

impl Views {
    /// Of a member that has just started.
    pub(crate) fn new(published: Arc<Published>) -> Self {
        Self(Rc::new(Shown {
            newest: RefCell::new(published),
            backlog: RefCell::default(),
        }))
    }

    /// Shows a view; answers whether watchers want it.
    pub(crate) fn show(&self, published: Arc<Published>) -> bool {
        *self.0.newest.borrow_mut() = Arc::clone(&published);
        let mut backlog = self.0.backlog.borrow_mut();
        let wanted = backlog.as_mut().map(|backlog| backlog.put(&published));
        wanted.is_some()
    }

    /// What everybody sees.
    pub(crate) fn borrow(&self) -> Ref<'_, Arc<Published>> {
        self.0.newest.borrow()
    }
}

impl Source for Views {
    fn want(&self, wanted: bool) {
        *self.0.backlog.borrow_mut() = wanted.then(Backlog::default);
    }

    fn newest(&self) -> impl Deref<Target = Arc<Published>> {
        self.borrow()
    }

    fn take(&self) -> Vec<Arc<Published>> {
        let mut backlog = self.0.backlog.borrow_mut();
        backlog.as_mut().map_or(Vec::new(), Backlog::take)
    }
}

/// The streams of one life.
pub(crate) struct Watches(RefCell<Audience<Views>>);

impl Watches {
    /// Of a member that has just started.
    pub(crate) fn new(views: Views, fragment_bytes: usize, planted: Planted) -> Self {
        let settings = settings(fragment_bytes, planted);
        Self(RefCell::new(Audience::new(views, settings)))
    }

    /// Opens a stream.
    pub(crate) fn open(&self) -> StreamKey {
        self.0.borrow_mut().open()
    }

    /// Closes it.
    pub(crate) fn close(&self, stream: StreamKey) {
        self.0.borrow_mut().close(stream);
    }

    /// Creates a watcher.
    pub(crate) fn create(&self, now: Duration, stream: StreamKey, request: &WatchCreateRequest) {
        self.0.borrow_mut().create(now, stream, request);
    }

    /// Cancels a watcher.
    pub(crate) fn cancel(&self, stream: StreamKey, watch_id: i64) {
        self.0.borrow_mut().cancel(stream, watch_id);
    }

    /// Asks how far the stream is.
    pub(crate) fn request_progress(&self, stream: StreamKey) {
        self.0.borrow_mut().request_progress(stream);
    }

    /// The next response of a stream, with the term that goes into its header.
    pub(crate) fn poll_next(
        &self,
        stream: StreamKey,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Response, u64), Ended>> {
        self.0.borrow_mut().poll_next(stream, cx)
    }

    /// Whether no more waits for the reader of a stream than may.
    pub(crate) fn is_bounded(&self, stream: StreamKey) -> Result<(), Failure> {
        let bytes = self.0.borrow().waiting_bytes(stream);
        bounds::waits(bytes, STREAM_BYTES_MAX)
    }

    /// When regular progress is due.
    pub(crate) fn alarm(&self) -> Option<Duration> {
        self.0.borrow().poll_timeout()
    }

    /// Passes on what arrived and what is due.
    pub(crate) fn turn(&self, now: Duration) {
        self.0.borrow_mut().turn(now);
    }

    /// The member dies.
    pub(crate) fn end(&self) {
        self.0.borrow_mut().end();
    }
}

/// Passes on to the watchers of one life what arrives and what is due, sometimes late.
pub(crate) async fn tend(cluster: Rc<Cluster>, life: Rc<Life>, mut dice: Dice) {
    let lag_ms_max = [1, 5, LAG_MS_MAX][dice.place(3)];
    loop {
        let alarm = life.watches.alarm().map(|at| life.clock.when(at));
        life.views.recv_until(alarm).await;
        sleep(Duration::from_millis(dice.between(1, lag_ms_max))).await;
        cluster.until_it_goes(&life).await;
        if !life.alive.get() {
            return;
        }
        life.views.take_all();
        life.watches.turn(life.clock.at(now()));
    }
}

/// So small that streams are cut and fall behind.
fn settings(fragment_bytes: usize, planted: Planted) -> Settings {
    Settings {
        progress_interval: PROGRESS_INTERVAL,
        fragment_bytes,
        stream_bytes_max: STREAM_BYTES_MAX,
        changes_per_step: 16,
        events_per_revision_max: 12,
        planted,
    }
}

/// So little may wait for the reader of a stream.
const STREAM_BYTES_MAX: usize = 8192;
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time after which [`tend`] passes on what has arrived.
const LAG_MS_MAX: u64 = 50;
/// By then it surely has, with what tasks and timers take.
pub(crate) const LAG_MAX: Duration = Duration::from_millis(LAG_MS_MAX + 10);
/// Within this time whoever asked for regular progress hears of something. An event may lie just behind the first of three
/// rounds, and whoever lags for a moment is passed over in the second, as in etcd; each has a tenth more for the stream and
/// is passed on late, by a clock that is slow by a tenth.
pub(crate) const REGULARLY: Duration = Duration::from_millis(
    3 * (PROGRESS_INTERVAL.as_millis() as u64 * 11 / 10 + LAG_MS_MAX + 10) * 10 / 9 + 300,
);
