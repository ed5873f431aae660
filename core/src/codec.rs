//! The one place that knows how consensus values (votes, log ids, membership, entries) become bytes.
//!
//! The encoder is bincode 2: compact and stable, but unmaintained, so nothing else may name it. A decoder
//! always works under a limit taken from the length of its input: without one, a few hostile bytes that
//! claim a huge collection abort the process in the allocator.

use std::fmt;

use bincode::enc::write::Writer;
use serde::{Serialize, de::DeserializeOwned};

/// The longest value that may be decoded, in bytes: above every log entry and peer message.
const VALUE_BYTES_MAX: usize = 256 << 20;

/// Bytes that are not a value of the expected type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError(String);

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed consensus record: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}

/// A value as bytes.
///
/// # Panics
/// If the value cannot be encoded, which none of the consensus types can cause.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("consensus types hold no maps of unknown length and no unsupported kinds")
}

/// A value from bytes, all of which must belong to it.
///
/// What the decoder may claim in memory is bounded by a small multiple of the input's length.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.len() {
        0..KIB => decode_within::<T, { 64 * KIB }>(bytes),
        KIB..MIB => decode_within::<T, { 64 * MIB }>(bytes),
        MIB..=VALUE_BYTES_MAX => decode_within::<T, { 4 * VALUE_BYTES_MAX }>(bytes),
        length => Err(DecodeError(format!(
            "{length} bytes are more than any record holds"
        ))),
    }
}

/// A value as bytes at the end of others.
///
/// # Panics
/// As [`encode`].
pub(crate) fn encode_into<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    struct End<'a>(&'a mut Vec<u8>);
    impl Writer for End<'_> {
        fn write(&mut self, part: &[u8]) -> Result<(), bincode::error::EncodeError> {
            self.0.extend_from_slice(part);
            Ok(())
        }
    }
    let config = bincode::config::standard();
    bincode::serde::encode_into_writer(value, End(bytes), config)
        .expect("consensus types hold no maps of unknown length and no unsupported kinds");
}

/// How a field of shared bytes is written.
pub(crate) mod shared_bytes {
    use std::fmt;
    use std::sync::Arc;

    use serde::{Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(
        bytes: &Arc<[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<[u8]>, D::Error> {
        struct Bytes;
        impl de::Visitor<'_> for Bytes {
            type Value = Arc<[u8]>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Arc<[u8]>, E> {
                Ok(bytes.into())
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

fn decode_within<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, DecodeError> {
    let config = bincode::config::standard().with_limit::<LIMIT>();
    let (value, used) = bincode::serde::borrow_decode_from_slice(bytes, config)
        .map_err(|e| DecodeError(e.to_string()))?;
    match bytes.len() - used {
        0 => Ok(value),
        rest => Err(DecodeError(format!("{rest} bytes left over"))),
    }
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_survives_the_round_trip() {
        let value = (
            7_u64,
            vec![String::from("a"), String::from("b")],
            Some(-3_i64),
        );
        assert_eq!(
            decode::<(u64, Vec<String>, Option<i64>)>(&encode(&value)),
            Ok(value)
        );
    }

    #[test]
    fn a_hostile_length_is_refused_without_allocating_it() {
        // 253 announces a 64-bit length: here 2^62 elements in nine bytes of input.
        let hostile = [253, 0, 0, 0, 0, 0, 0, 0, 0x40];
        assert!(decode::<Vec<u64>>(&hostile).is_err());
    }

    #[test]
    fn left_over_bytes_are_refused() {
        let mut bytes = encode(&1_u64);
        bytes.push(0);
        assert_eq!(
            decode::<u64>(&bytes),
            Err(DecodeError("1 bytes left over".into()))
        );
    }
}
