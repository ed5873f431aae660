//! Record: one change of one key, as one allocation of packed bytes.

use std::fmt;
use std::sync::Arc;

use metastore_proto::mvccpb::KeyValue;

/// A point in history: the revision of a command and the place of the change within it.
pub type Position = (i64, u32);

/// What one put or delete left behind; cloning shares it.
///
/// Key and value live in the same allocation as the numbers: a store of small values is mostly allocator
/// overhead, and a key of its own would cost a block, a pointer and a cache miss more. The layout, all
/// little-endian:
///
/// ```text
/// mod revision 8 | create revision 8 | version 6 | sub revision 4 | key length 4 | flags 1 | 0
/// [lease 8, if flagged] | key | value
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Record(Arc<[u8]>);

impl Record {
    /// The revision of the command that made this change.
    pub fn mod_revision(&self) -> i64 {
        self.number(MOD)
    }

    /// The revision that brought the key into existence; 0 for a tombstone.
    pub fn create_revision(&self) -> i64 {
        self.number(CREATE)
    }

    /// How many puts the key had since its creation, this one included; 0 for a tombstone.
    pub fn version(&self) -> i64 {
        let mut bytes = [0; 8];
        bytes[..VERSION_BYTES].copy_from_slice(&self.0[VERSION..VERSION + VERSION_BYTES]);
        i64::from_le_bytes(bytes)
    }

    /// The place of this change among those of its revision, from 0.
    pub fn sub_revision(&self) -> u32 {
        self.short(SUB)
    }

    /// Revision and place within it; unique among all records.
    pub fn position(&self) -> Position {
        (self.mod_revision(), self.sub_revision())
    }

    /// The lease the key is attached to; 0 for none.
    pub fn lease(&self) -> i64 {
        if self.0[FLAGS] & LEASED == 0 {
            0
        } else {
            self.number(HEADER)
        }
    }

    /// Whether this change deleted the key.
    pub fn is_tombstone(&self) -> bool {
        self.0[FLAGS] & TOMBSTONE != 0
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        let start = self.key_start();
        &self.0[start..start + self.short(KEY_LENGTH) as usize]
    }

    /// The value; empty for a tombstone.
    pub fn value(&self) -> &[u8] {
        &self.0[self.key_start() + self.short(KEY_LENGTH) as usize..]
    }

    /// Bytes this record occupies, without the allocator's share.
    pub fn size(&self) -> u64 {
        (self.0.len() + REFERENCE_COUNTS) as u64
    }

    /// The record as the message clients know; of a tombstone only key and revision are set.
    pub fn to_key_value(&self) -> KeyValue {
        KeyValue {
            value: self.value().to_vec(),
            lease: self.lease(),
            ..self.to_key_only()
        }
    }

    /// Like [`Record::to_key_value`] with neither value nor lease.
    pub fn to_key_only(&self) -> KeyValue {
        KeyValue {
            key: self.key().to_vec(),
            create_revision: self.create_revision(),
            mod_revision: self.mod_revision(),
            version: self.version(),
            value: Vec::new(),
            lease: 0,
        }
    }

    /// The packed bytes, as the snapshot writes them.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Takes packed bytes back, refusing whatever no store could have written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Record> {
        if bytes.len() < HEADER
            || bytes[FLAGS] & !(TOMBSTONE | LEASED) != 0
            || bytes[HEADER - 1] != 0
        {
            return None;
        }
        let record = Record(Arc::from(bytes));
        let rest = bytes.len().checked_sub(record.key_start())?;
        let key_fits = (1..=rest).contains(&(record.short(KEY_LENGTH) as usize));
        let leased = bytes[FLAGS] & LEASED != 0;
        if !key_fits || (leased && record.lease() == 0) {
            return None;
        }
        let numbers_hold = if record.is_tombstone() {
            let bare = record.create_revision() == 0 && record.version() == 0 && !leased;
            bare && record.value().is_empty()
        } else {
            (1..=record.mod_revision()).contains(&record.create_revision()) && record.version() > 0
        };
        (numbers_hold && record.mod_revision() > 1).then_some(record)
    }

    fn key_start(&self) -> usize {
        HEADER + if self.0[FLAGS] & LEASED == 0 { 0 } else { 8 }
    }

    fn number(&self, at: usize) -> i64 {
        i64::from_le_bytes(
            self.0[at..at + 8]
                .try_into()
                .expect("eight bytes were sliced"),
        )
    }

    fn short(&self, at: usize) -> u32 {
        u32::from_le_bytes(
            self.0[at..at + 4]
                .try_into()
                .expect("four bytes were sliced"),
        )
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (main, sub) = self.position();
        let verb = if self.is_tombstone() { "delete" } else { "put" };
        write!(f, "{verb} \"{}\"@{main}.{sub}", self.key().escape_ascii())
    }
}

/// The numbers of a put, apart from its bytes.
#[derive(Clone, Copy, Debug)]
pub struct PutNumbers {
    /// Where in history.
    pub position: Position,
    /// The revision that created the key.
    pub create_revision: i64,
    /// 1 for a creation.
    pub version: i64,
    /// 0 for none.
    pub lease: i64,
}

/// Packs records; keeps one buffer so that a record costs exactly one allocation.
#[derive(Clone, Debug, Default)]
pub struct RecordPacker {
    buffer: Vec<u8>,
}

impl RecordPacker {
    /// The record of a put.
    pub fn put(&mut self, key: &[u8], value: &[u8], numbers: PutNumbers) -> Record {
        let flags = if numbers.lease == 0 { 0 } else { LEASED };
        self.header(
            key,
            numbers.position,
            numbers.create_revision,
            numbers.version,
            flags,
        );
        if numbers.lease != 0 {
            self.buffer.extend_from_slice(&numbers.lease.to_le_bytes());
        }
        self.finish(key, value)
    }

    /// The record of a delete.
    pub fn tombstone(&mut self, key: &[u8], position: Position) -> Record {
        self.header(key, position, 0, 0, TOMBSTONE);
        self.finish(key, &[])
    }

    fn header(&mut self, key: &[u8], (main, sub): Position, create: i64, version: i64, flags: u8) {
        let key_length = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        assert!(
            version >> (8 * VERSION_BYTES) == 0,
            "a version fits in {VERSION_BYTES} bytes"
        );
        let buffer = &mut self.buffer;
        buffer.clear();
        buffer.extend_from_slice(&main.to_le_bytes());
        buffer.extend_from_slice(&create.to_le_bytes());
        buffer.extend_from_slice(&version.to_le_bytes()[..VERSION_BYTES]);
        buffer.extend_from_slice(&sub.to_le_bytes());
        buffer.extend_from_slice(&key_length.to_le_bytes());
        buffer.extend_from_slice(&[flags, 0]);
        assert!(
            buffer.len() == HEADER,
            "the header is as long as the readers think"
        );
    }

    fn finish(&mut self, key: &[u8], value: &[u8]) -> Record {
        self.buffer.extend_from_slice(key);
        self.buffer.extend_from_slice(value);
        let record = Record(Arc::from(&self.buffer[..]));
        // One large value must not hold its size for ever.
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        record
    }
}

const MOD: usize = 0;
const CREATE: usize = 8;
const VERSION: usize = 16;
const VERSION_BYTES: usize = 6;
const SUB: usize = 22;
const KEY_LENGTH: usize = 26;
const FLAGS: usize = 30;
const HEADER: usize = 32;

const TOMBSTONE: u8 = 1;
const LEASED: u8 = 2;

const REFERENCE_COUNTS: usize = 2 * size_of::<usize>();
const BUFFER_BYTES_KEPT: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(lease: i64) -> PutNumbers {
        PutNumbers {
            position: (7, 3),
            create_revision: 5,
            version: 2,
            lease,
        }
    }

    #[test]
    fn a_record_gives_back_what_was_packed() {
        for lease in [0, 9, -1, i64::MIN] {
            let record = RecordPacker::default().put(b"key", b"value", numbers(lease));
            assert_eq!(record.position(), (7, 3));
            assert_eq!(
                (record.create_revision(), record.version(), record.lease()),
                (5, 2, lease)
            );
            assert_eq!((record.key(), record.value()), (&b"key"[..], &b"value"[..]));
            assert!(!record.is_tombstone());
            assert_eq!(
                Record::from_bytes(record.as_bytes()).as_ref(),
                Some(&record)
            );
        }
    }

    #[test]
    fn a_key_of_16_and_a_value_of_256_bytes_fit_a_block_of_320() {
        let record = RecordPacker::default().put(&[1; 16], &[2; 256], numbers(0));
        assert_eq!(record.size(), 320);
    }

    #[test]
    fn bytes_no_store_wrote_are_refused() {
        let good = RecordPacker::default()
            .put(b"k", b"v", numbers(4))
            .as_bytes()
            .to_vec();
        for length in 0..HEADER + 9 {
            assert_eq!(Record::from_bytes(&good[..length]), None, "cut to {length}");
        }
        let spoiled = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            Record::from_bytes(&bytes)
        };
        assert_eq!(spoiled(FLAGS, 4), None, "unknown flag");
        assert_eq!(spoiled(FLAGS, TOMBSTONE), None, "a tombstone with numbers");
        assert_eq!(spoiled(HEADER - 1, 1), None, "padding is zero");
        assert_eq!(spoiled(KEY_LENGTH, 0), None, "no key");
        assert_eq!(spoiled(KEY_LENGTH, 9), None, "key beyond the end");
        assert_eq!(spoiled(CREATE, 8), None, "created after its own change");
        assert_eq!(spoiled(VERSION, 0), None, "version zero");
    }
}
