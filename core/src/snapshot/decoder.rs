//! Decoder: builds a store from a snapshot that arrives in pieces, trusting nothing it was not shown.

use super::{
    FORMAT_VERSION, FRAME_BYTES_MAX, FRAME_HEAD_BYTES, HEADER_BYTES, KIND_CLOSE, KIND_EXTRA,
    KIND_HEADER, KIND_RECORDS, MAGIC, SnapshotError, frame_crc,
};
use crate::lease::Leases;
use crate::mvcc::event_log::EventLog;
use crate::mvcc::history::History;
use crate::mvcc::keyspace::Keyspace;
use crate::mvcc::view::{FIRST_REVISION, NEVER_COMPACTED};
use crate::mvcc::{Record, Store, View};

/// Takes the bytes of a snapshot in pieces of any size; its memory grows only with bytes that arrived.
///
/// After an error the decoder is spent: it gives the same error again.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Bytes of a frame not yet whole.
    partial: Vec<u8>,
    /// Where the next frame begins in the stream.
    offset: u64,
    hash: u32,
    header: Option<Header>,
    extra: Vec<u8>,
    contents: Contents,
    closed: bool,
    failed: Option<SnapshotError>,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    revision: i64,
    compact_revision: i64,
    extra_bytes: u64,
}

impl Header {
    /// The oldest revision whose events the state holds.
    fn first_event(&self) -> i64 {
        self.compact_revision.max(FIRST_REVISION + 1)
    }
}

/// The records so far.
#[derive(Debug, Default)]
struct Contents {
    /// Bytes of a record not yet whole.
    partial: Vec<u8>,
    histories: Vec<History>,
    /// The records of the key being read.
    current: Vec<Record>,
    /// Records that are events too, in the order read.
    events: Vec<Record>,
    /// The keys that hang on leases; the leases' terms are not in the records.
    leases: Leases,
    records: u64,
    bytes: u64,
}

type Reason = &'static str;

impl Decoder {
    /// A decoder that has seen nothing.
    pub fn new() -> Self {
        Decoder::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), SnapshotError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let result = self.push_frames(&mut bytes);
        self.failed = result.err();
        result
    }

    /// The store and the caller's bytes, once the stream is complete.
    pub fn finish(self) -> Result<(Store, Vec<u8>), SnapshotError> {
        let offset = self.offset;
        match (self.failed, self.header) {
            (Some(error), _) => Err(error),
            (None, Some(header)) if self.closed && self.partial.is_empty() => {
                let store = self.contents.into_store(header);
                store
                    .map(|store| (store, self.extra))
                    .map_err(|reason| SnapshotError::Malformed { offset, reason })
            }
            _ => Err(SnapshotError::Truncated { offset }),
        }
    }

    fn push_frames(&mut self, bytes: &mut &[u8]) -> Result<(), SnapshotError> {
        while !bytes.is_empty() {
            if self.closed {
                return Err(SnapshotError::Malformed {
                    offset: self.offset,
                    reason: "bytes after the end",
                });
            }
            if self.partial.is_empty()
                && let Some(length) = self.frame_length(bytes)?
                && length <= bytes.len()
            {
                let (frame, rest) = bytes.split_at(length);
                *bytes = rest;
                self.frame(frame)?;
                continue;
            }
            // A frame in pieces: take first what tells its length, then what it lacks.
            let wanted = self
                .frame_length(&self.partial)?
                .unwrap_or(FRAME_HEAD_BYTES);
            let missing = (wanted - self.partial.len()).min(bytes.len());
            let (piece, rest) = bytes.split_at(missing);
            self.partial.extend_from_slice(piece);
            *bytes = rest;
            if self.frame_length(&self.partial)? == Some(self.partial.len()) {
                let frame = std::mem::take(&mut self.partial);
                self.frame(&frame)?;
            }
        }
        Ok(())
    }

    /// The length of the frame that begins with these bytes; `None` while too few are there to tell.
    fn frame_length(&self, bytes: &[u8]) -> Result<Option<usize>, SnapshotError> {
        let Some(head) = bytes.get(..FRAME_HEAD_BYTES) else {
            return Ok(None);
        };
        let body = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        if body == 0 || body > FRAME_BYTES_MAX - FRAME_HEAD_BYTES {
            return Err(self.damaged());
        }
        Ok(Some(FRAME_HEAD_BYTES + body))
    }

    fn damaged(&self) -> SnapshotError {
        if self.offset == 0 {
            SnapshotError::NotASnapshot
        } else {
            SnapshotError::Damaged {
                offset: self.offset,
            }
        }
    }

    fn frame(&mut self, frame: &[u8]) -> Result<(), SnapshotError> {
        let (head, body) = frame.split_at(FRAME_HEAD_BYTES);
        if frame_crc(&head[..4], body)
            != u32::from_le_bytes(head[4..].try_into().expect("four bytes"))
        {
            return Err(self.damaged());
        }
        let (kind, payload) = (body[0], &body[1..]);
        let offset = self.offset;
        let malformed = |reason| SnapshotError::Malformed { offset, reason };
        match (kind, self.header) {
            (KIND_HEADER, None) => self.header = Some(header(payload, offset)?),
            (_, None) => return Err(SnapshotError::NotASnapshot),
            (KIND_EXTRA, Some(header)) => {
                self.extra.extend_from_slice(payload);
                if self.extra.len() as u64 > header.extra_bytes {
                    return Err(malformed("more extra bytes than announced"));
                }
            }
            (KIND_RECORDS, Some(header)) => {
                self.contents.push(payload, &header).map_err(malformed)?
            }
            (KIND_CLOSE, Some(header)) => {
                self.contents.close_history(&header).map_err(malformed)?;
                self.close(payload, &header).map_err(malformed)?;
            }
            (_, Some(_)) => return Err(malformed("a frame of unknown kind or out of place")),
        }
        self.hash = crc32c::crc32c_append(self.hash, head);
        self.offset += frame.len() as u64;
        Ok(())
    }

    fn close(&mut self, payload: &[u8], header: &Header) -> Result<(), Reason> {
        if payload.len() != 12 {
            return Err("a closing frame of the wrong length");
        }
        let records = u64::from_le_bytes(payload[..8].try_into().expect("eight bytes"));
        if records != self.contents.records || !self.contents.partial.is_empty() {
            return Err("the number of records is not the one announced");
        }
        if self.extra.len() as u64 != header.extra_bytes {
            return Err("fewer extra bytes than announced");
        }
        if payload[8..] != self.hash.to_le_bytes() {
            return Err("the frames are not the ones that were written");
        }
        self.closed = true;
        Ok(())
    }
}

impl Contents {
    fn push(&mut self, mut payload: &[u8], header: &Header) -> Result<(), Reason> {
        while !payload.is_empty() {
            if self.partial.is_empty()
                && let Some(length) = record_length(payload)
                && length <= payload.len()
            {
                let (record, rest) = payload.split_at(length);
                payload = rest;
                self.push_record(&record[4..], header)?;
                continue;
            }
            let wanted = record_length(&self.partial).unwrap_or(4);
            let missing = (wanted - self.partial.len()).min(payload.len());
            let (piece, rest) = payload.split_at(missing);
            self.partial.extend_from_slice(piece);
            payload = rest;
            if record_length(&self.partial) == Some(self.partial.len()) {
                let record = std::mem::take(&mut self.partial);
                self.push_record(&record[4..], header)?;
            }
        }
        Ok(())
    }

    fn push_record(&mut self, bytes: &[u8], header: &Header) -> Result<(), Reason> {
        let record = Record::from_bytes(bytes).ok_or("bytes that are no record")?;
        if record.mod_revision() > header.revision {
            return Err("a record newer than the snapshot");
        }
        if let Some(previous) = self.current.last() {
            if previous.key() == record.key() {
                follows(previous, &record)?;
            } else if previous.key() < record.key() {
                self.close_history(header)?;
            } else {
                return Err("keys out of order");
            }
        }
        self.records += 1;
        self.bytes += record.size();
        if record.mod_revision() >= header.first_event() {
            self.events.push(record.clone());
        }
        self.current.push(record);
        Ok(())
    }

    fn close_history(&mut self, header: &Header) -> Result<(), Reason> {
        let records = self.current.len();
        let history = match records {
            1 => self.current.pop().map(History::One),
            _ => History::from_records(std::mem::take(&mut self.current)),
        };
        let Some(history) = history else {
            return Ok(());
        };
        if history.retained(header.compact_revision).count() != records {
            return Err("a record that the compaction removed");
        }
        let newest = history.newest();
        if newest.lease() != 0 {
            self.leases.attach_restored(newest.lease(), newest.key());
        }
        self.histories.push(history);
        Ok(())
    }

    fn into_store(self, header: Header) -> Result<Store, Reason> {
        let view = View {
            keyspace: Keyspace::from_sorted(self.histories.into_iter()),
            log: place_events(self.events, &header)?,
            revision: header.revision,
            compact_revision: header.compact_revision,
        };
        let mut store = Store::from_view(view, self.bytes);
        store.leases = self.leases;
        Ok(store)
    }
}

/// Puts each record at its revision; every revision since the boundary must have its records, without gaps.
fn place_events(events: Vec<Record>, header: &Header) -> Result<EventLog, Reason> {
    let first = header.first_event();
    let revisions = usize::try_from(header.revision + 1 - first).unwrap_or(0);
    if revisions > events.len() {
        return Err("a revision without a record");
    }
    let mut slots: Vec<Slot> = Vec::new();
    slots.resize_with(revisions, || Slot::Empty);
    for record in events {
        let index = usize::try_from(record.mod_revision() - first)
            .expect("events begin at the first revision");
        slots[index].add(record);
    }
    let mut log = EventLog::starting_at(first);
    for slot in slots {
        match slot {
            Slot::Empty => return Err("a revision without a record"),
            Slot::One(record) if record.sub_revision() == 0 => log.push_one(record),
            Slot::One(_) => return Err("a change missing from its revision"),
            Slot::Many(mut records) => {
                records.sort_unstable_by_key(Record::sub_revision);
                let in_place =
                    |(index, record): (usize, &Record)| record.sub_revision() as usize == index;
                if !records.iter().enumerate().all(in_place) {
                    return Err("a change missing from its revision");
                }
                log.push(records);
            }
        }
    }
    Ok(log)
}

/// The records of one revision while they are being placed.
enum Slot {
    Empty,
    One(Record),
    Many(Vec<Record>),
}

impl Slot {
    fn add(&mut self, record: Record) {
        *self = match std::mem::replace(self, Slot::Empty) {
            Slot::Empty => Slot::One(record),
            Slot::One(first) => Slot::Many(vec![first, record]),
            Slot::Many(mut records) => {
                records.push(record);
                Slot::Many(records)
            }
        };
    }
}

fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = bytes.get(..4)?;
    Some(4 + u32::from_le_bytes(length.try_into().expect("four bytes")) as usize)
}

fn follows(previous: &Record, record: &Record) -> Result<(), Reason> {
    if previous.position() >= record.position() {
        return Err("a history out of order");
    }
    let expected = match (previous.is_tombstone(), record.is_tombstone()) {
        (true, true) => return Err("a key deleted twice"),
        (false, true) => return Ok(()),
        (true, false) => (record.mod_revision(), 1),
        (false, false) => (previous.create_revision(), previous.version() + 1),
    };
    if (record.create_revision(), record.version()) != expected {
        return Err("a history with a gap");
    }
    Ok(())
}

fn header(payload: &[u8], offset: u64) -> Result<Header, SnapshotError> {
    if payload.get(..8) != Some(MAGIC) || payload.len() < 12 {
        return Err(SnapshotError::NotASnapshot);
    }
    let version = u32::from_le_bytes(payload[8..12].try_into().expect("four bytes"));
    if version != FORMAT_VERSION {
        return Err(SnapshotError::UnknownFormat { version });
    }
    let malformed = |reason| SnapshotError::Malformed { offset, reason };
    if payload.len() != HEADER_BYTES {
        return Err(malformed("a header of the wrong length"));
    }
    let number = |at: usize| payload[at..at + 8].try_into().expect("eight bytes");
    let header = Header {
        revision: i64::from_le_bytes(number(12)),
        compact_revision: i64::from_le_bytes(number(20)),
        extra_bytes: u64::from_le_bytes(number(28)),
    };
    let ordered =
        header.compact_revision >= NEVER_COMPACTED && header.compact_revision <= header.revision;
    if !ordered || header.revision < FIRST_REVISION || header.revision == i64::MAX {
        return Err(malformed("revisions no store could have"));
    }
    Ok(header)
}
