//! Every link between two members, as a proxy that can cut it, delay it or make it narrow, each direction for itself.
//!
//! Members know each other by the addresses of these proxies. Who has opened a connection is found out from the
//! kernel's table of sockets, so the members need not say it.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use super::sockets;
use crate::cluster::connection::single_threaded_runtime;

/// What a link does to what passes it, in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Condition {
    pub(crate) cut: bool,
    pub(crate) delay: Duration,
    pub(crate) bytes_per_second: Option<u64>,
}

/// All links. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Links(Arc<Shared>);

struct Shared {
    /// Where the proxies before each member listen.
    addresses: Vec<SocketAddr>,
    /// The process in each place; 0 for none.
    pids: Vec<AtomicU32>,
    /// The place of the process that has a socket, as of the last look.
    owners: Mutex<BTreeMap<u32, usize>>,
    /// From one place to another; without an entry, all is well.
    conditions: Mutex<BTreeMap<(usize, usize), Condition>>,
    changed: Notify,
    /// Connections of a link that was reset before this number are to end.
    resets: Mutex<BTreeMap<(usize, usize), u64>>,
}

/// A connection that stands, or wants to.
#[derive(Clone, Copy)]
struct Between {
    from: usize,
    to: usize,
    /// The number of resets when it began.
    born: u64,
}

impl Links {
    /// Opens a proxy before each of these addresses of members. All of them have a thread of their own, so that
    /// whatever the caller does the network goes on.
    pub(crate) fn open(members: &[SocketAddr]) -> Self {
        let listeners: Vec<std::net::TcpListener> = members
            .iter()
            .map(|_| {
                let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
                let listener = listener.expect("a free port");
                listener.set_nonblocking(true).expect("a socket");
                listener
            })
            .collect();
        let address = |listener: &std::net::TcpListener| {
            let address = listener.local_addr();
            address.expect("a bound socket")
        };
        let links = Self(Arc::new(Shared {
            addresses: listeners.iter().map(address).collect(),
            pids: members.iter().map(|_| AtomicU32::new(0)).collect(),
            owners: Mutex::default(),
            conditions: Mutex::default(),
            changed: Notify::new(),
            resets: Mutex::default(),
        }));
        let (shared, members) = (links.clone(), members.to_vec());
        thread::spawn(move || {
            LocalSet::new().block_on(&single_threaded_runtime(), async {
                for (place, (listener, member)) in listeners.into_iter().zip(members).enumerate() {
                    let listener = TcpListener::from_std(listener).expect("within a runtime");
                    spawn_local(shared.clone().serve(listener, place, member));
                }
                pending::<()>().await;
            });
        });
        links
    }

    /// Where the others reach the member in this place.
    pub(crate) fn address(&self, place: usize) -> SocketAddr {
        self.0.addresses[place]
    }

    /// The process in a place has changed.
    pub(crate) fn runs(&self, place: usize, pid: u32) {
        self.0.pids[place].store(pid, Ordering::Relaxed);
    }

    /// Changes what a link does in the direction from one place to another.
    pub(crate) fn set(&self, from: usize, to: usize, condition: Condition) {
        locked(&self.0.conditions).insert((from, to), condition);
        self.0.changed.notify_waiters();
    }

    /// Closes all connections between the two.
    pub(crate) fn reset(&self, one: usize, other: usize) {
        let link = (one.min(other), one.max(other));
        *locked(&self.0.resets).entry(link).or_default() += 1;
        self.0.changed.notify_waiters();
    }

    /// All is well again.
    pub(crate) fn heal(&self) {
        locked(&self.0.conditions).clear();
        self.0.changed.notify_waiters();
    }

    fn condition(&self, from: usize, to: usize) -> Condition {
        let conditions = locked(&self.0.conditions);
        conditions.get(&(from, to)).copied().unwrap_or_default()
    }

    fn resets_so_far(&self, one: usize, other: usize) -> u64 {
        let link = (one.min(other), one.max(other));
        locked(&self.0.resets).get(&link).copied().unwrap_or(0)
    }

    async fn serve(self, listener: TcpListener, to: usize, member: SocketAddr) {
        loop {
            let Ok((caller, _)) = listener.accept().await else {
                sleep(Duration::from_millis(10)).await;
                continue;
            };
            let Some(from) = self.place_of(&caller) else {
                // Its process is gone already.
                continue;
            };
            spawn_local(self.clone().join(caller, from, to, member));
        }
    }

    /// The place whose process has opened this connection.
    fn place_of(&self, caller: &TcpStream) -> Option<usize> {
        let (Ok(SocketAddr::V4(from)), Ok(SocketAddr::V4(to))) =
            (caller.peer_addr(), caller.local_addr())
        else {
            return None;
        };
        let inode = sockets::inode(from, to).ok()?;
        let mut owners = locked(&self.0.owners);
        if let Some(place) = owners.get(&inode) {
            return Some(*place);
        }
        // One look at a process tells of all its connections, those to come here next included.
        owners.clear();
        for (place, pid) in self.0.pids.iter().enumerate() {
            let open = sockets::open_in(pid.load(Ordering::Relaxed));
            owners.extend(open.into_iter().map(|inode| (inode, place)));
        }
        owners.get(&inode).copied()
    }

    async fn join(self, caller: TcpStream, from: usize, to: usize, member: SocketAddr) {
        let between = Between {
            from,
            to,
            born: self.resets_so_far(from, to),
        };
        // The handshake needs both directions.
        self.until_open(from, to, between).await;
        self.until_open(to, from, between).await;
        let Ok(callee) = TcpStream::connect(member).await else {
            return;
        };
        let _ = (caller.set_nodelay(true), callee.set_nodelay(true));
        let (caller_reads, caller_writes) = caller.into_split();
        let (callee_reads, callee_writes) = callee.into_split();
        let there = self
            .clone()
            .pump(caller_reads, callee_writes, between, (from, to));
        let back = self
            .clone()
            .pump(callee_reads, caller_writes, between, (to, from));
        tokio::select! {
            () = there => {}
            () = back => {}
            () = self.until_reset(between) => {}
        }
    }

    /// Carries bytes in one direction until an end closes.
    async fn pump(
        self,
        mut reads: OwnedReadHalf,
        mut writes: OwnedWriteHalf,
        between: Between,
        (from, to): (usize, usize),
    ) {
        let (under_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES_MAX);
        let take = async {
            let mut buffer = vec![0; PIECE_BYTES];
            loop {
                let Ok(length @ 1..) = reads.read(&mut buffer).await else {
                    return;
                };
                let due = Instant::now() + self.condition(from, to).delay;
                let piece = (due, buffer[..length].to_vec());
                if under_way.send(piece).await.is_err() {
                    return;
                }
            }
        };
        let give = async {
            while let Some((due, piece)) = arriving.recv().await {
                sleep_until(due).await;
                self.until_open(from, to, between).await;
                if let Some(rate) = self.condition(from, to).bytes_per_second {
                    let takes = Duration::from_secs_f64(piece.len() as f64 / rate as f64);
                    sleep(takes.min(NARROWNESS_MAX)).await;
                }
                if writes.write_all(&piece).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = take => {}
            () = give => {}
        }
    }

    async fn until_open(&self, from: usize, to: usize, between: Between) {
        let reset = || self.resets_so_far(between.from, between.to) != between.born;
        self.until(|| !self.condition(from, to).cut || reset())
            .await;
    }

    async fn until_reset(&self, between: Between) {
        self.until(|| self.resets_so_far(between.from, between.to) != between.born)
            .await;
    }

    async fn until(&self, holds: impl Fn() -> bool) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if holds() {
                return;
            }
            changed.await;
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

/// Bytes that pass at once, and how many such pieces a direction holds.
const PIECE_BYTES: usize = 16 << 10;
const PIECES_MAX: usize = 64;
/// No piece takes longer, so that a link that was narrow is not stuck long after.
const NARROWNESS_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::future::Future;

    use tokio::time::timeout;

    use super::*;

    /// A member in place 0 that says everything back, and a caller in place 1.
    async fn with_an_echo<F: Future<Output = ()>>(test: impl FnOnce(Links, TcpStream) -> F) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        spawn_local(async move {
            while let Ok((connection, _)) = listener.accept().await {
                let (mut reads, mut writes) = connection.into_split();
                spawn_local(async move { tokio::io::copy(&mut reads, &mut writes).await });
            }
        });
        let links = Links::open(&[address, address]);
        links.runs(1, std::process::id());
        let caller = TcpStream::connect(links.address(0)).await;
        test(links, caller.expect("the proxy listens")).await;
    }

    /// How long a word takes there and back; none if it does not come back for a while.
    async fn echo(caller: &mut TcpStream) -> Option<Duration> {
        let asked = Instant::now();
        caller.write_all(b"word").await.ok()?;
        let mut word = [0; 4];
        let answer = timeout(Duration::from_millis(300), caller.read_exact(&mut word)).await;
        answer.ok()?.ok()?;
        Some(asked.elapsed())
    }

    fn run<F: Future<Output = ()>>(test: impl FnOnce(Links, TcpStream) -> F) {
        LocalSet::new().block_on(&single_threaded_runtime(), with_an_echo(test));
    }

    #[test]
    fn a_link_that_is_cut_in_one_direction_loses_nothing_but_time() {
        run(|links, mut caller| async move {
            assert!(echo(&mut caller).await.is_some());
            let cut = Condition {
                cut: true,
                ..Condition::default()
            };
            for (from, to) in [(1, 0), (0, 1)] {
                links.set(from, to, cut);
                assert_eq!(echo(&mut caller).await, None);
                links.heal();
                let mut late = [0; 4];
                caller.read_exact(&mut late).await.expect("the word comes");
                assert!(echo(&mut caller).await.is_some());
            }
        });
    }

    #[test]
    fn a_link_that_is_late_is_late_in_its_direction() {
        run(|links, mut caller| async move {
            let late = Condition {
                delay: Duration::from_millis(60),
                ..Condition::default()
            };
            links.set(1, 0, late);
            let took = echo(&mut caller).await.expect("an answer");
            assert!(took >= Duration::from_millis(60), "{took:?}");
        });
    }

    #[test]
    fn a_link_that_is_reset_closes_its_connections() {
        run(|links, mut caller| async move {
            assert!(echo(&mut caller).await.is_some());
            links.reset(0, 1);
            let mut nothing = [0; 1];
            let read = timeout(Duration::from_secs(5), caller.read(&mut nothing)).await;
            assert!(matches!(read, Ok(Ok(0) | Err(_))), "{read:?}");
        });
    }
}
