//! Prepared requests: encoded once, with only the bytes of their keys patched before each use.

use crate::hpack;
use crate::wire::{push_bytes, push_length, push_number, push_varint};

/// A request ready to send: the header block of its method and its prefixed protobuf message.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    headers: Vec<u8>,
    body: Vec<u8>,
    keys: Vec<KeyPlace>,
    key_bytes: usize,
}

/// Where a key stands in the body, and which key, counted from the one the request is for.
#[derive(Debug, Clone)]
struct KeyPlace {
    at: usize,
    offset: u64,
}

/// What a range asks for besides its keys.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RangeOptions {
    /// Most keys to answer; 0 for all.
    pub(crate) limit: u64,
    /// Answer from the state of the asked member, without asking the others.
    pub(crate) serializable: bool,
    /// Answer how many keys there are, not which.
    pub(crate) count_only: bool,
}

impl Message {
    /// `KV/Put` of one numbered key.
    pub(crate) fn put(authority: &str, key_bytes: usize, value: &[u8]) -> Self {
        let mut message = Self::new(authority, PUT_PATH, key_bytes);
        message.put_fields(0, value);
        message.finished()
    }

    /// `KV/Range` of `keys` consecutive numbered keys.
    pub(crate) fn range(
        authority: &str,
        key_bytes: usize,
        keys: u64,
        options: RangeOptions,
    ) -> Self {
        let mut message = Self::new(authority, RANGE_PATH, key_bytes);
        message.key_field(1, 0);
        if keys > 1 {
            message.key_field(2, keys);
        }
        message.range_fields(options);
        message.finished()
    }

    /// `KV/Range` of the key `key`, or of all from it to before `end`; nothing in it is patched.
    pub(crate) fn fixed_range(
        authority: &str,
        key: &[u8],
        end: &[u8],
        options: RangeOptions,
    ) -> Self {
        let mut message = Self::new(authority, RANGE_PATH, 0);
        push_bytes(&mut message.body, 1, key);
        push_bytes(&mut message.body, 2, end);
        message.range_fields(options);
        message.finished()
    }

    /// `KV/Txn` without compares that puts `operations` consecutive numbered keys.
    pub(crate) fn txn_put(
        authority: &str,
        key_bytes: usize,
        value: &[u8],
        operations: u64,
    ) -> Self {
        let mut message = Self::new(authority, TXN_PATH, key_bytes);
        let put_bytes = field_bytes(key_bytes) + field_bytes(value.len());
        for operation in 0..operations {
            // TxnRequest.success, holding RequestOp.request_put.
            push_length(&mut message.body, 2, field_bytes(put_bytes));
            push_length(&mut message.body, 2, put_bytes);
            message.put_fields(operation, value);
        }
        message.finished()
    }

    /// `Lease/LeaseGrant` with an id of the server's choice; nothing in it is patched.
    pub(crate) fn lease_grant(authority: &str, ttl_seconds: u64) -> Self {
        let mut message = Self::new(authority, GRANT_PATH, 0);
        push_number(&mut message.body, 1, ttl_seconds);
        message.finished()
    }

    /// The encoded header block.
    pub(crate) fn headers(&self) -> &[u8] {
        &self.headers
    }

    /// The message with its prefix, as last patched.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Makes this the request for the key number `key` and those that follow it.
    pub(crate) fn patch(&mut self, key: u64) {
        for place in &self.keys {
            write_key(
                &mut self.body[place.at..place.at + self.key_bytes],
                key + place.offset,
            );
        }
    }

    fn new(authority: &str, path: &str, key_bytes: usize) -> Self {
        Self {
            headers: headers(authority, path),
            body: vec![0; PREFIX_BYTES],
            keys: Vec::new(),
            key_bytes,
        }
    }

    fn finished(mut self) -> Self {
        let length =
            u32::try_from(self.body.len() - PREFIX_BYTES).expect("a message is below 4 GiB");
        self.body[1..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
        self.patch(0);
        self
    }

    fn put_fields(&mut self, offset: u64, value: &[u8]) {
        self.key_field(1, offset);
        push_bytes(&mut self.body, 2, value);
    }

    fn range_fields(&mut self, options: RangeOptions) {
        push_number(&mut self.body, 3, options.limit);
        push_number(&mut self.body, 7, options.serializable.into());
        push_number(&mut self.body, 9, options.count_only.into());
    }

    fn key_field(&mut self, field: u64, offset: u64) {
        push_length(&mut self.body, field, self.key_bytes);
        self.keys.push(KeyPlace {
            at: self.body.len(),
            offset,
        });
        self.body.resize(self.body.len() + self.key_bytes, b'0');
    }
}

/// The header block of every call of the method `path` to the server called `authority`.
pub(crate) fn headers(authority: &str, path: &str) -> Vec<u8> {
    // POST and http are entries of the static table; the rest are literals that leave no state behind.
    let mut headers = vec![0x83, 0x86];
    hpack::literal(&mut headers, ":path", path);
    hpack::literal(&mut headers, ":authority", authority);
    hpack::literal(&mut headers, "content-type", "application/grpc");
    hpack::literal(&mut headers, "te", "trailers");
    headers
}

/// Writes `key` as hexadecimal digits with leading zeros, so that keys sort as their numbers do.
pub(crate) fn write_key(place: &mut [u8], mut key: u64) {
    for digit in place.iter_mut().rev() {
        *digit = HEX[(key & 0xf) as usize];
        key >>= 4;
    }
    assert!(key == 0, "a key number beyond the digits of a key");
}

/// How many numbered keys fit `key_bytes` bytes.
pub(crate) fn keys_max(key_bytes: usize) -> u64 {
    u32::try_from(key_bytes)
        .ok()
        .and_then(|digits| 16_u64.checked_pow(digits))
        .unwrap_or(u64::MAX)
}

/// Whole length of a length-delimited field with a number below 16, zero if it is left out as empty.
fn field_bytes(content: usize) -> usize {
    if content == 0 {
        return 0;
    }
    let mut length = Vec::new();
    push_varint(&mut length, content as u64);
    1 + length.len() + content
}

const HEX: &[u8; 16] = b"0123456789abcdef";
/// Before every message: whether it is compressed, and its length.
pub(crate) const PREFIX_BYTES: usize = 5;
pub(crate) const GRANT_PATH: &str = "/etcdserverpb.Lease/LeaseGrant";
pub(crate) const PUT_PATH: &str = "/etcdserverpb.KV/Put";
pub(crate) const TXN_PATH: &str = "/etcdserverpb.KV/Txn";
pub(crate) const RANGE_PATH: &str = "/etcdserverpb.KV/Range";
pub(crate) const STATUS_PATH: &str = "/etcdserverpb.Maintenance/Status";
pub(crate) const MOVE_LEADER_PATH: &str = "/etcdserverpb.Maintenance/MoveLeader";

#[cfg(test)]
mod tests {
    use super::{Message, RangeOptions, keys_max, write_key};
    use crate::hpack::{Decoder, Table};

    #[derive(PartialEq, prost::Message)]
    struct Put {
        #[prost(bytes, tag = "1")]
        key: Vec<u8>,
        #[prost(bytes, tag = "2")]
        value: Vec<u8>,
    }

    #[derive(PartialEq, prost::Message)]
    struct Range {
        #[prost(bytes, tag = "1")]
        key: Vec<u8>,
        #[prost(bytes, tag = "2")]
        range_end: Vec<u8>,
        #[prost(int64, tag = "3")]
        limit: i64,
        #[prost(bool, tag = "7")]
        serializable: bool,
        #[prost(bool, tag = "9")]
        count_only: bool,
    }

    #[derive(PartialEq, prost::Message)]
    struct Operation {
        #[prost(message, tag = "2")]
        put: Option<Put>,
    }

    #[derive(PartialEq, prost::Message)]
    struct Txn {
        #[prost(message, repeated, tag = "2")]
        success: Vec<Operation>,
    }

    fn decoded<M: prost::Message + Default>(message: &Message) -> M {
        let (prefix, body) = message.body().split_at(5);
        assert_eq!(prefix[0], 0, "the message is not compressed");
        assert_eq!(
            u32::from_be_bytes(prefix[1..].try_into().expect("four bytes")) as usize,
            body.len()
        );
        let decoded = M::decode(body).expect("the body is protobuf");
        assert_eq!(
            decoded.encoded_len(),
            body.len(),
            "no byte is left that the message does not know"
        );
        decoded
    }

    #[test]
    fn a_patched_put_is_valid_protobuf_with_that_key() {
        let value = vec![7; 300];
        let mut message = Message::put("localhost", 16, &value);
        for key in [0, 1, 0xabc, 0xffff_ffff, u64::MAX] {
            message.patch(key);
            let put: Put = decoded(&message);
            assert_eq!(
                put,
                Put {
                    key: format!("{key:016x}").into_bytes(),
                    value: value.clone()
                }
            );
        }
    }

    #[test]
    fn a_patched_range_ends_as_many_keys_later() {
        let options = RangeOptions {
            limit: 1000,
            serializable: true,
            count_only: true,
        };
        let mut message = Message::range("localhost", 20, 100, options);
        message.patch(0xff);
        let range: Range = decoded(&message);
        assert_eq!(range.key, b"000000000000000000ff");
        assert_eq!(range.range_end, b"00000000000000000163");
        assert_eq!(
            (range.limit, range.serializable, range.count_only),
            (1000, true, true)
        );
    }

    #[test]
    fn a_range_of_one_key_has_no_end() {
        let range: Range = decoded(&Message::range("localhost", 4, 1, RangeOptions::default()));
        assert_eq!(
            range,
            Range {
                key: b"0000".to_vec(),
                ..Range::default()
            }
        );
        let range: Range = decoded(&Message::fixed_range(
            "localhost",
            b"a",
            b"c",
            RangeOptions::default(),
        ));
        assert_eq!((range.key, range.range_end), (b"a".to_vec(), b"c".to_vec()));
    }

    #[test]
    fn a_patched_txn_puts_consecutive_keys() {
        for value_bytes in [0, 3, 126, 127, 128, 20_000] {
            let mut message = Message::txn_put("localhost", 8, &vec![1; value_bytes], 3);
            message.patch(0x1f);
            let txn: Txn = decoded(&message);
            let keys: Vec<Vec<u8>> = txn
                .success
                .into_iter()
                .map(|operation| operation.put.expect("every operation puts").key)
                .collect();
            assert_eq!(keys, [b"0000001f", b"00000020", b"00000021"]);
        }
    }

    #[test]
    fn the_header_block_needs_no_table() {
        let message = Message::put("localhost:2379", 8, b"");
        let mut fields = Vec::new();
        let table = Decoder::new().decode(message.headers(), |name, value| {
            fields.push(format!(
                "{}={}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            ));
        });
        assert_eq!(table, Ok(Table::Unchanged));
        assert_eq!(
            fields,
            [
                ":method=POST",
                ":scheme=http",
                ":path=/etcdserverpb.KV/Put",
                ":authority=localhost:2379",
                "content-type=application/grpc",
                "te=trailers"
            ]
        );
    }

    #[test]
    fn keys_sort_as_their_numbers() {
        let key = |number| {
            let mut key = [0; 6];
            write_key(&mut key, number);
            key
        };
        assert!(key(9) < key(10) && key(0xff) < key(0x100) && key(0xf_ffff) < key(0x10_0000));
        assert_eq!(keys_max(2), 256);
        assert_eq!(keys_max(16), u64::MAX);
    }
}
