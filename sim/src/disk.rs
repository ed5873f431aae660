//! One member's disk: what is durable, what is being written, and what a crash leaves of the two.
//!
//! The log is kept as the bytes of its segments, written by the core's encoder and read back by the core's recovery,
//! so every restart is a test of both. The writer's promises of the log's format are kept here as the product keeps
//! them: one batch at a time, a new segment appears whole, a start writes a batch of its own.

use std::collections::BTreeMap;
use std::fmt;

use metastore_core::codec;
use metastore_core::member::Recovered;
use metastore_core::raft::{RecoveredLog, position_of};
use metastore_core::snapshot;
use metastore_core::wal::{
    Encoder, Expected, LogIdentity, Record, RecordRef, Replay, Replayed, SegmentHeader,
    decode_segment,
};

use crate::dice::Dice;
use crate::plan::DiskError;

/// See the module.
pub(crate) struct Disk {
    identity: LogIdentity,
    segment_bytes: usize,
    dice: Dice,
    segments: Vec<Segment>,
    next_batch: u64,
    head: Head,
    pending: Option<Pending>,
    checkpoints: BTreeMap<u64, Vec<u8>>,
    pending_checkpoint: Option<(u64, Vec<u8>)>,
    found: Found,
    rot: Option<Rot>,
}

/// What the last reading of a disk came upon.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) torn_tail: bool,
    pub(crate) closed: bool,
    pub(crate) checkpoint_ahead: bool,
    /// It read a flipped bit and noticed nothing.
    pub(crate) missed_rot: bool,
}

/// Where a bit has flipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rot {
    /// In a segment of the log, by its number.
    Segment(u64),
    /// In the checkpoint at this index.
    Checkpoint(u64),
}

impl fmt::Display for Rot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Rot::Segment(number) => write!(f, "segment {number}:"),
            Rot::Checkpoint(_) => f.write_str("checkpoint:"),
        }
    }
}

/// The durable bytes of a segment, zeros up to its prepared size.
struct Segment {
    header: SegmentHeader,
    bytes: Vec<u8>,
    /// Where the next batch goes.
    end: usize,
    /// Where the batches after the first begin.
    body: usize,
    last_index: Option<u64>,
}

/// What a new segment repeats at its head.
#[derive(Default, Clone)]
struct Head {
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
}

/// A write that is not synced.
enum Pending {
    Batch {
        bytes: Vec<u8>,
        head: Head,
        last_index: Option<u64>,
    },
    Segment(Segment),
}

impl Disk {
    /// An empty disk with the log of a member that never ran.
    pub(crate) fn new(member_id: u64, segment_bytes: usize, dice: Dice) -> Self {
        let mut disk = Self {
            identity: LogIdentity {
                cluster_id: 1,
                member_id,
            },
            segment_bytes,
            dice,
            segments: Vec::new(),
            next_batch: 1,
            head: Head::default(),
            pending: None,
            checkpoints: BTreeMap::new(),
            pending_checkpoint: None,
            found: Found::default(),
            rot: None,
        };
        let first = disk.new_segment();
        disk.segments.push(first);
        disk
    }

    /// Reads everything back as a start of the process does, cuts a torn tail, and notes the start in the log.
    ///
    /// # Errors
    /// In words, when the disk's contents are refused: what a crash leaves must never be.
    pub(crate) fn open(&mut self) -> Result<Recovered, String> {
        assert!(self.pending.is_none(), "a crash decides what was pending");
        let checkpoint = match self.checkpoints.last_key_value() {
            None => None,
            Some((_, bytes)) => {
                Some(snapshot::decode(bytes).map_err(|e| format!("checkpoint: {e}"))?)
            }
        };
        let missed = self
            .rotten()
            .filter(|rot| matches!(rot, Rot::Checkpoint(_)));
        let replayed = self.read_log()?;
        self.found.missed_rot |= missed.is_some();
        self.cut_tails(|_| true);
        self.head = Head {
            vote: replayed.vote.clone(),
            committed: replayed.committed.clone(),
            purged: replayed.purged.clone(),
        };
        self.begin_write(&[Record::Opened]);
        self.complete_write();
        let log = recovered_log(
            replayed,
            checkpoint.as_ref().map(|(_, text)| text.as_slice()),
        )?;
        Ok(Recovered { checkpoint, log })
    }

    /// The power goes while a start reads the log, cuts a torn tail or notes the start. Answers how far it came.
    ///
    /// # Errors
    /// As for [`Disk::open`].
    pub(crate) fn crash_in_start(&mut self) -> Result<&'static str, String> {
        match self.dice.place(4) {
            0 => Ok("it had read nothing"),
            1 => {
                self.read_log()?;
                self.cut_tails(|dice| dice.permille(500));
                Ok(CUT_HALFWAY)
            }
            2 => {
                self.read_log()?;
                self.cut_tails(|_| true);
                self.begin_write(&[Record::Opened]);
                Ok(self.crash())
            }
            _ => {
                self.open()?;
                Ok("it was just ready")
            }
        }
    }

    /// What the last reading came upon.
    pub(crate) fn found(&self) -> Found {
        self.found
    }

    /// The last entry that is certainly not lost, here or in a checkpoint; 0 without any.
    pub(crate) fn last_index(&self) -> u64 {
        let logged = self.segments.iter().filter_map(|it| it.last_index).max();
        let covered = self.checkpoints.last_key_value().map(|(index, _)| *index);
        logged.max(covered).unwrap_or(0)
    }

    /// Begins to write a batch; if it does not fit any more, a new segment must be begun and completed first.
    pub(crate) fn begin_write(&mut self, records: &[Record]) {
        assert!(self.pending.is_none(), "one write at a time");
        let mut encoder = Encoder::new();
        let mut head = self.head.clone();
        let mut last_index = self.current().last_index;
        for record in records {
            encoder
                .push(record.borrowed())
                .expect("no batch of a simulation is that large");
            match record {
                Record::Entry { index, .. } => last_index = last_index.max(Some(*index)),
                Record::Vote(vote) => head.vote = Some(vote.clone()),
                Record::Committed(position) => head.committed = Some(position.clone()),
                Record::Purge { payload, index } => head.purged = Some((*index, payload.clone())),
                Record::TruncateFrom { .. } | Record::Opened | Record::Closed => {}
            }
        }
        let bytes = encoder
            .seal(self.next_batch, &self.current().header)
            .to_vec();
        self.pending = Some(Pending::Batch {
            bytes,
            head,
            last_index,
        });
    }

    /// Whether the log goes on in a new segment before these records.
    pub(crate) fn is_full(&self, records: &[Record]) -> bool {
        let bytes: usize = records.iter().map(Record::encoded_len).sum();
        let current = self.current();
        current.end > current.body && current.end + bytes + BATCH_ROOM > self.segment_bytes
    }

    /// Begins the next segment.
    pub(crate) fn begin_segment(&mut self) {
        assert!(self.pending.is_none(), "one write at a time");
        self.pending = Some(Pending::Segment(self.new_segment()));
    }

    /// The pending write is synced.
    pub(crate) fn complete_write(&mut self) {
        match self.pending.take().expect("a write was begun") {
            Pending::Batch {
                bytes,
                head,
                last_index,
            } => {
                let current = self.current_mut();
                let end = current.end + bytes.len();
                current.bytes.resize(current.bytes.len().max(end), 0);
                current.bytes[current.end..end].copy_from_slice(&bytes);
                current.end = end;
                current.last_index = last_index;
                self.head = head;
                self.next_batch += 1;
            }
            Pending::Segment(segment) => {
                self.next_batch = segment.header.first_batch + 1;
                self.segments.push(segment);
            }
        }
    }

    /// Begins to write a checkpoint beside the log.
    pub(crate) fn begin_checkpoint(&mut self, index: u64, bytes: Vec<u8>) {
        assert!(
            self.pending_checkpoint.is_none(),
            "one checkpoint at a time"
        );
        self.pending_checkpoint = Some((index, bytes));
    }

    /// The checkpoint has its name, and those before it go.
    pub(crate) fn complete_checkpoint(&mut self) {
        let (index, bytes) = self
            .pending_checkpoint
            .take()
            .expect("a checkpoint was begun");
        if self.rot == Some(Rot::Checkpoint(index)) {
            // It takes the place of the rotten one.
            self.rot = None;
        }
        self.checkpoints.insert(index, bytes);
        self.checkpoints = self.checkpoints.split_off(&index);
    }

    /// The checkpoint that was begun failed, and what there is of it goes.
    pub(crate) fn forget_checkpoint(&mut self) {
        self.pending_checkpoint = None;
    }

    /// A write that fails, after which nothing is written until the next start: of a write without room a part may be
    /// there, of one that cannot be synced anything.
    pub(crate) fn fail_write(&mut self, records: &[Record], error: DiskError) {
        self.begin_write(records);
        if error != DiskError::Sync
            && let Some(Pending::Batch { bytes, .. }) = &mut self.pending
        {
            let length = self.dice.place(bytes.len());
            bytes.truncate(length);
        }
    }

    /// Removes segments that hold nothing after `index`.
    pub(crate) fn drop_covered(&mut self, index: u64) -> usize {
        let sealed = &self.segments[..self.segments.len() - 1];
        let covered = |segment: &&Segment| segment.last_index.is_none_or(|last| last <= index);
        let count = sealed.iter().take_while(covered).count();
        self.segments.drain(..count);
        count
    }

    /// The power goes. Of what was not synced any part may stay, the last sector of it torn; a new segment and a
    /// checkpoint are there whole or not at all. Answers what became of it.
    pub(crate) fn crash(&mut self) -> &'static str {
        if let Some(checkpoint) = self.pending_checkpoint.take()
            && self.dice.permille(500)
        {
            self.pending_checkpoint = Some(checkpoint);
            self.complete_checkpoint();
        }
        match self.pending.take() {
            None => "nothing was being written",
            Some(Pending::Segment(segment)) => {
                if self.dice.permille(500) {
                    self.segments.push(segment);
                    "the new segment is there"
                } else {
                    "the new segment is gone"
                }
            }
            Some(Pending::Batch { bytes, .. }) => self.tear(&bytes),
        }
    }

    /// The process stops in good order: what is being written of the log is synced, and the log is closed. A checkpoint
    /// that is not written yet never is.
    pub(crate) fn close(&mut self) {
        self.pending_checkpoint = None;
        if self.pending.is_some() {
            self.complete_write();
        }
        self.begin_write(&[Record::Closed]);
        self.complete_write();
    }

    /// A bit flips in what was written long ago: in the checkpoint, or in the log before its last batch, which alone may
    /// look as if it had never been synced. Answers where, in words; none where there is nothing so old.
    pub(crate) fn rot(&mut self, dice: &mut Dice) -> Option<String> {
        let checkpoint = self.checkpoints.iter_mut().next_back();
        if let Some((index, bytes)) = checkpoint
            && dice.permille(400)
        {
            let (byte, bit) = flip(dice, bytes);
            self.rot = Some(Rot::Checkpoint(*index));
            return Some(format!(
                "bit {bit} of byte {byte} of the checkpoint at {index}"
            ));
        }
        let place = dice.place(self.segments.len());
        let last = place + 1 == self.segments.len();
        let expected = self.expected(place, None);
        let cold = {
            let segment = &self.segments[place];
            let contents = decode_segment(&segment.bytes, expected).ok()?;
            let newest = contents.batches.last()?.offset;
            if last { newest } else { segment.end }
        };
        let segment = &mut self.segments[place];
        let number = segment.header.segment;
        let (byte, bit) = flip(dice, &mut segment.bytes[..cold]);
        self.rot = Some(Rot::Segment(number));
        Some(format!("bit {bit} of byte {byte} of segment {number}"))
    }

    /// Where a flipped bit still is.
    pub(crate) fn rotten(&self) -> Option<Rot> {
        self.rot.filter(|rot| match rot {
            Rot::Segment(number) => {
                let mut segments = self.segments.iter();
                segments.any(|segment| segment.header.segment == *number)
            }
            Rot::Checkpoint(index) => self.checkpoints.contains_key(index),
        })
    }

    /// Whether a flipped bit is still there.
    pub(crate) fn is_rotten(&self) -> bool {
        self.rotten().is_some()
    }

    /// Forgets the last synced batch: no disk that keeps its promises does.
    pub(crate) fn forget_last_batch(&mut self) {
        let expected = self.expected(self.segments.len() - 1, None);
        let current = &self.segments[self.segments.len() - 1];
        let last = decode_segment(&current.bytes, expected)
            .ok()
            .filter(|contents| contents.batches.len() > 1)
            .and_then(|contents| contents.batches.last().map(|batch| batch.offset));
        if let Some(offset) = last {
            self.current_mut().bytes[offset..].fill(0);
        }
    }

    fn tear(&mut self, bytes: &[u8]) -> &'static str {
        let mode = self.dice.place(4);
        let sectors = bytes.len().div_ceil(SECTOR_BYTES);
        let prefix = self.dice.place(sectors + 1);
        let torn = self.dice.place(sectors.max(1));
        let torn_bytes = self.dice.place(SECTOR_BYTES + 1);
        let at = self.current().end;
        let current_len = self.current().bytes.len();
        self.current_mut()
            .bytes
            .resize(current_len.max(at + bytes.len()), 0);
        for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let keep = match mode {
                0 => false,
                1 => true,
                2 => number < prefix,
                _ => self.dice.permille(500),
            };
            let kept = match keep {
                false => 0,
                true if mode > 1 && number == torn => torn_bytes.min(sector.len()),
                true => sector.len(),
            };
            let start = at + number * SECTOR_BYTES;
            self.current_mut().bytes[start..start + kept].copy_from_slice(&sector[..kept]);
        }
        [
            "the unsynced batch is gone",
            "the unsynced batch is there",
            "the unsynced batch is cut",
            "the unsynced batch is in pieces",
        ][mode]
    }

    fn read_log(&mut self) -> Result<Replayed, String> {
        let mut replay = Replay::new(self.checkpoints.last_key_value().map(|(index, _)| *index));
        let mut first_batch = None;
        for place in 0..self.segments.len() {
            let expected = self.expected(place, first_batch);
            let segment = &mut self.segments[place];
            let contents = decode_segment(&segment.bytes, expected)
                .map_err(|fault| format!("segment {}: {fault}", expected.segment))?;
            segment.last_index = None;
            for record in contents.batches.iter().flat_map(|batch| batch.records()) {
                if let RecordRef::Entry { index, .. } = record {
                    segment.last_index = segment.last_index.max(Some(index));
                }
                replay
                    .apply(record)
                    .map_err(|fault| format!("segment {}: {fault}", expected.segment))?;
            }
            let (end, next) = (contents.end, contents.next_batch);
            self.found.torn_tail = contents.torn.is_some();
            segment.end = end;
            first_batch = Some(next);
        }
        self.next_batch = first_batch.expect("there is always a segment");
        let logged = self.segments.iter().filter_map(|it| it.last_index).max();
        let covered = self.checkpoints.last_key_value().map(|(index, _)| *index);
        let replayed = replay.finish().map_err(|fault| fault.to_string())?;
        let rotten = self.rotten();
        self.found.missed_rot = matches!(rotten, Some(Rot::Segment(_)));
        self.found.closed = replayed.closed_cleanly;
        self.found.checkpoint_ahead = covered.is_some() && covered > logged;
        Ok(replayed)
    }

    /// Writes zeros over what follows the last batch, where a sector of it is written.
    fn cut_tails(&mut self, mut is_written: impl FnMut(&mut Dice) -> bool) {
        for segment in &mut self.segments {
            let end = segment.end;
            for sector in segment.bytes[end..].chunks_mut(SECTOR_BYTES) {
                if sector.iter().any(|byte| *byte != 0) && is_written(&mut self.dice) {
                    sector.fill(0);
                }
            }
        }
    }

    fn expected(&self, place: usize, first_batch: Option<u64>) -> Expected {
        Expected {
            identity: self.identity,
            segment: self.segments[0].header.segment + place as u64,
            first_batch,
            last: place + 1 == self.segments.len(),
        }
    }

    fn new_segment(&mut self) -> Segment {
        let header = SegmentHeader {
            identity: self.identity,
            segment: self
                .segments
                .last()
                .map_or(1, |last| last.header.segment + 1),
            first_batch: self.next_batch,
            nonce: self.dice.roll(),
        };
        let mut encoder = Encoder::new();
        let mut records = vec![RecordRef::Opened];
        records.extend(self.head.vote.as_deref().map(RecordRef::Vote));
        records.extend(self.head.committed.as_deref().map(RecordRef::Committed));
        records.extend(
            self.head
                .purged
                .as_ref()
                .map(|(index, payload)| RecordRef::Purge {
                    index: *index,
                    payload,
                }),
        );
        for record in records {
            encoder.push(record).expect("a head is small");
        }
        let mut bytes = header.encode().to_vec();
        bytes.extend_from_slice(encoder.seal(header.first_batch, &header));
        let end = bytes.len();
        bytes.resize(self.segment_bytes.max(end), 0);
        if self.segments.is_empty() {
            self.next_batch += 1;
        }
        Segment {
            header,
            bytes,
            end,
            body: end,
            last_index: None,
        }
    }

    fn current(&self) -> &Segment {
        self.segments.last().expect("there is always a segment")
    }

    fn current_mut(&mut self) -> &mut Segment {
        self.segments.last_mut().expect("there is always a segment")
    }
}

fn flip(dice: &mut Dice, bytes: &mut [u8]) -> (usize, u32) {
    let byte = dice.place(bytes.len());
    let bit = u32::try_from(dice.place(8)).unwrap_or(0);
    bytes[byte] ^= 1 << bit;
    (byte, bit)
}

fn recovered_log(replayed: Replayed, description: Option<&[u8]>) -> Result<RecoveredLog, String> {
    let mut log = RecoveredLog::default();
    if let Some(vote) = replayed.vote {
        log.vote = Some(codec::decode(&vote).map_err(|e| e.to_string())?);
    }
    if let Some(committed) = replayed.committed {
        log.committed = Some(codec::decode(&committed).map_err(|e| e.to_string())?);
    }
    if let Some(description) = description {
        log.purged = position_of(description).map_err(|e| e.to_string())?;
    }
    for (index, payload) in replayed.entries {
        let entry = codec::decode(&payload).map_err(|e| format!("entry {index}: {e}"))?;
        log.entries.push(entry);
    }
    Ok(log)
}

/// What became of a start that had cut a part of a torn tail.
pub(crate) const CUT_HALFWAY: &str = "it had cut a part of what was torn";
/// What a sector write is atomic for, save the one that is torn.
const SECTOR_BYTES: usize = 512;
/// A batch's header and padding.
const BATCH_ROOM: usize = 32;

#[cfg(test)]
mod tests;
