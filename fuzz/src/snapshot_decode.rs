//! Snapshots of stores that saw everything: written, damaged, forged with checksums that hold, and read in any pieces.

mod forgery;

use arbitrary::Arbitrary;
use metastore_core::mvcc::{Store, Sweep};
use metastore_core::snapshot::{self, Decoder, Encoder};
use metastore_proto::etcdserverpb::{CompactionRequest, PutRequest};

pub use forgery::{Edit, Forgery};

use crate::world::{Turn, World};
use crate::{Delete, Key, LEASE, Put, everything};

/// An input.
#[derive(Arbitrary, Debug, Clone)]
pub struct Input<'a> {
    /// How the bytes are cut before they reach the decoder.
    pub piece_bytes: u16,
    /// What comes to it.
    pub shape: Shape<'a>,
}

/// What comes to the decoder.
#[derive(Arbitrary, Debug, Clone)]
pub enum Shape<'a> {
    /// What a store wrote, read again and gone on with.
    Written(Story),
    /// The same, damaged where the checksums see it.
    Damaged {
        story: Story,
        flips: Vec<(u32, u8)>,
        cut: Option<u32>,
    },
    /// The same, damaged before the checksums were taken.
    Forged { story: Story, forgery: Forgery },
    /// Whatever is there.
    Raw(&'a [u8]),
}

/// How the store came to be what it is.
#[derive(Arbitrary, Debug, Clone)]
pub struct Story {
    /// The length of the caller's own bytes, small or of more than one frame.
    pub extra: u8,
    /// What happened to the store.
    pub ops: Vec<Op>,
}

/// What happens to the store.
#[derive(Arbitrary, Debug, Clone)]
pub enum Op {
    /// A put with every option.
    Put(Put),
    /// A put of a long value.
    Long { key: Key, bytes: u16 },
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
    /// A delete.
    Delete(Delete),
    /// A compaction at a revision told from the newest.
    Compact(u8),
    /// The sweep goes on.
    Sweep(u8),
    /// A lease comes.
    Grant(bool),
    /// It goes, and its keys with it.
    Revoke(bool),
}

impl Story {
    fn extra(&self) -> Vec<u8> {
        match usize::from(self.extra) {
            bytes @ ..250 => vec![self.extra; bytes],
            many => vec![self.extra; (many - 249) * 150_000],
        }
    }

    /// The store and its model, both of which saw all of it.
    pub fn world(&self) -> World {
        let mut world = World::new(128);
        world.grant(LEASE);
        let mut long_bytes = 0;
        for op in &self.ops {
            if world.is_full() {
                break;
            }
            if let Op::Long { bytes, .. } = op {
                long_bytes += usize::from(*bytes);
                if long_bytes > LONG_BYTES_MAX {
                    continue;
                }
            }
            step(&mut world, op);
        }
        world
    }
}

fn step(world: &mut World, op: &Op) {
    let setting = world.setting();
    match op {
        Op::Put(put) => world.put(&put.request_in(setting)),
        Op::Long { key, bytes } => world.put(&PutRequest {
            key: key.legal_in(setting),
            value: long(*bytes),
            ..PutRequest::default()
        }),
        Op::Fill {
            first,
            keys,
            value,
            together,
        } => world.fill(*first, *keys, *value, *together),
        Op::Again { key, times } => world.again(*key, *times),
        Op::Twice { key, turn } => world.twice(*key, *turn),
        Op::Delete(delete) => world.delete_range(&delete.request_in(setting)),
        Op::Compact(revision) => world.compact(*revision),
        Op::Sweep(changes) => world.sweep(*changes),
        Op::Grant(other) => world.grant(LEASE + i64::from(*other)),
        Op::Revoke(other) => world.revoke(LEASE + i64::from(*other)),
    }
}

/// Bytes of which no two neighbouring stretches are alike, so that none can stand for another.
fn long(bytes: u16) -> Vec<u8> {
    (0..bytes)
        .flat_map(|at| at.to_le_bytes())
        .take(bytes.into())
        .collect()
}

/// The snapshot of a store.
pub fn encode(store: &Store, extra: &[u8]) -> Vec<u8> {
    Encoder::new(store.view(), extra).flatten().collect()
}

fn decode(bytes: &[u8], piece_bytes: u16) -> Option<(Store, Vec<u8>)> {
    let mut decoder = Decoder::new();
    let whole = snapshot::decode(bytes);
    // Pieces of a byte take long where there are many.
    let piece_bytes = usize::from(piece_bytes).max(1 + bytes.len() / PIECES_MAX);
    for piece in bytes.chunks(piece_bytes) {
        if decoder.push(piece).is_err() {
            break;
        }
    }
    let pieces = decoder.finish();
    let seen = |decoded: &Result<(Store, Vec<u8>), _>| {
        let (store, extra) = decoded.as_ref().ok()?;
        Some((store.state_hash(), extra.clone()))
    };
    let same = seen(&whole) == seen(&pieces);
    assert!(same, "how the bytes arrive makes no difference");
    let (store, extra) = whole.ok()?;
    store.validate();
    Some((store, extra))
}

/// What was written comes back, and behaves from then on as the store would have.
fn written(story: &Story, piece_bytes: u16) {
    let mut world = story.world();
    let extra = story.extra();
    let bytes = encode(world.store(), &extra);
    let (decoded, extra_again) = decode(&bytes, piece_bytes).expect("what was just written");
    assert!(extra_again == extra);
    world.take(decoded);
    world.validate();
    world.revoke(LEASE);
    world.revoke(LEASE + 1);
    world.compact(5);
    world.sweep(u8::MAX);
    world.validate();
}

/// Damage never becomes another state.
fn damaged(story: &Story, flips: &[(u32, u8)], cut: Option<u32>, piece_bytes: u16) {
    let world = story.world();
    let extra = story.extra();
    let undamaged = encode(world.store(), &extra);
    let mut bytes = undamaged.clone();
    for (at, flip) in flips {
        let at = *at as usize % bytes.len();
        bytes[at] ^= flip;
    }
    if let Some(cut) = cut {
        bytes.truncate(cut as usize % (bytes.len() + 1));
    }
    let decoded = decode(&bytes, piece_bytes);
    assert!(
        decoded.is_some() == (bytes == undamaged),
        "a snapshot is read if nothing is missing and every byte is the one that was written"
    );
}

/// What no store wrote is refused, or is a state like any other. Answers whether it was read.
fn forged(bytes: &[u8], piece_bytes: u16) -> bool {
    let Some((mut store, extra)) = decode(bytes, piece_bytes) else {
        return false;
    };
    let again = snapshot::decode(&encode(&store, &extra));
    let (again, extra_again) = again.expect("a state can be written again");
    assert_eq!(again.state_hash(), store.state_hash());
    assert!(extra_again == extra);
    let all = store.view().range(&everything()).expect("it is readable");
    let newest = store.revision();
    let compacted = store.compact(&CompactionRequest {
        revision: newest,
        physical: false,
    });
    assert_eq!(compacted.is_ok(), again.compact_revision() < newest);
    while store.sweep(64) == Sweep::More {}
    store.validate();
    let left = store.view().range(&everything());
    assert_eq!(left, Ok(all), "a compaction takes nothing of the newest");
    true
}

/// One input.
pub fn run(input: &Input<'_>) {
    let piece_bytes = input.piece_bytes;
    match &input.shape {
        Shape::Written(story) => written(story, piece_bytes),
        Shape::Damaged { story, flips, cut } => damaged(story, flips, *cut, piece_bytes),
        Shape::Forged { story, forgery } => {
            let bytes = encode(story.world().store(), &story.extra());
            let changed = forgery.apply(&bytes);
            let read = forged(&changed, piece_bytes);
            assert!(
                read || !forgery.edits.is_empty(),
                "it makes no difference where records are cut into frames"
            );
        }
        Shape::Raw(bytes) => drop(decode(bytes, piece_bytes)),
    }
}

/// Long values of one story: enough for three frames.
const LONG_BYTES_MAX: usize = 1_300_000;
const PIECES_MAX: usize = 4096;
