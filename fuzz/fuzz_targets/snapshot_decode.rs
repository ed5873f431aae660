//! Snapshots: any bytes in any pieces are read without a panic, and damage never becomes another state.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::check::{self, Limits};
use metastore_core::mvcc::{Changes, Store};
use metastore_core::snapshot::{self, Decoder, Encoder};
use metastore_fuzz::{Delete, Put};
use metastore_proto::etcdserverpb::CompactionRequest;

#[derive(Arbitrary, Debug)]
struct Input {
    shape: Shape,
    /// How the bytes are cut before they reach the decoder.
    piece_bytes: u16,
}

#[derive(Arbitrary, Debug)]
enum Shape {
    Raw(Vec<u8>),
    Written {
        ops: Vec<Op>,
        extra: Vec<u8>,
        damage: Vec<(u16, u8)>,
        cut: Option<u16>,
    },
}

#[derive(Arbitrary, Debug)]
enum Op {
    Put(Put),
    Delete(Delete),
    Compact(u8),
}

fn decode(bytes: &[u8], piece_bytes: u16) -> Option<(Store, Vec<u8>)> {
    let mut decoder = Decoder::new();
    let whole = snapshot::decode(bytes);
    for piece in bytes.chunks(usize::from(piece_bytes).max(1)) {
        if decoder.push(piece).is_err() {
            break;
        }
    }
    let pieces = decoder.finish();
    assert_eq!(
        whole
            .as_ref()
            .map(|(store, extra)| (store.state_hash(), extra))
            .ok(),
        pieces
            .as_ref()
            .map(|(store, extra)| (store.state_hash(), extra))
            .ok(),
        "how the bytes arrive makes no difference"
    );
    let (store, extra) = whole.ok()?;
    store.validate();
    Some((store, extra))
}

/// A store that saw these requests, those that pass the door.
fn build(ops: &[Op]) -> Store {
    let limits = Limits::default();
    let mut store = Store::new();
    let mut changes = Changes::new();
    for op in ops {
        match op {
            Op::Put(put) => {
                let request = put.request();
                if check::put(&request, &limits).is_ok() {
                    let _ = store.put(&request, &mut changes);
                }
            }
            Op::Delete(delete) => {
                let request = delete.request();
                if check::delete_range(&request, &limits).is_ok() {
                    let _ = store.delete_range(&request, &mut changes);
                }
            }
            Op::Compact(revision) => {
                let _ = store.compact(&CompactionRequest {
                    revision: i64::from(*revision),
                    physical: false,
                });
            }
        }
    }
    store
}

fuzz_target!(|input: Input| {
    match input.shape {
        Shape::Raw(bytes) => drop(decode(&bytes, input.piece_bytes)),
        Shape::Written {
            ops,
            extra,
            damage,
            cut,
        } => {
            let store = build(&ops);
            let mut bytes: Vec<u8> = Encoder::new(store.view(), &extra).flatten().collect();
            let undamaged = bytes.clone();
            for (at, flip) in damage {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= flip;
            }
            if let Some(cut) = cut {
                bytes.truncate(usize::from(cut) % (bytes.len() + 1));
            }
            let decoded = decode(&bytes, input.piece_bytes);
            if bytes == undamaged {
                let (decoded, extra_again) = decoded.expect("what was just written");
                assert_eq!(decoded.state_hash(), store.state_hash());
                assert_eq!(extra_again, extra);
            } else if let Some((decoded, extra_again)) = decoded {
                // A few flipped bits that no checksum notices would need a collision; report it if it happens.
                assert_eq!(decoded.state_hash(), store.state_hash());
                assert_eq!(extra_again, extra);
            }
        }
    }
});
