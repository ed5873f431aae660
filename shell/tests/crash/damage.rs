//! What a server does with a log that somebody else changed: an unfinished end is cut, damage is refused.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use crate::{
    cluster::{random::Random, server_process::ServerProcess},
    in_one_session,
    ledger::Ledger,
    load,
};

/// A killed server with some acknowledged writes, and what was acknowledged.
fn killed_server() -> (ServerProcess, Ledger) {
    let mut server = ServerProcess::metastore(&[]);
    let mut ledger = Ledger::default();
    server.start();
    in_one_session(&server, async |connection| {
        load::open_accounts(connection, &mut ledger).await;
    });
    server.kill();
    (server, ledger)
}

/// The segments of the log, oldest first. A spare that is prepared ahead is not one yet.
fn segments(server: &ServerProcess) -> Vec<PathBuf> {
    let dir = server.data_dir().join("member/wal");
    let mut segments: Vec<_> = fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    segments.sort();
    assert!(!segments.is_empty(), "no segments in {}", dir.display());
    segments
}

#[test]
fn an_unfinished_last_write_is_cut_and_nothing_before_it() {
    let (mut server, mut ledger) = killed_server();
    let newest = segments(&server).pop().expect("there is one");
    let bytes = fs::read(&newest).expect("a readable segment");
    let used = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .expect("a segment has a header")
        + 1;
    let garbage = [0xA5; 100];
    let file = OpenOptions::new()
        .write(true)
        .open(&newest)
        .expect("a writable segment");
    let end = u64::try_from(used.next_multiple_of(BATCH_ALIGNMENT)).expect("an offset");
    file.write_all_at(&garbage, end).expect("a write");

    server.start();
    let log = server.stderr();
    assert!(
        log.lines()
            .any(|line| line.contains("torn") || line.contains("unfinished")),
        "the log must say that an unfinished write was cut:\n{log}"
    );
    in_one_session(&server, async |connection| {
        ledger
            .check_and_adopt(connection, &mut Random::seeded(1))
            .await;
    });
}

#[test]
fn a_flipped_byte_in_the_middle_of_the_log_stops_the_start() {
    let (mut server, _) = killed_server();
    let oldest = segments(&server).remove(0);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&oldest)
        .expect("a writable segment");
    let mut byte = [0];
    file.read_exact_at(&mut byte, IN_THE_FIRST_BATCH)
        .expect("a read");
    file.write_all_at(&[byte[0] ^ 0x10], IN_THE_FIRST_BATCH)
        .expect("a write");
    let before = fs::read(&oldest).expect("a readable segment");

    let ending = server.run_to_refusal();
    let name = oldest.file_name().expect("a name").to_string_lossy();
    assert_eq!(ending.status.code(), Some(1), "{ending:?}");
    assert!(
        ending.stderr.contains(&*name) && ending.stderr.contains("offset"),
        "the message must name {name} and the offset:\n{}",
        ending.stderr
    );
    assert!(
        fs::read(&oldest).expect("a readable segment") == before,
        "a refused log must stay as it was"
    );
}

/// After the 64 bytes of the segment's header, in the payload of the first batch.
const IN_THE_FIRST_BATCH: u64 = 64 + 24 + 5;
const BATCH_ALIGNMENT: usize = 8;
