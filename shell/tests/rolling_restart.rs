//! Members are restarted one after the other while clients write: nothing is lost that a client retries once.

mod cluster;

use std::time::{Duration, Instant};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    several::{Several, get, in_words},
};
use metastore_proto::etcdserverpb::PutRequest;
use tokio::task::JoinSet;

/// What one client did.
#[derive(Default)]
struct Tally {
    written: u64,
    retried: u64,
    failed_twice: Vec<String>,
    /// What members answered that went on: a client cannot know whether such a write happened.
    unknown: Vec<String>,
    slowest: Duration,
}

/// Writes through the members in turn; what fails is tried once more, elsewhere.
async fn write(client: usize, addresses: Vec<std::net::SocketAddr>, until: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut place = client;
    let mut connections: Vec<Option<Connection>> = addresses.iter().map(|_| None).collect();
    let mut number = 0;
    while Instant::now() < until {
        let began = Instant::now();
        let put = PutRequest {
            key: format!("{client}/{number}").into_bytes(),
            value: b"v".to_vec(),
            ..PutRequest::default()
        };
        let mut errors = Vec::new();
        for _ in 0..2 {
            let at = place % addresses.len();
            match attempt(&mut connections[at], addresses[at], put.clone()).await {
                Ok(()) => break,
                Err(error) => errors.push(format!("{at}: {error}")),
            }
            connections[at] = None;
            place += 1;
        }
        let timed_out = errors.iter().filter(|it| it.contains("timed out"));
        tally.unknown.extend(timed_out.cloned());
        match errors.len() {
            0 => {}
            1 => tally.retried += 1,
            _ => tally.failed_twice.push(errors.join(", then ")),
        }
        if errors.len() < 2 {
            tally.written += 1;
        }
        tally.slowest = tally.slowest.max(began.elapsed());
        number += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tally
}

async fn attempt(
    connection: &mut Option<Connection>,
    address: std::net::SocketAddr,
    put: PutRequest,
) -> Result<(), String> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(address).await?),
    };
    open.kv.put(put).await.map(|_| ()).map_err(in_words)
}

#[test]
fn a_rolling_restart_loses_nothing_that_is_retried_once() {
    let mut several = Several::of(3, &[]);
    several.start();
    single_threaded_runtime().block_on(async {
        several.leader().await;
        let addresses: Vec<_> = several
            .members
            .iter()
            .map(|it| it.client_address())
            .collect();
        let until = Instant::now() + Duration::from_secs(6);
        let mut clients = JoinSet::new();
        for client in 0..6 {
            clients.spawn(write(client, addresses.clone(), until));
        }
        let (mut several, restarted) = tokio::task::spawn_blocking(move || {
            for member in &mut several.members {
                std::thread::sleep(Duration::from_millis(700));
                member.stop();
                member.start();
            }
            (several, Instant::now())
        })
        .await
        .expect("the restarts");
        assert!(
            restarted < until,
            "the restarts took longer than the clients wrote"
        );
        let tallies = clients.join_all().await;
        let mut written = 0;
        for tally in &tallies {
            assert_eq!(tally.failed_twice, Vec::<String>::new());
            assert_eq!(tally.unknown, Vec::<String>::new());
            assert!(
                tally.slowest < Duration::from_secs(1),
                "{:?}",
                tally.slowest
            );
            written += tally.written;
        }
        assert!(written > 1000, "only {written} writes");
        let retried: u64 = tallies.iter().map(|it| it.retried).sum();
        eprintln!("{written} written, {retried} of them at the second attempt");
        for member in &mut several.members {
            assert_eq!(get(member, "0/0", false).await, Ok(Some("v".to_owned())));
        }
    });
}
