//! Reading a segment back: where the log ends, what is a torn tail, and what is damage.

use std::fmt;

use super::batch::{ALIGNMENT, BatchAt, BatchView, batch_at, find_header};
use super::record::RecordFault;
use super::segment::{FORMAT_VERSION, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader};

/// What the reader of a chain knows about a segment before opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Whose log it must be.
    pub identity: LogIdentity,
    /// The segment's number, from its place in the chain.
    pub segment: u64,
    /// The sequence of its first batch; `None` for the oldest segment that is left.
    pub first_batch: Option<u64>,
    /// Whether it is the last segment. Only there a torn tail can be.
    pub last: bool,
}

/// A segment that can be trusted as far as it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentContents<'a> {
    /// The header.
    pub header: SegmentHeader,
    /// The batches in order; never empty.
    pub batches: Vec<BatchView<'a>>,
    /// The offset where the next batch goes. Everything from here on is zero or to be zeroed.
    pub end: usize,
    /// The sequence of the batch after the last one.
    pub next_batch: u64,
    /// What had to be cut off.
    pub torn: Option<TornTail>,
}

/// A last write that never became durable and was never acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// Where the unfinished batch starts.
    pub offset: usize,
    /// The bytes from there to the last one that is not zero; the caller must overwrite them with zeros.
    pub dropped_bytes: usize,
}

/// A segment that must not be used, and where in it the fault lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Corruption {
    /// The offset in the segment.
    pub offset: usize,
    /// What is wrong.
    pub kind: CorruptionKind,
}

/// What is wrong with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorruptionKind {
    /// The segment's header is missing or its checksum does not hold.
    HeaderDamaged,
    /// The format is not the one this version reads.
    NewerVersion {
        /// The version in the header.
        version: u32,
    },
    /// The segment belongs to another cluster.
    WrongCluster {
        /// The cluster in the header.
        found: u64,
    },
    /// The segment belongs to another member.
    WrongMember {
        /// The member in the header.
        found: u64,
    },
    /// The header's segment number is not the one the segment stands for.
    WrongSegment {
        /// The number in the header.
        found: u64,
    },
    /// A batch that had been acknowledged does not pass its checksum, or is overwritten.
    BatchDamaged {
        /// The sequence of the batch that should stand here.
        sequence: u64,
        /// What proves that it had been acknowledged.
        proof: Proof,
    },
    /// Batches are missing, or stand twice.
    SequenceGap {
        /// The sequence that should come next.
        expected: u64,
        /// The sequence that does.
        found: u64,
    },
    /// A whole batch holds a record of a kind this version does not know.
    UnknownRecord {
        /// The record's tag.
        tag: u8,
    },
    /// A whole batch holds something that is no record.
    MalformedRecord,
}

/// Why a bad batch cannot be the last, unfinished write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A later batch follows in the same segment, at this offset.
    LaterBatch {
        /// The offset of the later batch.
        offset: usize,
    },
    /// A later segment exists.
    LaterSegment,
    /// It is the first of its segment, which is durable before the segment gets its name.
    FirstOfSegment,
}

/// Reads one segment, all of its bytes.
///
/// Of the last segment an unfinished last write is cut off and reported; everything else that does not add up is an
/// error.
pub fn decode_segment(bytes: &[u8], expected: Expected) -> Result<SegmentContents<'_>, Corruption> {
    let header = checked_header(bytes, expected).map_err(|kind| Corruption { offset: 0, kind })?;
    let seed = header.seed();
    // Looking at the zeros once saves looking at them at every step.
    let used = bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last + 1);
    let mut contents = SegmentContents {
        header,
        batches: Vec::new(),
        end: SEGMENT_HEADER_BYTES,
        next_batch: header.first_batch,
        torn: None,
    };
    while contents.end < used {
        match batch_at(bytes, contents.end, seed) {
            BatchAt::Whole { batch, end } => {
                check_sequence(&contents, batch.sequence)?;
                contents.batches.push(batch);
                contents.end = end;
                // Only a forged number can be the last one there is.
                contents.next_batch = contents.next_batch.wrapping_add(1);
            }
            BatchAt::Unreadable { sequence, fault } => {
                check_sequence(&contents, sequence)?;
                return Err(Corruption {
                    offset: contents.end,
                    kind: fault.into(),
                });
            }
            BatchAt::Bad => {
                let tail = &bytes[..used];
                if let Some(proof) = proof_of_damage(&contents, tail, seed, expected.last) {
                    return Err(damaged(&contents, proof));
                }
                contents.torn = Some(TornTail {
                    offset: contents.end,
                    dropped_bytes: used - contents.end,
                });
                return Ok(contents);
            }
        }
    }
    if contents.batches.is_empty() {
        return Err(damaged(&contents, Proof::FirstOfSegment));
    }
    Ok(contents)
}

fn checked_header(bytes: &[u8], expected: Expected) -> Result<SegmentHeader, CorruptionKind> {
    let header = SegmentHeader::decode(bytes)?;
    if header.identity.cluster_id != expected.identity.cluster_id {
        return Err(CorruptionKind::WrongCluster {
            found: header.identity.cluster_id,
        });
    }
    if header.identity.member_id != expected.identity.member_id {
        return Err(CorruptionKind::WrongMember {
            found: header.identity.member_id,
        });
    }
    if header.segment != expected.segment {
        return Err(CorruptionKind::WrongSegment {
            found: header.segment,
        });
    }
    match expected.first_batch {
        Some(expected) if expected != header.first_batch => Err(CorruptionKind::SequenceGap {
            expected,
            found: header.first_batch,
        }),
        _ => Ok(header),
    }
}

fn check_sequence(contents: &SegmentContents<'_>, found: u64) -> Result<(), Corruption> {
    if found == contents.next_batch {
        return Ok(());
    }
    let kind = CorruptionKind::SequenceGap {
        expected: contents.next_batch,
        found,
    };
    Err(Corruption {
        offset: contents.end,
        kind,
    })
}

/// Whether the bad batch at the end of `contents` had been acknowledged.
fn proof_of_damage(
    contents: &SegmentContents<'_>,
    used: &[u8],
    seed: u32,
    last: bool,
) -> Option<Proof> {
    if contents.batches.is_empty() {
        return Some(Proof::FirstOfSegment);
    }
    if !last {
        return Some(Proof::LaterSegment);
    }
    find_header(used, contents.end + ALIGNMENT, seed)
        .map(|(offset, _)| Proof::LaterBatch { offset })
}

fn damaged(contents: &SegmentContents<'_>, proof: Proof) -> Corruption {
    let kind = CorruptionKind::BatchDamaged {
        sequence: contents.next_batch,
        proof,
    };
    Corruption {
        offset: contents.end,
        kind,
    }
}

impl From<RecordFault> for CorruptionKind {
    fn from(fault: RecordFault) -> CorruptionKind {
        match fault {
            RecordFault::UnknownTag(tag) => CorruptionKind::UnknownRecord { tag },
            RecordFault::Malformed => CorruptionKind::MalformedRecord,
        }
    }
}

impl fmt::Display for Corruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.kind)
    }
}

impl std::error::Error for Corruption {}

impl fmt::Display for CorruptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CorruptionKind::HeaderDamaged => {
                write!(f, "the segment's header is damaged; {REPLACE}")
            }
            CorruptionKind::NewerVersion { version } => {
                write!(
                    f,
                    "log format {version} is not format {FORMAT_VERSION}, which this version reads; {UPGRADE}"
                )
            }
            CorruptionKind::WrongCluster { found } => {
                write!(f, "the segment belongs to cluster {found:x}; {MIXED_UP}")
            }
            CorruptionKind::WrongMember { found } => {
                write!(f, "the segment belongs to member {found:x}; {MIXED_UP}")
            }
            CorruptionKind::WrongSegment { found } => {
                write!(
                    f,
                    "the file holds segment {found} under the name of another; {MIXED_UP}"
                )
            }
            CorruptionKind::BatchDamaged { sequence, proof } => {
                write!(
                    f,
                    "batch {sequence} was acknowledged ({proof}) and is now damaged; {REPLACE}"
                )
            }
            CorruptionKind::SequenceGap { expected, found } => {
                write!(
                    f,
                    "batch {expected} should come next but batch {found} does, so part of the log is missing; {REPLACE}"
                )
            }
            CorruptionKind::UnknownRecord { tag } => {
                write!(f, "record of the unknown kind {tag}; {UPGRADE}")
            }
            CorruptionKind::MalformedRecord => {
                write!(
                    f,
                    "a batch with a good checksum holds a malformed record, which is a fault of the writer; {REPLACE}"
                )
            }
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::LaterBatch { offset } => write!(f, "a later batch stands at offset {offset}"),
            Proof::LaterSegment => f.write_str("a later segment exists"),
            Proof::FirstOfSegment => f.write_str("it is the first of its segment"),
        }
    }
}

const REPLACE: &str =
    "remove this member from the cluster and add it anew, or restore it from a backup";
const UPGRADE: &str = "start the newer version that wrote it";
const MIXED_UP: &str = "put the right file back; never mix files of different data directories";
