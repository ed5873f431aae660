//! Puts at a fixed rate, whatever the server does: a put that had to wait counts from when it was due.

use std::{
    net::SocketAddr,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use metastore_proto::etcdserverpb::PutRequest;
use tokio::{
    sync::{
        Mutex,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    task::LocalSet,
};

use crate::cluster::connection::{Connection, single_threaded_runtime};
use crate::filling::{KEYS, key, value};

/// One acknowledged put.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Put {
    /// When it was to be sent, since the origin of the phase.
    pub(crate) due: Duration,
    /// How much later than that this process sent it.
    pub(crate) sent_late: Duration,
    /// From when it was due to its answer.
    pub(crate) latency: Duration,
}

/// Puts every millisecond from `origin` on, for the time of a phase, and returns when all are answered.
///
/// # Panics
///
/// When a put is refused.
pub(crate) fn drive(address: SocketAddr, origin: Instant) -> Vec<Put> {
    let local = LocalSet::new();
    single_threaded_runtime().block_on(local.run_until(async {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(address).await.expect("a ready server"));
        }
        assert!(Instant::now() < origin, "connecting took too long");
        let (sender, queue) = unbounded_channel();
        // A thread of its own: timers of the runtime are coarser than what is measured.
        let clock = thread::spawn(move || {
            for number in 0..PUTS {
                let due = origin + PUT_INTERVAL * number;
                thread::sleep(due.saturating_duration_since(Instant::now()));
                sender.send((number, due)).expect("the slots outlive this");
            }
        });
        let queue = Rc::new(Mutex::new(queue));
        let slots: Vec<_> = (0..SLOTS)
            .map(|slot| {
                let connection = connections[slot % CONNECTIONS].clone();
                tokio::task::spawn_local(serve(connection, Rc::clone(&queue), origin))
            })
            .collect();
        let mut puts = Vec::new();
        for slot in slots {
            puts.extend(slot.await.expect("every put succeeds"));
        }
        clock.join().expect("the clock ends");
        assert_eq!(puts.len(), PUTS as usize, "every put was answered");
        puts
    }))
}

async fn serve(
    mut connection: Connection,
    queue: Rc<Mutex<UnboundedReceiver<(u32, Instant)>>>,
    origin: Instant,
) -> Vec<Put> {
    let mut puts = Vec::new();
    loop {
        let next = queue.lock().await.recv().await;
        let Some((number, due)) = next else {
            return puts;
        };
        let request = PutRequest {
            key: key(u64::from(number) * KEY_STRIDE % KEYS),
            value: value(u64::from(number)),
            ..PutRequest::default()
        };
        let sent_late = due.elapsed();
        let answer = connection.kv.put(request).await;
        let latency = due.elapsed();
        answer.unwrap_or_else(|status| panic!("put {number}: {status}"));
        puts.push(Put {
            due: due - origin,
            sent_late,
            latency,
        });
    }
}

/// How long puts come.
pub(crate) const PHASE: Duration = Duration::from_secs(12);

const PUT_INTERVAL: Duration = Duration::from_millis(1);
#[allow(clippy::cast_possible_truncation, reason = "twelve thousand")]
const PUTS: u32 = (PHASE.as_millis() / PUT_INTERVAL.as_millis()) as u32;
const CONNECTIONS: usize = 4;
const SLOTS: usize = 20;
/// A prime, so that the puts are spread over all keys.
const KEY_STRIDE: u64 = 611_953;
