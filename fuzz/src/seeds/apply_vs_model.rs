use super::check;
use crate::apply_vs_model::{Op, run, world};
use crate::{End, Key};

fn seed(name: &str, ops: Vec<Op>) {
    check("apply_vs_model", name, &ops, &mut Vec::new(), |ops| {
        run(ops)
    });
}

fn fill(first: u8, keys: u8) -> Op {
    let first = Key(first);
    let value = 3;
    Op::Fill { first, keys, value }
}

fn again(key: u8, times: u8) -> Op {
    let key = Key(key);
    Op::Again { key, times }
}

fn delete(key: u8, end: End) -> Op {
    let key = Key(key);
    Op::Delete { key, end }
}

fn read(revision: u8, limit: u8) -> Op {
    Op::Read {
        key: Key(0),
        end: End::Open,
        revision,
        limit,
        chunk_bytes: 60,
    }
}

/// At the newest revision but so many.
fn compact(back: u8) -> Op {
    Op::Compact { revision: 5 + back }
}

const SWEEP: Op = Op::Sweep { changes: 255 };

#[test]
fn leaves_split_and_join() {
    let split = vec![fill(0, 34), read(0, 0), read(8, 20)];
    assert!(world(&split).model().newest().len() > 2 * LEAF_KEYS);
    let mut ops = split;
    ops.extend([
        delete(4, End::Before(Key(31))),
        compact(0),
        SWEEP,
        read(0, 5),
    ]);
    // Of the deleted keys nothing is left once the boundary has passed them.
    ops.extend([again(33, 2), compact(0), SWEEP, SWEEP, read(5, 3)]);
    let joined = world(&ops);
    assert!(joined.store().is_swept());
    assert!(joined.model().newest().len() <= LEAF_KEYS / 2);
    ops.extend([fill(10, 20), Op::Reload, delete(2, End::Open), compact(0)]);
    ops.extend([
        again(0, 1),
        compact(0),
        SWEEP,
        fill(0, 34),
        Op::Reload,
        read(7, 0),
    ]);
    // Keys that arrive within full leaves split them in the middle; what a limit leaves out is counted leaf by leaf,
    // for the past as well.
    ops.extend([
        delete(0, End::Open),
        compact(0),
        again(0, 1),
        compact(0),
        SWEEP,
        SWEEP,
    ]);
    ops.extend([17, 17 + 6, 9, 20, 1].map(|first| fill(first, 5)));
    ops.extend([fill(8, 1), read(0, 1), fill(14, 3), read(0, 1), read(9, 1)]);
    ops.extend((3..34).rev().map(|key| again(key, 1)));
    ops.extend((5..60).step_by(6).map(|revision| read(revision, 1)));
    // The right half of a full leaf is as new as it was, and is not touched any more.
    ops.extend([
        delete(0, End::Open),
        compact(0),
        again(0, 1),
        compact(0),
        SWEEP,
        SWEEP,
    ]);
    ops.extend([
        fill(18, 15),
        fill(3, 1),
        read(5, 1),
        read(11, 1),
        read(15, 1),
    ]);
    assert!(!world(&ops).is_full());
    seed("leaves-split-and-join", ops);
}

#[test]
fn a_boundary_moves_through_the_chunks_of_a_history() {
    let mut ops = vec![fill(0, 20), again(3, 27)];
    for back in [26, 19, 18, 17, 11, 10, 9, 2, 1, 0] {
        ops.extend([compact(back), Op::Sweep { changes: 2 }, read(5 + back, 0)]);
        ops.extend([Op::Reload, SWEEP]);
    }
    let world = world(&ops);
    assert_eq!(world.store().compact_revision(), world.model().revision());
    ops.extend([
        again(3, 9),
        delete(3, End::OneKey),
        again(3, 8),
        compact(8),
        SWEEP,
        Op::Reload,
    ]);
    seed("a-boundary-moves-through-the-chunks-of-a-history", ops);
}

#[test]
fn a_boundary_moves_while_the_sweep_is_on_its_way() {
    let mut ops = vec![fill(0, 30), again(7, 20), delete(5, End::Before(Key(12)))];
    ops.extend([
        again(7, 12),
        compact(13),
        Op::Sweep { changes: 9 },
        compact(12),
    ]);
    ops.extend([
        Op::Sweep { changes: 40 },
        delete(7, End::OneKey),
        compact(5),
    ]);
    assert!(!world(&ops).store().is_swept());
    ops.extend([
        Op::Sweep { changes: 0 },
        read(8, 0),
        compact(0),
        Op::Sweep { changes: 50 },
    ]);
    ops.extend([
        Op::Reload,
        fill(2, 6),
        compact(0),
        SWEEP,
        SWEEP,
        Op::Reload,
        read(0, 1),
    ]);
    seed("a-boundary-moves-while-the-sweep-is-on-its-way", ops);
}

/// Deletes at the boundary outlive it. If the boundary moves when the sweep has passed some of them, it has to go back.
#[test]
fn a_boundary_moves_while_the_sweep_is_at_it() {
    let mut ops = vec![fill(0, 30), delete(5, End::Before(Key(25))), compact(0)];
    assert_eq!(world(&ops).model().changes(32).len(), 20);
    // Two steps for each of the thirty puts, and ten for half of the deletes.
    ops.extend([Op::Sweep { changes: 69 }, again(0, 2), compact(0), SWEEP]);
    assert!(world(&ops).store().is_swept());
    ops.extend([Op::Reload, read(0, 0)]);
    seed("a-boundary-moves-while-the-sweep-is-at-it", ops);
}

/// As many as a leaf of the store's index holds.
const LEAF_KEYS: usize = 16;
