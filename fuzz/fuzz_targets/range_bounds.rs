//! Ranges over keys of any bytes, with every option, at any revision: the same answers as from a plain map, in one piece
//! and in many; and deletes take exactly what a read of the same range shows.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::check::{self, Limits};
use metastore_core::mvcc::{Changes, Store};
use metastore_fuzz::model::Model;
use metastore_fuzz::{Range, compact, everything};
use metastore_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest};
use metastore_proto::mvccpb::KeyValue;

/// A key of up to four bytes out of few, so that keys are neighbours and prefixes of each other.
#[derive(Arbitrary, Debug, Clone, Copy)]
struct Bytes(u16);

impl Bytes {
    fn bytes(self) -> Vec<u8> {
        const DIGITS: [u8; 6] = [0, 1, b'a', b'b', 0xfe, 0xff];
        let mut rest = usize::from(self.0);
        let length = rest % 5;
        rest /= 5;
        let mut key = Vec::with_capacity(length);
        for _ in 0..length {
            key.push(DIGITS[rest % DIGITS.len()]);
            rest /= DIGITS.len();
        }
        key
    }
}

#[derive(Arbitrary, Debug)]
enum Op {
    Put(Bytes, u8),
    Delete(Bytes, Bytes),
    Compact(i8),
    Sweep(u8),
    Read(Bytes, Bytes, Box<Range>, u8),
}

fn step(store: &mut Store, model: &mut Model, op: &Op) {
    let limits = Limits::default();
    let mut changes = Changes::new();
    match op {
        Op::Put(key, value) => {
            let request = PutRequest {
                key: key.bytes(),
                value: vec![*value; usize::from(*value % 5)],
                ..PutRequest::default()
            };
            if check::put(&request, &limits).is_ok() {
                assert_eq!(store.put(&request, &mut changes), model.put(&request));
            }
        }
        Op::Delete(key, end) => {
            let request = DeleteRangeRequest {
                key: key.bytes(),
                range_end: end.bytes(),
                prev_kv: true,
            };
            if check::delete_range(&request, &limits).is_ok() {
                let deleted = store.delete_range(&request, &mut changes);
                assert_eq!(deleted, Ok(model.delete_range(&request)));
            }
        }
        Op::Compact(revision) => compact(store, model, *revision),
        Op::Sweep(changes) => drop(store.sweep(usize::from(*changes) + 1)),
        Op::Read(key, end, range, chunk) => {
            let request = RangeRequest {
                key: key.bytes(),
                range_end: end.bytes(),
                ..range.request()
            };
            if check::range(&request, &limits).is_ok() {
                assert_eq!(store.view().range(&request), model.range(&request));
            }
            if check::range_stream(&request, &limits).is_ok() {
                in_pieces(store, model, &request, usize::from(*chunk));
            }
        }
    }
}

/// What comes in pieces is what comes in one.
fn in_pieces(store: &Store, model: &Model, request: &RangeRequest, chunk_bytes: usize) {
    let whole = model.range(request);
    let pieces = store.view().range_stream(request, chunk_bytes);
    let Ok(pieces) = pieces else {
        assert!(whole.is_err(), "only what a range refuses is refused");
        return;
    };
    let whole = whole.expect("what a stream reads a range reads");
    let mut kvs: Vec<KeyValue> = Vec::new();
    let (mut count, mut more) = (0, false);
    for piece in pieces {
        kvs.extend(piece.kvs);
        count = count.max(piece.count);
        more |= piece.more;
    }
    assert_eq!(kvs, whole.kvs);
    assert_eq!((count, more), (whole.count, whole.more));
}

fuzz_target!(|ops: Vec<Op>| {
    let (mut store, mut model) = (Store::new(), Model::default());
    for op in &ops {
        step(&mut store, &mut model, op);
        assert_eq!(store.revision(), model.revision(), "after {op:?}");
    }
    store.validate();
    assert_eq!(
        store.view().range(&everything()),
        model.range(&everything())
    );
});
