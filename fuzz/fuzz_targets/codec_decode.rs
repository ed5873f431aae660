//! Consensus values: any bytes are refused or read, never a panic or a huge allocation, and what is read is stable.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::codec;
use metastore_core::raft::position_of;
use metastore_core::raft::types::{Entry, LogId, Peer, SnapshotMeta, StoredMembership, Vote};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    kind: Kind,
    bytes: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Kind {
    Vote,
    LogId,
    Entry,
    Peer,
    SnapshotMeta,
    Membership,
    Description,
}

/// Decodes, and encodes and decodes what came out: the second time around nothing changes any more.
macro_rules! stable {
    ($type:ty, $bytes:expr) => {
        if let Ok(value) = codec::decode::<$type>($bytes) {
            let encoded = codec::encode(&value);
            let again = codec::decode::<$type>(&encoded).expect("what was just encoded");
            assert_eq!(codec::encode(&again), encoded);
        }
    };
}

fuzz_target!(|input: Input<'_>| {
    let bytes = input.bytes;
    match input.kind {
        Kind::Vote => stable!(Vote, bytes),
        Kind::LogId => stable!(LogId, bytes),
        Kind::Entry => stable!(Entry, bytes),
        Kind::Peer => stable!(Peer, bytes),
        Kind::SnapshotMeta => stable!(SnapshotMeta, bytes),
        Kind::Membership => stable!(StoredMembership, bytes),
        Kind::Description => drop(position_of(bytes)),
    }
});
