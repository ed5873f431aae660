//! Keeps the two connections to one member, whatever the network does.
//!
//! A connection that broke is noticed at once. One whose packets vanish is noticed by what stays unconfirmed: then
//! others are tried beside it, and the first that the receiver accepts takes its place. So a network that comes back
//! is used again at once, and not when the system's back-off says so.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use hyper::body::{Body, Incoming};
use metastore_core::raft::PeerMessage;
use metastore_proto::peer::Receipt;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::Me;
use super::dial::{self, Conversation, DialError};
use super::frame::Frames;
use super::introduction::Introduction;
use super::lane::{Lane, SharedLane};
use super::local::Task;
use crate::config::Url;
use crate::inbox::Inbox;
use crate::node::Call;
use crate::seldom::Seldom;

/// The ways to one member. Dropping it closes them.
pub(super) struct Peer {
    urgent: SharedLane,
    bulk: SharedLane,
    way: Rc<Way>,
    _tasks: [Task; 2],
}

/// What both connections to a member share.
struct Way {
    me: Me,
    id: u64,
    inbox: Inbox,
    urls: RefCell<Vec<Url>>,
    /// Counts how often the urgent connection was lost or replaced: then the other is doubted too.
    doubts: Cell<u64>,
    seldom: RefCell<Seldom>,
}

/// One of the two connections.
struct Link {
    way: Rc<Way>,
    lane: SharedLane,
    bulk: bool,
}

/// How a connection ended.
enum End {
    /// There is a better one.
    Replaced(Conversation),
    /// It broke, or the receiver does not answer.
    Lost(String),
}

/// The pause between two attempts to connect. Earlier ones go on meanwhile.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(80);

/// Added to the pause at most, so that members do not move in step.
const JITTER_MILLIS: u64 = 40;

/// Attempts under way at once.
const ATTEMPTS_MAX: usize = 12;

/// How long a receiver that is there may take to accept before another connection is tried beside the first: something
/// in between may answer for it.
const GRACE: Duration = Duration::from_millis(150);

/// How long a connection is kept that nobody accepts. Longer than a receiver takes that has more to do than it can: if
/// it were given up sooner, the attempts alone would keep such a receiver busy.
const INTRODUCTION_MAX: Duration = Duration::from_secs(3);

/// The pause after the receiver refused: somebody has to change something first.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// A connection that ends sooner was of no use, and the next one is not opened at once.
const USELESS_MAX: Duration = Duration::from_millis(200);

/// The pause after a connection without use, which doubles with each further one.
const USELESS_PAUSE: Duration = Duration::from_millis(20);
const USELESS_PAUSE_MAX: Duration = Duration::from_millis(100);

/// How long a connection is tried before that is a complaint: members do not start all at once.
const UNHEARD_MAX: Duration = Duration::from_secs(2);

impl Peer {
    /// Begins to connect.
    pub(super) fn open(me: &Me, id: u64, inbox: &Inbox) -> Self {
        let way = Rc::new(Way {
            me: me.clone(),
            id,
            inbox: inbox.clone(),
            urls: RefCell::default(),
            doubts: Cell::new(0),
            seldom: RefCell::default(),
        });
        let [urgent, bulk] = [(); 2].map(|()| Rc::new(RefCell::new(Lane::new())));
        let keep = |lane: &SharedLane, bulk| {
            let link = Link {
                way: Rc::clone(&way),
                lane: Rc::clone(lane),
                bulk,
            };
            Task::spawn(link.keep())
        };
        let tasks = [keep(&urgent, false), keep(&bulk, true)];
        Self {
            urgent,
            bulk,
            way,
            _tasks: tasks,
        }
    }

    /// Where the member is reached from now on. A connection to another place that works is kept.
    pub(super) fn set_urls(&self, urls: &[String]) {
        let parsed: Vec<Url> = urls.iter().filter_map(|url| url.parse().ok()).collect();
        if *self.way.urls.borrow() == parsed {
            return;
        }
        if !self.way.urls.borrow().is_empty() {
            tracing::info!(remote_peer_id = format!("{:x}", self.way.id), urls = ?urls, "peer URLs of a member changed");
        }
        *self.way.urls.borrow_mut() = parsed;
        self.way.doubts.set(self.way.doubts.get() + 1);
    }

    /// Takes a letter, or gives it back if too many wait.
    pub(super) fn send(&self, message: PeerMessage) -> Option<PeerMessage> {
        let lane = match message.is_bulk() {
            true => &self.bulk,
            false => &self.urgent,
        };
        lane.borrow_mut().push(message)
    }
}

impl Link {
    async fn keep(self) {
        let mut next = None;
        let mut pause = Duration::ZERO;
        loop {
            let doubts = self.way.doubts.get();
            let conversation = match next.take() {
                Some(conversation) => conversation,
                None => self.connect(pause).await,
            };
            let began = Instant::now();
            let connection = self.lane.borrow_mut().connect();
            conversation.gate.open(connection);
            match self.converse(conversation, doubts).await {
                End::Replaced(better) => {
                    tracing::info!(
                        remote_peer_id = self.id(),
                        bulk = self.bulk,
                        "replaced a silent connection to a member"
                    );
                    next = Some(better);
                }
                End::Lost(reason) => {
                    let useless = began.elapsed() < USELESS_MAX;
                    self.lane.borrow_mut().disconnect();
                    pause = match useless {
                        true => (pause * 2).clamp(USELESS_PAUSE, USELESS_PAUSE_MAX),
                        false => Duration::ZERO,
                    };
                    if !useless || self.may_say(&reason) {
                        tracing::warn!(
                            remote_peer_id = self.id(),
                            bulk = self.bulk,
                            error = reason,
                            "lost the connection to a member"
                        );
                    }
                }
            }
            if !self.bulk {
                self.way.doubts.set(self.way.doubts.get() + 1);
            }
        }
    }

    fn id(&self) -> String {
        format!("{:x}", self.way.id)
    }

    /// Tries until there is a connection, after a pause. Letters that wait too long come back meanwhile.
    async fn connect(&self, pause: Duration) -> Conversation {
        let mut dialling = std::pin::pin!(async {
            sleep(pause).await;
            self.dial().await
        });
        let patience = self.way.me.election_timeout / 2;
        loop {
            if let Ok(conversation) = timeout(patience / 4, dialling.as_mut()).await {
                if pause.is_zero() || self.may_say("connected") {
                    tracing::info!(
                        remote_peer_id = self.id(),
                        bulk = self.bulk,
                        "connected to a member"
                    );
                }
                return conversation;
            }
            let late = self.lane.borrow_mut().give_up(Instant::now() - patience);
            if !late.is_empty() {
                let late = late
                    .into_iter()
                    .map(|it| (it, "there is no connection".to_owned()));
                // Without a member nobody misses them.
                let _ = self.way.inbox.tell(Call::Undelivered(late.collect()));
            }
        }
    }

    /// Tries until the receiver accepts a connection.
    ///
    /// A network that swallows packets is tried again at short intervals, since an attempt is one packet. Where somebody
    /// is there the intervals are longer, and the earlier connections stay: whichever is accepted first is taken.
    async fn dial(&self) -> Conversation {
        let began = Instant::now();
        let mut reaching = FuturesUnordered::new();
        let mut introduced = FuturesUnordered::new();
        let mut next = Instant::now();
        let mut number = 0_usize;
        loop {
            tokio::select! {
                Some(reached) = reaching.next() => match reached {
                    Ok((stream, url)) => {
                        next = next.max(Instant::now() + GRACE + jitter());
                        introduced.push(self.introduce(stream, url));
                    }
                    Err(reason) => self.complain_late(began, reason),
                },
                Some(answer) = introduced.next() => match answer {
                    Ok(conversation) => return conversation,
                    Err(DialError::Refused(status)) => {
                        self.complain(status.message(), "a member refuses the connection");
                        next = Instant::now() + REFUSED_PAUSE;
                    }
                    Err(DialError::Unreachable(reason)) => {
                        self.complain_late(began, reason);
                        if introduced.is_empty() {
                            next = next.min(Instant::now() + ATTEMPT_PAUSE);
                        }
                    }
                },
                () = sleep_until(next) => {
                    next = Instant::now() + ATTEMPT_PAUSE + jitter();
                    let urls = self.way.urls.borrow();
                    if reaching.len() < ATTEMPTS_MAX && !urls.is_empty() {
                        reaching.push(self.reach(urls[number % urls.len()].clone()));
                        number += 1;
                    }
                }
            }
        }
    }

    /// A connection, on which nothing has been said yet.
    async fn reach(&self, url: Url) -> Result<(TcpStream, Url), String> {
        let patience = self.way.me.election_timeout;
        match timeout(patience, dial::connect(&url)).await {
            Ok(Ok(stream)) => Ok((stream, url)),
            Ok(Err(error)) => Err(format!("{url}: {error}")),
            Err(_) => Err(format!("{url}: nobody answered within {patience:?}")),
        }
    }

    async fn introduce(&self, stream: TcpStream, url: Url) -> Result<Conversation, DialError> {
        let me = &self.way.me;
        let introduction = Introduction {
            cluster_id: me.cluster_id,
            from: me.member_id,
            to: self.way.id,
            peer_urls: me.peer_urls.clone(),
        };
        let lane = Rc::clone(&self.lane);
        dial::introduce(stream, &url, &introduction, lane, INTRODUCTION_MAX).await
    }

    /// Members do not start all at once, so what lasts a moment only is no reason to complain.
    fn complain_late(&self, began: Instant, reason: String) {
        if began.elapsed() > UNHEARD_MAX {
            self.complain(&reason, "cannot reach a member");
        }
    }

    fn may_say(&self, what: &str) -> bool {
        self.way.seldom.borrow_mut().may_say(what, Instant::now())
    }

    fn complain(&self, reason: &str, message: &'static str) {
        if self.may_say(reason) {
            tracing::warn!(remote_peer_id = self.id(), error = reason, "{message}");
        }
    }

    /// Carries letters until the connection ends or a better one is there.
    async fn converse(&self, mut conversation: Conversation, mut doubts: u64) -> End {
        let mut frames = Frames::default();
        let tick = self.way.me.election_timeout / 16;
        let mut ticks = interval(tick.max(Duration::from_millis(5)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut better = None;
        loop {
            tokio::select! {
                receipt = next_receipt(&mut conversation.receipts, &mut frames) => match receipt {
                    Ok(messages) => {
                        self.lane.borrow_mut().confirm(messages);
                        doubts = self.way.doubts.get();
                    }
                    Err(reason) => return End::Lost(reason),
                },
                _ = ticks.tick() => match self.judge(doubts) {
                    Judgement::Fine => better = None,
                    Judgement::Doubtful => {
                        better.get_or_insert_with(|| Box::pin(self.dial()));
                    }
                    Judgement::Dead => return End::Lost("the member does not confirm what it is sent".into()),
                },
                found = async { better.as_mut().expect("checked").await }, if better.is_some() => {
                    return End::Replaced(found);
                }
            }
        }
    }

    /// What the silence of the receiver means.
    fn judge(&self, doubts: u64) -> Judgement {
        let patience = self.way.me.election_timeout;
        let doubted = self.way.doubts.get() != doubts;
        let mut lane = self.lane.borrow_mut();
        let Some(since) = lane.silent_since() else {
            if doubted || lane.sent_at().elapsed() >= patience / 4 {
                lane.ping();
            }
            return Judgement::Fine;
        };
        // A message full of entries takes a while on a slow network, and that is no reason to begin anew.
        let (doubt, despair) = match self.bulk && !doubted {
            true => (patience, patience * 2),
            false => (patience / 4, patience),
        };
        match since.elapsed() {
            silence if silence >= despair => Judgement::Dead,
            silence if silence >= doubt => Judgement::Doubtful,
            _ => Judgement::Fine,
        }
    }
}

/// See [`Link::judge`].
enum Judgement {
    Fine,
    Doubtful,
    Dead,
}

/// How many messages the receiver says it has.
async fn next_receipt(receipts: &mut Incoming, frames: &mut Frames) -> Result<u64, String> {
    loop {
        if let Some(message) = frames
            .next()
            .map_err(|status| status.message().to_owned())?
        {
            let receipt = Receipt::decode(message).map_err(|error| error.to_string())?;
            return Ok(receipt.messages);
        }
        let frame = poll_fn(|cx| Pin::new(&mut *receipts).poll_frame(cx)).await;
        let frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Err(error.to_string()),
            None => return Err("the member closed the connection".into()),
        };
        match frame.into_data() {
            Ok(data) => frames.push(&data),
            Err(trailers) => {
                let trailers = trailers.into_trailers().unwrap_or_default();
                let status = tonic::Status::from_header_map(&trailers);
                return Err(status.map_or_else(
                    || "the member ended the connection".into(),
                    |status| status.message().to_owned(),
                ));
            }
        }
    }
}

fn jitter() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_millis(RandomState::new().hash_one(0) % JITTER_MILLIS)
}
