//! How a log joins its checkpoint at a start.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use openraft::testing::{blank_ent, log_id};

use super::*;
use crate::output::DiskOp;
use crate::raft::alone::end_alone;
use crate::raft::outbox::Outbox;
use crate::wal::{Replay, Replayed};

fn entry(term: u64, index: u64) -> Record {
    Record::Entry {
        index,
        payload: codec::encode(&blank_ent::<TypeConfig>(term, 1, index)),
    }
}

fn replay(records: &[Record], checkpoint: u64) -> Replayed {
    let mut replay = Replay::new(Some(checkpoint));
    for record in records {
        replay.apply(record.borrowed()).expect("a good log");
    }
    replay.finish().expect("a whole log")
}

/// What a restart finds of these records behind a checkpoint.
fn recover(disk: &[Record], purged: LogId) -> RecoveredLog {
    let replayed = replay(disk, purged.index());
    let entries = replayed.entries.iter();
    let position = |payload: &Vec<u8>| codec::decode(payload).expect("a position of this test");
    RecoveredLog {
        committed: replayed.committed.as_ref().map(position),
        purged: Some(purged),
        entries: entries
            .map(|(_, payload)| codec::decode(payload).expect("an entry of this test"))
            .collect(),
        ..RecoveredLog::default()
    }
}

/// Starts a log from these records and a checkpoint, and answers all that is on the disk then.
fn restarted(mut disk: Vec<Record>, purged: LogId) -> (LogStore, Vec<Record>) {
    let outbox: SharedOutbox = Rc::new(RefCell::new(Outbox::new(0)));
    let log = LogStore::new(recover(&disk, purged), Rc::clone(&outbox), 1 << 20);
    while let Some(DiskOp::Write { records, .. }) = { outbox.borrow_mut().next_disk() } {
        disk.extend(records);
    }
    (log, disk)
}

fn last_log_id(log: &mut LogStore) -> Option<LogId> {
    match pin!(log.get_log_state()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(state) => state.expect("memory does not fail").last_log_id,
        Poll::Pending => panic!("memory is there at once"),
    }
}

#[test]
fn a_checkpoint_beyond_the_synced_log_lets_it_begin_anew() {
    let disk: Vec<Record> = (0..4).map(|index| entry(1, index)).collect();
    let checkpoint = log_id::<TypeConfig>(1, 1, 6);
    let (mut log, mut disk) = restarted(disk, checkpoint);
    assert_eq!(last_log_id(&mut log), Some(checkpoint));
    disk.push(entry(1, 7));
    assert_eq!(replay(&disk, 6).entries.len(), 1);
}

#[test]
fn entries_that_an_installed_snapshot_made_void_are_gone_after_a_restart() {
    let disk: Vec<Record> = (0..9).map(|index| entry(1, index)).collect();
    let checkpoint = log_id::<TypeConfig>(2, 1, 6);
    let (mut log, mut disk) = restarted(disk, checkpoint);
    assert_eq!(last_log_id(&mut log), Some(checkpoint));
    disk.push(entry(2, 7));
    let entries = replay(&disk, 6).entries;
    assert_eq!(entries.len(), 1, "neither entry 7 nor entry 8 of term 1");
}

#[test]
fn entries_after_a_checkpoint_of_their_own_term_stay() {
    let disk: Vec<Record> = (0..9).map(|index| entry(1, index)).collect();
    let (mut log, after) = restarted(disk.clone(), log_id::<TypeConfig>(1, 1, 6));
    assert_eq!(last_log_id(&mut log), Some(log_id::<TypeConfig>(1, 1, 8)));
    assert_eq!(after, disk, "nothing is written");
}

/// A member whose disk holds this goes on alone and is started twice more: the log is whole, and ends with the entry
/// that says so, committed.
fn goes_on_alone(mut disk: Vec<Record>, purged: LogId) {
    let mut recovered = recover(&disk, purged);
    disk.extend(end_alone(&mut recovered, 1, Vec::new()));
    let alone = recovered.committed.expect("committed by decree");
    assert_eq!(alone.index(), purged.index() + 1);
    let outbox: SharedOutbox = Rc::new(RefCell::new(Outbox::new(0)));
    let mut log = LogStore::new(recovered, Rc::clone(&outbox), 1 << 20);
    assert_eq!(last_log_id(&mut log), Some(alone));
    let left = { outbox.borrow_mut().next_disk() };
    assert!(
        left.is_none(),
        "what the disk must learn was in the records"
    );
    let (mut log, disk) = restarted(disk, purged);
    assert_eq!(last_log_id(&mut log), Some(alone));
    assert_eq!(recover(&disk, purged).committed, Some(alone));
}

#[test]
fn a_member_whose_log_ends_before_its_checkpoint_goes_on_alone() {
    let disk = (0..4).map(|index| entry(1, index)).collect();
    goes_on_alone(disk, log_id::<TypeConfig>(1, 1, 6));
}

#[test]
fn a_member_whose_log_a_checkpoint_made_void_goes_on_alone() {
    let disk = (0..9).map(|index| entry(1, index)).collect();
    goes_on_alone(disk, log_id::<TypeConfig>(2, 1, 6));
}

#[test]
fn a_log_that_was_long_gives_its_slots_back_and_a_short_one_keeps_them() {
    let slots = |log: &LogStore| log.log.borrow().entries.capacity();
    let long = 6 * SLOTS_KEPT as u64;
    let (mut log, _) = restarted(
        (0..=long).map(|index| entry(1, index)).collect(),
        log_id::<TypeConfig>(1, 1, 0),
    );
    assert!(slots(&log) >= 6 * SLOTS_KEPT);
    for (purged, kept) in [(long / 2, 6), (long - 10, 1), (long, 1)] {
        let done = pin!(log.purge(log_id::<TypeConfig>(1, 1, purged)))
            .poll(&mut Context::from_waker(Waker::noop()));
        assert!(done.is_ready());
        assert!(slots(&log) >= kept * SLOTS_KEPT, "after {purged}");
    }
    assert!(slots(&log) < 2 * SLOTS_KEPT);
}
