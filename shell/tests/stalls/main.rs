//! How long a put waits beyond its fdatasync while the server compacts, writes checkpoints, or serves a slow reader.

#[path = "../cluster/mod.rs"]
mod cluster;
mod filling;
mod findings;
mod open_loop;

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};

use cluster::{
    connection::{Connection, single_threaded_runtime},
    server_process::ServerProcess,
};
use filling::KEYS;
use findings::{Findings, Window};
use metastore_proto::etcdserverpb::{CompactionRequest, RangeRequest};
use open_loop::PHASE;
use tonic::Code;

#[test]
#[ignore = "a measurement of about two minutes; run it on a quiet machine"]
fn a_put_is_held_up_at_most_ten_milliseconds_beyond_its_fdatasync() {
    let mut server = ServerProcess::metastore(&[ROOM]);
    server.start();
    filling::put_every_key(server.client_address());
    end(&mut server);
    let undisturbed = measure("nothing else", &mut server, |_, _| vec![whole_phase()]);
    let reader = measure("a reader holds a view", &mut server, hold_a_view);

    server.start();
    let newest = filling::put_every_key(server.client_address());
    end(&mut server);
    let compaction = measure("a compaction", &mut server, |server, origin| {
        vec![compact(server, origin, newest)]
    });
    drop(server);

    let mut server = ServerProcess::metastore(&[ROOM, CHECKPOINT_OFTEN]);
    server.start();
    filling::put_every_key(server.client_address());
    end(&mut server);
    let checkpoints = measure("checkpoints", &mut server, watch_checkpoints);

    let phases = [undisturbed, compaction, checkpoints, reader];
    println!("{}", findings::report(&phases));
    let [undisturbed, compaction, checkpoints, reader] = &phases;
    assert!(
        undisturbed.beyond_the_disk(999) <= HELD_UP_MAX,
        "puts are held up while nothing else goes on: this machine is too busy to tell why"
    );
    assert!(checkpoints.checkpoints() > 0, "no checkpoint was written");
    assert!(
        reader.busy() >= VIEW_HELD,
        "the reader did not hold its view long enough"
    );
    assert!(
        compaction.busy() < PHASE,
        "the compaction outlasted the puts"
    );
    for phase in &phases {
        let beyond = phase.beyond_the_disk(999);
        assert!(
            beyond <= HELD_UP_MAX,
            "{}: puts were held up {beyond:?} beyond the slowest fdatasync",
            phase.name()
        );
    }
}

/// Starts the server on the data it has, puts while `disturb` does its work, and stops it, so that what the server says
/// at its end is about this phase only.
fn measure(
    name: &'static str,
    server: &mut ServerProcess,
    disturb: impl FnOnce(&ServerProcess, Instant) -> Vec<Window>,
) -> Findings {
    server.start();
    let origin = Instant::now() + SETTLING;
    let address = server.client_address();
    let puts = thread::spawn(move || open_loop::drive(address, origin));
    sleep_until(origin + QUIET_BEFORE);
    let windows = disturb(server, origin);
    let puts = puts.join().expect("every put succeeds");
    end(server);
    Findings::of(name, &windows, puts, &server.stderr())
}

fn end(server: &mut ServerProcess) {
    let status = server.stop();
    // It ends by the signal it was stopped with, after it has closed everything.
    assert_eq!(status.signal(), Some(libc::SIGTERM), "ended with {status}");
}

fn whole_phase() -> Window {
    (Duration::ZERO, PHASE)
}

/// Compacts everything older than `revision`, which is a million versions when each key has been written twice.
fn compact(server: &ServerProcess, origin: Instant, revision: i64) -> Window {
    single_threaded_runtime().block_on(async {
        let mut connection = Connection::open(server.client_address())
            .await
            .expect("a ready server");
        let begin = origin.elapsed();
        let request = CompactionRequest {
            revision,
            physical: true,
        };
        connection.kv.compact(request).await.expect("a compaction");
        let end = origin.elapsed();
        let old = RangeRequest {
            key: filling::key(0),
            revision: revision - 1,
            ..RangeRequest::default()
        };
        let refused = connection.kv.range(old).await.expect_err("it is gone");
        assert_eq!(refused.code(), Code::OutOfRange);
        (begin, end)
    })
}

/// Asks for all keys, takes the first chunk, reads nothing for ten seconds, and reads the rest when the puts are over.
fn hold_a_view(server: &ServerProcess, origin: Instant) -> Vec<Window> {
    single_threaded_runtime().block_on(async {
        let mut connection = Connection::open(server.client_address())
            .await
            .expect("a ready server");
        let everything = RangeRequest {
            key: vec![0],
            range_end: vec![0],
            ..RangeRequest::default()
        };
        let begin = origin.elapsed();
        let stream = connection.kv.range_stream(everything).await;
        let mut stream = stream.expect("a range in chunks").into_inner();
        let mut chunks = Vec::new();
        chunks.extend(stream.message().await.expect("the first chunk"));
        assert_eq!(chunks.len(), 1, "the stream has begun and not ended");
        tokio::time::sleep(VIEW_HELD).await;
        let end = origin.elapsed();
        tokio::time::sleep((PHASE + AFTER_THE_PUTS).saturating_sub(origin.elapsed())).await;

        while let Some(chunk) = stream.message().await.expect("the next chunk") {
            chunks.push(chunk);
        }
        assert!(
            chunks.len() > 2,
            "the first chunk was not nearly everything"
        );
        let ranges: Vec<_> = chunks
            .into_iter()
            .filter_map(|chunk| chunk.range_response)
            .collect();
        let last = ranges.last().expect("several chunks");
        let keys: u64 = ranges.iter().map(|range| range.kvs.len() as u64).sum();
        assert_eq!((keys, last.count), (KEYS, KEYS.cast_signed()));
        let of_view = last.header.as_ref().expect("a header").revision;
        let newest_read = ranges
            .iter()
            .flat_map(|range| &range.kvs)
            .map(|kv| kv.mod_revision)
            .max();
        assert!(
            newest_read <= Some(of_view),
            "the view shows {newest_read:?} and is of {of_view}"
        );
        vec![(begin, end)]
    })
}

/// Looks for the unfinished file of a checkpoint until the puts are over.
fn watch_checkpoints(server: &ServerProcess, origin: Instant) -> Vec<Window> {
    let folder = server.data_dir().join("member/snap");
    let mut windows: Vec<Window> = Vec::new();
    let mut writing = false;
    while origin.elapsed() < PHASE {
        let names = fs::read_dir(&folder).expect("the folder of checkpoints");
        let seen = names
            .map(|entry| entry.expect("an entry").path())
            .any(|path| path.extension().is_some_and(|ending| ending == "tmp"));
        let now = origin.elapsed();
        match windows.last_mut() {
            Some(last) if writing => last.1 = now,
            _ if seen => windows.push((now.saturating_sub(LOOK_EVERY), now)),
            _ => {}
        }
        writing = seen;
        thread::sleep(LOOK_EVERY);
    }
    assert!(!windows.is_empty(), "no checkpoint was being written");
    windows
}

fn sleep_until(when: Instant) {
    thread::sleep(when.saturating_duration_since(Instant::now()));
}

const HELD_UP_MAX: Duration = Duration::from_millis(10);
const VIEW_HELD: Duration = Duration::from_secs(10);
/// From the start of the server to the first put.
const SETTLING: Duration = Duration::from_secs(2);
/// From the first put to what disturbs.
const QUIET_BEFORE: Duration = Duration::from_secs(1);
const AFTER_THE_PUTS: Duration = Duration::from_millis(500);
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Two million versions are more than the usual quota.
const ROOM: &str = "--quota-backend-bytes=8589934592";
const CHECKPOINT_OFTEN: &str = "--snapshot-count=5000";
