//! A client's ear at one stream of watches. Like a connection of the server it looks for more only when it was woken, so
//! a wake-up that is lost is lost for good; and it notes what a judge has to know about what it heard and when it did
//! not hear anything.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use madsim::time::timeout;
use metastore_core::watch::promises::Silence;
use metastore_core::watch::{Ended, Response, StreamKey};
use metastore_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use prost::Message as _;

use crate::cluster::{Cluster, Life, bump};
use crate::plant::Plant;
use crate::trace::now;
use crate::watching::{LAG_MAX, REGULARLY};
use metastore_judges::Failure;
use metastore_judges::watches::{Calm, Notes};

/// See the module.
pub(crate) struct Ear {
    cluster: Rc<Cluster>,
    life: Rc<Life>,
    stream: StreamKey,
    bell: Arc<Bell>,
    /// What was asked for so far.
    asked: usize,
    /// All that came, in order.
    pub(crate) responses: Vec<WatchResponse>,
    pub(crate) notes: Notes,
}

/// Whether there is something to hear, and who is to be woken when there is.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    listener: Mutex<Option<Waker>>,
}

impl Bell {
    fn listener(&self) -> MutexGuard<'_, Option<Waker>> {
        self.listener.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        let listener = self.listener().take();
        if let Some(listener) = listener {
            listener.wake();
        }
    }
}

/// What a client made of a glance at its stream.
pub(crate) enum Glance {
    /// A response, which is written down.
    Heard,
    /// Nothing came for [`GLANCE`].
    Silent,
    /// The member is gone.
    Ended,
}

impl Ear {
    /// Opens a stream of a life that is not over.
    pub(crate) fn open(cluster: &Rc<Cluster>, life: &Rc<Life>) -> Self {
        let bell = Arc::<Bell>::default();
        // Nobody is woken for the first look.
        bell.rung.store(true, Ordering::Relaxed);
        Self {
            cluster: Rc::clone(cluster),
            life: Rc::clone(life),
            stream: life.watches.open(),
            bell,
            asked: 0,
            responses: Vec::new(),
            notes: Notes::default(),
        }
    }

    /// Asks for a watcher; answers what the member showed then.
    pub(crate) fn create(&mut self, create: &WatchCreateRequest) -> i64 {
        let shown = self.shown();
        let at = self.life.clock.at(now());
        self.life.watches.create(at, self.stream, create);
        self.asked += 1;
        if create.progress_notify {
            // The alarm may be an earlier one now.
            self.life.views.push(());
        }
        shown
    }

    /// Cancels a watcher.
    pub(crate) fn cancel(&self, watch_id: i64) {
        self.life.watches.cancel(self.stream, watch_id);
    }

    /// Asks how far the stream is.
    pub(crate) fn request_progress(&self) {
        self.life.watches.request_progress(self.stream);
    }

    /// Closes the stream of a life that may be over.
    pub(crate) fn close(&self) {
        self.life.watches.close(self.stream);
    }

    /// Whether the member still runs.
    pub(crate) fn is_served(&self) -> bool {
        self.life.alive.get()
    }

    /// The next response, for whoever takes no notes.
    pub(crate) async fn next(&mut self) -> Result<Response, Ended> {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Listens for a moment, and writes down what came of it.
    pub(crate) async fn listen(&mut self) -> Glance {
        if let Err(failure) = self.life.watches.is_bounded(self.stream) {
            self.cluster.fail(failure);
        }
        self.cluster.until_it_goes(&self.life).await;
        let (began, shown) = (now(), self.shown());
        if !self.cluster.faulty.get() {
            self.notes.calm.get_or_insert(Calm {
                since: began,
                until: began,
                patience: REGULARLY,
            });
        }
        let heard = timeout(GLANCE, self.next()).await;
        let alive = self.life.alive.get();
        // A process that stands still tells its streams nothing, and afterwards it takes a moment.
        let before = began.saturating_sub(LAG_MAX);
        let went = !self.cluster.stood_still_since(&self.life, before);
        if alive && went && now() > began + LAG_MAX {
            self.silent(shown);
        }
        if let Some(calm) = &mut self.notes.calm {
            calm.until = now();
        }
        match heard {
            Ok(Ok(response)) => {
                self.hear(decoded(&response));
                Glance::Heard
            }
            Ok(Err(Ended)) => Glance::Ended,
            Err(_) if alive => Glance::Silent,
            Err(_) => {
                let story = format!("m{} is gone, and a stream of it was not told", self.life.id);
                self.cluster.fail(Failure::new("watch", story));
                Glance::Ended
            }
        }
    }

    /// With everything at rest: asks how far the stream is, and listens until nothing more comes.
    pub(crate) async fn ask_at_rest(&mut self) {
        self.notes.asked_at_rest = Some(self.responses.len());
        self.request_progress();
        while let Glance::Heard = self.listen().await {}
    }

    /// Looks for more if there may be any.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Response, Ended>> {
        *self.bell.listener() = Some(cx.waker().clone());
        if !self.bell.rung.swap(false, Ordering::Relaxed) {
            return Poll::Pending;
        }
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        let heard = self.life.watches.poll_next(self.stream, &mut cx);
        if heard.is_ready() {
            // Whoever was answered looks again.
            self.bell.rung.store(true, Ordering::Relaxed);
        } else if !self.bell.rung.load(Ordering::Relaxed) {
            // It was read to its end, and nothing is newer than what is shown.
            self.silent(self.shown());
        }
        heard.map_ok(|(response, _)| response)
    }

    /// Nothing more came, although everything up to this revision had its time to come.
    fn silent(&mut self, revision: i64) {
        let after = self.responses.len();
        self.notes.asked_in_time = self.asked;
        match self.notes.silences.last_mut() {
            Some(last) if last.after == after => last.revision = last.revision.max(revision),
            _ => self.notes.silences.push(Silence { after, revision }),
        }
    }

    fn hear(&mut self, response: WatchResponse) {
        let counts = &self.cluster.counts;
        if !response.events.is_empty() {
            bump(&counts.events);
            let lost = self.cluster.world.plant == Some(Plant::LosesWatchResponses);
            if lost && counts.events.get().is_multiple_of(50) {
                return;
            }
        }
        self.responses.push(response);
        self.notes.times.push(now());
        let boundary = self.life.published.borrow().view.compact_revision();
        self.notes.boundaries.push(boundary);
    }

    fn shown(&self) -> i64 {
        self.life.published.borrow().view.revision()
    }
}

/// As a client reads it off the wire.
fn decoded(response: &Response) -> WatchResponse {
    let stamp = ResponseHeader::default();
    let mut bytes = Vec::with_capacity(response.encoded_len(&stamp));
    response.encode(&stamp, &mut bytes);
    WatchResponse::decode(bytes.as_slice()).expect("what the hub encodes can be decoded")
}

/// How long a client listens before it looks whether everything is at rest.
const GLANCE: Duration = Duration::from_millis(500);
const _: () = assert!(
    GLANCE.as_millis() > LAG_MAX.as_millis(),
    "what is shown when a glance begins comes within it"
);
