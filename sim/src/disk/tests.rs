//! What the simulated disk keeps and what it may lose.

use metastore_core::wal::Record;

use super::{Disk, Rot};
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

/// A disk whose log has several segments, with a number of votes.
fn long_written(seed: u64) -> Disk {
    let mut disk = disk(seed);
    for number in 1..20 {
        if disk.is_full(&vote(number)) {
            disk.begin_segment();
            disk.complete_write();
        }
        disk.begin_write(&vote(number));
        disk.complete_write();
    }
    disk
}

#[test]
fn a_bit_that_flips_in_what_was_written_long_ago_is_refused_by_name() {
    for seed in 0..300 {
        let mut disk = long_written(seed);
        let what = disk.rot(&mut Dice::new(seed, "rot")).expect("old data");
        let rot = disk.rotten().expect("it is still there");
        let refused = disk.read_log().expect_err(&what);
        assert!(refused.starts_with(&rot.to_string()), "{what}: {refused}");
        assert!(!disk.found().missed_rot, "{what}");
    }
}

#[test]
fn rot_that_nobody_notices_is_told() {
    let mut disk = long_written(1);
    disk.rot = Some(Rot::Segment(2));
    disk.read_log().expect("no bit has flipped");
    assert!(disk.found().missed_rot);
    disk.rot = Some(Rot::Segment(200));
    disk.read_log().expect("no bit has flipped");
    assert!(!disk.found().missed_rot && !disk.is_rotten());
}

#[test]
fn a_checkpoint_that_is_written_again_has_no_flipped_bit() {
    let mut disk = disk(1);
    disk.begin_checkpoint(7, vec![0; 100]);
    disk.complete_checkpoint();
    disk.rot = Some(Rot::Checkpoint(7));
    assert!(disk.is_rotten());
    disk.begin_checkpoint(7, vec![0; 100]);
    disk.complete_checkpoint();
    assert!(!disk.is_rotten());
}

#[test]
fn a_log_that_was_closed_in_order_is_known_by_it() {
    let mut disk = disk(1);
    disk.begin_write(&vote(1));
    disk.close();
    assert_eq!(last_vote(&mut disk), Some(1));
    assert!(disk.found().closed && !disk.found().torn_tail);
}
