//! Batches: what one write and one fdatasync make durable together.

use super::record::{RecordFault, RecordRef};
use super::segment::{SegmentHeader, u32_at, u64_at};

/// Collects the records of one batch in a buffer that is used again for the next.
///
/// `push` records, `seal` the batch, write the bytes it returns, `clear`.
#[derive(Debug)]
pub struct Encoder {
    /// Room for the header, then the records; padded only by `seal`.
    bytes: Vec<u8>,
    records: u32,
}

/// The record does not fit into the batch any more; the batch is as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFull;

impl Encoder {
    /// An empty batch.
    pub fn new() -> Encoder {
        Encoder {
            bytes: vec![0; BATCH_HEADER_BYTES],
            records: 0,
        }
    }

    /// Appends a record. Refused when the payload would exceed [`BATCH_PAYLOAD_BYTES_MAX`].
    pub fn push(&mut self, record: RecordRef<'_>) -> Result<(), BatchFull> {
        let length = record.encoded_len();
        if length > BATCH_PAYLOAD_BYTES_MAX - self.payload_len() {
            return Err(BatchFull);
        }
        record.encode(&mut self.bytes);
        self.records += 1;
        Ok(())
    }

    /// Completes the batch and returns its bytes, a multiple of 8.
    ///
    /// # Panics
    ///
    /// When no record was pushed: a batch without records would look like the end of the log.
    pub fn seal(&mut self, sequence: u64, segment: &SegmentHeader) -> &[u8] {
        assert!(self.records > 0, "a batch holds at least one record");
        let length = u32::try_from(self.payload_len()).expect("push bounds the payload");
        self.bytes.resize(self.sealed_len(), 0);
        let checksum = crc32c::crc32c(&self.bytes[BATCH_HEADER_BYTES..]);
        self.bytes[..4].copy_from_slice(&length.to_le_bytes());
        self.bytes[4..8].copy_from_slice(&self.records.to_le_bytes());
        self.bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
        self.bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        let checksum = crc32c::crc32c_append(segment.seed(), &self.bytes[..20]);
        self.bytes[20..24].copy_from_slice(&checksum.to_le_bytes());
        &self.bytes
    }

    /// The bytes `seal` will return.
    pub fn sealed_len(&self) -> usize {
        self.bytes.len().next_multiple_of(ALIGNMENT)
    }

    /// The number of records in the batch.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Whether no record was pushed since the last `clear`.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Starts the next batch. The buffer is kept, unless one huge batch has blown it up.
    pub fn clear(&mut self) {
        self.bytes.truncate(BATCH_HEADER_BYTES);
        self.bytes.fill(0);
        self.bytes.shrink_to(BUFFER_KEPT_BYTES_MAX);
        self.records = 0;
    }

    fn payload_len(&self) -> usize {
        self.bytes.len() - BATCH_HEADER_BYTES
    }
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

/// A batch inside a segment's bytes, all of whose records are known to decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchView<'a> {
    /// Its number in the chain.
    pub sequence: u64,
    /// Where in the segment its header starts.
    pub offset: usize,
    payload: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The records in the order they were pushed.
    pub fn records(&self) -> Records<'a> {
        Records { rest: self.payload }
    }
}

/// Iterates over the records of a [`BatchView`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordRef<'a>;

    fn next(&mut self) -> Option<RecordRef<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (record, rest) =
            RecordRef::decode(self.rest).expect("a view is made only of records that decode");
        self.rest = rest;
        Some(record)
    }
}

/// What stands at an offset where a batch may start.
pub(super) enum BatchAt<'a> {
    /// A batch whose checksums hold, and the offset where the next may start.
    Whole { batch: BatchView<'a>, end: usize },
    /// Neither zeros nor a batch whose checksums hold.
    Bad,
    /// Checksums hold, but the records say something this version cannot read.
    Unreadable { sequence: u64, fault: RecordFault },
}

/// Reads the batch at `offset`, which must lie within `segment`.
pub(super) fn batch_at(segment: &[u8], offset: usize, seed: u32) -> BatchAt<'_> {
    let Some(header) = header_at(segment, offset, seed) else {
        return BatchAt::Bad;
    };
    let start = offset + BATCH_HEADER_BYTES;
    let padded = header.length.next_multiple_of(ALIGNMENT);
    // A length beyond the file means that the file was cut short.
    let Some(body) = segment.get(start..start + padded) else {
        return BatchAt::Bad;
    };
    if crc32c::crc32c(body) != header.checksum {
        return BatchAt::Bad;
    }
    let payload = &body[..header.length];
    match check_records(payload, header.records) {
        Ok(()) => BatchAt::Whole {
            batch: BatchView {
                sequence: header.sequence,
                offset,
                payload,
            },
            end: start + padded,
        },
        Err(fault) => BatchAt::Unreadable {
            sequence: header.sequence,
            fault,
        },
    }
}

/// The first batch header in `segment` at or after `offset` whose own checksum holds: where, and which sequence.
///
/// Only the header is checked. It proves enough: a batch's write begins only when the batch before it is durable.
pub(super) fn find_header(segment: &[u8], offset: usize, seed: u32) -> Option<(usize, u64)> {
    (offset..segment.len())
        .step_by(ALIGNMENT)
        .find_map(|offset| header_at(segment, offset, seed).map(|header| (offset, header.sequence)))
}

struct BatchHeader {
    length: usize,
    records: u32,
    sequence: u64,
    checksum: u32,
}

fn header_at(segment: &[u8], offset: usize, seed: u32) -> Option<BatchHeader> {
    let bytes = segment.get(offset..)?.first_chunk::<BATCH_HEADER_BYTES>()?;
    let length = usize::try_from(u32_at(bytes, 0)).ok()?;
    let plausible = (1..=BATCH_PAYLOAD_BYTES_MAX).contains(&length);
    if !plausible || crc32c::crc32c_append(seed, &bytes[..20]) != u32_at(bytes, 20) {
        return None;
    }
    Some(BatchHeader {
        length,
        records: u32_at(bytes, 4),
        sequence: u64_at(bytes, 8),
        checksum: u32_at(bytes, 16),
    })
}

fn check_records(payload: &[u8], expected: u32) -> Result<(), RecordFault> {
    let mut rest = payload;
    let mut found = 0u32;
    while !rest.is_empty() {
        (_, rest) = RecordRef::decode(rest)?;
        found += 1;
    }
    if found == expected {
        Ok(())
    } else {
        Err(RecordFault::Malformed)
    }
}

/// The length of a batch's header.
pub const BATCH_HEADER_BYTES: usize = 24;

/// The largest payload of a batch, and so of a record with its framing.
pub const BATCH_PAYLOAD_BYTES_MAX: usize = 256 << 20;

pub(super) const ALIGNMENT: usize = 8;
const BUFFER_KEPT_BYTES_MAX: usize = 16 << 20;
