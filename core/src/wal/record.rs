//! Log records: one tag byte, the body's length as a varint, the body.

/// One thing the log remembers. Payloads are opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A raft entry at this index.
    Entry {
        /// The raft index; contiguous, except across a [`Record::Purge`].
        index: u64,
        /// The encoded entry.
        payload: Vec<u8>,
    },
    /// The vote this member has cast; the last one counts.
    Vote(Vec<u8>),
    /// The committed position as known lately; the last one counts, and it may lag.
    Committed(Vec<u8>),
    /// Entries from this index on are void.
    TruncateFrom {
        /// The first index that is void.
        index: u64,
    },
    /// Entries up to and including this index are covered by a durable checkpoint and gone from the log.
    Purge {
        /// The encoded position of the last purged entry.
        payload: Vec<u8>,
        /// Its index.
        index: u64,
    },
    /// The process started here, or a segment began: whatever batch was the last one is so no longer.
    Opened,
    /// The process stopped here in good order.
    Closed,
}

/// A [`Record`] whose payload is borrowed, from a record or from a segment's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordRef<'a> {
    /// See [`Record::Entry`].
    Entry {
        /// The raft index.
        index: u64,
        /// The encoded entry.
        payload: &'a [u8],
    },
    /// See [`Record::Vote`].
    Vote(&'a [u8]),
    /// See [`Record::Committed`].
    Committed(&'a [u8]),
    /// See [`Record::TruncateFrom`].
    TruncateFrom {
        /// The first index that is void.
        index: u64,
    },
    /// See [`Record::Purge`].
    Purge {
        /// The encoded position of the last purged entry.
        payload: &'a [u8],
        /// Its index.
        index: u64,
    },
    /// See [`Record::Opened`].
    Opened,
    /// See [`Record::Closed`].
    Closed,
}

/// Why bytes that passed their checksum are no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordFault {
    /// A tag this version does not know: a newer version wrote it.
    UnknownTag(u8),
    /// A length that does not fit into the batch, or a body of the wrong size for its tag.
    Malformed,
}

impl Record {
    /// The same record with its payload borrowed.
    pub fn borrowed(&self) -> RecordRef<'_> {
        match self {
            Record::Entry { index, payload } => RecordRef::Entry {
                index: *index,
                payload,
            },
            Record::Vote(payload) => RecordRef::Vote(payload),
            Record::Committed(payload) => RecordRef::Committed(payload),
            Record::TruncateFrom { index } => RecordRef::TruncateFrom { index: *index },
            Record::Purge { payload, index } => RecordRef::Purge {
                payload,
                index: *index,
            },
            Record::Opened => RecordRef::Opened,
            Record::Closed => RecordRef::Closed,
        }
    }

    /// The bytes this record takes in a batch.
    pub fn encoded_len(&self) -> usize {
        self.borrowed().encoded_len()
    }
}

impl<'a> RecordRef<'a> {
    /// The same record with a payload of its own.
    pub fn to_record(&self) -> Record {
        match *self {
            RecordRef::Entry { index, payload } => Record::Entry {
                index,
                payload: payload.to_vec(),
            },
            RecordRef::Vote(payload) => Record::Vote(payload.to_vec()),
            RecordRef::Committed(payload) => Record::Committed(payload.to_vec()),
            RecordRef::TruncateFrom { index } => Record::TruncateFrom { index },
            RecordRef::Purge { payload, index } => Record::Purge {
                payload: payload.to_vec(),
                index,
            },
            RecordRef::Opened => Record::Opened,
            RecordRef::Closed => Record::Closed,
        }
    }

    /// The bytes this record takes in a batch.
    pub fn encoded_len(&self) -> usize {
        let (_, index, payload) = self.parts();
        let body = payload.len() + index.map_or(0, |_| INDEX_BYTES);
        1 + varint_len(body) + body
    }

    /// Appends the record to `out`. The body must be shorter than 4 GiB; the batch's bound sees to that.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (tag, index, payload) = self.parts();
        out.push(tag);
        put_varint(out, payload.len() + index.map_or(0, |_| INDEX_BYTES));
        if let Some(index) = index {
            out.extend_from_slice(&index.to_le_bytes());
        }
        out.extend_from_slice(payload);
    }

    /// Takes one record off the front of `bytes` and returns the rest.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<(RecordRef<'a>, &'a [u8]), RecordFault> {
        let (&tag, rest) = bytes.split_first().ok_or(RecordFault::Malformed)?;
        if !(ENTRY..=CLOSED).contains(&tag) {
            return Err(RecordFault::UnknownTag(tag));
        }
        let (length, rest) = take_varint(rest)?;
        let (body, rest) = rest
            .split_at_checked(length)
            .ok_or(RecordFault::Malformed)?;
        let record = match tag {
            ENTRY => {
                let (index, payload) = take_index(body)?;
                RecordRef::Entry { index, payload }
            }
            VOTE => RecordRef::Vote(body),
            COMMITTED => RecordRef::Committed(body),
            TRUNCATE_FROM => match take_index(body)? {
                (index, []) => RecordRef::TruncateFrom { index },
                _ => return Err(RecordFault::Malformed),
            },
            PURGE => {
                let (index, payload) = take_index(body)?;
                RecordRef::Purge { payload, index }
            }
            OPENED if body.is_empty() => RecordRef::Opened,
            CLOSED if body.is_empty() => RecordRef::Closed,
            _ => return Err(RecordFault::Malformed),
        };
        Ok((record, rest))
    }

    fn parts(&self) -> (u8, Option<u64>, &'a [u8]) {
        match *self {
            RecordRef::Entry { index, payload } => (ENTRY, Some(index), payload),
            RecordRef::Vote(payload) => (VOTE, None, payload),
            RecordRef::Committed(payload) => (COMMITTED, None, payload),
            RecordRef::TruncateFrom { index } => (TRUNCATE_FROM, Some(index), &[]),
            RecordRef::Purge { payload, index } => (PURGE, Some(index), payload),
            RecordRef::Opened => (OPENED, None, &[]),
            RecordRef::Closed => (CLOSED, None, &[]),
        }
    }
}

fn take_index(body: &[u8]) -> Result<(u64, &[u8]), RecordFault> {
    let (index, rest) = body
        .split_first_chunk::<INDEX_BYTES>()
        .ok_or(RecordFault::Malformed)?;
    Ok((u64::from_le_bytes(*index), rest))
}

fn varint_len(value: usize) -> usize {
    let bits = (usize::BITS - value.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

/// Reads a varint of at most 31 bits: no batch is longer.
fn take_varint(bytes: &[u8]) -> Result<(usize, &[u8]), RecordFault> {
    let mut value = 0usize;
    for (place, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return match i32::try_from(value) {
                Ok(_) => Ok((value, &bytes[place + 1..])),
                Err(_) => Err(RecordFault::Malformed),
            };
        }
    }
    Err(RecordFault::Malformed)
}

const INDEX_BYTES: usize = 8;
const VARINT_BYTES_MAX: usize = 5;

// The tags are part of the format on disk. Never reuse one; a new one needs no new format version, because a reader
// that does not know it refuses the log.
const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE_FROM: u8 = 4;
const PURGE: u8 = 5;
const OPENED: u8 = 6;
const CLOSED: u8 = 7;
