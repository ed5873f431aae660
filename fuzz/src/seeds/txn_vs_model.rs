use super::check;
use crate::txn_vs_model::{self, Input, Op, run};
use crate::world::{Turn, World};
use crate::{Condition, Delete, End, Given, Key, Put, Range, Step, Txn};

fn seed(name: &str, operations_max: u8, ops: Vec<Op>) {
    let input = Input {
        operations_max,
        ops,
    };
    check("txn_vs_model", name, &input, &mut Vec::new(), run);
}

fn world(ops: &[Op]) -> World {
    txn_vs_model::world(&Input {
        operations_max: 0,
        ops: ops.to_vec(),
    })
}

fn put(key: u8, lease: u8) -> Put {
    Put {
        key: Key(key),
        value: 9,
        prev_kv: true,
        ignore_value: false,
        lease,
    }
}

fn delete(key: u8, end: End) -> Delete {
    Delete {
        key: Key(key),
        end,
        prev_kv: true,
    }
}

fn range(revision: i8) -> Range {
    Range {
        key: Key(0),
        end: End::Open,
        limit: 3,
        revision,
        bounds: [0; 4],
        sort_order: 0,
        sort_target: 0,
        keys_only: false,
        count_only: false,
    }
}

fn txn(success: Vec<Step>, failure: Vec<Step>) -> Txn {
    Txn {
        compare: Vec::new(),
        success,
        failure,
    }
}

fn again(key: u8, times: u8) -> Op {
    let key = Key(key);
    Op::Again { key, times }
}

fn twice(key: u8, turn: Turn) -> Op {
    let key = Key(key);
    Op::Twice { key, turn }
}

/// At the newest revision but so many.
fn compact(back: u8) -> Op {
    Op::Compact(5 + back)
}

/// The shape of the old fault: chunks of a history were known by their first revision, so that what a compaction left
/// of one took the place of the next, which began within the same revision.
#[test]
fn a_key_changed_twice_in_a_revision() {
    let mut ops = Vec::new();
    // The first chunk of the key's history ends within the revision of two or three changes for one of these, whatever
    // the turn; the boundary is that very revision. More changes follow, so that the next chunk is closed as well.
    for (key, turn) in [
        (10, Turn::DeletePutDelete),
        (9, Turn::PutAndDelete),
        (8, Turn::DeleteAndPut),
    ] {
        for before in 5..8 {
            ops.extend([again(key, before), twice(key, turn), again(key, 10)]);
            ops.push(compact(10));
            let model = world(&ops);
            let boundary = model.store().compact_revision();
            let changes = model.model().changes(boundary);
            assert!(changes.len() >= 2, "{turn:?} at the boundary");
            assert!(changes.iter().all(|it| it.kv.key == changes[0].kv.key));
            ops.extend([Op::Sweep(255), Op::Read(range(16), 9), Op::Reload]);
            ops.extend([
                delete_all(key),
                compact(0),
                again(0, 1),
                compact(0),
                Op::Sweep(255),
            ]);
        }
    }
    seed("a-key-changed-twice-in-a-revision", 0, ops);
}

fn delete_all(key: u8) -> Op {
    Op::Delete(delete(key, End::Open))
}

/// Snapshots cut histories into chunks of their own: the same once more, reloaded before anything is swept, and gone on
/// with afterwards.
#[test]
fn a_key_changed_twice_is_reloaded_before_the_sweep() {
    let mut ops = Vec::new();
    for (key, turn) in [
        (20, Turn::PutAndDelete),
        (19, Turn::DeletePutDelete),
        (18, Turn::DeleteAndPut),
    ] {
        for before in [6, 7, 14, 15] {
            ops.extend([
                again(key, before),
                twice(key, turn),
                Op::Reload,
                again(key, 9),
            ]);
            ops.extend([twice(key, turn), again(key, 2), compact(12), Op::Reload]);
            ops.extend([
                Op::Sweep(5),
                again(key, 1),
                compact(3),
                Op::Sweep(255),
                Op::Reload,
            ]);
        }
    }
    seed("a-key-changed-twice-is-reloaded-before-the-sweep", 0, ops);
}

#[test]
fn a_lease_ends_after_a_reload() {
    let fill = Op::Fill {
        first: Key(0),
        keys: 34,
        value: 2,
        together: true,
    };
    let leased = |key| Op::Put(put(key, LEASED));
    let mut ops = vec![
        fill.clone(),
        leased(3),
        leased(30),
        leased(17),
        again(30, 1),
    ];
    ops.extend([Op::Reload, leased(4)]);
    let attached = world(&ops).model().keys_of(crate::LEASE).len();
    assert_eq!(attached, 3);
    ops.extend([
        Op::Revoke,
        Op::Reload,
        leased(5),
        Op::Revoke,
        Op::Grant,
        leased(5),
    ]);
    ops.extend([
        Op::Grant,
        compact(1),
        Op::Sweep(200),
        Op::Reload,
        fill,
        Op::Reload,
        Op::Revoke,
    ]);
    seed("a-lease-ends-after-a-reload", 0, ops);
}

#[test]
fn transactions_within_transactions() {
    let guard = |given| Condition {
        key: Key(2),
        end: End::Before(Key(9)),
        result: 1,
        target: 2,
        given,
    };
    let inner = Txn {
        compare: vec![guard(Given::Mod(6)), guard(Given::Nothing)],
        success: vec![Step::Put(put(5, 0)), Step::Range(range(0))],
        failure: vec![
            Step::Put(put(5, LEASED)),
            Step::Delete(delete(6, End::OneKey)),
        ],
    };
    let outer = Txn {
        compare: vec![
            guard(Given::Version(1)),
            guard(Given::Value(2)),
            guard(Given::Lease(0)),
        ],
        success: vec![Step::Put(put(1, 0)), Step::Txn(Box::new(inner.clone()))],
        failure: vec![
            Step::Txn(Box::new(inner)),
            Step::Range(range(5)),
            Step::Put(put(2, 0)),
        ],
    };
    let mut ops = vec![Op::Txn(outer.clone()), again(2, 3), Op::Txn(outer)];
    assert_eq!(world(&ops).model().revision(), 6, "both change something");
    ops.extend([
        Op::Reload,
        compact(1),
        Op::Txn(txn(vec![Step::Range(range(7))], Vec::new())),
    ]);
    seed("transactions-within-transactions", 0, ops);
}

#[test]
fn refused_at_the_door_and_just_not() {
    let deep = |depth: usize| {
        let innermost = txn(vec![Step::Put(put(1, 0))], Vec::new());
        (1..depth).fold(innermost, |it, _| {
            txn(vec![Step::Txn(Box::new(it))], Vec::new())
        })
    };
    let branches = || txn(vec![Step::Put(put(4, 0))], vec![Step::Put(put(4, 0))]);
    let both = |step| Op::Txn(txn(vec![step, Step::Put(put(4, 0))], Vec::new()));
    let ops = vec![
        Op::Txn(deep(3)),
        Op::Txn(deep(4)),
        both(Step::Put(put(4, 0))),
        both(Step::Delete(delete(4, End::OneKey))),
        both(Step::Delete(delete(3, End::Before(Key(6))))),
        both(Step::Delete(delete(5, End::Before(Key(3))))),
        both(Step::Delete(delete(3, End::Open))),
        both(Step::Txn(Box::new(branches()))),
        Op::Txn(txn(vec![Step::Txn(Box::new(branches()))], Vec::new())),
        both(Step::Unset),
        both(Step::Put(put(34, 0))),
        Op::Put(put(34, 0)),
        Op::Put(put(4, LEASED + 248)),
        Op::Put(put(4, 7)),
        Op::Read(
            Range {
                sort_order: 3,
                ..range(0)
            },
            0,
        ),
        Op::Read(
            Range {
                sort_order: 2,
                ..range(5)
            },
            0,
        ),
        Op::Read(
            Range {
                bounds: [5, 0, 0, 0],
                ..range(3)
            },
            0,
        ),
    ];
    // A put at depth three, a put beside an empty range, one beside all from a key on, and one of two branches.
    let input = Input {
        operations_max: THREE,
        ops: ops.clone(),
    };
    let revision = txn_vs_model::world(&input).model().revision();
    assert_eq!(revision, 5);
    seed("refused-at-the-door-and-just-not", THREE, ops);
}

const LEASED: u8 = 5;
/// Stands for a bound of three operations.
const THREE: u8 = 203;
