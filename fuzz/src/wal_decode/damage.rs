//! What befalls a segment, and what a reader has to make of it.

use arbitrary::Arbitrary;
use metastore_core::wal::{BATCH_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader};

use super::log::Segment;

/// What befalls a segment. Segments are named from the last one, places by where they lie in the segment or, for
/// `Batch`, in a batch, around the end if need be.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Damage {
    /// Bits of any byte.
    Flip { segment: u8, at: u16, flip: u8 },
    /// Bits of a byte of a batch, named from the last one.
    Batch {
        segment: u8,
        batch: u8,
        at: u16,
        flip: u8,
    },
    /// A stretch is zero, as where a sector was never written.
    Zero { segment: u8, at: u16, bytes: u16 },
    /// The file ends early.
    Cut { segment: u8, at: u16 },
    /// The file ends early, so many bytes before it did.
    CutTail { segment: u8, bytes: u16 },
    /// The last write is there in part: so many bytes of it, and zeros.
    Torn { bytes: u16 },
}

/// What a reader makes of a segment that it can trust.
pub struct Outcome {
    /// How many batches it reads.
    pub batches: usize,
    /// How many bytes behind them it says to have cut off.
    pub dropped_bytes: Option<usize>,
}

impl Damage {
    /// It happens.
    pub fn befall(self, segments: &mut [Segment]) {
        let named = |segment: u8| segments.len() - 1 - usize::from(segment) % segments.len();
        match self {
            Damage::Flip { segment, at, flip } => {
                let bytes = &mut segments[named(segment)].bytes;
                if let Some(place) = usize::from(at).checked_rem(bytes.len()) {
                    bytes[place] ^= flip;
                }
            }
            Damage::Batch {
                segment,
                batch,
                at,
                flip,
            } => {
                let segment = &mut segments[named(segment)];
                let batches = segment.batches.len();
                let batch = batches - 1 - usize::from(batch) % batches;
                let (start, end) = (segment.bounds[batch], segment.bounds[batch + 1]);
                let place = start + usize::from(at) % (end - start);
                if let Some(byte) = segment.bytes.get_mut(place) {
                    *byte ^= flip;
                }
            }
            Damage::Zero { segment, at, bytes } => {
                let all = &mut segments[named(segment)].bytes;
                let from = usize::from(at).min(all.len());
                let to = (from + usize::from(bytes)).min(all.len());
                all[from..to].fill(0);
            }
            Damage::Cut { segment, at } => segments[named(segment)].bytes.truncate(at.into()),
            Damage::CutTail { segment, bytes } => {
                let all = &mut segments[named(segment)].bytes;
                all.truncate(all.len().saturating_sub(bytes.into()));
            }
            Damage::Torn { bytes } => {
                let last = &mut segments[named(0)];
                let start = last.bounds[last.batches.len() - 1];
                let from = (start + usize::from(bytes)).min(last.bytes.len());
                last.bytes[from..].fill(0);
            }
        }
    }
}

impl Segment {
    /// What has to come of the segment as it is now; none if it must be refused.
    ///
    /// The rule: a batch that is not as it was written can only be the last write of the last segment, cut off as it
    /// never was acknowledged. One that is the first of its segment, or in an earlier segment, or has the header of a
    /// later batch behind it, had been acknowledged. A file that ends at the end of a batch says nothing of what came
    /// behind, so a segment that is followed by another has to be held against that one's first batch.
    pub fn outcome(&self, last: bool) -> Option<Outcome> {
        let header = self.written.get(..SEGMENT_HEADER_BYTES);
        if self.bytes.get(..SEGMENT_HEADER_BYTES) != header {
            return None;
        }
        let batches = self
            .bounds
            .windows(2)
            .take_while(|it| self.holds(it[0], it[1]))
            .count();
        let end = self.bounds[batches];
        let used = self
            .bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |at| at + 1);
        if batches == 0 {
            return None;
        }
        if used <= end {
            return Some(Outcome {
                batches,
                dropped_bytes: None,
            });
        }
        let later = self.bounds[..self.batches.len()]
            .iter()
            .filter(|start| **start > end);
        let mut later = later.map(|start| (*start, start + BATCH_HEADER_BYTES));
        if !last || later.any(|(start, header)| header <= used && self.holds(start, header)) {
            return None;
        }
        Some(Outcome {
            batches,
            dropped_bytes: Some(used - end),
        })
    }

    /// Whether these bytes are those that were written.
    fn holds(&self, start: usize, end: usize) -> bool {
        self.bytes.get(start..end) == Some(&self.written[start..end])
    }
}

/// A segment of one batch whose checksums hold, whatever the records say.
pub fn sealed(header: &SegmentHeader, payload: &[u8], records: u8) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    let seed = u32::from_le_bytes(*bytes.last_chunk::<4>().expect("a header is longer"));
    let mut padded = payload.to_vec();
    padded.resize(payload.len().next_multiple_of(8), 0);
    let mut head = (payload.len() as u32).to_le_bytes().to_vec();
    head.extend_from_slice(&u32::from(records).to_le_bytes());
    head.extend_from_slice(&header.first_batch.to_le_bytes());
    head.extend_from_slice(&crc32c::crc32c(&padded).to_le_bytes());
    let checksum = crc32c::crc32c_append(seed, &head);
    head.extend_from_slice(&checksum.to_le_bytes());
    bytes.extend(head);
    bytes.extend(padded);
    bytes
}
