//! What the simulated disk keeps and what it may lose.

use metastore_core::wal::Record;

use super::Disk;
use crate::dice::Dice;
use crate::plan::DiskError;

fn vote(number: u8) -> Vec<Record> {
    // An encoded vote is opaque to the log; `read_log` is asked directly here.
    vec![Record::Vote(vec![number; 700])]
}

fn disk(seed: u64) -> Disk {
    Disk::new(1, 4096, Dice::new(seed, "disk"))
}

fn last_vote(disk: &mut Disk) -> Option<u8> {
    let replayed = disk.read_log().expect("what a crash leaves is readable");
    disk.cut_tails(|_| true);
    replayed.vote.map(|vote| vote[0])
}

#[test]
fn a_synced_write_survives_every_crash() {
    for seed in 0..200 {
        let mut disk = disk(seed);
        disk.begin_write(&vote(1));
        disk.complete_write();
        disk.begin_write(&vote(2));
        disk.crash();
        assert!(last_vote(&mut disk) >= Some(1), "seed {seed}");
    }
}

#[test]
fn an_unsynced_write_is_sometimes_kept_and_sometimes_lost_but_never_half() {
    let mut kept = 0;
    for seed in 0..200 {
        let mut disk = disk(seed);
        disk.begin_write(&vote(1));
        disk.complete_write();
        disk.begin_write(&vote(2));
        disk.crash();
        kept += u64::from(last_vote(&mut disk) == Some(2));
    }
    assert!((20..180).contains(&kept), "{kept} of 200");
}

#[test]
fn a_log_over_many_segments_is_read_back_after_each_crash() {
    for seed in 0..50 {
        let mut disk = disk(seed);
        for number in 1..30 {
            if disk.is_full(&vote(number)) {
                disk.begin_segment();
                disk.complete_write();
            }
            disk.begin_write(&vote(number));
            disk.complete_write();
            if number % 7 == 0 {
                disk.begin_segment();
                disk.crash();
                assert_eq!(last_vote(&mut disk), Some(number), "seed {seed}");
            }
        }
        assert!(disk.segments.len() > 3);
    }
}

#[test]
fn crashes_in_one_start_after_the_other_lose_nothing_that_was_synced() {
    let mut how = std::collections::BTreeSet::new();
    let mut kept = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut disk = disk(seed);
        disk.begin_write(&vote(1));
        disk.complete_write();
        disk.begin_write(&vote(2));
        disk.crash();
        let mut least = 1;
        for _ in 0..4 {
            // A vote of this test cannot be decoded, so the last way of all is left out.
            how.extend(disk.crash_in_start().ok());
            let left = last_vote(&mut disk).unwrap_or(0);
            assert!(left >= least, "seed {seed}");
            least = left;
            kept.insert(left);
        }
    }
    assert!(how.len() > 4 && kept.len() == 2, "{how:?} {kept:?}");
}

#[test]
fn a_forgotten_batch_is_gone() {
    let mut disk = disk(1);
    for number in [1, 2] {
        disk.begin_write(&vote(number));
        disk.complete_write();
    }
    disk.forget_last_batch();
    assert_eq!(last_vote(&mut disk), Some(1));
}

#[test]
fn a_write_that_failed_leaves_what_was_synced_before() {
    for error in [DiskError::Io, DiskError::Full, DiskError::Sync] {
        let mut left = std::collections::BTreeSet::new();
        for seed in 0..60 {
            let mut disk = disk(seed);
            disk.begin_write(&vote(1));
            disk.complete_write();
            disk.fail_write(&vote(2), error);
            disk.crash();
            left.insert(last_vote(&mut disk));
        }
        assert!(left.contains(&Some(1)) && !left.contains(&None), "{left:?}");
        // Only what could not be synced may be there as a whole.
        assert_eq!(left.contains(&Some(2)), error == DiskError::Sync);
    }
}
