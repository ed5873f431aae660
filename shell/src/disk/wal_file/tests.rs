use std::fs;

use metastore_core::wal::CorruptionKind;
use tempfile::TempDir;

use super::*;
use crate::disk::files::RealFiles;
use crate::disk::files::faulty::{Fault, FaultyFiles};
use crate::disk::segment_files::list_segments;

const IDENTITY: LogIdentity = LogIdentity {
    cluster_id: 7,
    member_id: 9,
};
const SMALL: WalOptions = WalOptions {
    segment_bytes: 2048,
    first_segment_bytes_max: 2048,
    sync: true,
    background: false,
};

/// For reading back: nobody pulls the plug on the real disk.
const UNSYNCED: WalOptions = WalOptions {
    sync: false,
    ..SMALL
};

fn entry(index: u64) -> Record {
    Record::Entry {
        index,
        payload: payload(index),
    }
}

/// Of different lengths, from a few bytes to several sectors.
fn payload(index: u64) -> Vec<u8> {
    let length = usize::try_from(index * 397 % 1500).unwrap();
    index
        .to_le_bytes()
        .iter()
        .copied()
        .cycle()
        .take(8 + length)
        .collect()
}

fn write<F: Files>(wal: &mut Wal<F>, records: impl IntoIterator<Item = Record>) {
    for record in records {
        wal.push(record).unwrap();
    }
    wal.commit().unwrap();
}

fn vote(number: u64) -> Record {
    Record::Vote(number.to_le_bytes().to_vec())
}

fn vote_of(replayed: &Replayed) -> u64 {
    replayed
        .vote
        .as_ref()
        .map_or(0, |vote| u64::from_le_bytes(vote[..].try_into().unwrap()))
}

fn create(dir: &Path, options: WalOptions) -> Wal<RealFiles> {
    Wal::create(Arc::new(RealFiles), dir, IDENTITY, options).unwrap()
}

fn reopen(dir: &Path, checkpoint: Option<u64>) -> Result<(Wal<RealFiles>, Recovered), WalError> {
    Wal::open(Arc::new(RealFiles), dir, IDENTITY, checkpoint, UNSYNCED)
}

#[test]
fn a_start_makes_every_segment_durable_whatever_the_life_before_did() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(dir.path(), UNSYNCED);
    for index in 0..40 {
        write(&mut wal, [entry(index)]);
    }
    let segments = list_segments(dir.path()).unwrap();
    assert!(segments.len() > 3);
    wal.close().unwrap();
    let files = Arc::new(FaultyFiles::default());
    Wal::open(Arc::clone(&files), dir.path(), IDENTITY, None, SMALL).unwrap();
    let synced = files.synced_files();
    for segment in segments {
        let path = segment_path(dir.path(), segment);
        assert!(synced.contains(&path), "{path:?} in {synced:?}");
    }
    files.inject(Fault::FailSync);
    assert!(Wal::open(Arc::clone(&files), dir.path(), IDENTITY, None, SMALL).is_err());
}

fn indexes(recovered: &Recovered) -> Vec<u64> {
    recovered
        .replayed
        .entries
        .iter()
        .map(|(index, _)| *index)
        .collect()
}

#[test]
fn what_was_committed_is_there_after_a_restart() {
    for background in [false, true] {
        let dir = TempDir::new().unwrap();
        let mut wal = create(
            dir.path(),
            WalOptions {
                background,
                ..SMALL
            },
        );
        write(&mut wal, [vote(1), entry(0)]);
        for index in 1..40 {
            write(&mut wal, [entry(index)]);
        }
        assert!(wal.segment_count() > 3);
        wal.close().unwrap();
        let (wal, recovered) = reopen(dir.path(), None).unwrap();
        assert_eq!(indexes(&recovered), (0..40).collect::<Vec<_>>());
        assert!(
            recovered
                .replayed
                .entries
                .iter()
                .all(|(index, bytes)| *bytes == payload(*index))
        );
        assert!(recovered.replayed.closed_cleanly && recovered.torn.is_none());
        drop(wal);
        let (_, recovered) = reopen(dir.path(), Some(38)).unwrap();
        assert!(!recovered.replayed.closed_cleanly);
        assert_eq!(indexes(&recovered), [39]);
    }
}

#[test]
fn a_batch_larger_than_a_segment_has_one_to_itself() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(dir.path(), SMALL);
    write(&mut wal, [entry(0)]);
    write(
        &mut wal,
        [Record::Entry {
            index: 1,
            payload: vec![1; 9000],
        }],
    );
    write(&mut wal, [entry(2)]);
    assert_eq!(wal.segment_count(), 3);
    drop(wal);
    assert_eq!(indexes(&reopen(dir.path(), None).unwrap().1), [0, 1, 2]);
}

#[test]
fn the_vote_survives_the_removal_of_the_segment_it_was_written_to() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(dir.path(), SMALL);
    write(&mut wal, [vote(5), Record::Committed(b"c".to_vec())]);
    for index in 0..30 {
        write(&mut wal, [entry(index)]);
    }
    write(
        &mut wal,
        [Record::Purge {
            payload: b"p".to_vec(),
            index: 20,
        }],
    );
    let before = list_segments(dir.path()).unwrap();
    wal.drop_covered(20);
    let after = list_segments(dir.path()).unwrap();
    assert!(after.len() < before.len() && before.ends_with(&after));
    assert_eq!(after.len(), wal.segment_count());
    drop(wal);
    let (_, recovered) = reopen(dir.path(), Some(20)).unwrap();
    assert_eq!(vote_of(&recovered.replayed), 5);
    assert_eq!(recovered.replayed.committed.as_deref(), Some(&b"c"[..]));
    assert_eq!(recovered.replayed.purged, Some((20, b"p".to_vec())));
    assert_eq!(indexes(&recovered), (21..30).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_could_not_be_removed_goes_first_with_the_next() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(FaultyFiles::default());
    let mut wal = Wal::create(Arc::clone(&files), dir.path(), IDENTITY, SMALL).unwrap();
    for index in 0..30 {
        write(&mut wal, [entry(index)]);
    }
    let before = list_segments(dir.path()).unwrap();
    files.inject(Fault::FailSyncDir);
    wal.drop_covered(10);
    let held_up = list_segments(dir.path()).unwrap();
    assert_eq!(held_up, before[1..], "the first is not durably gone");
    wal.drop_covered(20);
    let after = list_segments(dir.path()).unwrap();
    assert!(after.len() < held_up.len() && held_up.ends_with(&after));
    assert_eq!(after.len(), wal.segment_count());
}

#[test]
fn a_byte_flipped_before_the_last_batch_is_refused_with_file_and_offset() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(dir.path(), SMALL);
    for index in 0..12 {
        write(&mut wal, [entry(index)]);
    }
    drop(wal);
    let last = *list_segments(dir.path()).unwrap().last().unwrap();
    assert!(last > 2);
    for segment in 1..last {
        let path = segment_path(dir.path(), segment);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(11) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            fs::write(&path, &bad).unwrap();
            let Err(WalError::Corrupt {
                path: named,
                corruption,
            }) = reopen(dir.path(), None)
            else {
                panic!("a flipped byte at {at} of segment {segment} was not refused");
            };
            assert!(named == path && corruption.offset <= at);
            assert_eq!(
                fs::read(&path).unwrap(),
                bad,
                "a refused log is not changed"
            );
        }
        fs::write(&path, &good).unwrap();
    }
    let text = {
        fs::write(segment_path(dir.path(), 1), b"rubbish").unwrap();
        reopen(dir.path(), None).err().unwrap().to_string()
    };
    assert!(
        text.contains("0000000000000001.wal: offset 0: the segment's header is damaged;"),
        "{text}"
    );
    assert!(!text.contains('\n'));
}

#[test]
fn a_log_with_a_missing_segment_or_none_is_refused() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(
        reopen(dir.path(), None),
        Err(WalError::Missing { .. })
    ));
    let mut wal = create(dir.path(), SMALL);
    for index in 0..12 {
        write(&mut wal, [entry(index)]);
    }
    drop(wal);
    let second = segment_path(dir.path(), 2);
    fs::remove_file(&second).unwrap();
    assert!(
        matches!(reopen(dir.path(), None), Err(WalError::SegmentMissing { path }) if path == second)
    );
}

#[test]
fn a_log_is_not_created_over_one_with_contents() {
    let dir = TempDir::new().unwrap();
    drop(create(dir.path(), SMALL));
    let mut wal = create(dir.path(), SMALL);
    write(&mut wal, [vote(1)]);
    drop(wal);
    let again = Wal::create(Arc::new(RealFiles), dir.path(), IDENTITY, SMALL);
    assert!(matches!(again, Err(WalError::AlreadyThere { .. })));
    let stranger = LogIdentity {
        cluster_id: 8,
        ..IDENTITY
    };
    let other = Wal::open(Arc::new(RealFiles), dir.path(), stranger, None, SMALL);
    let Err(WalError::Corrupt { corruption, .. }) = other else {
        panic!("another cluster's log was opened")
    };
    assert_eq!(corruption.kind, CorruptionKind::WrongCluster { found: 7 });
}

#[test]
fn a_torn_tail_is_cut_and_overwritten() {
    let dir = TempDir::new().unwrap();
    let mut wal = create(
        dir.path(),
        WalOptions {
            segment_bytes: 8192,
            first_segment_bytes_max: 8192,
            ..SMALL
        },
    );
    write(&mut wal, [entry(0)]);
    write(&mut wal, [entry(1)]);
    drop(wal);
    let path = segment_path(dir.path(), 1);
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[last] = 0;
    fs::write(&path, &bytes).unwrap();
    let (mut wal, recovered) = reopen(dir.path(), None).unwrap();
    let torn = recovered.torn.as_ref().unwrap();
    assert!(torn.path == path && torn.offset > 64 && torn.dropped_bytes > 24);
    assert_eq!(indexes(&recovered), [0]);
    write(&mut wal, [entry(1)]);
    drop(wal);
    let (_, recovered) = reopen(dir.path(), None).unwrap();
    assert_eq!(indexes(&recovered), [0, 1]);
    assert_eq!(recovered.torn, None);
}

/// What had been acknowledged when so many file operations were done.
#[derive(Debug, Clone, Copy)]
struct Acknowledged {
    ops: usize,
    created: bool,
    vote: u64,
    entries: u64,
    covered: Option<u64>,
}

/// Two lives of a log with rotations, votes, truncations and removals, and what was acknowledged when.
fn two_lives(files: &Arc<FaultyFiles>, dir: &Path) -> Vec<Acknowledged> {
    let mut now = Acknowledged {
        ops: 0,
        created: false,
        vote: 0,
        entries: 0,
        covered: None,
    };
    let mut history = vec![now];
    let mut wal = Wal::create(Arc::clone(files), dir, IDENTITY, SMALL).unwrap();
    now = Acknowledged {
        ops: files.ops(),
        created: true,
        ..now
    };
    history.push(now);
    for step in 1..=24u64 {
        if step == 13 {
            drop(wal);
            let (again, recovered) =
                Wal::open(Arc::clone(files), dir, IDENTITY, now.covered, SMALL).unwrap();
            assert_eq!(vote_of(&recovered.replayed), now.vote);
            wal = again;
        }
        write(
            &mut wal,
            [vote(step), entry(now.entries), entry(now.entries + 1)],
        );
        now = Acknowledged {
            ops: files.ops(),
            vote: step,
            entries: now.entries + 2,
            ..now
        };
        history.push(now);
        if step % 8 == 0 {
            // A checkpoint elsewhere is durable before the log hears of it.
            let index = now.entries - 6;
            now.covered = Some(index);
            history.push(now);
            write(
                &mut wal,
                [Record::Purge {
                    payload: b"p".to_vec(),
                    index,
                }],
            );
            wal.drop_covered(index);
        }
    }
    assert!(list_segments(dir).unwrap()[0] > 3, "segments were removed");
    history
}

#[test]
fn whatever_a_crash_leaves_everything_acknowledged_is_recovered() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(FaultyFiles::default());
    let history = two_lives(&files, dir.path());
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    let (mut refused_unfinished, mut torn, mut images) = (0, 0, 0);
    for prefix in 0..=files.ops() {
        let now = *history.iter().rfind(|now| now.ops <= prefix).unwrap();
        for _ in 0..6 {
            images += 1;
            let image = TempDir::new().unwrap();
            files.draw_crash(prefix, image.path(), &mut draw);
            match reopen(image.path(), now.covered) {
                Ok((mut wal, recovered)) => {
                    check_recovered(&recovered, now);
                    torn += u32::from(recovered.torn.is_some());
                    // And the log goes on from there.
                    let next = recovered
                        .replayed
                        .entries
                        .back()
                        .map_or(0, |(index, _)| index + 1);
                    write(&mut wal, [entry(next)]);
                    drop(wal);
                    let (_, again) = reopen(image.path(), now.covered).unwrap();
                    assert_eq!(again.replayed.entries.back().unwrap().0, next);
                }
                Err(WalError::Missing { .. }) if !now.created => {
                    refused_unfinished += 1;
                    create(image.path(), UNSYNCED);
                }
                Err(error) => panic!("after {prefix} operations, {now:?}: {error}"),
            }
        }
    }
    assert!(
        images > 500 && torn > 20 && refused_unfinished > 5,
        "{images} {torn} {refused_unfinished}"
    );
}

#[test]
fn a_segment_whose_name_was_not_made_durable_is_before_anything_is_written_to_it() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(FaultyFiles::default());
    let mut wal = Wal::create(Arc::clone(&files), dir.path(), IDENTITY, SMALL).unwrap();
    files.inject(Fault::FailSyncDir);
    let failed_at = (0..100)
        .find(|&index| {
            wal.push(entry(index)).unwrap();
            wal.commit().is_err()
        })
        .expect("a segment is full at some time");
    drop(wal);
    assert_eq!(list_segments(dir.path()).unwrap().len(), 2);

    // The process is started again, and the machine goes down some time later.
    let (mut wal, recovered) =
        Wal::open(Arc::clone(&files), dir.path(), IDENTITY, None, SMALL).unwrap();
    assert_eq!(indexes(&recovered), (0..failed_at).collect::<Vec<_>>());
    write(&mut wal, [entry(failed_at)]);
    let image = TempDir::new().unwrap();
    files.draw_crash(files.ops(), image.path(), |_| 0);
    let (_, recovered) = reopen(image.path(), None).unwrap();
    assert_eq!(indexes(&recovered), (0..=failed_at).collect::<Vec<_>>());
}

fn check_recovered(recovered: &Recovered, now: Acknowledged) {
    let replayed = &recovered.replayed;
    assert!(vote_of(replayed) >= now.vote, "a vote was lost: {now:?}");
    let first = now.covered.map_or(0, |covered| covered + 1);
    let found: Vec<_> = replayed.entries.iter().map(|(index, _)| *index).collect();
    let expected: Vec<_> = (first..now.entries).collect();
    assert!(
        found.starts_with(&expected),
        "entries {expected:?} were acknowledged, {found:?} are there"
    );
    assert!(
        replayed
            .entries
            .iter()
            .all(|(index, bytes)| *bytes == payload(*index))
    );
}

#[test]
fn a_failed_sync_or_a_full_disk_is_final() {
    for fault in [Fault::FailSync, Fault::NoSpace { written: 100 }] {
        let dir = TempDir::new().unwrap();
        let files = Arc::new(FaultyFiles::default());
        let mut wal = Wal::create(Arc::clone(&files), dir.path(), IDENTITY, SMALL).unwrap();
        write(&mut wal, [vote(1), entry(0)]);
        files.inject(fault);
        wal.push(entry(1)).unwrap();
        let error = wal.commit().unwrap_err();
        assert_eq!(error.is_out_of_space(), fault != Fault::FailSync);
        let text = error.to_string();
        assert!(
            text.contains("0000000000000001.wal: cannot ") && !text.contains('\n'),
            "{text}"
        );
        assert!(matches!(wal.push(entry(2)), Err(WalError::Stopped)));
        assert!(matches!(wal.commit(), Err(WalError::Stopped)));
        assert!(matches!(wal.close(), Err(WalError::Stopped)));
        assert_eq!(files.tried_after_fault(), Some(0));
        let (_, recovered) = reopen(dir.path(), None).unwrap();
        assert_eq!(
            (
                vote_of(&recovered.replayed),
                recovered.replayed.entries[0].0
            ),
            (1, 0)
        );
    }
}
