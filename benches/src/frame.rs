//! The frames of HTTP/2 (RFC 9113): cutting them out of a byte stream and writing their headers.

use crate::http2::ProtocolError;

/// One whole frame, its payload borrowed from the bytes received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// `None` for a kind this client does not know.
    pub(crate) kind: Option<Kind>,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

/// The kinds of frames, with their numbers on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    ResetStream = 3,
    Settings = 4,
    PushPromise = 5,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::Data,
        Self::Headers,
        Self::Priority,
        Self::ResetStream,
        Self::Settings,
        Self::PushPromise,
        Self::Ping,
        Self::GoAway,
        Self::WindowUpdate,
        Self::Continuation,
    ];
}

/// Cuts the first frame from `bytes` and answers it with its whole length; `None` while it is not complete.
pub(crate) fn split(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, ProtocolError> {
    let Some((&[a, b, c, kind, flags, s, t, u, v], rest)) =
        bytes.split_first_chunk::<HEADER_BYTES>()
    else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > PAYLOAD_BYTES_MAX {
        return Err(ProtocolError("a frame is larger than announced as allowed"));
    }
    let Some(payload) = rest.get(..length) else {
        return Ok(None);
    };
    let frame = Frame {
        kind: Kind::ALL.get(usize::from(kind)).copied(),
        flags,
        stream: u32::from_be_bytes([s, t, u, v]) & STREAM_MASK,
        payload,
    };
    Ok(Some((frame, HEADER_BYTES + length)))
}

/// Appends the nine bytes before a payload of `length` bytes.
pub(crate) fn push_header(
    outbound: &mut Vec<u8>,
    length: usize,
    kind: Kind,
    flags: u8,
    stream: u32,
) {
    let length = u32::try_from(length)
        .ok()
        .filter(|length| *length < 1 << 24);
    let [_, a, b, c] = length.expect("no payload reaches 2^24 bytes").to_be_bytes();
    let [s, t, u, v] = stream.to_be_bytes();
    outbound.extend_from_slice(&[a, b, c, kind as u8, flags, s, t, u, v]);
}

/// Appends a whole WINDOW_UPDATE frame.
pub(crate) fn push_window_update(outbound: &mut Vec<u8>, stream: u32, increment: u32) {
    push_header(outbound, 4, Kind::WindowUpdate, 0, stream);
    outbound.extend_from_slice(&increment.to_be_bytes());
}

impl<'a> Frame<'a> {
    /// Whether the flag is set.
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload of a DATA frame as far as it is content.
    pub(crate) fn without_padding(&self) -> Result<&'a [u8], ProtocolError> {
        if !self.has(PADDED) {
            return Ok(self.payload);
        }
        let (&padding, rest) = self.payload.split_first().ok_or(TOO_SHORT)?;
        let length = rest
            .len()
            .checked_sub(usize::from(padding))
            .ok_or(TOO_SHORT)?;
        Ok(&rest[..length])
    }

    /// The header block fragment of a HEADERS frame.
    pub(crate) fn without_padding_and_priority(&self) -> Result<&'a [u8], ProtocolError> {
        let content = self.without_padding()?;
        if self.has(PRIORITY) {
            content.get(5..).ok_or(TOO_SHORT)
        } else {
            Ok(content)
        }
    }

    /// The 32-bit number at byte `at` of the payload.
    pub(crate) fn number(&self, at: usize) -> Result<u32, ProtocolError> {
        let bytes = self
            .payload
            .get(at..)
            .and_then(|rest| rest.first_chunk::<4>());
        bytes
            .map(|bytes| u32::from_be_bytes(*bytes))
            .ok_or(TOO_SHORT)
    }
}

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

pub(crate) const ENABLE_PUSH: u16 = 2;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(crate) const MAX_FRAME_SIZE: u16 = 5;

const HEADER_BYTES: usize = 9;
/// The size every endpoint must accept; this client announces no other.
const PAYLOAD_BYTES_MAX: usize = 16 << 10;
const STREAM_MASK: u32 = (1 << 31) - 1;
const TOO_SHORT: ProtocolError = ProtocolError("a frame is too short for what it should hold");

#[cfg(test)]
mod tests {
    use super::{Frame, Kind, PADDED, PRIORITY, push_header, split};
    use crate::http2::ProtocolError;

    #[test]
    fn a_frame_is_cut_only_when_complete() {
        let mut bytes = Vec::new();
        push_header(&mut bytes, 3, Kind::Data, 1, 7);
        bytes.extend_from_slice(b"abcrest");
        for length in 0..12 {
            assert_eq!(split(&bytes[..length]), Ok(None), "after {length} bytes");
        }
        let frame = Frame {
            kind: Some(Kind::Data),
            flags: 1,
            stream: 7,
            payload: b"abc",
        };
        assert_eq!(split(&bytes), Ok(Some((frame, 12))));
    }

    #[test]
    fn kinds_have_their_numbers_on_the_wire() {
        for (number, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, number);
        }
        let unknown = split(&[0, 0, 0, 200, 0, 0, 0, 0, 0]).expect("an unknown kind is a frame");
        assert_eq!(unknown.map(|(frame, _)| frame.kind), Some(None));
    }

    #[test]
    fn padding_and_priority_are_taken_off() {
        let padded = Frame {
            kind: Some(Kind::Data),
            flags: PADDED,
            stream: 1,
            payload: b"\x02abXX",
        };
        assert_eq!(padded.without_padding(), Ok(b"ab".as_slice()));
        let both = Frame {
            flags: PADDED | PRIORITY,
            payload: b"\x01ppppwabX",
            ..padded
        };
        assert_eq!(both.without_padding_and_priority(), Ok(b"ab".as_slice()));
        let broken = Frame {
            flags: PADDED,
            payload: b"\x09ab",
            ..both
        };
        assert!(broken.without_padding().is_err());
    }

    #[test]
    fn a_frame_beyond_the_announced_size_is_refused() {
        let outcome = split(&[1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(
            outcome,
            Err(ProtocolError("a frame is larger than announced as allowed"))
        );
    }
}
