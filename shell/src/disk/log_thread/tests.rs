use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use metastore_core::wal::LogIdentity;
use tempfile::TempDir;

use super::*;
use crate::disk::files::RealFiles;
use crate::disk::files::faulty::{Fault, FaultyFiles};
use crate::disk::wal_file::WalOptions;

const IDENTITY: LogIdentity = LogIdentity {
    cluster_id: 7,
    member_id: 9,
};
const OPTIONS: WalOptions = WalOptions {
    segment_bytes: 1 << 16,
    first_segment_bytes_max: 1 << 16,
    sync: true,
    background: false,
};
const LONG: Duration = Duration::from_secs(3600);

fn start(dir: &Path, limits: LogLimits) -> (LogThread, Arc<FaultyFiles>, Receiver<Completion>) {
    let files = Arc::new(FaultyFiles::default());
    let wal = Wal::create(Arc::clone(&files), dir, IDENTITY, OPTIONS).unwrap();
    let (done, completions) = channel();
    let log = LogThread::spawn(wal, limits, move |completion| {
        done.send(completion).unwrap()
    })
    .unwrap();
    (log, files, completions)
}

fn write(ticket: u64, sync: bool) -> LogOp {
    let records = vec![Record::Entry {
        index: ticket - 1,
        payload: vec![1; 100],
    }];
    LogOp::Write {
        ticket,
        records,
        sync,
    }
}

fn entries_in(dir: &Path) -> (usize, bool) {
    let (_, recovered) = Wal::open(Arc::new(RealFiles), dir, IDENTITY, None, OPTIONS).unwrap();
    (
        recovered.replayed.entries.len(),
        recovered.replayed.closed_cleanly,
    )
}

#[test]
fn what_waits_is_written_as_one_batch_and_reported_once() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(FaultyFiles::default());
    let wal = Wal::create(Arc::clone(&files), dir.path(), IDENTITY, OPTIONS).unwrap();
    let (done, completions) = channel();
    let (go, gate) = channel();
    let log = LogThread::spawn(wal, LogLimits::default(), move |completion| {
        let first = completion.up_to_ticket == 1;
        done.send(completion.up_to_ticket).unwrap();
        if first {
            gate.recv().unwrap();
        }
    })
    .unwrap();
    let ops = log.ops();
    ops.send(write(1, true)).unwrap();
    assert_eq!(completions.recv().unwrap(), 1);
    for ticket in 2..=50 {
        ops.send(write(ticket, ticket % 2 == 0)).unwrap();
    }
    go.send(()).unwrap();
    assert_eq!(completions.recv().unwrap(), 50);
    let stats = log.stats();
    assert_eq!(
        (
            stats.batches(),
            stats.records(),
            stats.sync().cumulative()[17]
        ),
        (2, 50, 2)
    );
    log.stop();
    assert!(completions.try_recv().is_err());
    assert_eq!(entries_in(dir.path()), (50, true));
}

#[test]
fn a_write_of_any_size_goes_in_batches_and_is_reported_once() {
    let dir = TempDir::new().unwrap();
    let limits = LogLimits {
        batch_bytes_max: 1_000,
        ..LogLimits::default()
    };
    let (log, _, completions) = start(dir.path(), limits);
    let records = (0..100).map(|index| Record::Entry {
        index,
        payload: vec![1; 100],
    });
    let everything = LogOp::Write {
        ticket: 1,
        records: records.collect(),
        sync: true,
    };
    log.ops().send(everything).unwrap();
    assert_eq!(completions.recv().unwrap().up_to_ticket, 1);
    let batches = log.stats().batches();
    assert!((10..=20).contains(&batches), "{batches}");
    log.stop();
    assert!(completions.try_recv().is_err());
    assert_eq!(entries_in(dir.path()), (100, true));
}

#[test]
fn a_batch_takes_no_more_than_its_bytes() {
    let dir = TempDir::new().unwrap();
    let (log, _, completions) = start(
        dir.path(),
        LogLimits {
            batch_bytes_max: 1,
            ..LogLimits::default()
        },
    );
    for ticket in 1..=5 {
        log.ops().send(write(ticket, true)).unwrap();
    }
    for ticket in 1..=5 {
        assert_eq!(completions.recv().unwrap().up_to_ticket, ticket);
    }
    log.stop();
}

#[test]
fn what_nobody_waits_for_is_written_after_the_delay() {
    let dir = TempDir::new().unwrap();
    let limits = LogLimits {
        lazy_delay: Duration::from_millis(5),
        ..LogLimits::default()
    };
    let (log, _, completions) = start(dir.path(), limits);
    log.ops().send(write(1, false)).unwrap();
    assert_eq!(completions.recv().unwrap().up_to_ticket, 1);
    assert_eq!(log.stats().sync().cumulative()[17], 1);
    log.stop();
}

#[test]
fn what_nobody_waits_for_is_not_lost_when_the_log_stops() {
    for by_dropping_the_senders in [false, true] {
        let dir = TempDir::new().unwrap();
        let (log, _, completions) = start(
            dir.path(),
            LogLimits {
                lazy_delay: LONG,
                ..LogLimits::default()
            },
        );
        log.ops().send(write(1, false)).unwrap();
        log.ops().send(write(2, false)).unwrap();
        if by_dropping_the_senders {
            let LogThread { ops, thread, .. } = log;
            drop(ops);
            thread.join().unwrap();
        } else {
            log.stop();
        }
        assert_eq!(completions.recv().unwrap().up_to_ticket, 2);
        assert_eq!(entries_in(dir.path()), (2, true));
    }
}

#[test]
fn an_error_is_reported_once_and_then_nothing_is_accepted() {
    for (fault, full) in [
        (Fault::FailSync, false),
        (Fault::NoSpace { written: 40 }, true),
    ] {
        let dir = TempDir::new().unwrap();
        let (log, files, completions) = start(dir.path(), LogLimits::default());
        let ops = log.ops();
        ops.send(write(1, true)).unwrap();
        assert!(completions.recv().unwrap().result.is_ok());
        files.inject(fault);
        ops.send(write(2, true)).unwrap();
        let failed = completions.recv().unwrap();
        assert_eq!(
            (
                failed.up_to_ticket,
                failed.result.unwrap_err().is_out_of_space()
            ),
            (2, full)
        );
        log.stop();
        assert!(ops.send(write(3, true)).is_err());
        assert!(completions.recv().is_err(), "there is no other completion");
        assert_eq!(files.tried_after_fault(), Some(0));
    }
}
