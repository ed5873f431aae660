//! Two ends over real sockets, with a network between them that misbehaves on request.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::*;
use crate::inbox::{self, Proposals, Receiver};

const ELECTION_TIMEOUT: Duration = Duration::from_millis(1000);
const CLUSTER: u64 = 77;

/// One member's connections, and what arrives for the member.
struct End {
    peers: Peers,
    post: Post,
    arrivals: Receiver,
    got: Vec<PeerMessage>,
    back: Vec<PeerMessage>,
}

fn member(id: u64, address: SocketAddr) -> MemberInfo {
    MemberInfo {
        id,
        name: String::new(),
        peer_urls: vec![format!("http://{address}")],
        client_urls: Vec::new(),
        is_learner: false,
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("a socket");
    let address = listener.local_addr().expect("bound");
    (listener, address)
}

impl End {
    fn start(cluster_id: u64, id: u64, listener: TcpListener, others: &[MemberInfo]) -> Self {
        let me = Me {
            cluster_id,
            member_id: id,
            peer_urls: vec![format!("http://{}", listener.local_addr().expect("bound"))],
            election_timeout: ELECTION_TIMEOUT,
        };
        let (calls, arrivals) = inbox::new();
        let peers = Peers::start(me, vec![listener], calls, others.into()).expect("a thread");
        let post = peers.post();
        Self {
            peers,
            post,
            arrivals,
            got: Vec::new(),
            back: Vec::new(),
        }
    }

    fn send(&self, to: u64, message: PeerMessage) {
        self.post.deliver(&mut vec![Letter { to, message }]);
    }

    /// Takes in what comes until `enough`, and tells how long that took.
    fn wait(&mut self, limit: Duration, enough: impl Fn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !enough(self) {
            assert!(
                began.elapsed() < limit,
                "not within {limit:?}: got {:?}, back {:?}",
                self.got,
                self.back
            );
            for call in self
                .arrivals
                .take(Some(Duration::from_millis(5)), Proposals::Wake)
            {
                match call {
                    Call::Letters { letters, .. } => self.got.extend(letters),
                    Call::Undelivered(letters) => {
                        self.back.extend(letters.into_iter().map(|it| it.0))
                    }
                    _ => panic!("only letters come from there"),
                }
            }
        }
        began.elapsed()
    }

    fn has(&self, message: &PeerMessage) -> bool {
        let wanted = format!("{message:?}");
        self.got.iter().any(|got| format!("{got:?}") == wanted)
    }
}

/// A small letter that is told apart by its number.
fn urgent(number: u8) -> PeerMessage {
    let message = PeerMessage::decode(&[number, 1, 4]).expect("a reply");
    assert_eq!(format!("{message:?}"), format!("#{number} taken"));
    message
}

/// A piece of a snapshot.
fn bulk(number: u8, bytes: u16) -> PeerMessage {
    let mut encoded = vec![number, 0, 4, 1, 1, 1, 1, 0, 0, 0, 251];
    encoded.extend_from_slice(&bytes.to_le_bytes());
    encoded.resize(encoded.len() + usize::from(bytes), 0);
    let message = PeerMessage::decode(&encoded).expect("a chunk");
    assert!(message.is_bulk());
    message
}

/// Passes bytes on, as long as it is told to.
struct Between {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Bytes vanish, and those of connections that saw it for good.
    black_hole: AtomicBool,
    /// Counts the black holes: a connection lives in one age.
    age: AtomicU64,
    /// Bytes per second, 0 for no limit.
    rate: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Between {
    fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for incoming in listener.incoming().map_while(Result::ok) {
                let Ok(outgoing) = TcpStream::connect(target) else {
                    continue;
                };
                let age = shared.age.load(Ordering::SeqCst);
                for (from, to) in [(&incoming, &outgoing), (&outgoing, &incoming)] {
                    let from = from.try_clone().expect("a socket");
                    let to = to.try_clone().expect("a socket");
                    let state = Arc::clone(&shared);
                    thread::spawn(move || pass(from, to, &state, age));
                }
                let mut open = shared.open.lock().expect("no panic");
                open.extend([incoming, outgoing]);
            }
        });
        Self { address, state }
    }

    /// From now on packets vanish without a word.
    fn cut(&self) {
        self.state.age.fetch_add(1, Ordering::SeqCst);
        self.state.black_hole.store(true, Ordering::SeqCst);
    }

    fn heal(&self) {
        // What was begun in the dark stays there.
        self.state.age.fetch_add(1, Ordering::SeqCst);
        self.state.black_hole.store(false, Ordering::SeqCst);
    }

    /// Breaks every connection.
    fn reset(&self) {
        for socket in self.state.open.lock().expect("no panic").drain(..) {
            // One end may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, state: &State, age: u64) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let vanishes =
            state.black_hole.load(Ordering::SeqCst) || state.age.load(Ordering::SeqCst) != age;
        if !vanishes && to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        let rate = state.rate.load(Ordering::SeqCst);
        if let Some(nanos) = (bytes as u64 * 1_000_000_000).checked_div(rate) {
            thread::sleep(Duration::from_nanos(nanos));
        }
    }
    // The other direction ends by itself if it has not.
    let _ = to.shutdown(Shutdown::Both);
}

/// Member 1 sends to member 2 through what is between.
fn pair() -> (End, Between, End) {
    let (first, first_address) = listener();
    let (second, second_address) = listener();
    let between = Between::to(second_address);
    let two = End::start(CLUSTER, 2, second, &[member(1, first_address)]);
    let one = End::start(CLUSTER, 1, first, &[member(2, between.address)]);
    (one, between, two)
}

const SOON: Duration = Duration::from_secs(5);

#[test]
fn letters_arrive_in_order_on_either_connection_and_none_twice() {
    let (one, _between, mut two) = pair();
    for number in 0..100 {
        one.send(2, urgent(number));
        one.send(2, bulk(number, 1000));
    }
    two.wait(SOON, |two| two.got.len() == 200);
    let (bulky, small): (Vec<_>, Vec<_>) = two.got.iter().partition(|it| it.is_bulk());
    for (number, (bulky, small)) in bulky.iter().zip(&small).enumerate() {
        assert!(
            format!("{small:?}").starts_with(&format!("#{number} ")),
            "{small:?}"
        );
        assert!(
            format!("{bulky:?}").starts_with(&format!("#{number} ")),
            "{bulky:?}"
        );
    }
    assert!(one.back.is_empty());
}

#[test]
fn letters_find_their_way_when_every_connection_is_reset() {
    let (one, between, mut two) = pair();
    one.send(2, urgent(1));
    two.wait(SOON, |two| two.has(&urgent(1)));
    for number in 2..20 {
        one.send(2, urgent(number));
        between.reset();
        let took = two.wait(SOON, |two| two.has(&urgent(number)));
        assert!(took < Duration::from_millis(400), "{number}: {took:?}");
    }
}

#[test]
fn a_network_that_swallowed_everything_is_used_again_within_300_ms() {
    for (dark, number) in [(300, 10), (1500, 20), (4000, 30)] {
        let (one, between, mut two) = pair();
        one.send(2, urgent(1));
        one.send(2, bulk(1, 1000));
        two.wait(SOON, |two| two.got.len() == 2);
        between.cut();
        let until = Instant::now() + Duration::from_millis(dark);
        while Instant::now() < until {
            one.send(2, urgent(2));
            one.send(2, bulk(2, 1000));
            thread::sleep(Duration::from_millis(50));
        }
        between.heal();
        let (small, large) = (urgent(number), bulk(number, 1000));
        one.send(2, small.clone());
        one.send(2, large.clone());
        let took = two.wait(SOON, |two| two.has(&small) && two.has(&large));
        assert!(
            took < Duration::from_millis(300),
            "dark for {dark} ms: {took:?}"
        );
    }
}

#[test]
fn what_cannot_be_delivered_comes_back() {
    let (first, _) = listener();
    // Nobody listens there any more.
    let (_, nowhere) = listener();
    let mut one = End::start(CLUSTER, 1, first, &[member(2, nowhere)]);
    one.send(2, urgent(1));
    let took = one.wait(SOON, |one| one.back.len() == 1);
    assert!(took < ELECTION_TIMEOUT, "{took:?}");
    one.send(9, urgent(2));
    let took = one.wait(SOON, |one| one.back.len() == 2);
    assert!(
        took < Duration::from_millis(100),
        "nobody knows member 9: {took:?}"
    );
    for _ in 0..2000 {
        one.send(2, bulk(3, 60_000));
    }
    one.wait(SOON, |one| one.back.len() == 2002);
}

#[test]
fn a_small_letter_does_not_wait_behind_large_ones_on_a_slow_network() {
    let (one, between, mut two) = pair();
    one.send(2, urgent(1));
    one.send(2, bulk(1, 10));
    two.wait(SOON, |two| two.got.len() == 2);
    between.state.rate.store(2 << 20, Ordering::SeqCst);
    for _ in 0..100 {
        one.send(2, bulk(2, 60_000));
    }
    thread::sleep(Duration::from_millis(500));
    for number in 10..15 {
        one.send(2, urgent(number));
        let took = two.wait(SOON, |two| two.has(&urgent(number)));
        assert!(took < Duration::from_millis(100), "{took:?}");
    }
    assert!(
        two.got.len() < 80,
        "the network was not slow: {}",
        two.got.len()
    );
    two.wait(Duration::from_secs(20), |two| two.got.len() >= 107);
    assert_eq!(two.got.len(), 107, "a slow connection is no silent one");
}

#[test]
fn a_slow_connection_is_not_doubted_for_ever_once_it_was() {
    let (one, between, mut two) = pair();
    one.send(2, urgent(1));
    one.send(2, bulk(1, 10));
    two.wait(SOON, |two| two.got.len() == 2);
    let mut moved = member(2, between.address);
    let port = between.address.port();
    moved.peer_urls.push(format!("http://localhost:{port}"));
    one.post.follow([moved].into());
    thread::sleep(ELECTION_TIMEOUT);
    // A message takes half a second, which is longer than a doubtful connection is given.
    between.state.rate.store(500 << 10, Ordering::SeqCst);
    for number in 100..130 {
        one.send(2, bulk(number, 60_000));
    }
    two.wait(Duration::from_secs(20), |two| two.has(&bulk(129, 60_000)));
    let large = two.got.iter().filter(|it| it.weight() > 50_000).count();
    assert_eq!(large, 30, "some were sent again on another connection");
}

/// Accepts everybody and hangs up at once. Counts how often.
fn fickle(calls: &Arc<AtomicU64>) -> SocketAddr {
    let (listener, address) = listener();
    let calls = Arc::clone(calls);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            while let Ok((stream, _)) = listener.accept().await {
                let calls = Arc::clone(&calls);
                let hang_up = hyper::service::service_fn(move |_| {
                    calls.fetch_add(1, Ordering::SeqCst);
                    std::future::ready(io::Result::Ok(http::Response::new(String::new())))
                });
                let server = hyper::server::conn::http2::Builder::new(local::Local);
                let stream = hyper_util::rt::TokioIo::new(stream);
                tokio::task::spawn_local(server.serve_connection(stream, hang_up));
            }
        });
    });
    address
}

#[test]
fn a_member_that_hangs_up_again_and_again_is_called_ever_less_often() {
    let calls = Arc::<AtomicU64>::default();
    let (first, _) = listener();
    let _one = End::start(CLUSTER, 1, first, &[member(2, fickle(&calls))]);
    thread::sleep(Duration::from_secs(1));
    let calls = calls.load(Ordering::SeqCst);
    // Two connections, of which each is opened at once, and then ten times a second.
    assert!((4..=28).contains(&calls), "{calls} calls in a second");
}

#[test]
fn another_cluster_is_refused_whichever_side_it_is_on() {
    let (first, first_address) = listener();
    let (second, second_address) = listener();
    let mut one = End::start(CLUSTER, 1, first, &[member(2, second_address)]);
    let mut two = End::start(CLUSTER + 1, 2, second, &[member(1, first_address)]);
    one.send(2, urgent(1));
    two.send(1, urgent(2));
    one.wait(SOON, |one| one.back.len() == 1);
    two.wait(SOON, |two| two.back.len() == 1);
    assert!(one.got.is_empty() && two.got.is_empty());
}

#[test]
fn a_caller_that_nobody_knew_is_answered_where_it_says() {
    let (first, _) = listener();
    let (second, second_address) = listener();
    let mut one = End::start(CLUSTER, 1, first, &[member(2, second_address)]);
    let mut two = End::start(CLUSTER, 2, second, &[]);
    one.send(2, urgent(1));
    two.wait(SOON, |two| two.has(&urgent(1)));
    two.send(1, urgent(2));
    one.wait(SOON, |one| one.has(&urgent(2)));
    one.peers.stop();
    two.peers.stop();
}

const PATIENCE: question::Patience = question::Patience {
    longest: Duration::from_millis(300),
    after_first: Duration::from_millis(100),
};

fn url(address: SocketAddr) -> crate::config::Url {
    format!("http://{address}").parse().expect("a URL")
}

#[test]
fn a_member_that_does_not_know_the_members_yet_is_asked_until_it_does() {
    let (socket, address) = listener();
    let end = End::start(CLUSTER, 1, socket, &[]);
    let post = end.post.clone();
    let replaying = thread::spawn(move || {
        thread::sleep(PATIENCE.longest * 3);
        post.follow([member(1, address), member(2, address)].into());
    });
    let answers = question::ask_all(&[url(address)], PATIENCE).expect("a runtime");
    replaying.join().expect("no panic");
    let known = answers[0].as_ref().expect("it knows in the end");
    let ids: Vec<u64> = known.members.iter().map(|it| it.id).collect();
    assert_eq!((known.cluster_id, ids), (CLUSTER, vec![1, 2]));
    end.peers.stop();
}

#[test]
fn a_member_that_comes_a_moment_later_is_asked_too_and_one_that_never_comes_is_waited_for_no_longer()
 {
    let (socket, address) = listener();
    drop(socket);
    let (late, never) = (
        url(address),
        url("127.0.0.1:1".parse().expect("an address")),
    );
    let coming = thread::spawn(move || {
        thread::sleep(PATIENCE.longest / 3);
        let socket = TcpListener::bind(address).expect("it was free");
        socket.set_nonblocking(true).expect("a socket");
        End::start(CLUSTER, 1, socket, &[member(1, address)])
    });
    let began = Instant::now();
    let answers = question::ask_all(&[late, never], PATIENCE).expect("a runtime");
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(answers[0].is_ok(), "{answers:?}");
    let failed = answers[1].as_ref().expect_err("nobody listens there");
    assert!(failed.contains("127.0.0.1:1"), "{failed}");
    coming.join().expect("no panic").peers.stop();
}
