//! The connection threads: each runs one single-threaded runtime, and a connection stays on its thread.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http::{Request, Response, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tonic::body::Body;

use crate::coalesced::Coalesced;
use crate::descriptors::Room;
use crate::feed::Feed;
use crate::grpc::{Context, Services, Spelt};
use crate::http as plain;
use crate::listening;
use crate::promoting;
use crate::seldom::Seldom;
use crate::waiting::{self, Mailbox};
use crate::watching;

/// How connections are kept.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    /// HTTP/2 streams that one connection may have open.
    pub(crate) streams_max: u32,
    /// Ping a connection that is silent for so long.
    pub(crate) keepalive_interval: Option<Duration>,
    /// Close it when the ping is not answered in this time.
    pub(crate) keepalive_timeout: Duration,
    /// The member answers everything within this time, unless it hangs.
    pub(crate) answers_within: Duration,
}

/// What reaches one connection thread from the member thread.
#[derive(Clone, Default)]
pub(crate) struct Lane {
    pub(crate) mailbox: Mailbox,
    pub(crate) feed: Feed,
}

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serves {
    /// gRPC and plain HTTP, told apart by the content type.
    All,
    /// gRPC only.
    GrpcOnly,
    /// Plain HTTP only.
    HttpOnly,
    /// Of plain HTTP only what watches over a member asks for.
    HealthOnly,
}

/// The running threads.
pub(crate) struct Connections {
    threads: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

/// Connections that may wait to be picked up by their thread.
const HAND_OVER_MAX: usize = 1024;

/// How long open requests may take to end when the server stops.
const DRAIN: Duration = Duration::from_secs(1);

/// Flow-control windows: room for the largest request, so that it never waits for an update.
const WINDOW_BYTES: u32 = 2 << 20;

/// How long who asks for the health alone may take for a question, or between two.
const QUESTION_MAX: Duration = Duration::from_secs(10);

/// How many calls of a connection a client may have cancelled before this process has looked at any of them; with more
/// the connection is closed. A process that was paused finds all that clients gave up in the meantime.
const CANCELLED_MAX: usize = 1024;

/// How many bytes the metadata of a request may have: room for long tokens and traces.
const METADATA_BYTES_MAX: u32 = 1 << 20;

impl Connections {
    /// Starts one thread per lane. The first also accepts.
    pub(crate) fn start(
        listeners: Vec<(TcpListener, Serves)>,
        room: Room,
        lanes: Vec<Lane>,
        context: &Context,
        transport: &Transport,
        watch: metastore_core::watch::Settings,
    ) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(false);
        let mut threads = Vec::new();
        let mut hand_over = Vec::new();
        let mut doors = Some(Doors { listeners, room });
        let mut first = None;
        for (index, lane) in lanes.into_iter().enumerate() {
            let (sender, receiver) = mpsc::channel(HAND_OVER_MAX);
            hand_over.push(sender);
            let thread = ConnectionThread {
                index,
                lane,
                arrivals: receiver,
                context: context.clone(),
                transport: transport.clone(),
                watch,
                stopping: stopping.clone(),
            };
            if index == 0 {
                first = Some(thread);
            } else {
                threads.push(spawn(thread, None)?);
            }
        }
        if let Some(thread) = first {
            let reception = doors.take().map(|doors| (doors, hand_over));
            threads.push(spawn(thread, reception)?);
        }
        Ok(Self { threads, stop })
    }

    /// Stops accepting, lets open requests end for a moment, and waits for the threads.
    pub(crate) fn stop(self) {
        // Without receivers the threads have ended already.
        let _ = self.stop.send(true);
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a connection thread panicked");
            }
        }
    }
}

struct ConnectionThread {
    index: usize,
    lane: Lane,
    arrivals: mpsc::Receiver<Arrival>,
    context: Context,
    transport: Transport,
    watch: metastore_core::watch::Settings,
    stopping: watch::Receiver<bool>,
}

/// A connection on its way to its thread.
struct Arrival {
    /// Not yet tied to any runtime.
    socket: std::net::TcpStream,
    serves: Serves,
    /// Among the connections that there may be, to its end.
    place: OwnedSemaphorePermit,
}

/// Where connections come in, and how many there may be.
struct Doors {
    listeners: Vec<(TcpListener, Serves)>,
    room: Room,
}

/// The doors, and the ways to all threads.
type Reception = (Doors, Vec<mpsc::Sender<Arrival>>);

fn spawn(thread: ConnectionThread, reception: Option<Reception>) -> io::Result<JoinHandle<()>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new()
        .name(format!("conn-{}", thread.index))
        .spawn(move || run(&runtime, thread, reception))
}

fn run(runtime: &Runtime, mut thread: ConnectionThread, reception: Option<Reception>) {
    runtime.block_on(async move {
        tokio::spawn(waiting::hand_out(thread.index, thread.lane.mailbox.clone()));
        tokio::spawn(waiting::end_late(thread.context.node.clone(), thread.transport.answers_within));
        watching::begin(thread.context.node.clone(), thread.lane.feed.clone(), thread.watch);
        tokio::spawn(watching::run(thread.lane.feed.clone()));
        if thread.index == 0 && thread.context.limits.auto_promote_learners {
            tokio::spawn(promoting::run(thread.context.clone()));
        }
        if let Some((doors, hand_over)) = reception {
            doors.open(&hand_over, &thread.stopping);
        }
        let services = Services::new(&thread.context);
        let context = Arc::new(thread.context.clone());
        let mut open = tokio::task::JoinSet::new();
        let mut stopping = thread.stopping.clone();
        loop {
            tokio::select! {
                arrival = thread.arrivals.recv() => match arrival {
                    Some(arrival) => {
                        let (services, context) = (services.clone(), Arc::clone(&context));
                        let connection = serve(arrival, services, context, thread.transport.clone(), thread.stopping.clone());
                        open.spawn(connection);
                    }
                    None => break,
                },
                () = told_to_stop(&mut stopping) => break,
                Some(_) = open.join_next() => {}
            }
        }
        watching::stop();
        // What is still open after the drain is cut.
        let _ = tokio::time::timeout(DRAIN, async { while open.join_next().await.is_some() {} }).await;
    });
}

/// Returns when the server stops.
async fn told_to_stop(stopping: &mut watch::Receiver<bool>) {
    // An error means that the server is gone altogether.
    let _ = stopping.wait_for(|stop| *stop).await;
}

impl Doors {
    fn open(self, hand_over: &[mpsc::Sender<Arrival>], stopping: &watch::Receiver<bool>) {
        for (listener, serves) in self.listeners {
            let room = match serves {
                Serves::HealthOnly => &self.room.health,
                _ => &self.room.clients,
            };
            let accepting = accept(
                listener,
                serves,
                Arc::clone(room),
                hand_over.to_vec(),
                stopping.clone(),
            );
            tokio::spawn(accepting);
        }
    }
}

/// Accepts for all threads and deals the connections out in turn. Where there is no room the next has to wait, and all
/// after it are not accepted yet.
async fn accept(
    listener: TcpListener,
    serves: Serves,
    room: Arc<Semaphore>,
    hand_over: Vec<mpsc::Sender<Arrival>>,
    mut stopping: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(error = %error, "cannot accept connections"),
    };
    let mut seldom = Seldom::default();
    for thread in (0..hand_over.len()).cycle() {
        let accepted = async {
            let (socket, _) = listener.accept().await?;
            let socket = socket.into_std()?;
            if room.available_permits() == 0 && seldom.may_say("full", Instant::now()) {
                tracing::warn!(
                    traffic = ?serves,
                    "as many are connected as may be; others wait until one leaves"
                );
            }
            // Nobody closes the room.
            let place = Arc::clone(&room).acquire_owned().await;
            Ok::<_, io::Error>(Arrival {
                socket,
                serves,
                place: place.map_err(io::Error::other)?,
            })
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = told_to_stop(&mut stopping) => return,
        };
        match accepted {
            Ok(arrival) => {
                if hand_over[thread].send(arrival).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot accept a connection");
                // Most likely out of file descriptors: give others time to close theirs.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(
    arrival: Arrival,
    services: Services,
    context: Arc<Context>,
    transport: Transport,
    mut stopping: watch::Receiver<bool>,
) {
    let Arrival {
        socket,
        serves,
        place,
    } = arrival;
    let socket = match socket
        .set_nodelay(true)
        .and_then(|()| listening::notice_death(&socket))
        .and_then(|()| TcpStream::from_std(socket))
    {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(error = %error, "a connection ended before it began"),
    };
    let service =
        service_fn(move |request| answer(serves, services.clone(), Arc::clone(&context), request));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(transport.streams_max)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES * 4)
        .max_pending_accept_reset_streams(CANCELLED_MAX)
        .max_header_list_size(METADATA_BYTES_MAX)
        .keep_alive_interval(transport.keepalive_interval)
        .keep_alive_timeout(transport.keepalive_timeout);
    builder.http1().timer(TokioTimer::new());
    if serves == Serves::HealthOnly {
        // There are few places, and who says nothing has to leave its own.
        builder = builder.http1_only();
        builder.http1().header_read_timeout(QUESTION_MAX);
    }
    let socket = Coalesced::new(socket);
    let connection = builder.serve_connection(socket.clone(), service);
    tokio::pin!(connection);
    let serving = async {
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = told_to_stop(&mut stopping) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    let ended = socket.drive(serving).await;
    drop(place);
    if let Err(error) = ended {
        tracing::debug!(error = %error, "a connection broke");
    }
}

async fn answer(
    serves: Serves,
    services: Services,
    context: Arc<Context>,
    request: Request<Incoming>,
) -> Result<Response<Spelt>, Infallible> {
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    Ok(match (grpc, serves) {
        (true, Serves::All | Serves::GrpcOnly) => services.call(request).await,
        (false, Serves::All | Serves::HttpOnly) => {
            plain::serve(&context, &request).await.map(Spelt)
        }
        (false, Serves::HealthOnly) => plain::serve_health(&context, &request).await.map(Spelt),
        _ => {
            let mut refused = Response::new(Spelt(Body::empty()));
            *refused.status_mut() = http::StatusCode::NOT_FOUND;
            refused
        }
    })
}
