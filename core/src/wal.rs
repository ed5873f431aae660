//! The write-ahead log as functions on byte slices: how it is framed, read back and folded into a state.
//!
//! # The format
//!
//! A log is a chain of *segments*, numbered from 1 without gaps. A segment is a 64-byte [`SegmentHeader`] followed by
//! *batches*, each starting at a multiple of 8; after the last batch come zeros. A batch is what one write and one
//! fdatasync made durable together: a 24-byte header (payload length, number of records, batch sequence, CRC32C of the
//! padded payload, CRC32C of the header itself) and the [`Record`]s, padded with zeros to a multiple of 8. Batch
//! sequences are contiguous over the whole chain. All integers are little-endian.
//!
//! # What the writer promises
//!
//! 1. A batch is written only after the batch before it is durable.
//! 2. A segment appears under its own name only after its header, its first batch and everything in the segments
//!    before it are durable. The first batch repeats the vote, the committed position and the purged position, so that
//!    a segment never depends on an earlier one for them.
//! 3. What lies after the last batch is zero before the next batch is written.
//! 4. A start of the process writes [`Record::Opened`] in a batch of its own before anything else, so that what the
//!    previous life acknowledged is never the last batch.
//!
//! # What the reader concludes
//!
//! An unsynced write may leave any subset of its sectors. By promise 1 only the last batch of the last segment can be
//! unsynced, so a bad batch there is a *torn tail* and is cut. A later header that passes its checksum proves that the
//! batch before it had been acknowledged: then the bad batch is *damage*, and the log is refused rather than shortened.
//! Checksums of batch headers are seeded with the checksum of the segment's header, which holds a number drawn at
//! random for each segment, so that no payload a client sends can look like a header.
//!
//! *Invariant:* nothing in here touches a file; [`decode_segment`] and [`Replay`] neither panic nor allocate more than
//! a small multiple of their input, whatever the bytes.

mod batch;
mod record;
mod recover;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

pub use batch::{
    BATCH_HEADER_BYTES, BATCH_PAYLOAD_BYTES_MAX, BatchFull, BatchView, Encoder, Records,
};
pub use record::{Record, RecordFault, RecordRef};
pub use recover::{
    Corruption, CorruptionKind, Expected, Proof, SegmentContents, TornTail, decode_segment,
};
pub use replay::{Replay, ReplayError, Replayed};
pub use segment::{FORMAT_VERSION, LogIdentity, SEGMENT_HEADER_BYTES, SegmentHeader};
