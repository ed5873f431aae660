//! Snapshots survive the way they should and nothing else.

use metastore_proto::etcdserverpb::{CompactionRequest, PutRequest, RangeRequest};

use super::*;
use crate::mvcc::{Changes, Sweep};

fn store(keys: u32, value_bytes: usize) -> Store {
    let mut store = Store::new();
    let mut changes = Changes::new();
    for number in 0..keys {
        let key = (number % 1000).to_be_bytes().to_vec();
        let put = PutRequest {
            key,
            value: vec![1; value_bytes],
            ..PutRequest::default()
        };
        store.put(&put, &mut changes).expect("a plain put");
    }
    store
}

fn encoded(store: &Store, extra: &[u8]) -> Vec<u8> {
    Encoder::new(store.view(), extra).flatten().collect()
}

#[test]
fn a_snapshot_comes_back_whatever_the_pieces() {
    let store = store(9000, 200);
    let extra = vec![9; 700_000];
    let bytes = encoded(&store, &extra);
    assert!(Encoder::new(store.view(), &extra).all(|frame| frame.len() <= FRAME_BYTES_MAX));
    for piece in [1000, 4096, 524_297, 524_298, bytes.len()] {
        let mut decoder = Decoder::new();
        bytes
            .chunks(piece)
            .try_for_each(|piece| decoder.push(piece))
            .expect("whole");
        let (copy, kept) = decoder.finish().expect("complete");
        copy.validate();
        assert_eq!(kept, extra);
        assert_eq!(copy.state_hash(), store.state_hash());
        assert_eq!(encoded(&copy, &extra), bytes);
    }
}

#[test]
fn a_snapshot_does_not_tell_how_far_the_sweep_came() {
    let mut store = store(3000, 10);
    store
        .compact(&CompactionRequest {
            revision: 2500,
            physical: false,
        })
        .expect("in the past");
    let bytes = encoded(&store, b"");
    while store.sweep(7) == Sweep::More {}
    assert_eq!(encoded(&store, b""), bytes);
    let (copy, _) = decode(&bytes).expect("whole");
    assert_eq!(copy.bytes_in_use(), store.bytes_in_use());
    let old = RangeRequest {
        key: vec![0],
        range_end: vec![0],
        revision: 2500,
        ..RangeRequest::default()
    };
    assert_eq!(copy.view().range(&old), store.view().range(&old));
}

#[test]
fn an_empty_store_has_a_snapshot_too() {
    let (copy, extra) = decode(&encoded(&Store::new(), b"x")).expect("whole");
    copy.validate();
    assert_eq!(
        (copy.revision(), copy.compact_revision(), extra.as_slice()),
        (1, -1, &b"x"[..])
    );
}

#[test]
fn every_truncation_is_refused() {
    let bytes = encoded(&store(30, 10), b"extra");
    for length in 0..bytes.len() {
        let error = decode(&bytes[..length]).expect_err("cut short");
        assert!(
            matches!(error, SnapshotError::Truncated { .. }),
            "{length}: {error}"
        );
    }
}

#[test]
fn every_flipped_byte_is_refused() {
    let mut bytes = encoded(&store(30, 10), b"extra");
    for at in 0..bytes.len() {
        bytes[at] ^= 0x10;
        let error = decode(&bytes).expect_err("a byte was flipped");
        let offset = match error {
            SnapshotError::NotASnapshot => 0,
            SnapshotError::Truncated { offset } | SnapshotError::Damaged { offset } => offset,
            other => panic!("{at}: {other}"),
        };
        assert!(
            offset <= at as u64,
            "the error names the frame of the damage or its head"
        );
        bytes[at] ^= 0x10;
    }
    assert!(decode(&bytes).is_ok(), "every flip was taken back");
}

#[test]
fn frames_left_out_or_swapped_are_refused() {
    let frames: Vec<Vec<u8>> = Encoder::new(store(9000, 200).view(), b"extra").collect();
    assert!(frames.len() > 5);
    for at in 0..frames.len() {
        let mut fewer = frames.clone();
        fewer.remove(at);
        assert!(decode(&fewer.concat()).is_err(), "without frame {at}");
        let mut swapped = frames.clone();
        swapped.swap(at, (at + 1) % frames.len());
        assert!(
            decode(&swapped.concat()).is_err(),
            "with frame {at} out of place"
        );
    }
    let mut longer = frames.concat();
    longer.push(0);
    let end = longer.len() as u64 - 1;
    assert_eq!(
        decode(&longer).err(),
        Some(SnapshotError::Malformed {
            offset: end,
            reason: "bytes after the end"
        })
    );
}

#[test]
fn a_revision_far_beyond_the_records_allocates_nothing() {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    header.extend_from_slice(&(i64::MAX - 1).to_le_bytes());
    header.extend_from_slice(&(-1i64).to_le_bytes());
    header.extend_from_slice(&0u64.to_le_bytes());
    let header = frame(KIND_HEADER, &header);
    let mut close = 0u64.to_le_bytes().to_vec();
    close.extend_from_slice(&crc32c::crc32c(&header[..FRAME_HEAD_BYTES]).to_le_bytes());
    let error = decode(&[header, frame(KIND_CLOSE, &close)].concat())
        .expect_err("no record backs the revision");
    assert!(
        error.to_string().contains("a revision without a record"),
        "{error}"
    );
}

#[test]
fn an_unknown_format_is_named() {
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&7u32.to_le_bytes());
    assert_eq!(
        decode(&frame(KIND_HEADER, &header)).err(),
        Some(SnapshotError::UnknownFormat { version: 7 })
    );
}
