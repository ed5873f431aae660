//! Header compression (RFC 7541): a decoder with dynamic table, and literals without state for requests.

use std::collections::VecDeque;

use crate::huffman;

/// The receiving side of one connection's header compression.
///
/// Every header block of the connection must pass through it in order of arrival, whoever it is for:
/// a block may add entries that later blocks refer to.
#[derive(Debug)]
pub(crate) struct Decoder {
    /// Newest first, as the indices count.
    entries: VecDeque<Entry>,
    size_bytes: usize,
    size_limit_bytes: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

#[derive(Debug)]
struct Entry {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Whether a block changed the table; the same bytes mean the same headers only until one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Unchanged,
    Changed,
}

/// The block cannot be decoded; the connection is lost with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// The block ends within a field.
    Truncated,
    /// An integer beyond anything a header needs.
    IntegerTooLarge,
    /// A reference to an entry that is not in either table.
    NoSuchIndex,
    /// A string that is no Huffman code.
    InvalidHuffman,
    /// A table size above what was announced, or announced in the middle of a block.
    InvalidSizeUpdate,
}

impl Decoder {
    /// A decoder that has announced the default table size, 4096 bytes.
    pub(crate) fn new() -> Self {
        Self {
            entries: VecDeque::new(),
            size_bytes: 0,
            size_limit_bytes: TABLE_BYTES_MAX,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Decodes one whole header block and calls `field(name, value)` for every field in order.
    pub(crate) fn decode(
        &mut self,
        mut block: &[u8],
        mut field: impl FnMut(&[u8], &[u8]),
    ) -> Result<Table, HeaderError> {
        let mut table = Table::Unchanged;
        let mut fields = 0_usize;
        while let Some(&first) = block.first() {
            if first & 0b1110_0000 == 0b0010_0000 {
                let limit = integer(&mut block, 5)?;
                if fields > 0 || limit > TABLE_BYTES_MAX {
                    return Err(HeaderError::InvalidSizeUpdate);
                }
                self.size_limit_bytes = limit;
                self.evict(0);
                table = Table::Changed;
                continue;
            }
            fields += 1;
            let insert = first & 0b1100_0000 == 0b0100_0000;
            if first & 0b1000_0000 != 0 {
                let index = integer(&mut block, 7)?;
                let (name, value) = self.entry(index)?;
                field(name, value);
                continue;
            }
            let index = integer(&mut block, if insert { 6 } else { 4 })?;
            let (mut name, mut value) = (
                std::mem::take(&mut self.name),
                std::mem::take(&mut self.value),
            );
            name.clear();
            value.clear();
            if index == 0 {
                string(&mut block, &mut name)?;
            } else {
                name.extend_from_slice(self.entry(index)?.0);
            }
            string(&mut block, &mut value)?;
            field(&name, &value);
            if insert {
                self.insert(&name, &value);
                table = Table::Changed;
            }
            (self.name, self.value) = (name, value);
        }
        Ok(table)
    }

    fn entry(&self, index: usize) -> Result<(&[u8], &[u8]), HeaderError> {
        let position = index.checked_sub(1).ok_or(HeaderError::NoSuchIndex)?;
        if let Some((name, value)) = STATIC_TABLE.get(position) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let entry = self.entries.get(position - STATIC_TABLE.len());
        entry
            .map(|entry| (&*entry.name, &*entry.value))
            .ok_or(HeaderError::NoSuchIndex)
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        self.evict(size);
        // An entry larger than the table empties it and is not kept.
        if size <= self.size_limit_bytes {
            self.entries.push_front(Entry {
                name: name.into(),
                value: value.into(),
            });
            self.size_bytes += size;
        }
    }

    fn evict(&mut self, room_bytes: usize) {
        while self.size_bytes + room_bytes > self.size_limit_bytes {
            let Some(Entry { name, value }) = self.entries.pop_back() else {
                break;
            };
            self.size_bytes -= name.len() + value.len() + ENTRY_OVERHEAD_BYTES;
        }
        assert!(
            !self.entries.is_empty() || self.size_bytes == 0,
            "an empty table has no size"
        );
    }
}

/// Appends `name: value` as a literal that touches no table and needs none, on either side.
pub(crate) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 127);
        block.push(length.expect("request headers are constants shorter than 127 bytes"));
        block.extend_from_slice(text.as_bytes());
    }
}

/// Takes an integer with a prefix of `prefix_bits` from the front of `block`.
fn integer(block: &mut &[u8], prefix_bits: u32) -> Result<usize, HeaderError> {
    let mask = (1_usize << prefix_bits) - 1;
    let (&first, rest) = block.split_first().ok_or(HeaderError::Truncated)?;
    *block = rest;
    let mut value = usize::from(first) & mask;
    if value < mask {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let (&byte, rest) = block.split_first().ok_or(HeaderError::Truncated)?;
        *block = rest;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HeaderError::IntegerTooLarge)
}

/// Takes a string literal from the front of `block` and appends it to `text`.
fn string(block: &mut &[u8], text: &mut Vec<u8>) -> Result<(), HeaderError> {
    let huffman = *block.first().ok_or(HeaderError::Truncated)? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (encoded, rest) = block
        .split_at_checked(length)
        .ok_or(HeaderError::Truncated)?;
    *block = rest;
    if huffman {
        huffman::decode(encoded, text).map_err(|huffman::InvalidCode| HeaderError::InvalidHuffman)
    } else {
        text.extend_from_slice(encoded);
        Ok(())
    }
}

const TABLE_BYTES_MAX: usize = 4096;
const ENTRY_OVERHEAD_BYTES: usize = 32;

const STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests;
