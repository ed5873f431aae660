//! Chains of segments: whatever bytes there are, and logs that were written and then damaged, held to the exact rule.

mod damage;
pub mod log;
mod replay;

use arbitrary::Arbitrary;
use metastore_core::wal::{
    Expected, LogIdentity, Record, Replay, Replayed, SegmentContents, SegmentHeader, decode_segment,
};

pub use damage::Damage;
pub use log::Item;
use log::Segment;

/// An input.
#[derive(Arbitrary, Debug, Clone)]
pub struct Input<'a> {
    /// The last index that a checkpoint covers.
    pub checkpoint: Option<u8>,
    /// What there is to read.
    pub shape: Shape<'a>,
}

/// What there is to read.
#[derive(Arbitrary, Debug, Clone)]
pub enum Shape<'a> {
    /// A log: batches in segments, and what befell it.
    Written {
        segments: Vec<Vec<Vec<Item>>>,
        damage: Vec<Damage>,
        reader: Reader,
    },
    /// A batch whose checksums hold, of whatever is there.
    Sealed { records: u8, payload: &'a [u8] },
    /// A good header and then whatever is there.
    Headed(&'a [u8]),
    /// Whatever is there.
    Raw(&'a [u8]),
}

/// Where a reader is wrong about a chain, if it is.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Reader {
    /// It reads the chain as it is.
    Right,
    /// It does not know the oldest segments, so that it cannot know the sequence of its first batch.
    Without { oldest: u8 },
    /// It takes a segment for another one.
    WrongSegment(u8),
    /// It takes the log for that of another cluster.
    WrongCluster(u8),
    /// It takes the log for that of another member.
    WrongMember(u8),
    /// It awaits another batch at the beginning.
    WrongBatch(u8),
}

const IDENTITY: LogIdentity = LogIdentity {
    cluster_id: 1,
    member_id: 2,
};

/// The header of the segment at this place in the chain.
fn header(place: usize, first_batch: u64) -> SegmentHeader {
    SegmentHeader {
        identity: IDENTITY,
        segment: FIRST_SEGMENT + place as u64,
        first_batch,
        nonce: 0x5eed ^ ((place as u64) << 32),
    }
}

fn expected(place: usize, first_batch: Option<u64>, last: bool) -> Expected {
    Expected {
        identity: IDENTITY,
        segment: FIRST_SEGMENT + place as u64,
        first_batch,
        last,
    }
}

fn records(contents: &SegmentContents<'_>) -> Vec<Vec<Record>> {
    let batches = contents.batches.iter();
    let records = batches.map(|batch| batch.records().map(|record| record.to_record()).collect());
    records.collect()
}

/// What a log of these records says, which has to be what the model of a log says.
fn replay<'r>(
    records: impl Iterator<Item = &'r Record> + Clone,
    checkpoint: Option<u64>,
) -> Option<Replayed> {
    let fold = || {
        let mut replay = Replay::new(checkpoint);
        for record in records.clone() {
            replay.apply(record.borrowed())?;
        }
        replay.finish()
    };
    let replayed = fold();
    assert_eq!(replayed, replay::replay(records.clone(), checkpoint));
    replayed.ok()
}

/// Reads a chain as a start of the program does: each segment has to go on where the one before ended. Every segment is
/// held to what has to come of it. Answers the records, if all of them can be trusted.
fn read_chain(segments: &[Segment], oldest: usize) -> Option<Vec<Record>> {
    let (mut all, mut next_batch) = (Vec::new(), None);
    for (place, segment) in segments.iter().enumerate().skip(oldest) {
        let last = place + 1 == segments.len();
        let decoded = decode_segment(&segment.bytes, expected(place, next_batch, last));
        let first = segment.header.first_batch;
        if next_batch.is_some_and(|next| next != first) {
            assert!(
                decoded.is_err(),
                "batches before segment {place} are missing"
            );
            return None;
        }
        let outcome = segment.outcome(last);
        let Some(outcome) = outcome else {
            assert!(decoded.is_err(), "damage to what was durable is an error");
            return None;
        };
        let contents = decoded.unwrap_or_else(|it| panic!("segment {place} is readable: {it}"));
        let read = records(&contents);
        assert_eq!(read, segment.batches[..outcome.batches]);
        assert_eq!(contents.header, segment.header);
        assert_eq!(contents.next_batch, first + outcome.batches as u64);
        assert_eq!(contents.end, segment.bounds[outcome.batches]);
        let torn = contents.torn.map(|it| (it.offset, it.dropped_bytes));
        let dropped = outcome.dropped_bytes;
        assert_eq!(torn, dropped.map(|bytes| (contents.end, bytes)));
        all.extend(read.into_iter().flatten());
        next_batch = Some(contents.next_batch);
    }
    Some(all)
}

fn written(written: &[Vec<Vec<Item>>], damage: &[Damage], reader: Reader, checkpoint: Option<u8>) {
    let mut log = log::write(written);
    if log.segments.is_empty() {
        return;
    }
    let whole: Vec<Record> = log.records().cloned().collect();
    damage.iter().for_each(|it| it.befall(&mut log.segments));
    let undamaged = log.segments.iter().all(Segment::is_undamaged);
    let oldest = match reader {
        Reader::Without { oldest } => usize::from(oldest) % log.segments.len(),
        reader => {
            mistaken(&log.segments, reader);
            0
        }
    };
    let read = read_chain(&log.segments, oldest);
    let Some(read) = read else {
        assert!(!undamaged, "an undamaged log is readable");
        return;
    };
    if oldest == 0 {
        assert!(whole.starts_with(&read), "what is read is what was written");
    }
    let index = log.checkpoint(checkpoint);
    let replayed = replay(read.iter(), index);
    if undamaged && oldest == 0 && log.honest {
        let replayed = replayed.expect("what an honest writer wrote makes sense");
        assert_eq!(
            replayed,
            log.state(index),
            "nothing is lost, nothing made up"
        );
    }
}

/// A reader that is wrong about a segment gets nothing out of it.
fn mistaken(segments: &[Segment], reader: Reader) {
    let right = expected(0, None, segments.len() == 1);
    let off = |by: u8| u64::from(by) + 1;
    let wrong = match reader {
        Reader::Right | Reader::Without { .. } => return,
        Reader::WrongSegment(by) => Expected {
            segment: right.segment + off(by),
            ..right
        },
        Reader::WrongCluster(by) => Expected {
            identity: LogIdentity {
                cluster_id: IDENTITY.cluster_id + off(by),
                ..IDENTITY
            },
            ..right
        },
        Reader::WrongMember(by) => Expected {
            identity: LogIdentity {
                member_id: IDENTITY.member_id + off(by),
                ..IDENTITY
            },
            ..right
        },
        Reader::WrongBatch(by) => Expected {
            first_batch: Some(segments[0].header.first_batch + off(by)),
            ..right
        },
    };
    let read = decode_segment(&segments[0].bytes, wrong);
    assert!(read.is_err(), "a segment is read only as what it is");
}

/// Reads bytes that nobody wrote: whatever comes of them hangs together.
fn foreign(bytes: &[u8], checkpoint: Option<u8>) {
    for last in [true, false] {
        let Ok(contents) = decode_segment(bytes, expected(0, None, last)) else {
            continue;
        };
        assert!(
            !contents.batches.is_empty(),
            "one that is trusted has a batch"
        );
        assert!(
            last || contents.torn.is_none(),
            "only the last has a torn tail"
        );
        let read: Vec<Record> = records(&contents).into_iter().flatten().collect();
        let bytes_read: usize = read.iter().map(Record::encoded_len).sum();
        assert!(bytes_read <= bytes.len(), "nothing is made up");
        replay(read.iter(), checkpoint.map(u64::from));
    }
}

/// One input.
pub fn run(input: &Input<'_>) {
    let checkpoint = input.checkpoint;
    match &input.shape {
        Shape::Written {
            segments,
            damage,
            reader,
        } => written(segments, damage, *reader, checkpoint),
        Shape::Sealed { records, payload } => {
            let bytes = damage::sealed(&header(0, FIRST_BATCH), payload, *records);
            foreign(&bytes, checkpoint);
        }
        Shape::Headed(tail) => {
            let head = header(0, FIRST_BATCH).encode();
            foreign(&[&head[..], tail].concat(), checkpoint);
        }
        Shape::Raw(bytes) => foreign(bytes, checkpoint),
    }
}

const FIRST_SEGMENT: u64 = 3;
const FIRST_BATCH: u64 = 10;
