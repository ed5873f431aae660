//! A log as a writer writes it, batch by batch and segment by segment, and what the writer knows of it.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use metastore_core::wal::{Encoder, Record, Replayed, SEGMENT_HEADER_BYTES, SegmentHeader};

use super::{FIRST_BATCH, header};

/// What the writer is asked to remember.
#[derive(Arbitrary, Debug, Clone, Copy)]
pub enum Item {
    /// The next entry, so many bytes of it.
    Entry { bytes: u16 },
    /// A vote.
    Vote(u8),
    /// A committed position.
    Committed(u8),
    /// The last entries are void, so many of them.
    Truncate { entries: u8 },
    /// The first entries that are left are purged, so many of them.
    Purge { entries: u8 },
    /// The process started.
    Opened,
    /// It stopped.
    Closed,
    /// An entry at whatever index: no writer does that.
    StrayEntry(u8),
    /// A cut at whatever index.
    StrayTruncate(u8),
    /// A purge up to whatever index.
    StrayPurge(u8),
    /// An index at the end of its range.
    Endless(u8),
}

/// A segment, what befell it, and what it was.
pub struct Segment {
    /// Its header.
    pub header: SegmentHeader,
    /// The records of each batch.
    pub batches: Vec<Vec<Record>>,
    /// Where each batch begins, and where the last one ends.
    pub bounds: Vec<usize>,
    /// As it was written.
    pub written: Vec<u8>,
    /// As it is now.
    pub bytes: Vec<u8>,
}

/// A chain of segments and what its writer knows.
pub struct Log {
    /// The chain.
    pub segments: Vec<Segment>,
    /// Whether the writer did nothing that makes no sense.
    pub honest: bool,
    entries: BTreeMap<u64, Vec<u8>>,
    next: u64,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<u64>,
    closed: bool,
}

/// Writes a log. Batches without records and segments without batches are left out, as a writer has none.
pub fn write(segments: &[Vec<Vec<Item>>]) -> Log {
    let mut log = Log {
        segments: Vec::new(),
        honest: true,
        entries: BTreeMap::new(),
        next: 0,
        vote: None,
        committed: None,
        purged: None,
        closed: false,
    };
    let mut next_batch = FIRST_BATCH;
    for batches in segments {
        let full: Vec<&Vec<Item>> = batches.iter().filter(|it| !it.is_empty()).collect();
        if !full.is_empty() {
            let header = header(log.segments.len(), next_batch);
            next_batch += full.len() as u64;
            let batches = full.iter().enumerate();
            let batches = batches.map(|(place, items)| log.batch(place == 0, items));
            let batches = batches.collect();
            log.segments.push(Segment::new(header, batches));
        }
    }
    log
}

impl Log {
    /// All records, segment by segment.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let batches = self.segments.iter().flat_map(|segment| &segment.batches);
        batches.flatten()
    }

    /// A checkpoint such as an honest writer has: it reaches at least as far as the log was purged.
    pub fn checkpoint(&self, number: Option<u8>) -> Option<u64> {
        match (self.purged, number) {
            (None, number) => number.map(u64::from),
            (Some(purged), number) => Some(purged.saturating_add(number.unwrap_or(0).into())),
        }
    }

    /// What the log of an honest writer says.
    pub fn state(&self, checkpoint: Option<u64>) -> Replayed {
        let entries = self.entries.iter();
        let after = entries.filter(|(index, _)| checkpoint.is_none_or(|it| **index > it));
        Replayed {
            vote: self.vote.clone(),
            committed: self.committed.clone(),
            purged: self.purged.map(|index| (index, position(index))),
            entries: after
                .map(|(index, payload)| (*index, payload.clone()))
                .collect(),
            closed_cleanly: self.closed,
        }
    }

    fn batch(&mut self, first: bool, items: &[Item]) -> Vec<Record> {
        let mut records = Vec::new();
        if first {
            // A segment depends on none before it for these.
            records.extend(self.vote.clone().map(Record::Vote));
            records.extend(self.committed.clone().map(Record::Committed));
            records.extend(self.purged.map(|index| Record::Purge {
                index,
                payload: position(index),
            }));
        }
        records.extend(items.iter().map(|item| self.record(*item)));
        self.closed = records.last() == Some(&Record::Closed);
        records
    }

    fn record(&mut self, item: Item) -> Record {
        match item {
            Item::Entry { bytes } => {
                let index = self.next;
                self.next += 1;
                let payload = payload(index, bytes);
                self.entries.insert(index, payload.clone());
                Record::Entry { index, payload }
            }
            Item::Vote(number) => {
                self.vote = Some(vec![number]);
                Record::Vote(vec![number])
            }
            Item::Committed(number) => {
                self.committed = Some(vec![number]);
                Record::Committed(vec![number])
            }
            Item::Truncate { entries } => {
                let standing = (self.entries.len() as u64).min(entries.into());
                self.next -= standing;
                self.entries.split_off(&self.next);
                Record::TruncateFrom { index: self.next }
            }
            Item::Purge { entries } => self.purge(entries),
            Item::Opened => Record::Opened,
            Item::Closed => Record::Closed,
            stray => self.stray(stray),
        }
    }

    fn purge(&mut self, entries: u8) -> Record {
        let first = self.purged.map_or(0, |purged| purged + 1);
        let standing = (self.entries.len() as u64).min(entries.into());
        let Some(index) = (first + standing).checked_sub(1) else {
            return Record::Opened;
        };
        self.entries = self.entries.split_off(&(index + 1));
        self.purged = Some(index);
        Record::Purge {
            index,
            payload: position(index),
        }
    }

    /// What makes no sense. The writer's own knowledge is worth nothing from then on.
    fn stray(&mut self, item: Item) -> Record {
        self.honest = false;
        let truncate = |index| Record::TruncateFrom { index };
        let entry = |index| Record::Entry {
            index,
            payload: vec![1],
        };
        let purge = |index| Record::Purge {
            index,
            payload: position(index),
        };
        match item {
            Item::StrayEntry(index) => entry(index.into()),
            Item::StrayTruncate(index) => truncate(index.into()),
            Item::StrayPurge(index) => purge(index.into()),
            Item::Endless(kind) => [entry, truncate, purge][usize::from(kind) % 3](u64::MAX),
            _ => unreachable!("the others are honest"),
        }
    }
}

impl Segment {
    fn new(header: SegmentHeader, batches: Vec<Vec<Record>>) -> Segment {
        let mut written = header.encode().to_vec();
        assert_eq!(written.len(), SEGMENT_HEADER_BYTES);
        let mut bounds = vec![written.len()];
        let mut encoder = Encoder::new();
        for (sequence, records) in (header.first_batch..).zip(&batches) {
            for record in records {
                let pushed = encoder.push(record.borrowed());
                assert!(pushed.is_ok(), "inputs are far below the bound");
            }
            written.extend_from_slice(encoder.seal(sequence, &header));
            encoder.clear();
            bounds.push(written.len());
        }
        // A file is longer than what is written of it.
        written.resize(written.len() + ROOM_BYTES, 0);
        Segment {
            header,
            batches,
            bounds,
            bytes: written.clone(),
            written,
        }
    }

    /// Whether every byte is what it was; the zeros at the end may be fewer.
    pub fn is_undamaged(&self) -> bool {
        let end = self.bounds[self.batches.len()];
        self.bytes.len() >= end && self.written.starts_with(&self.bytes)
    }
}

/// The bytes of an entry, which differ from entry to entry; zeros are among them.
fn payload(index: u64, bytes: u16) -> Vec<u8> {
    let bytes = usize::from(bytes) % ENTRY_BYTES_MAX;
    (0..bytes)
        .map(|at| (index as usize + at).to_le_bytes()[at % 2])
        .collect()
}

fn position(index: u64) -> Vec<u8> {
    index.to_le_bytes().to_vec()
}

const ROOM_BYTES: usize = 96;
const ENTRY_BYTES_MAX: usize = 3000;
