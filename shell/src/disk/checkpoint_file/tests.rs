use tempfile::TempDir;

use super::*;
use crate::disk::files::RealFiles;
use crate::disk::files::faulty::{Fault, FaultyFiles};

fn open(dir: &Path) -> Checkpoints<RealFiles> {
    Checkpoints::open(Arc::new(RealFiles), dir, true).unwrap()
}

fn chunks(seed: u8) -> impl Iterator<Item = Vec<u8>> {
    (0..40u8).map(move |chunk| vec![seed ^ chunk; 100_000])
}

fn read(file: &CheckpointFile) -> Vec<u8> {
    file.read().unwrap().flat_map(Result::unwrap).collect()
}

#[test]
fn a_checkpoint_is_read_back_in_chunks_of_at_most_a_mebibyte() {
    for pace in [Pace::Gentle, Pace::Steady, Pace::Hurried, Pace::Unsynced] {
        let dir = TempDir::new().unwrap();
        let written = open(dir.path()).write(42, pace, chunks(1)).unwrap();
        assert_eq!((written.index, written.bytes), (42, 4_000_000));
        assert!(read(&written) == chunks(1).flatten().collect::<Vec<_>>());
        let lengths: Vec<_> = written
            .read()
            .unwrap()
            .map(|chunk| chunk.unwrap().len())
            .collect();
        assert_eq!(lengths, [1 << 20, 1 << 20, 1 << 20, 4_000_000 - (3 << 20)]);
    }
}

#[test]
fn checkpoints_are_listed_newest_first_and_older_ones_removed() {
    let dir = TempDir::new().unwrap();
    let checkpoints = open(dir.path());
    for index in [5, 300, 20] {
        checkpoints.write(index, Pace::Hurried, [vec![7]]).unwrap();
    }
    let listed = checkpoints.list().unwrap();
    assert_eq!(
        listed.iter().map(|file| file.index).collect::<Vec<_>>(),
        [300, 20, 5]
    );
    checkpoints.remove_older_than(&listed[1]).unwrap();
    assert_eq!(checkpoints.list().unwrap(), listed[..2]);
}

#[test]
fn a_start_makes_the_newest_checkpoint_durable_whatever_the_life_before_did() {
    let dir = TempDir::new().unwrap();
    let unsynced = Checkpoints::open(Arc::new(RealFiles), dir.path(), false).unwrap();
    let written = [5, 300].map(|index| unsynced.write(index, Pace::Unsynced, [vec![7]]).unwrap());
    for (sync, expected) in [(false, vec![]), (true, vec![written[1].path.clone()])] {
        let files = Arc::new(FaultyFiles::default());
        Checkpoints::open(Arc::clone(&files), dir.path(), sync).unwrap();
        assert_eq!(files.synced_files(), expected);
    }
}

#[test]
fn an_unfinished_checkpoint_is_removed_at_the_next_start() {
    let dir = TempDir::new().unwrap();
    let unfinished = dir.path().join("000000000000000a.tmp");
    std::fs::write(&unfinished, b"half").unwrap();
    let checkpoints = open(dir.path());
    assert!(!unfinished.exists());
    assert_eq!(checkpoints.list().unwrap(), []);
}

#[test]
fn a_failed_write_leaves_the_checkpoint_before_it() {
    for fault in [Fault::FailSync, Fault::NoSpace { written: 10 }] {
        let dir = TempDir::new().unwrap();
        let files = Arc::new(FaultyFiles::default());
        let checkpoints = Checkpoints::open(Arc::clone(&files), dir.path(), true).unwrap();
        let before = checkpoints.write(1, Pace::Gentle, chunks(1)).unwrap();
        files.inject(fault);
        let error = checkpoints.write(1, Pace::Gentle, chunks(2)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("0000000000000001.checkpoint: cannot write"),
            "{error}"
        );
        assert_eq!(checkpoints.list().unwrap(), std::slice::from_ref(&before));
        assert!(read(&before) == chunks(1).flatten().collect::<Vec<_>>());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_checkpoint_whose_name_was_not_made_durable_is_before_anybody_counts_on_it() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(FaultyFiles::default());
    let checkpoints = Checkpoints::open(Arc::clone(&files), dir.path(), true).unwrap();
    files.inject(Fault::FailSyncDir);
    assert!(checkpoints.write(7, Pace::Gentle, [vec![1]]).is_err());
    drop(checkpoints);

    // The process is started again, and the machine goes down some time later.
    let again = Checkpoints::open(Arc::clone(&files), dir.path(), true).unwrap();
    let listed = again.list().unwrap();
    let image = TempDir::new().unwrap();
    files.draw_crash(files.ops(), image.path(), |_| 0);
    let indexes = |files: Vec<CheckpointFile>| files.iter().map(|it| it.index).collect::<Vec<_>>();
    let survived = open(image.path()).list().unwrap();
    assert_eq!(indexes(survived), indexes(listed));
}

#[test]
fn whatever_a_crash_leaves_a_named_checkpoint_is_complete() {
    let dir = TempDir::new().unwrap();
    let files = Arc::new(FaultyFiles::default());
    let checkpoints = Checkpoints::open(Arc::clone(&files), dir.path(), true).unwrap();
    let contents = |seed: u8| (0..5u8).map(move |chunk| vec![seed ^ chunk; 1000]);
    let mut durable = Vec::new();
    for index in 1..4u8 {
        let file = checkpoints
            .write(index.into(), Pace::Gentle, contents(index))
            .unwrap();
        durable.push((files.ops(), file.index));
        checkpoints.remove_older_than(&file).unwrap();
    }
    let mut state = 1u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % below as u64).unwrap()
    };
    for prefix in (0..=files.ops()).flat_map(|prefix| [prefix; 8]) {
        let image = TempDir::new().unwrap();
        files.draw_crash(prefix, image.path(), &mut draw);
        let found = open(image.path()).list().unwrap();
        for file in &found {
            let seed = u8::try_from(file.index).unwrap();
            assert!(read(file) == contents(seed).flatten().collect::<Vec<_>>());
        }
        let newest = durable
            .iter()
            .rfind(|(ops, _)| *ops <= prefix)
            .map(|(_, index)| *index);
        assert!(
            found.first().map(|file| file.index) >= newest,
            "after {prefix} operations"
        );
    }
}
