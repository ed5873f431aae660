//! Snapshot: a view and the caller's own bytes as a stream of checked chunks, and back.
//!
//! ```text
//! stream  = frame*                        header, extra*, records*, close
//! frame   = length u32 | crc-32c u32 | kind u8, payload      length and crc cover kind and payload
//! header  = magic 8 | format version u32 | revision i64 | compact revision i64 | extra length u64
//! extra   = the caller's bytes, cut anywhere
//! records = (length u32 | packed record)*, cut anywhere; by key, then by position
//! close   = records u64 | crc-32c u32 of the lengths and crcs of all frames before
//! ```
//!
//! All numbers are little-endian. Only what no compaction may remove is written, so equal states give equal bytes
//! however far a member's sweep came. The log of events is not written: it is the records by position.

use std::collections::VecDeque;
use std::fmt;

use crate::key::KeyRange;
use crate::mvcc::record::Position;
use crate::mvcc::{Store, View};

mod decoder;

pub use decoder::Decoder;

/// Writes a snapshot, chunk by chunk; each item is one whole frame of at most [`FRAME_BYTES_MAX`].
#[derive(Debug)]
pub struct Encoder {
    view: View,
    /// Frames ready to go before any records.
    ready: VecDeque<Vec<u8>>,
    /// The length of a full frame.
    frame_bytes: usize,
    /// Record bytes not yet framed.
    pending: Vec<u8>,
    /// The last record taken; the next one follows it.
    last: Option<(Vec<u8>, Position)>,
    records: u64,
    hash: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Records,
    Close,
    Done,
}

/// Why bytes are not a snapshot. Offsets count from the beginning of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// The stream does not begin as a snapshot.
    NotASnapshot,
    /// The snapshot was written in a format this program does not know.
    UnknownFormat {
        /// The version found.
        version: u32,
    },
    /// The stream ends before its closing frame, within or after the frame at `offset`.
    Truncated {
        /// Where the incomplete frame begins, or should.
        offset: u64,
    },
    /// The bytes of the frame at `offset` are not those that were written.
    Damaged {
        /// Where the frame begins.
        offset: u64,
    },
    /// The frame at `offset` is whole but says what no store would.
    Malformed {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Encoder {
    /// Begins a snapshot of `view`; `extra` comes back from the decoder as it is.
    pub fn new(view: View, extra: &[u8]) -> Self {
        Self::with_frames(view, extra, PAYLOAD_BYTES)
    }

    /// The same in frames with so many bytes of payload, at least 1 and at most [`PAYLOAD_BYTES`].
    pub fn with_frames(view: View, extra: &[u8], payload_bytes: usize) -> Self {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        header.extend_from_slice(&view.revision().to_le_bytes());
        header.extend_from_slice(&view.compact_revision().to_le_bytes());
        header.extend_from_slice(&(extra.len() as u64).to_le_bytes());
        let mut ready = VecDeque::from([frame(KIND_HEADER, &header)]);
        ready.extend(
            extra
                .chunks(payload_bytes)
                .map(|chunk| frame(KIND_EXTRA, chunk)),
        );
        Encoder {
            view,
            ready,
            frame_bytes: FRAME_HEAD_BYTES + 1 + payload_bytes,
            pending: begin_frame(KIND_RECORDS, &[], 0),
            last: None,
            records: 0,
            hash: 0,
            stage: Stage::Records,
        }
    }

    /// Takes records until a payload is full; answers whether it is.
    fn fill(&mut self) -> bool {
        let resume = self.last.take();
        let from = resume.as_ref().map_or(&[][..], |(key, _)| key);
        let compact = self.view.compact_revision();
        let mut last = None;
        'all: for history in self.view.keyspace.histories(KeyRange::From(from)) {
            let taken = resume
                .as_ref()
                .filter(|(key, _)| key == history.key())
                .map(|&(_, position)| position);
            for record in history
                .retained(compact)
                .skip_while(|record| Some(record.position()) <= taken)
            {
                if self.pending.len() >= self.frame_bytes {
                    break 'all;
                }
                let bytes = record.as_bytes();
                let length = u32::try_from(bytes.len()).expect("a record is shorter than 4 GiB");
                self.pending.extend_from_slice(&length.to_le_bytes());
                self.pending.extend_from_slice(bytes);
                self.records += 1;
                last = Some(record);
            }
        }
        let last = last.map(|record| (record.key().to_vec(), record.position()));
        self.last = last.or(resume);
        self.pending.len() >= self.frame_bytes
    }

    fn next_frame(&mut self) -> Option<Vec<u8>> {
        if let Some(frame) = self.ready.pop_front() {
            return Some(frame);
        }
        if self.stage == Stage::Records {
            if self.pending.len() >= self.frame_bytes || self.fill() {
                // Another frame this long is likely: it gets its room at once instead of growing into it.
                let rest = &self.pending[self.frame_bytes..];
                let rest = begin_frame(KIND_RECORDS, rest, self.frame_bytes);
                let mut full = std::mem::replace(&mut self.pending, rest);
                full.truncate(self.frame_bytes);
                return Some(end_frame(full));
            }
            self.stage = Stage::Close;
            let rest = std::mem::take(&mut self.pending);
            if rest.len() > FRAME_HEAD_BYTES + 1 {
                return Some(end_frame(rest));
            }
        }
        if self.stage == Stage::Done {
            return None;
        }
        self.stage = Stage::Done;
        let mut close = self.records.to_le_bytes().to_vec();
        close.extend_from_slice(&self.hash.to_le_bytes());
        Some(frame(KIND_CLOSE, &close))
    }
}

impl Iterator for Encoder {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let frame = self.next_frame()?;
        self.hash = crc32c::crc32c_append(self.hash, &frame[..FRAME_HEAD_BYTES]);
        Some(frame)
    }
}

/// Decodes a snapshot that lies in memory as a whole.
pub fn decode(bytes: &[u8]) -> Result<(Store, Vec<u8>), SnapshotError> {
    let mut decoder = Decoder::new();
    decoder.push(bytes)?;
    decoder.finish()
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::NotASnapshot => write!(f, "not a snapshot"),
            SnapshotError::UnknownFormat { version } => {
                write!(f, "unknown snapshot format {version}")
            }
            SnapshotError::Truncated { offset } => {
                write!(f, "snapshot ends in the frame at byte {offset}")
            }
            SnapshotError::Damaged { offset } => {
                write!(f, "snapshot damaged in the frame at byte {offset}")
            }
            SnapshotError::Malformed { offset, reason } => {
                write!(
                    f,
                    "snapshot malformed in the frame at byte {offset}: {reason}"
                )
            }
        }
    }
}

impl std::error::Error for SnapshotError {}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let whole = FRAME_HEAD_BYTES + 1 + payload.len();
    end_frame(begin_frame(kind, payload, whole))
}

/// A frame whose length and checksum are not known yet, with room for `capacity` bytes or what it needs now.
fn begin_frame(kind: u8, payload: &[u8], capacity: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(capacity);
    frame.extend_from_slice(&[0; FRAME_HEAD_BYTES]);
    frame.push(kind);
    frame.extend_from_slice(payload);
    frame
}

/// Completes a frame with its length and checksum.
fn end_frame(mut frame: Vec<u8>) -> Vec<u8> {
    let body = frame.len() - FRAME_HEAD_BYTES;
    let length = u32::try_from(body).expect("payloads are cut far below 4 GiB");
    frame[..4].copy_from_slice(&length.to_le_bytes());
    let crc = frame_crc(&frame[..4], &frame[FRAME_HEAD_BYTES..]);
    frame[4..FRAME_HEAD_BYTES].copy_from_slice(&crc.to_le_bytes());
    frame
}

fn frame_crc(length: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(length), body)
}

/// No frame is longer.
pub const FRAME_BYTES_MAX: usize = FRAME_HEAD_BYTES + 1 + PAYLOAD_BYTES;

/// What a frame carries at most, in bytes.
pub const PAYLOAD_BYTES: usize = 512 * 1024;
const FRAME_HEAD_BYTES: usize = 8;
const MAGIC: &[u8; 8] = b"MetaSnap";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
const KIND_HEADER: u8 = 0;
const KIND_EXTRA: u8 = 1;
const KIND_RECORDS: u8 = 2;
const KIND_CLOSE: u8 = 3;

#[cfg(test)]
mod tests;
