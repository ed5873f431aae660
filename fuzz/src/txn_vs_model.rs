//! Transactions nested to any depth, beside everything that moves the records they leave: compactions, sweeps, reloads,
//! the ends of leases.

use arbitrary::Arbitrary;

use crate::world::{Turn, World};
use crate::{Delete, Key, LEASE, Put, Range, Txn};

/// An input.
#[derive(Arbitrary, Debug, Clone)]
pub struct Input {
    /// How many operations a transaction may have; most numbers stand for the usual bound.
    pub operations_max: u8,
    /// What happens.
    pub ops: Vec<Op>,
}

/// What happens to the store.
#[derive(Arbitrary, Debug, Clone)]
pub enum Op {
    /// A put with every option.
    Put(Put),
    /// A delete.
    Delete(Delete),
    /// A read with every option, in one piece and in many.
    Read(Range, u8),
    /// A transaction.
    Txn(Txn),
    /// Puts of neighbouring keys, in one transaction or each by itself.
    Fill {
        first: Key,
        keys: u8,
        value: u8,
        together: bool,
    },
    /// So many puts of one key.
    Again { key: Key, times: u8 },
    /// A key changes more than once in one revision.
    Twice { key: Key, turn: Turn },
    /// A compaction at a revision told from the newest.
    Compact(u8),
    /// The sweep goes on.
    Sweep(u8),
    /// Into a snapshot and back.
    Reload,
    /// The lease that puts may name comes.
    Grant,
    /// It goes, and its keys with it.
    Revoke,
}

fn step(world: &mut World, op: &Op) {
    let setting = world.setting();
    match op {
        Op::Put(put) => world.put(&put.request_in(setting)),
        Op::Delete(delete) => world.delete_range(&delete.request_in(setting)),
        Op::Read(range, chunk_bytes) => {
            world.range(&range.request_in(setting), usize::from(*chunk_bytes));
        }
        Op::Txn(txn) => world.txn(&txn.request_in(setting)),
        Op::Fill {
            first,
            keys,
            value,
            together,
        } => world.fill(*first, *keys, *value, *together),
        Op::Again { key, times } => world.again(*key, *times),
        Op::Twice { key, turn } => world.twice(*key, *turn),
        Op::Compact(revision) => world.compact(*revision),
        Op::Sweep(changes) => world.sweep(*changes),
        Op::Reload => world.reload(),
        Op::Grant => world.grant(LEASE),
        Op::Revoke => world.revoke(LEASE),
    }
}

/// The store and its model after an input.
pub fn world(input: &Input) -> World {
    let mut world = World::new(match input.operations_max {
        0..=199 => 128,
        number => usize::from(number) - 200,
    });
    // Most inputs are to have it without asking.
    world.grant(LEASE);
    for op in &input.ops {
        if world.is_full() {
            break;
        }
        step(&mut world, op);
    }
    world
}

/// One input.
pub fn run(input: &Input) {
    world(input).validate();
}
