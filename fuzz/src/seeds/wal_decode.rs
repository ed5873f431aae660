use super::check;
use crate::wal_decode::{Damage, Input, Item, Reader, Shape, log, run};

type Segments = Vec<Vec<Vec<Item>>>;

fn seed(
    name: &str,
    checkpoint: Option<u8>,
    segments: Segments,
    damage: Vec<Damage>,
    reader: Reader,
) {
    let shape = Shape::Written {
        segments,
        damage,
        reader,
    };
    let input = Input { checkpoint, shape };
    let (bytes, target) = (&mut Vec::new(), "wal_decode");
    check(target, name, &input, bytes, |it: &Input<'_>| run(it));
}

fn entries(lengths: &[u16]) -> Vec<Item> {
    lengths
        .iter()
        .map(|bytes| Item::Entry { bytes: *bytes })
        .collect()
}

fn three_batches() -> Segments {
    let first = vec![Item::Opened, Item::Vote(1), Item::Entry { bytes: 900 }];
    vec![vec![first, entries(&[10, 700]), entries(&[3, 0, 1300])]]
}

/// Two segments, entries void and entries purged.
fn a_life() -> Segments {
    let first = vec![Item::Opened, Item::Vote(1), Item::Entry { bytes: 30 }];
    let second = vec![
        Item::Truncate { entries: 1 },
        Item::Entry { bytes: 5 },
        Item::Committed(2),
    ];
    let third = vec![Item::Purge { entries: 2 }, Item::Entry { bytes: 600 }];
    let fourth = vec![Item::Entry { bytes: 8 }, Item::Vote(3), Item::Closed];
    vec![vec![first, entries(&[40, 9]), second], vec![third, fourth]]
}

fn flip(batch: u8, at: u16) -> Damage {
    Damage::Batch {
        segment: 0,
        batch,
        at,
        flip: 4,
    }
}

/// How many batches are read of a log of one segment; none if it is refused.
fn read(damage: &[Damage]) -> Option<usize> {
    let mut log = log::write(&three_batches());
    damage.iter().for_each(|it| it.befall(&mut log.segments));
    log.segments[0].outcome(true).map(|it| it.batches)
}

#[test]
fn damage_before_the_last_batch() {
    // In a header, in a record, in the padding; and where both the batch and the header behind it are bad, a third one
    // proves that the first was durable.
    for (name, damage) in [
        (
            "damage-in-the-header-of-the-second-of-three",
            vec![flip(1, 3)],
        ),
        ("damage-in-the-first-of-three", vec![flip(2, 200)]),
        ("damage-in-the-second-of-three", vec![flip(1, 400)]),
    ] {
        assert_eq!(read(&damage), None);
        seed(name, None, three_batches(), damage, Reader::Right);
    }
}

#[test]
fn damage_in_the_last_batch() {
    for (name, damage, left) in [
        ("damage-in-the-last-of-three", vec![flip(0, 100)], 2),
        ("a-last-write-torn", vec![Damage::Torn { bytes: 512 }], 2),
        (
            "a-file-cut-in-the-second-of-three",
            vec![Damage::Cut {
                segment: 0,
                at: 1100,
            }],
            1,
        ),
    ] {
        assert_eq!(read(&damage), Some(left));
        seed(name, None, three_batches(), damage, Reader::Right);
    }
}

#[test]
fn a_life_in_two_segments() {
    let log = log::write(&a_life());
    assert!(log.honest && log.segments.len() == 2);
    seed(
        "a-life-in-two-segments",
        Some(1),
        a_life(),
        Vec::new(),
        Reader::Right,
    );
    let oldest = Reader::Without { oldest: 1 };
    seed(
        "a-life-without-its-first-segment",
        Some(0),
        a_life(),
        Vec::new(),
        oldest,
    );
    let earlier = Damage::Batch {
        segment: 1,
        batch: 0,
        at: 30,
        flip: 1,
    };
    let name = "damage-at-the-end-of-the-first-of-two-segments";
    seed(name, None, a_life(), vec![earlier], Reader::Right);
    let cut = Damage::CutTail {
        segment: 1,
        bytes: 152,
    };
    let mut log = log;
    cut.befall(&mut log.segments);
    // The file ends with a batch, so only the next segment tells that there was another one.
    let outcome = log.segments[0].outcome(false);
    assert_eq!(outcome.map(|it| it.batches), Some(2));
    seed(
        "a-batch-missing-between-two-segments",
        None,
        a_life(),
        vec![cut],
        Reader::Right,
    );
    seed(
        "another-first-batch-awaited",
        None,
        a_life(),
        Vec::new(),
        Reader::WrongBatch(0),
    );
}
