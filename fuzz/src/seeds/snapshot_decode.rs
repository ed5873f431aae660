use super::check;
use crate::snapshot_decode::{Edit, Forgery, Input, Op, Shape, Story, encode, run};
use crate::world::Turn;
use crate::{Delete, End, Key, Put};

fn seed(name: &str, piece_bytes: u16, shape: Shape<'static>) {
    let input = Input { piece_bytes, shape };
    let (bytes, target) = (&mut Vec::new(), "snapshot_decode");
    check(target, name, &input, bytes, |it: &Input<'_>| run(it));
}

fn story(extra: u8, ops: Vec<Op>) -> Story {
    Story { extra, ops }
}

fn leased(key: u8) -> Op {
    Op::Put(Put {
        key: Key(key),
        value: 9,
        prev_kv: false,
        ignore_value: false,
        lease: 5,
    })
}

fn again(key: u8, times: u8) -> Op {
    let key = Key(key);
    Op::Again { key, times }
}

fn long(keys: std::ops::Range<u8>) -> impl Iterator<Item = Op> {
    keys.map(|key| Op::Long {
        key: Key(key),
        bytes: 60_000,
    })
}

fn fill(keys: u8) -> Op {
    Op::Fill {
        first: Key(0),
        keys,
        value: 4,
        together: true,
    }
}

/// A bit of everything: leased keys, a deleted one, one changed twice in a revision, one of more than a chunk.
fn varied() -> Vec<Op> {
    let mut ops = vec![fill(20), leased(3), leased(13), again(6, 12)];
    ops.push(Op::Twice {
        key: Key(15),
        turn: Turn::DeleteAndPut,
    });
    ops.push(Op::Delete(Delete {
        key: Key(1),
        end: End::Before(Key(3)),
        prev_kv: false,
    }));
    ops.extend([again(6, 3), Op::Compact(14), leased(7), Op::Sweep(9)]);
    ops
}

/// The lengths of the frames of records.
fn record_frames(story: &Story) -> Vec<usize> {
    let bytes = encode(story.world().store(), &[]);
    let (mut frames, mut rest) = (Vec::new(), bytes.as_slice());
    while let Some(length) = rest.first_chunk::<4>() {
        let length = 8 + u32::from_le_bytes(*length) as usize;
        if rest[8] == 2 {
            frames.push(length);
        }
        rest = &rest[length..];
    }
    frames
}

#[test]
fn several_frames_and_records_cut_over_two() {
    let mut ops: Vec<Op> = long(0..20).collect();
    ops.push(leased(2));
    let story = story(252, ops);
    let frames = record_frames(&story);
    // A record takes 60 KB and a frame 512 KiB, which is no multiple of it: each but the last ends within a record.
    assert_eq!(frames.len(), 3);
    seed(
        "several-frames-and-records-cut-over-two",
        4001,
        Shape::Written(story),
    );
}

#[test]
fn leased_records_come_back_and_go_with_their_lease() {
    let mut ops = varied();
    ops.extend([Op::Grant(true), leased(8), leased(9)]);
    let story = story(7, ops);
    assert_eq!(story.world().model().keys_of(crate::LEASE).len(), 5);
    seed(
        "leased-records-come-back-and-go-with-their-lease",
        3,
        Shape::Written(story),
    );
}

#[test]
fn damage_in_the_second_frame() {
    let story = story(1, long(0..12).collect());
    assert_eq!(record_frames(&story).len(), 2);
    let shape = Shape::Damaged {
        story,
        flips: vec![(600_000, 1)],
        cut: None,
    };
    seed("damage-in-the-second-frame", 50_000, shape);
}

#[test]
fn frames_may_end_anywhere() {
    let forgery = Forgery {
        frame_bytes: 7,
        edits: Vec::new(),
    };
    let story = story(3, varied());
    seed(
        "frames-may-end-anywhere",
        5,
        Shape::Forged { story, forgery },
    );
}

#[test]
fn numbers_that_no_store_writes() {
    for (name, edit) in [
        ("a-boundary-moved", Edit::Header { field: 2, add: 1 }),
        (
            "a-revision-moved",
            Edit::Number {
                record: 4,
                field: 0,
                add: 1,
            },
        ),
        (
            "a-version-moved",
            Edit::Number {
                record: 9,
                field: 2,
                add: 1,
            },
        ),
        ("a-key-renamed", Edit::Rename { record: 5 }),
        ("a-record-lost", Edit::Drop { record: 12 }),
    ] {
        let forgery = Forgery {
            frame_bytes: 100,
            edits: vec![edit],
        };
        let story = story(0, varied());
        let shape = Shape::Forged { story, forgery };
        seed(&format!("forged-{name}"), 64, shape);
    }
}
