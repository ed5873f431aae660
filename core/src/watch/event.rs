//! Events as bytes: encoded once, shared by all who hear of them.

use std::sync::Arc;

use metastore_proto::mvccpb::event::EventType;
use prost::encoding::{
    WireType, encode_key, encode_varint, encoded_len_varint, int32, int64, key_len,
};

use crate::mvcc::{Record, View};

/// One event, as one entry of a response's list of events: tag, length, message.
pub(super) type EncodedEvent = Arc<[u8]>;

/// What an event says, before it is encoded.
#[derive(Clone, Copy)]
pub(super) struct Event<'a> {
    pub(super) record: &'a Record,
    /// The value before, if it is asked for and there is one to show.
    pub(super) previous: Option<&'a Record>,
}

impl Event<'_> {
    pub(super) fn to_shared(self) -> EncodedEvent {
        let mut bytes = Vec::with_capacity(self.entry_len());
        self.encode(&mut bytes);
        bytes.into()
    }

    /// Appends the entry.
    pub(super) fn encode(self, bytes: &mut Vec<u8>) {
        encode_key(TAG_EVENTS, WireType::LengthDelimited, bytes);
        encode_varint(self.len() as u64, bytes);
        if self.record.is_tombstone() {
            int32::encode(TAG_TYPE, &(EventType::Delete as i32), bytes);
        }
        encode_record(TAG_KV, self.record, bytes);
        if let Some(previous) = self.previous {
            encode_record(TAG_PREV_KV, previous, bytes);
        }
    }

    fn entry_len(self) -> usize {
        let len = self.len();
        key_len(TAG_EVENTS) + encoded_len_varint(len as u64) + len
    }

    fn len(self) -> usize {
        let kind = match self.record.is_tombstone() {
            true => int32::encoded_len(TAG_TYPE, &(EventType::Delete as i32)),
            false => 0,
        };
        let previous = self.previous.map_or(0, |it| field_len(record_len(it)));
        kind + field_len(record_len(self.record)) + previous
    }
}

/// The value that `record` replaced, as watchers are told: what the key was one revision before.
///
/// None for a creation, and where a compaction has taken that revision away: whether it is swept yet does not matter.
pub(super) fn previous_of<'a>(view: &'a View, record: &Record) -> Option<&'a Record> {
    let revision = record.mod_revision();
    if revision <= view.compact_revision || record.create_revision() == revision {
        return None;
    }
    let history = view.keyspace.get(record.key())?;
    let before = history.last_before((revision, 0))?;
    (!before.is_tombstone()).then_some(before)
}

fn encode_record(tag: u32, record: &Record, bytes: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, bytes);
    encode_varint(record_len(record) as u64, bytes);
    encode_bytes(TAG_KEY, record.key(), bytes);
    for (tag, number) in numbers(record) {
        if number != 0 {
            int64::encode(tag, &number, bytes);
        }
    }
    encode_bytes(TAG_VALUE, record.value(), bytes);
    if record.lease() != 0 {
        int64::encode(TAG_LEASE, &record.lease(), bytes);
    }
}

fn record_len(record: &Record) -> usize {
    let numbers = numbers(record)
        .into_iter()
        .chain([(TAG_LEASE, record.lease())])
        .filter(|(_, number)| *number != 0)
        .map(|(tag, number)| int64::encoded_len(tag, &number));
    bytes_len(record.key()) + numbers.sum::<usize>() + bytes_len(record.value())
}

fn numbers(record: &Record) -> [(u32, i64); 3] {
    [
        (TAG_CREATE_REVISION, record.create_revision()),
        (TAG_MOD_REVISION, record.mod_revision()),
        (TAG_VERSION, record.version()),
    ]
}

fn encode_bytes(tag: u32, content: &[u8], bytes: &mut Vec<u8>) {
    if !content.is_empty() {
        encode_key(tag, WireType::LengthDelimited, bytes);
        encode_varint(content.len() as u64, bytes);
        bytes.extend_from_slice(content);
    }
}

fn bytes_len(content: &[u8]) -> usize {
    match content {
        [] => 0,
        content => field_len(content.len()),
    }
}

/// A field whose tag takes one byte.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

// Of a watch response.
const TAG_EVENTS: u32 = 11;
// Of an event.
const TAG_TYPE: u32 = 1;
const TAG_KV: u32 = 2;
const TAG_PREV_KV: u32 = 3;
// Of a key and its value.
const TAG_KEY: u32 = 1;
const TAG_CREATE_REVISION: u32 = 2;
const TAG_MOD_REVISION: u32 = 3;
const TAG_VERSION: u32 = 4;
const TAG_VALUE: u32 = 5;
const TAG_LEASE: u32 = 6;
