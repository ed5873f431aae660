//! Segments: any bytes are read without a panic, and a damaged log is never read as another one.

#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use metastore_core::wal::{
    Encoder, Expected, LogIdentity, Record, RecordRef, Replay, SegmentHeader, decode_segment,
};

#[derive(Arbitrary, Debug)]
struct Input {
    shape: Shape,
    last: bool,
    checkpoint: Option<u8>,
}

#[derive(Arbitrary, Debug)]
enum Shape {
    /// Whatever is there.
    Raw(Vec<u8>),
    /// A good header and then whatever is there.
    Headed(Vec<u8>),
    /// A written log and what befell it.
    Written {
        batches: Vec<Vec<Item>>,
        damage: Vec<Damage>,
        zeros: u8,
    },
}

#[derive(Arbitrary, Debug)]
enum Item {
    Entry { index: u8, payload: Vec<u8> },
    Vote(Vec<u8>),
    Committed(Vec<u8>),
    Truncate(u8),
    Purge(u8),
    Opened,
    Closed,
}

#[derive(Arbitrary, Debug)]
struct Damage {
    at: u16,
    flip: u8,
}

impl Item {
    fn record(&self) -> Record {
        match self {
            Item::Entry { index, payload } => Record::Entry {
                index: (*index).into(),
                payload: payload.clone(),
            },
            Item::Vote(vote) => Record::Vote(vote.clone()),
            Item::Committed(position) => Record::Committed(position.clone()),
            Item::Truncate(index) => Record::TruncateFrom {
                index: (*index).into(),
            },
            Item::Purge(index) => Record::Purge {
                index: (*index).into(),
                payload: vec![*index],
            },
            Item::Opened => Record::Opened,
            Item::Closed => Record::Closed,
        }
    }
}

fn header() -> SegmentHeader {
    SegmentHeader {
        identity: LogIdentity {
            cluster_id: 1,
            member_id: 2,
        },
        segment: 3,
        first_batch: 10,
        nonce: 0x5eed,
    }
}

/// The bytes of a log, and the records of each batch.
fn write(batches: &[Vec<Item>], zeros: u8) -> (Vec<u8>, Vec<Vec<Record>>) {
    let mut bytes = header().encode().to_vec();
    let mut written = Vec::new();
    let batches = batches.iter().filter(|items| !items.is_empty());
    for (sequence, items) in (header().first_batch..).zip(batches) {
        let records: Vec<Record> = items.iter().map(Item::record).collect();
        let mut encoder = Encoder::new();
        for record in &records {
            encoder
                .push(record.borrowed())
                .expect("fuzz inputs are far below the bound");
        }
        bytes.extend_from_slice(encoder.seal(sequence, &header()));
        written.push(records);
    }
    bytes.resize(bytes.len() + usize::from(zeros), 0);
    (bytes, written)
}

fn expected(last: bool) -> Expected {
    let header = header();
    Expected {
        identity: header.identity,
        segment: header.segment,
        first_batch: None,
        last,
    }
}

fn replay(bytes: &[u8], last: bool, checkpoint: Option<u8>) {
    let Ok(contents) = decode_segment(bytes, expected(last)) else {
        return;
    };
    assert!(
        !contents.batches.is_empty(),
        "a segment that is trusted has a batch"
    );
    let mut replay = Replay::new(checkpoint.map(u64::from));
    for record in contents.batches.iter().flat_map(|batch| batch.records()) {
        if replay.apply(record).is_err() {
            return;
        }
    }
    let Ok(replayed) = replay.finish() else {
        return;
    };
    let payloads: usize = replayed
        .entries
        .iter()
        .map(|(_, payload)| payload.len())
        .sum();
    assert!(payloads <= bytes.len(), "nothing is made up");
    let first = checkpoint.map_or(0, |index| u64::from(index) + 1);
    for (next, (index, _)) in (first..).zip(&replayed.entries) {
        assert_eq!(
            *index, next,
            "entries are contiguous from the checkpoint on"
        );
    }
}

fuzz_target!(|input: Input| {
    let Input {
        shape,
        last,
        checkpoint,
    } = input;
    match shape {
        Shape::Raw(bytes) => replay(&bytes, last, checkpoint),
        Shape::Headed(tail) => {
            let mut bytes = header().encode().to_vec();
            bytes.extend(tail);
            replay(&bytes, last, checkpoint);
        }
        Shape::Written {
            batches,
            damage,
            zeros,
        } => {
            let (mut bytes, written) = write(&batches, zeros);
            let undamaged = bytes.clone();
            for Damage { at, flip } in &damage {
                let at = usize::from(*at) % bytes.len();
                bytes[at] ^= flip;
            }
            if let Ok(contents) = decode_segment(&bytes, expected(last)) {
                let read: Vec<Vec<Record>> = contents
                    .batches
                    .iter()
                    .map(|batch| {
                        batch
                            .records()
                            .map(|record: RecordRef<'_>| record.to_record())
                            .collect()
                    })
                    .collect();
                assert!(
                    written.starts_with(&read),
                    "a prefix of what was written, or an error"
                );
                assert!(
                    last || contents.torn.is_none(),
                    "only the last segment has a torn tail"
                );
                assert!(
                    bytes != undamaged || read == written,
                    "undamaged logs are read whole"
                );
            } else {
                assert!(
                    bytes != undamaged || written.is_empty(),
                    "an undamaged log is readable"
                );
            }
            replay(&bytes, last, checkpoint);
        }
    }
});
