//! Protobuf on the wire: writing the few kinds of fields that requests need, and walking over those of answers.

/// A number in seven-bit groups, the least first.
pub(crate) fn push_varint(body: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        body.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    body.push((value & 0x7f) as u8);
}

/// The tag and length of a length-delimited field.
pub(crate) fn push_length(body: &mut Vec<u8>, field: u64, length: usize) {
    push_varint(body, field << 3 | 2);
    push_varint(body, length as u64);
}

/// A bytes field; left out when empty, as its absence means the same.
pub(crate) fn push_bytes(body: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    push_length(body, field, bytes.len());
    body.extend_from_slice(bytes);
}

/// A number field; left out when zero, as its absence means the same.
pub(crate) fn push_number(body: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        push_varint(body, field << 3);
        push_varint(body, value);
    }
}

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The number; zero for bytes.
    pub(crate) fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Bytes(_) => 0,
        }
    }

    /// The bytes; none for a number.
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Number(_) => &[],
        }
    }
}

/// The fields of a message in order; after a malformed one, `None` once and then the end.
#[derive(Debug, Clone)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// Walks over the fields of `message`.
pub(crate) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message }
}

impl<'a> Iterator for Fields<'a> {
    /// Number and value of a field, or `None` for bytes that are no field.
    type Item = Option<(u64, Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u64, Value<'a>)> {
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => Value::Bytes(self.take(8)?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bytes(self.take(4)?),
            _ => return None,
        };
        Some((tag >> 3, value))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Most numbers are small.
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Some(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().enumerate().take(VARINT_BYTES_MAX) {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[index + 1..];
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }
}

const VARINT_BYTES_MAX: usize = 10;

#[cfg(test)]
mod tests {
    use super::{Value, fields, push_bytes, push_number};

    #[test]
    fn what_is_written_is_read_again() {
        let mut message = Vec::new();
        for value in [1, 127, 128, u64::MAX] {
            push_number(&mut message, 3, value);
        }
        push_number(&mut message, 3, 0);
        push_bytes(&mut message, 200, b"abc");
        let read: Vec<_> = fields(&message).collect();
        let mut expect: Vec<_> = [1, 127, 128, u64::MAX]
            .map(|value| Some((3, Value::Number(value))))
            .into();
        expect.push(Some((200, Value::Bytes(b"abc"))));
        assert_eq!(read, expect);
    }

    #[test]
    fn fields_of_fixed_length_are_passed_over() {
        let message = b"\x09abcdefgh\x15abcd\x18\x05";
        let last = fields(message).last().expect("three fields");
        assert_eq!(last, Some((3, Value::Number(5))));
    }

    #[test]
    fn malformed_bytes_end_the_walk_with_none() {
        for message in [&b"\x0a\x05abc"[..], b"\x08", b"\x0b", &[0xff; 11]] {
            let read: Vec<_> = fields(message).collect();
            assert_eq!(read, [None], "{message:?}");
        }
    }
}
