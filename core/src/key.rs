//! Keys: owned byte strings in unsigned byte order, and the ranges requests name.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// A key that owns its bytes; cloning shares them.
///
/// The bytes are always copied out of the request, so that a small key never keeps a receive buffer alive.
/// Lookups take `&[u8]` through [`Borrow`], without building a `Key`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// The bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&[u8]> for Key {
    fn from(bytes: &[u8]) -> Self {
        Key(Arc::from(bytes))
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// The keys a request's `key` and `range_end` stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRange<'a> {
    /// Exactly this key.
    One(&'a [u8]),
    /// Every key `k` with `start <= k < end`; no keys at all when `end <= start`.
    Between(&'a [u8], &'a [u8]),
    /// Every key at or after this one.
    From(&'a [u8]),
}

impl<'a> KeyRange<'a> {
    /// Reads the request convention: an empty end means one key, a single zero byte means "from key on".
    pub fn new(key: &'a [u8], range_end: &'a [u8]) -> Self {
        match range_end {
            [] => KeyRange::One(key),
            [0] => KeyRange::From(key),
            end => KeyRange::Between(key, end),
        }
    }

    /// Every key there is.
    pub const ALL: KeyRange<'static> = KeyRange::From(&[]);

    /// The least key that could be in the range.
    pub fn start(&self) -> &'a [u8] {
        match self {
            KeyRange::One(start) | KeyRange::Between(start, _) | KeyRange::From(start) => start,
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == *one,
            KeyRange::Between(start, end) => *start <= key && key < *end,
            KeyRange::From(start) => *start <= key,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_by_unsigned_bytes() {
        let key = |bytes: &[u8]| Key::from(bytes);
        assert!(key(b"a") < key(b"a\0"));
        assert!(key(b"a\xff") < key(b"b"));
        assert!(key(b"\x7f") < key(b"\x80"));
    }

    #[test]
    fn a_range_end_is_read_by_the_request_convention() {
        assert_eq!(KeyRange::new(b"k", b""), KeyRange::One(b"k"));
        assert_eq!(KeyRange::new(b"k", b"\0"), KeyRange::From(b"k"));
        assert!(KeyRange::new(b"\0", b"\0").contains(b"anything"));
        assert!(KeyRange::new(b"k", b"l").contains(b"k\xff"));
        assert!(!KeyRange::new(b"k", b"l").contains(b"l"));
        assert!(
            !KeyRange::new(b"k", b"a").contains(b"k"),
            "an inverted range is empty"
        );
    }
}
