//! Puts, deletes, reads, compactions, sweeps and reloads, each small in the input, so that much happens in one.

use arbitrary::Arbitrary;
use metastore_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};

use crate::world::World;
use crate::{End, Key, around, value};

/// What happens to the store.
#[derive(Arbitrary, Debug, Clone)]
pub enum Op {
    /// A put.
    Put { key: Key, value: u8 },
    /// A put of neighbouring keys, each by itself.
    Fill { first: Key, keys: u8, value: u8 },
    /// So many puts of one key.
    Again { key: Key, times: u8 },
    /// A delete.
    Delete { key: Key, end: End },
    /// A read, in one piece and in many.
    Read {
        key: Key,
        end: End,
        revision: u8,
        limit: u8,
        chunk_bytes: u8,
    },
    /// A compaction at a revision told from the newest.
    Compact { revision: u8 },
    /// The sweep goes on.
    Sweep { changes: u8 },
    /// Into a snapshot and back.
    Reload,
}

fn step(world: &mut World, op: &Op) {
    let setting = world.setting();
    match *op {
        Op::Put { key, value: number } => world.put(&PutRequest {
            key: key.legal_in(setting),
            value: value(number),
            prev_kv: true,
            ..PutRequest::default()
        }),
        Op::Fill { first, keys, value } => world.fill(first, keys, value, false),
        Op::Again { key, times } => world.again(key, times),
        Op::Delete { key, end } => world.delete_range(&DeleteRangeRequest {
            key: key.legal_in(setting),
            range_end: end.bytes_in(setting),
            prev_kv: true,
        }),
        Op::Read {
            key,
            end,
            revision,
            limit,
            chunk_bytes,
        } => {
            let request = RangeRequest {
                key: key.legal_in(setting),
                range_end: end.bytes_in(setting),
                revision: around(world.model().revision(), revision),
                limit: i64::from(limit % 24),
                ..RangeRequest::default()
            };
            world.range(&request, usize::from(chunk_bytes));
        }
        Op::Compact { revision } => world.compact(revision),
        Op::Sweep { changes } => world.sweep(changes),
        Op::Reload => world.reload(),
    }
}

/// The store and its model after these operations.
pub fn world(ops: &[Op]) -> World {
    let mut world = World::new(128);
    for op in ops {
        if world.is_full() {
            break;
        }
        step(&mut world, op);
    }
    world
}

/// One input.
pub fn run(ops: &[Op]) {
    world(ops).validate();
}
